"""Feature attempts as featurize writes them, made without Spark, for the tests of what comes after."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boostline.dataset import Dataset
from boostline.lake import paths
from boostline.lake.job import Target
from boostline.lake.manifest import Manifest, Ref, attempt_files, publish
from boostline.lake.plan import plan_stage
from boostline.lake.store import Store
from boostline.transform import Transform, needed_columns


def fit_transform(dataset: Dataset, day: str, train: pa.Table, classes: tuple[str, ...]) -> Transform:
    """The transformation that these raw train rows give."""
    empty = Transform.model_validate(
        {
            "format": 1,
            "dataset": dataset.name,
            "task": dataset.task,
            "date": day,
            "columns": {
                name: {
                    "type": column.type,
                    "clean": [rule if isinstance(rule, str) else rule.model_dump() for rule in column.clean],
                }
                for name, column in needed_columns(dataset).items()
            },
            "derived": {k: v.model_dump(exclude_unset=True) for k, v in dataset.features.derived.items()},
            "categorical": {},
            "numeric": {},
            "names": dataset.features.names,
            "label": dataset.label.name,
            "classes": classes,
        }
    )
    clean = empty.clean(train)
    numeric = dict.fromkeys(dataset.features.numeric)
    categorical = {}
    for name in dataset.features.categorical:
        derived = dataset.features.derived.get(name)
        values = clean.column(name) if derived is None else _derive(derived, clean)
        counts = Counter(values.cast(pa.string()).drop_null().to_pylist())
        by_count = dataset.features.category_order == "frequency"
        categorical[name] = tuple(sorted(counts, key=lambda key: (-counts[key] if by_count else 0, key)))
    return Transform.model_validate(
        empty.model_dump(exclude_unset=True) | {"categorical": categorical, "numeric": numeric}
    )


def _derive(derived: Any, table: pa.Table) -> Any:
    assert derived.operation == "weekday"
    return pc.day_of_week(table.column(derived.weekday), count_from_zero=False, week_start=1)


def put_features(
    store: Store,
    dataset: Dataset,
    day: str,
    raw: dict[str, pa.Table],
    *,
    classes: tuple[str, ...] = (),
    attempt: str = "f1",
) -> Ref:
    """Write and publish the features of a date.

    Args:
        store: The lake.
        dataset: The dataset.
        day: The data date.
        raw: Raw rows with `_label`, by split; without `valid` the test rows serve.
        classes: Class names.
        attempt: The attempt's name.
    """
    transform = fit_transform(dataset, day, raw["train"], classes)
    folder = paths.attempt_folder("features", dataset.name, attempt)
    for split, rows in raw.items():
        table = transform.apply(rows).append_column("_label", rows.column("_label"))
        store.put(f"{folder}rows/split={split}/part-0.parquet", parquet(table))
    store.put(f"{folder}test_raw/part-0.parquet", parquet(raw["test"]))
    store.put(f"{folder}transform.json", transform.dumps())
    manifest = Manifest(
        stage="features",
        dataset=dataset.name,
        partition=day,
        attempt=attempt,
        fingerprint=f"features-{day}",
        inputs={},
        files=attempt_files(store, folder),
        rows={split: rows.num_rows for split, rows in raw.items()},
        columns={},
        row_hash=f"rows-{day}",
        details={"test_is_valid": "valid" not in raw, "classes": list(classes)},
    )
    return publish(store, manifest, None)


def put_baseline(store: Store, dataset: Dataset, day: str, metrics: dict[str, float], attempt: str = "b1") -> Ref:
    """Publish a baseline with these metrics on test."""
    manifest = Manifest(
        stage="baseline",
        dataset=dataset.name,
        partition=day,
        attempt=attempt,
        fingerprint=f"baseline-{day}-{attempt}",
        inputs={},
        files=[],
        rows={},
        columns={},
        row_hash=f"baseline-{day}",
        details={"kind": dataset.baseline.kind, "metrics": {"test": metrics}},
    )
    return publish(store, manifest, None)


def model_target(store: Store, dataset: Dataset, features: Ref) -> Target:
    """What the train task hands to `train_model`."""
    from datetime import date

    return plan_stage(
        store, "model", dataset, date.fromisoformat(features.partition), {"features": features.identity}
    ).target


def parquet(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()
