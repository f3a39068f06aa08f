"""What `mlflow.pyfunc.load_model` loads: the model's files from a folder, checked, ready to score raw rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostline.scoring.engine import allowed_threads
from boostline.scoring.model_file import Model, load_model

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
            The columns of `Model.answer`, with the input's index.
        """
        import pyarrow as pa

        raw = pa.Table.from_pandas(model_input, preserve_index=False)
        found: pd.DataFrame = self._model.answer(raw, allowed_threads(2**16)).to_pandas()
        return found.set_axis(model_input.index)


def _load_pyfunc(path: str) -> RawRowScorer:
    """MLflow's entry point.

    Raises:
        ModelRefused: The files do not match their SHA-256, or cannot be read.
    """
    folder = Path(path)
    return RawRowScorer(load_model({item.name: item.read_bytes() for item in folder.iterdir()}, str(folder)))
