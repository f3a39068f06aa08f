"""What the report is made from: the test rows with every model's predictions, and the train rows now and before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, ModelRefused
from boostline.lake.arrow import ParquetDataset, as_numbers
from boostline.lake.features import DATA_DATE, ID_PREFIX, LABEL, split_keys, test_raw_keys
from boostline.lake.manifest import Manifest, read_current
from boostline.lake.store import Store
from boostline.registry.compare import predict_in_order, threshold_in_order
from boostline.registry.versions import load_version
from boostline.scoring.engine import allowed_threads
from boostline.scoring.matrix import contributions
from boostline.scoring.model_file import Model
from boostline.settings import Settings
from boostline.tracking import tracking
from boostline.training.explain import sample_size
from boostline.transform import Transform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEST_ROWS, TRAIN_ROWS, SHAP_ROWS = 200_000, 50_000, 150
"""At most so many rows are read; of more, a sample drawn by the model's fingerprint."""


@dataclass(frozen=True)
class TestRows:
    """Test rows, or a sample of them, in the order of date and id, and what the models say of them."""

    __test__ = False  # no test, whatever pytest makes of the name

    total: int
    """All test rows of the run."""
    seed: int
    """For every draw that the report makes: the same run draws the same."""
    label: NDArray[np.float64]
    day: NDArray[np.datetime64]
    features: Any
    """`pyarrow.Table`, coded by the candidate's transformation."""
    categories: dict[str, tuple[str, ...]]
    """Values in the order of their codes, by categorical feature."""
    predictions: dict[str, NDArray[np.float64]]
    """Of `candidate`, and of `baseline` and `champion` where they can be had; shape (rows,) or (rows, classes)."""
    thresholds: dict[str, float]
    shap: NDArray[np.float32]
    """Of the candidate on the first `SHAP_ROWS` of `shap_rows`: (rows, features + 1) or (rows, classes, features + 1)."""
    shap_rows: NDArray[np.int64]
    """Their places among the rows."""
    notes: list[str]


@dataclass(frozen=True)
class TrainRows:
    """A sample of the rows that a model learnt from."""

    features: Any
    """`pyarrow.Table`: codes and numbers; none where the rows are gone."""
    transform: Transform
    rows: dict[str, int]
    """Number of rows by split."""
    null_shares: Mapping[str, float]
    """Missing values by feature, before anything stood in for them; empty where the rows are gone."""


