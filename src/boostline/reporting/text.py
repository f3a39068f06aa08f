"""Numbers, metrics and dates as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

_NAMES = {
    "rmse": "RMSE", "mae": "MAE", "r2": "R²", "gini": "Gini", "log_loss": "log loss", "auc": "AUC", "pr_auc": "PR AUC",
    "f1": "F1", "logloss": "log loss", "mlogloss": "log loss", "rmsle": "RMSLE", "mphe": "mean pseudo-Huber error",
    "gamma-deviance": "gamma deviance", "poisson-nloglik": "negative Poisson log-likelihood",
    "tweedie-nloglik@1.5": "negative Tweedie log-likelihood",
}  # fmt: skip
_IN_LABEL_UNIT = frozenset({"rmse", "mae"})


def number(value: Any) -> str:
    """A number for people: four decimals, or three digits of a small one; thousands separated; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        if 0 < abs(value) < 0.01:
            return f"{value:.3g}"
        return f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def metric_name(metric: str) -> str:
    """What people call a metric."""
    return _NAMES.get(metric, metric)


def label_unit(metric: str, evaluation: Mapping[str, Any]) -> str:
    """The unit of a metric in brackets, after a space; empty where it has none or the dataset file does not say."""
    unit = unit_of(metric, evaluation.get("test", {}).get("unit", ""))
    return f" ({unit})" if unit else ""


def unit_of(metric: str, label: str) -> str:
    """The unit of a metric: the label's, nats, or none."""
    if metric in _IN_LABEL_UNIT:
        return label
    return "nats" if "log" in metric else ""


def days(first: str, last: str) -> str:
    """A range of days: 24–30 June 2013."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    until = f"{end.day} {end:%B} {end.year}"
    if start == end:
        return until
    if (start.year, start.month) == (end.year, end.month):
        return f"{start.day}–{until}"
    return f"{start.day} {start:%B}{'' if start.year == end.year else f' {start.year}'} – {until}"


def share(value: float) -> str:
    """A share in per cent: two digits that count."""
    return f"{value:.0%}" if abs(value) >= 0.0995 else f"{value:.1%}"


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
