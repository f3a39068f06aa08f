"""Which features matter: gain over the trees, and SHAP over a bounded sample of rows."""

from __future__ import annotations

from typing import Any

from boostline.scoring.matrix import Columns, contributions

SHAP_ROWS = 1_000
SHAP_ROW_TREES = 200_000
"""Bounds of the sample: rows, and rows times trees, since SHAP's cost grows with both."""


def sample_size(trees: int) -> int:
    """Rows that SHAP is computed for, so that its cost is bounded."""
    return max(1, min(SHAP_ROWS, SHAP_ROW_TREES // max(1, trees)))


def importance(booster: Any, rows: Any, columns: Columns, threads: int) -> list[dict[str, Any]]:
    """Importance of each feature, the largest mean |SHAP| first.

    Args:
        booster: A fitted booster.
        rows: An Arrow table of some feature rows.
        columns: The features.
        threads: For XGBoost.

    Returns:
        `{"feature", "gain", "shap"}` per feature. `gain`: the mean loss reduction of its splits, 0 where it has none.
        `shap`: the mean |SHAP| in the label's unit (regression) or log-odds, averaged over classes.
    """
    import numpy as np

    shap = np.abs(contributions(booster, rows, columns, threads))
    mean = shap.mean(axis=tuple(range(shap.ndim - 1)))[:-1]
    gains = booster.get_score(importance_type="gain")
    found = [
        {"feature": name, "gain": float(gains.get(name, 0.0)), "shap": float(value)}
        for name, value in zip(columns.names, mean, strict=True)
    ]
    return sorted(found, key=lambda item: (-item["shap"], item["feature"]))