def load_champion(store: Store, settings: Settings, champion: Mapping[str, Any] | None, dataset: str) -> Model | None:
    """The champion that the gate compared with, or none: there was none, it was not compared, or its files are gone.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    if not champion or not champion.get("metrics"):
        return None
    with tracking(settings) as mlflow:
        version = mlflow.version(dataset, champion["version"])
    try:
        return load_version(store, version) if version else None
    except ModelRefused:
        return None


def load_test_rows(
    store: Store,
    settings: Settings,
    dataset: Dataset,
    *,
    features: Manifest,
    baseline: Manifest,
    candidate: Model,
    champion: Model | None,
) -> TestRows:
    """Read the raw test rows, and let every model predict the same ones.

    Args:
        store: The lake.
        settings: Threads.
        dataset: Names the id.
        features: Of the run.
        baseline: On these features; its predictions were written with it.
        candidate: The run's model.
        champion: Where it was compared.
    """
    import numpy as np

    seed = int(hashlib.sha256(candidate.info.fingerprint.encode()).hexdigest()[:8], 16)
    raw, total, places = _sample(store, test_raw_keys(features), TEST_ROWS, seed)
    candidate, champion = candidate.for_clean_rows(), champion and champion.for_clean_rows()
    label = raw.column(LABEL).to_numpy()
    threads, notes = allowed_threads(settings.threads), list[str]()
    classes = tuple(str(item) for item in features.details.get("classes") or ())
    inputs = raw.drop_columns([LABEL])
    predictions = {"candidate": candidate.predict(inputs, threads)}
    thresholds = {
        "candidate": threshold_in_order(candidate, classes),
        "baseline": float(baseline.details.get("threshold", 0.5)),
    }
    found = _baseline_predictions(store, dataset, baseline, raw, places)
    if found is None:
        notes.append(
            "The baseline's predictions of these rows are not in the lake, so it has no interval and no curve."
        )
    else:
        predictions["baseline"] = found
    if champion:
        try:
            predictions["champion"] = predict_in_order(champion, inputs, classes, threads)
            thresholds["champion"] = threshold_in_order(champion, classes)
        except DataInvalid as error:
            notes.append(f"The champion cannot score these rows: {error.message}")
    coded = candidate.transform.apply(inputs)
    trees = candidate.info.rounds * max(1, len(candidate.info.classes) if dataset.task == "multiclass" else 1)
    size = min(SHAP_ROWS, sample_size(trees), len(label))
    shap_rows = np.unique(np.linspace(0, len(label) - 1, size).astype(np.int64))
    shap = contributions(candidate.booster, coded.take(shap_rows), candidate.info.columns, threads)
    return TestRows(
        total=total,
        seed=seed,
        label=label,
        day=_days(raw),
        features=coded,
        categories=candidate.transform.categorical,
        predictions=predictions,
        thresholds=thresholds,
        shap=shap,
        shap_rows=shap_rows,
        notes=notes,
    )


def load_train_rows(store: Store, features: Manifest, transform: Transform, seed: int) -> TrainRows:
    """A sample of the train rows of some features."""
    found, _, _ = _sample(store, split_keys(features, "train"), TRAIN_ROWS, seed)
    shares = features.details.get("null_shares", {})
    return TrainRows(found, transform, features.rows, shares)


def load_rows_before(store: Store, champion: Model, seed: int) -> TrainRows:
    """A sample of the rows that the champion learnt from, as long as its features are the published ones of its date."""
    info = champion.info
    found = read_current(store, "features", info.dataset, None, info.date)
    if found is None or f"{found[0].fingerprint}:{found[0].row_hash}" != info.data_fingerprint:
        return TrainRows(None, champion.transform, {}, {})
    return load_train_rows(store, found[0], champion.transform, seed)


def _sample(store: Store, keys: list[str], most: int, seed: int) -> tuple[Any, int, NDArray[np.int64] | None]:
    """Rows in order; how many there are; and the places of those that were drawn, none where it is all of them."""
    import numpy as np

    rows = ParquetDataset(store, keys)
    total = int(rows.count_rows())
    if total <= most:
        return rows.to_table(), total, None
    places = np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
    return rows.take(places), total, places


def _baseline_predictions(
    store: Store, dataset: Dataset, baseline: Manifest, raw: Any, places: NDArray[np.int64] | None
) -> NDArray[np.float64] | None:
    """What the baseline predicted for these rows; none where that was not written, or is not of the same rows."""
    import numpy as np

    keys = [item.key for item in baseline.files if "/test_predictions/" in item.key]
    if not keys:
        return None
    rows = ParquetDataset(store, keys)
    found = rows.to_table() if places is None else rows.take(places)
    if found.num_rows != raw.num_rows or not np.array_equal(found.column(LABEL), raw.column(LABEL)):
        return None
    for name in dataset.id:
        if not found.column(ID_PREFIX + name).cast(raw.schema.field(name).type).equals(raw.column(name)):
            return None
    return as_numbers(found.column("prediction"))


def _days(raw: Any) -> NDArray[np.datetime64]:
    """The data date of each row; no value where the rows have none."""
    import numpy as np

    if DATA_DATE not in raw.column_names:
        return np.full(raw.num_rows, "NaT", "datetime64[D]")
    found: NDArray[np.datetime64] = raw.column(DATA_DATE).to_numpy().astype("datetime64[D]")
    return found
