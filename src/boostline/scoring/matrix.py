"""Feature rows as XGBoost scores them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boostline.scoring.engine import import_xgboost

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST = 3.4028234663852886e38
"""The largest number in single precision."""


@dataclass(frozen=True)
class Columns:
    """The features as XGBoost is told of them: names, and `c` (category code), `int` (code as a number) or `q`."""

    names: list[str]
    types: list[str]


def single_precision(table: Any, columns: Columns) -> Any:
    """The features of a `pyarrow.Table` as training hands them to XGBoost.

    XGBoost computes in single precision and refuses what does not fit. The largest number that does stands for those
    beyond it: no threshold of a tree lies further out.
    """
    import pyarrow.compute as pc

    found = table.select(columns.names)
    for index, (name, kind) in enumerate(zip(columns.names, columns.types, strict=True)):
        if kind != "q":
            continue
        limits = pc.min_max(found.column(name)).as_py()
        if limits["max"] is not None and max(limits["max"], -limits["min"]) > LARGEST:
            clipped = pc.max_element_wise(pc.min_element_wise(found.column(name), LARGEST, skip_nulls=False), -LARGEST,
                                          skip_nulls=False)  # fmt: skip
            found = found.set_column(index, name, clipped)
    return found


def predict_batches(booster: Any, batches: Iterable[Any], columns: Columns, threads: int) -> NDArray[np.float64]:
    """Predictions for Arrow batches (record batches or tables) of feature rows.

    Several threads of a process may score with one booster at the same time, as long as all of them pass the same
    `threads`: XGBoost's in-place prediction keeps nothing, but setting a parameter under it is not safe.

    Returns:
        Shape (rows,), or (rows, classes) for a multiclass model.
    """
    import numpy as np

    set_threads(booster, threads)
    parts = [
        booster.inplace_predict(_dense(batch, columns), validate_features=False) for batch in batches if batch.num_rows
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)


def predict_coded(booster: Any, rows: NDArray[np.float64], threads: int) -> NDArray[np.float64]:
    """Predictions for feature rows that `few_rows` has coded; see `predict_batches`."""
    import numpy as np

    set_threads(booster, threads)
    found = booster.inplace_predict(_float32(rows), validate_features=False) if len(rows) else np.empty(0)
    return found.astype(np.float64)


def contributions(booster: Any, rows: Any, columns: Columns, threads: int) -> NDArray[np.float32]:
    """SHAP values of feature rows (a table): shape (rows, features + 1), the bias last, or (rows, classes, …)."""
    import numpy as np

    set_threads(booster, threads)
    if not rows.num_rows:
        return np.empty(0, np.float32)
    matrix = import_xgboost().DMatrix(
        _dense(rows, columns), feature_names=columns.names, feature_types=columns.types, nthread=threads
    )
    found: NDArray[np.float32] = booster.predict(matrix, pred_contribs=True)
    return found


def set_threads(booster: Any, threads: int) -> None:
    """Tell a booster how many threads it may use, unless it was told so before."""
    if getattr(booster, "boostline_threads", None) != threads:
        booster.set_param({"nthread": threads})
        booster.boostline_threads = threads


def _dense(batch: Any, columns: Columns) -> NDArray[np.float32]:
    """Feature rows as XGBoost takes them without a copy: codes are numbers, what is missing is NaN."""
    import numpy as np

    values = np.empty((batch.num_rows, len(columns.names)))
    for index, name in enumerate(columns.names):
        values[:, index] = batch.column(name).to_numpy(zero_copy_only=False)
    return _float32(values)


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """XGBoost computes in float32. A number beyond that is the largest that it knows: an infinity it would refuse."""
    import numpy as np

    return np.clip(values, -LARGEST, LARGEST, out=values).astype(np.float32)
