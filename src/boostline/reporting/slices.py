"""Error by slices of the test rows: each category of each categorical feature, and time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from boostline.reporting.curves import rounded
from boostline.reporting.rows import TestRows
from boostline.reporting.text import shortened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MINIMUM_ROWS, MINIMUM_SHARE = 30, 0.005
"""Smaller slices are left out: their error is chance."""
VALUES, SLICES, DAYS = 10, 40, 31
"""Most values of a feature, most slices in all, and most single days before time goes by months."""
VALUE_CHARACTERS = 80
UNKNOWN = "missing or never seen"
TIME = "date"


def slices(task: str, rows: TestRows) -> dict[str, Any]:
    """The slices with the largest error of the candidate, the worst first.

    Args:
        task: regression, binary or multiclass.
        rows: The test rows.

    Returns:
        `metric`: RMSE in the label's unit or log loss in nats; `minimum_rows`; `all`: of all rows, by model; `items`:
        `feature`, `value`, `rows`, and by model the error with an interval of 95%; `found`: how many slices there are,
        `left_out`: how many are smaller; `time`: the slices by time in their order.
    """
    import numpy as np

    losses = {name: _losses(task, rows.label, values) for name, values in rows.predictions.items()}
    root = task == "regression"
    least = max(MINIMUM_ROWS, int(np.ceil(MINIMUM_SHARE * len(rows.label))))
    items, left_out = list[dict[str, Any]](), 0
    for feature, value, member in _members(rows):
        count = int(member.sum())
        if count < least:
            left_out += 1
            continue
        errors = {name: _error(values[member], root) for name, values in losses.items()}
        items.append({"feature": feature, "value": value, "rows": count, "errors": errors})
    time = [item for item in items if item["feature"] == TIME]
    items.sort(key=lambda item: (-item["errors"]["candidate"]["value"], item["feature"], item["value"]))
    return {
        "metric": "rmse" if root else "log_loss",
        "minimum_rows": least,
        "all": {name: _error(values, root) for name, values in losses.items()},
        "items": items[:SLICES],
        "found": len(items),
        "left_out": left_out,
        "time": time,
    }


def _losses(task: str, label: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each row adds: its squared error, or minus the logarithm of its class's probability."""
    import numpy as np

    if task == "regression":
        return (label - prediction) ** 2
    if task == "binary":
        own = np.where(label == 1, prediction, 1 - prediction)
    else:
        own = prediction[np.arange(len(label)), label.astype(np.int64)]
    found: NDArray[np.float64] = -np.log(np.clip(own, np.finfo(np.float64).eps, 1))
    return found


def _error(losses: NDArray[np.float64], root: bool) -> dict[str, float]:
    """The mean loss, or its root, with an interval from the mean's standard error."""
    import numpy as np

    mean = losses.mean()
    away = 1.96 * losses.std(ddof=1) / np.sqrt(len(losses)) if len(losses) > 1 else 0.0
    found = np.array([mean, max(mean - away, 0.0), mean + away])
    value, low, high = rounded(np.sqrt(found) if root else found, 5)
    return {"value": value, "low": low, "high": high}


def _members(rows: TestRows) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Feature, value, and which rows have it."""
    import numpy as np

    for feature, values in rows.categories.items():
        codes = rows.features.column(feature).fill_null(len(values)).to_numpy()
        seen = np.bincount(codes, minlength=len(values) + 1)
        names = [*values, UNKNOWN]
        top = sorted(np.flatnonzero(seen).tolist(), key=lambda code: (-seen[code], code))[:VALUES]
        yield from ((feature, shortened(names[code], VALUE_CHARACTERS), codes == code) for code in top)
    days = rows.day[~np.isnat(rows.day)]
    unit = "D" if len(np.unique(days)) <= DAYS else "M"
    times = rows.day.astype(f"datetime64[{unit}]")
    periods = np.unique(times[~np.isnat(times)])
    if len(periods) > 1:
        yield from ((TIME, str(period), times == period) for period in periods)
