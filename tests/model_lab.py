"""Feature attempts as featurize writes them, made without Spark, for the tests of what comes after."""

from __future__ import annotations

import io
from collections import Counter
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from boostline.dataset import Dataset, change_dataset, parse_dataset
from boostline.lake import paths
from boostline.lake.job import Target
from boostline.lake.manifest import Manifest, Ref, attempt_files, fingerprint, publish, read_current
from boostline.lake.plan import plan_stage, stage_sections
from boostline.lake.store import Store
from boostline.metrics import METRICS_BY_TASK
from boostline.settings import Settings
from boostline.training.train import train_model
from boostline.transform import Transform


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
                for name, column in dataset.needed_columns.items()
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
    clean = {split: transform.clean(rows) for split, rows in raw.items()}  # as ingest publishes them
    for split, rows in clean.items():
        table = transform.features(rows).append_column("_label", rows.column("_label"))
        if split == "train":
            nulls = {name: table.column(name).null_count / table.num_rows for name in transform.names}
        store.put(f"{folder}rows/split={split}/part-0.parquet", parquet(table))
    store.put(f"{folder}test_raw/part-0.parquet", parquet(clean["test"]))
    store.put(f"{folder}transform.json", transform.dumps())
    inputs = {"clean": f"{day}-{attempt}"}
    manifest = Manifest(
        stage="features",
        dataset=dataset.name,
        partition=day,
        attempt=attempt,
        fingerprint=fingerprint("features", stage_sections("features", dataset), inputs),
        inputs=inputs,
        files=attempt_files(store, folder),
        rows={split: rows.num_rows for split, rows in clean.items()},
        columns={},
        row_hash=f"rows-{day}-{attempt}",
        details={"test_is_valid": "valid" not in raw, "classes": list(classes), "null_shares": nulls},
    )
    found = read_current(store, "features", dataset.name, None, day)
    return publish(store, manifest, found and found[1])


def put_clean(store: Store, dataset: Dataset, day: str) -> Ref:
    """Publish a clean day with something in quarantine."""
    manifest = Manifest(
        stage="clean",
        dataset=dataset.name,
        table=dataset.daily_table,
        partition=day,
        attempt=f"c-{day}",
        fingerprint=f"clean-{day}",
        inputs={},
        files=[],
        rows={"rows": 2100, "quarantined": 7, "duplicates": 3},
        columns={},
        row_hash="",
        details={"reasons": {"size is below 0": 5, "floors is not an integer": 2}},
    )
    found = read_current(store, "clean", dataset.name, dataset.daily_table, day)
    return publish(store, manifest, found and found[1])


def put_baseline(store: Store, dataset: Dataset, day: str, metrics: dict[str, float], attempt: str = "b1") -> Ref:
    """Publish a baseline with these metrics on every split."""
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
        details={"kind": dataset.baseline.kind, "metrics": dict.fromkeys(("train", "valid", "test"), metrics)},
    )
    found = read_current(store, "baseline", dataset.name, None, day)
    return publish(store, manifest, found and found[1])


def model_target(store: Store, dataset: Dataset, features: Ref) -> Target:
    """What the train task hands to `train_model`."""
    return plan_stage(
        store, "model", dataset, date.fromisoformat(features.partition), {"features": features.identity}
    ).target


def parquet(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def toy_dataset(task: str, name: str, **changes: Any) -> Dataset:
    """A small dataset with a text, a whole number, a date and two numbers; `changes` by dotted path.

    The text's last rule takes a letter from "oslo", and would take the next one from what is left.
    """
    label = {"regression": {"name": "cost"}, "binary": {"name": "late"}, "multiclass": {"name": "kind"}}[task]
    data = {
        "name": name,
        "task": task,
        "label": label,
        "id": ["row"],
        "tables": {
            "rows": {
                "daily": True,
                "columns": {
                    "row": {"type": "long", "required": True},
                    "city": {"type": "string", "clean": ["trim", "lower", {"replace": "^[os]"}]},
                    "floors": {"type": "integer"},
                    "built": {"type": "date"},
                    "size": {"type": "double"},
                    "age": {"type": "double"},
                    label["name"]: {"type": "string" if task == "multiclass" else "double"},
                },
            }
        },
        "split": {"kind": "hash"},
        "features": {
            "categorical": ["city", "floors", "weekday"],
            "numeric": ["size", "age"],
            "derived": {"weekday": {"weekday": "built"}},
        },
        "baseline": {"kind": "linear" if task == "regression" else "logistic"},
        "model": {"rounds": 40, "early_stopping": 10, "params": {"subsample": 0.8, "colsample_bytree": 0.7}},
        "gate": {"metric": METRICS_BY_TASK[task][0], "beat_baseline": 0.01},
    }
    return change_dataset(parse_dataset(data), changes) if changes else parse_dataset(data)


def toy_rows(task: str, rows: int, seed: int, new_city: bool = False) -> pa.Table:
    """Raw rows with missing values and a signal; with `new_city` some rows have a category that no other seed has."""
    rng = np.random.default_rng(seed)
    cities = ["Rome", " rome", "Oslo", "Bern", "Lima"] + (["Atlantis"] * 2 if new_city else [])
    city, floors = rng.choice(cities, rows), rng.integers(1, 5, rows)
    size, age = rng.normal(100, 30, rows), rng.exponential(20, rows)
    signal = (size - 100) / 30 + (city == "Oslo") * 1.5 - (floors == 3) + rng.normal(0, 0.3, rows)
    label = {
        "regression": signal,
        "binary": (signal > 0).astype(float),
        "multiclass": np.digitize(signal, [-0.7, 0.7]).astype(float),
    }[task]
    return pa.table(
        {
            "city": pa.array(city, mask=rng.random(rows) < 0.1),
            "floors": pa.array(floors, pa.int64(), mask=rng.random(rows) < 0.1),
            "built": pa.array(np.datetime64("2020-01-01") + rng.integers(0, 90, rows), mask=rng.random(rows) < 0.1),
            "size": pa.array(size, mask=rng.random(rows) < 0.1),
            "age": age,
            "_label": label,
        }
    )


TOY_CLASSES = {"regression": (), "binary": ("no", "yes"), "multiclass": ("low", "mid", "high")}


def toy_features(store: Store, dataset: Dataset, day: str = "2020-03-31", *, seed: int = 0, rows: int = 1200) -> Ref:
    """Published features of a toy dataset: `rows` train rows, a quarter of that each for valid and test."""
    raw = {
        "train": toy_rows(dataset.task, rows, seed),
        "valid": toy_rows(dataset.task, rows // 4, seed + 1, new_city=True),
        "test": toy_rows(dataset.task, rows // 4, seed + 2, new_city=True),
    }
    return put_features(store, dataset, day, raw, classes=TOY_CLASSES[dataset.task], attempt=f"f-{day}-{seed}")


def train_toy(
    store: Store, settings: Settings, dataset: Dataset, features: Ref, attempt: str = "m1", *, publish: bool = True
) -> Ref:
    """What the train task does."""
    target = model_target(store, dataset, features)
    return train_model(
        store,
        settings,
        dataset,
        features=features,
        target=target,
        attempt=attempt,
        publish=publish,
        tags={"run": "test"},
    )
