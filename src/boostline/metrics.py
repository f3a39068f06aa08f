"""Evaluators, NumPy only."""

from __future__ import annotations

METRICS_BY_TASK = {
    "regression": ("rmse", "mae", "r2", "gini"),
    "binary": ("log_loss", "auc", "pr_auc", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("log_loss", "auc", "accuracy", "precision", "recall", "f1"),
}
"""Metrics of each task, the first of them the usual one."""

LOWER_IS_BETTER = frozenset({"rmse", "mae", "log_loss"})
