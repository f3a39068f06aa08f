"""The files of a model: model.ubj, model.json and transform.json; written by training, read by whoever scores.

The UBJ's SHA-256 is checked before XGBoost parses it, against all that hold one: model.json, the manifest and the
registry. That of transform.json is in model.json, and in the lake both have to be the files that the manifest lists. So a
file that was swapped or cut is refused, never run.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from boostline.errors import ModelRefused
from boostline.lake import published
from boostline.lake.manifest import Manifest, require_published
from boostline.lake.store import Store
from boostline.scoring.engine import import_xgboost
from boostline.scoring.matrix import Columns, contributions, predict_batches, predict_coded
from boostline.transform import Transform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UBJ, INFO, TRANSFORM = "model.ubj", "model.json", "transform.json"
BATCH_ROWS = 65_536


class ModelInfo(BaseModel):
    """What model.json says of its model.ubj. The same training run twice writes the same."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal[1] = 1
    dataset: str
    task: str
    date: str = Field(description="Data date: the last day that it may have learnt from")
    sha256: str = Field(description="Of model.ubj, in hex")
    transform_sha256: str | None = Field(None, description="Of transform.json; older models do not say")
    fingerprint: str = Field(description="Of all that training read")
    data_fingerprint: str = Field(description="Identity of the feature rows that it learnt from")
    split: dict[str, Any] = Field({}, description="`Dataset.split_rule` that it learnt under; older models do not say")
    objective: str
    params: dict[str, Any]
    rounds: int = Field(description="Trees per class: the best round, counted from 1")
    threshold: float | None = Field(description="Binary: from this probability on it is class 1")
    classes: list[str] = Field(description="Names by class index; empty for regression")
    features: dict[str, str] = Field(description="Name → XGBoost's type: c (category code), int (code) or q, in order")
    metrics: dict[str, dict[str, Any]] = Field(description="By split")
    learning_curve: dict[str, list[float]] = Field(description="Evaluation metric by split, one value per round")
    importance: list[dict[str, Any]]
    versions: dict[str, str]

    @property
    def columns(self) -> Columns:
        """The features as XGBoost is told of them."""
        return Columns(list(self.features), list(self.features.values()))

    @property
    def decision_threshold(self) -> float:
        """From this probability on a binary answer is class 1."""
        return 0.5 if self.threshold is None else self.threshold

    @property
    def answer_columns(self) -> dict[str, str]:
        """The columns of `Model.answer` and their types, `double` or `string`."""
        return answer_columns(self.task, self.classes)


def answer_columns(task: str, classes: Sequence[str]) -> dict[str, str]:
    """The columns that a model of these classes answers with, in order; see `Model.answer`."""
    if task == "regression":
        return {"prediction": "double"}
    if task == "binary":
        return {"prediction": "string", "probability": "double"}
    return {"prediction": "string"} | {f"probability_{name}": "double" for name in classes}


