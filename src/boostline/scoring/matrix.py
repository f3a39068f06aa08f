"""Feature rows as XGBoost scores them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boostline.scoring.engine import import_xgboost

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """The features as XGBoost is told of them: names, and `c` (category code), `int` (code as a number) or `q`."""

    names: list[str]
    types: list[str]


def predict_batches(booster: Any, batches: Iterable[Any], columns: Columns, threads: int) -> NDArray[np.float64]:
    """Predictions for Arrow batches (record batches or tables) of feature rows.

    Returns:
        Shape (rows,), or (rows, classes) for a multiclass model.
    """
    import numpy as np

    booster.set_param({"nthread": threads})
    parts = [booster.predict(to_matrix(batch, columns, threads)) for batch in batches if batch.num_rows]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)


def to_matrix(batch: Any, columns: Columns, threads: int) -> Any:
    """Feature rows as a DMatrix, as serving and the gate see them."""
    import pyarrow as pa

    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    return import_xgboost().DMatrix(
        table.select(columns.names), feature_names=columns.names, feature_types=columns.types, nthread=threads
    )
