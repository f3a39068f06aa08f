"""What `mlflow.pyfunc.load_model` loads: the model's files from a folder, checked, ready to score raw rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostline.training.engine import allowed_threads
from boostline.training.mlmodel import output_columns
from boostline.training.model_file import Model, load_model

if TYPE_CHECKING:
    import pandas as pd


class RawRowScorer:
    """A model as MLflow calls it."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score raw rows.

        Args:
            model_input: The contract's columns after the joins; missing values allowed, unseen categories too.
            params: Not used; MLflow passes it.

        Returns:
            One row per input row, with the input's index. `prediction`: the number (regression) or the class's name.
            Binary: `probability`, of the second class; the name is decided by the model's own threshold. Multiclass:
            `probability_CLASS` for each class; the name is the most probable one.
        """
        import numpy as np
        import pandas as pd
        import pyarrow as pa

        info = self._model.info
        found = self._model.predict(pa.Table.from_pandas(model_input, preserve_index=False), allowed_threads(2**16))
        names = [name for name, _ in output_columns(info.task, info.classes)]
        if info.task == "regression":
            columns = [found]
        elif info.task == "binary":
            columns = [
                np.asarray(info.classes, object)[
                    (found >= (0.5 if info.threshold is None else info.threshold)).astype(int)
                ],
                found,
            ]
        else:
            found = found.reshape(len(model_input), len(info.classes))
            columns = [np.asarray(info.classes, object)[found.argmax(axis=1)], *found.T]
        return pd.DataFrame(dict(zip(names, columns, strict=True)), index=model_input.index)


def _load_pyfunc(path: str) -> RawRowScorer:
    """MLflow's entry point.

    Raises:
        ModelRefused: The files do not match their SHA-256, or cannot be read.
    """
    folder = Path(path)
    return RawRowScorer(load_model({item.name: item.read_bytes() for item in folder.iterdir()}, str(folder)))