@dataclass(frozen=True)
class Model:
    """A loaded model: scores raw rows through its own transformation."""

    info: ModelInfo
    transform: Transform
    booster: Any
    files: Mapping[str, bytes]
    """What it was loaded from, by name, for whoever hands it on."""

    def for_clean_rows(self) -> Model:
        """The same for rows of the lake, which are clean already; see `Transform.for_clean_rows`."""
        return replace(self, transform=self.transform.for_clean_rows())

    def predict(self, raw: Any, threads: int = 1) -> NDArray[np.float64]:
        """Score raw rows.

        Args:
            raw: `pyarrow.Table` of the contract's columns after the joins.
            threads: For XGBoost.

        Returns:
            Shape (rows,): the number, or the probability of class 1; multiclass: (rows, classes).

        Raises:
            DataInvalid: A column is missing or cannot be cast.
        """
        features = self.transform.apply(raw)
        return predict_batches(self.booster, features.to_batches(BATCH_ROWS), self.info.columns, threads)

    def answer(self, raw: Any, threads: int = 1) -> Any:
        """Score raw rows, in the form that every path hands out.

        Args:
            raw: As for `predict`.
            threads: For XGBoost.

        Returns:
            `pyarrow.Table`, a row for each row. `prediction`: the number (regression) or the class's name. Binary:
            `probability`, of the second class; the name is decided by the model's own threshold. Multiclass:
            `probability_CLASS` for each class; the name is the most probable one.

        Raises:
            DataInvalid: A column is missing or cannot be cast.
        """
        import numpy as np
        import pyarrow as pa

        codes, numbers = self._decide(self.predict(raw, threads), raw.num_rows)
        columns = [pa.array(found) for found in numbers]
        if codes is not None:
            columns.insert(0, pa.array(self.info.classes, pa.string()).take(pa.array(codes.astype(np.int32))))
        return pa.table(columns, names=list(self.info.answer_columns))

    def answer_coded(self, rows: NDArray[np.float64], threads: int = 1) -> list[dict[str, Any]]:
        """The same for a few rows, as plain values: a dict for each row.

        Args:
            rows: What `few_rows.FewRows` has coded for this model: shape (rows, features).
            threads: For XGBoost.
        """
        codes, numbers = self._decide(predict_coded(self.booster, rows, threads), len(rows))
        columns: list[list[Any]] = [found.tolist() for found in numbers]
        if codes is not None:
            columns.insert(0, [self.info.classes[code] for code in codes.tolist()])
        names = list(self.info.answer_columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _decide(
        self, found: NDArray[np.float64], rows: int
    ) -> tuple[NDArray[np.integer[Any]] | None, list[NDArray[np.float64]]]:
        """The class of each row as its index, none for regression; and the answer's numbers, column by column."""
        info = self.info
        if info.task == "regression":
            return None, [found]
        if info.task == "binary":
            return (found >= info.decision_threshold).astype(int), [found]
        found = found.reshape(rows, len(info.classes))
        return found.argmax(axis=1), list(found.T)

    def explain(self, raw: Any, threads: int = 1) -> Any:
        """Say what each feature added to each row's prediction: exact SHAP values of the trees.

        Args:
            raw: As for `predict`.
            threads: For XGBoost.

        Returns:
            `pyarrow.Table`, a row for each row. `contributions`: a struct with a double for each feature; `bias`: what
            the model says without any. They add up to the margin: the number itself for squared error, the log-odds
            for a binary model. Multiclass: both are structs of that by class.

        Raises:
            DataInvalid: A column is missing or cannot be cast.
        """
        import numpy as np
        import pyarrow as pa

        classes, names = self.info.classes if self.info.task == "multiclass" else [], list(self.info.features)
        found = contributions(self.booster, self.transform.apply(raw), self.info.columns, threads)
        # Rows, classes (one where there are none), features and the bias.
        cube = found.reshape(raw.num_rows, max(len(classes), 1), len(names) + 1).astype(np.float64)

        def added(index: int) -> Any:
            return pa.StructArray.from_arrays([pa.array(cube[:, index, i]) for i in range(len(names))], names)

        if not classes:
            return pa.table({"contributions": added(0), "bias": cube[:, 0, -1]})
        by_class = [added(index) for index in range(len(classes))]
        bias = [pa.array(cube[:, index, -1]) for index in range(len(classes))]
        return pa.table(
            {
                "contributions": pa.StructArray.from_arrays(by_class, classes),
                "bias": pa.StructArray.from_arrays(bias, classes),
            }
        )


def load_model(files: Mapping[str, bytes], source: str, expected: Collection[str] = ()) -> Model:
    """Check and parse a model's files.

    Args:
        files: Bytes by file name.
        source: Where they come from, for the error.
        expected: What others than model.json say that the UBJ's SHA-256 is.

    Raises:
        ModelRefused: A file is missing or broken, or model.ubj or transform.json does not match its SHA-256.
    """
    if absent := [name for name in (UBJ, INFO, TRANSFORM) if name not in files]:
        raise ModelRefused(f"{source} lacks {', '.join(absent)}", "Train again, or roll back to another version")
    try:
        info = ModelInfo.model_validate_json(files[INFO])
    except ValueError as error:
        raise ModelRefused(f"{source}/{INFO} cannot be read: {error}", "Train again") from error
    for name, told in ((UBJ, info.sha256), (TRANSFORM, info.transform_sha256)):
        found = hashlib.sha256(files[name]).hexdigest()
        if told and found != told:
            raise ModelRefused(
                f"{source}/{name} has SHA-256 {found}, its {INFO} says {told}: the file was changed or cut",
                "Do not use it; train again, or roll back to another version",
            )
    if others := set(expected) - {info.sha256}:
        raise ModelRefused(
            f"{source}: its SHA-256 is {info.sha256}, but manifest or registry say {', '.join(sorted(others))}",
            "Do not use it; train again, or roll back to another version",
        )
    xgboost = import_xgboost()
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(files[UBJ]))
    except xgboost.core.XGBoostError as error:
        raise ModelRefused(f"{source}/{UBJ} cannot be read by XGBoost {xgboost.__version__}", "Train again") from error
    try:
        transform = Transform.loads(files[TRANSFORM])
    except ValueError as error:
        raise ModelRefused(f"{source}/{TRANSFORM} cannot be read: {error}", "Train again") from error
    return Model(info, transform, booster, files)


def load_published(store: Store, manifest: Manifest, sha256: str | None = None) -> Model:
    """Load the model of a manifest from the lake.

    Args:
        store: The lake.
        manifest: Of stage "model".
        sha256: What somebody else, such as the registry, says that the UBJ's SHA-256 is.

    Raises:
        ModelRefused: A file is missing or broken, or is not the one that was published.
    """
    listed = {item.key.rsplit("/", 1)[-1]: item for item in manifest.files}
    stored = store.get_many(listed[name].key for name in (UBJ, INFO, TRANSFORM) if name in listed)
    files = {}
    for name, item in listed.items():
        if item.key not in stored:
            continue  # load_model names everything that is missing at once
        files[name], etag = stored[item.key]
        if name != UBJ:  # whose SHA-256 says more
            require_published(store, item, files[name], etag)
    source = f"model of {manifest.dataset} for {manifest.partition}, attempt {manifest.attempt}"
    return load_model(files, source, {manifest.row_hash, sha256 or manifest.row_hash})


def published_model(dataset: str, day: str | date, store: Store | None = None) -> Model:
    """Load the model that is published for a date; `boostline.registry.versions` loads one by version or alias.

    Args:
        dataset: Its name.
        day: The data date, `YYYY-MM-DD`.
        store: The lake; default that of the environment.

    Raises:
        DataMissing: No model is published for that date.
        ModelRefused: Its files are gone, or do not match their SHA-256.
    """
    found = published("model", dataset, day, store=store)
    return load_published(found.store, found.manifest)


def software_versions() -> dict[str, str]:
    """Versions that a model depends on."""
    import numpy as np

    return {"python": platform.python_version(), "xgboost": import_xgboost().__version__, "numpy": np.__version__}
