"""The baseline: a linear, logistic or tree model of Spark ML on the features, which XGBoost has to beat."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

from pyspark.ml import Pipeline
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.lake.arrow import as_numbers
from boostline.lake.features import DATA_DATE, ID_PREFIX, LABEL, split_keys, transform_key
from boostline.lake.job import JobRequest
from boostline.lake.manifest import Manifest, Ref, attempt_files, publish, read_ref
from boostline.lake.store import Store
from boostline.metrics import choose_threshold, evaluate
from boostline.spark.baseline_model import INDEX_PREFIX, VECTOR, build_stages, describe, predicted
from boostline.spark.names import schema_of
from boostline.spark.paths import read_parquet
from boostline.spark.session import applied_settings
from boostline.spark.steps import step
from boostline.transform import Transform

ROWS_PER_TASK = 250_000
"""Below this the fit runs in one task: its sums are then added in one order, so that it repeats bit by bit."""


@dataclass(frozen=True)
class Scored:
    """Labels and predictions of some rows, as NumPy arrays; predictions are (rows, classes) for several classes."""

    label: Any
    prediction: Any


def run_baseline(spark: SparkSession, store: Store, request: JobRequest) -> list[Ref]:
    """Fit on train, measure on train, valid and test, and publish.

    `row_hash` is SHA-256 over the test predictions, ordered by date and id and rounded to 1e-9.
    """
    dataset, target = request.dataset, request.targets[0]
    with step("plan"):
        source = read_ref(store, request.reads[0])
        transform = Transform.loads(store.get(transform_key(source))[0])
        rows = _read_rows(spark, store, source, transform)
    tasks = 1 + sum(source.rows[split] for split in ("train", "valid", "test")) // ROWS_PER_TASK
    stages, table = _fit_and_predict(rows, F.col("split") == "train", dataset, transform, tasks)
    scored = _by_split(table, bool(source.details.get("test_is_valid")))
    threshold = 0.5
    if dataset.task == "binary":
        threshold = choose_threshold(scored["valid"].label, scored["valid"].prediction, dataset.model.threshold)
    if dataset.baseline.in_sample:
        _, whole = _fit_and_predict(rows, F.lit(True), dataset, transform, tasks)
        scored["in_sample"] = _scored(whole)
    metrics = {
        name: evaluate(dataset.task, part.label, part.prediction, threshold=threshold, classes=transform.classes)
        for name, part in scored.items()
    }
    with step("publish"):
        row_hash = _write(store, request, table, describe(stages, dataset, transform), metrics)
        details = {"kind": dataset.baseline.kind, "metrics": metrics, "spark": applied_settings(spark)}
        manifest = target.manifest(
            "baseline",
            dataset.name,
            request.attempt,
            files=attempt_files(store, request.folder),
            rows={name: len(scored[name].label) for name in ("train", "valid", "test")},
            columns={"prediction": "array<double>" if dataset.task == "multiclass" else "double"},
            row_hash=row_hash,
            details=details | ({"threshold": threshold} if dataset.task == "binary" else {}),
        )
        return [publish(store, manifest, target.expected_etag, to_current=request.publish)]


def _read_rows(spark: SparkSession, store: Store, source: Manifest, transform: Transform) -> DataFrame:
    """The rows of all splits, with categorical codes as numbers from 0 to n, where n means unknown."""
    parts = []
    for split in ("train", "valid", "test"):
        # Where the test rows serve as valid too, they are read once.
        if keys := [key for key in split_keys(source, split) if f"/split={split}/" in key]:
            frame = read_parquet(spark, store, keys, schema_of(source.columns))
            parts.append(frame.withColumn("split", F.lit(split)))
    rows = parts[0]
    for part in parts[1:]:
        rows = rows.unionByName(part)
    indexed = [
        F.coalesce(F.col(name), F.lit(len(values)))
        .cast("double")
        .alias(INDEX_PREFIX + name, metadata={"ml_attr": {"type": "nominal", "num_vals": len(values) + 1}})
        for name, values in transform.categorical.items()
    ]
    labels = {"ml_attr": {"type": "nominal", "num_vals": len(transform.classes) or 2}}
    label = F.col(LABEL).alias(LABEL, metadata={} if transform.task == "regression" else labels)
    others = [name for name in source.columns if name not in {LABEL, *transform.categorical}]
    return rows.select(*others, "split", label, *indexed)


def _fit_and_predict(
    rows: DataFrame, learn: Column, dataset: Dataset, transform: Transform, tasks: int
) -> tuple[list[Any], Any]:
    """Fit on the rows to learn from, in so many tasks, and predict all rows.

    Returns:
        The fitted stages, the model last; all rows' split, label and prediction as an Arrow table, and date and id of the test rows,
        which are written.
    """
    *prepare, estimator = build_stages(dataset, transform)
    is_test = F.col("split") == "test"
    keys = [DATA_DATE, *[name for name in rows.columns if name.startswith(ID_PREFIX)]]
    with step("prepare"):
        prepared = Pipeline(stages=prepare).fit(rows.where(learn).coalesce(tasks))
        vectors = prepared.transform(rows).select(*keys, "split", LABEL, VECTOR)
        vectors.persist()
    with step("fit"):
        model = estimator.fit(vectors.where(learn).coalesce(tasks))
    with step("predict"):
        table = (
            model.transform(vectors)
            .select(
                *[F.when(is_test, F.col(f"`{name}`")).alias(name) for name in keys],
                "split",
                LABEL,
                predicted(dataset, transform).alias("prediction"),
            )
            .toArrow()
        )
    vectors.unpersist()
    return [*prepared.stages, model], table


def _by_split(table: Any, test_is_valid: bool) -> dict[str, Scored]:
    import pyarrow.compute as pc

    def part(split: str) -> Scored:
        return _scored(table.filter(pc.equal(table["split"], split)))

    return {name: part("test" if name == "valid" and test_is_valid else name) for name in ("train", "valid", "test")}


def _scored(table: Any) -> Scored:
    return Scored(table[LABEL].to_numpy(), as_numbers(table["prediction"]))


def _write(store: Store, request: JobRequest, table: Any, model: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Store the test predictions and the model's description, and return the hash of the predictions."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    test = table.filter(pc.equal(table["split"], "test")).drop_columns(["split"])
    keys = [DATA_DATE, *[name for name in test.column_names if name.startswith(ID_PREFIX)]]
    test = test.sort_by([(name, "ascending") for name in keys])
    buffer = io.BytesIO()
    pq.write_table(test, buffer)
    store.put(f"{request.folder}test_predictions/part-00000.parquet", buffer.getvalue())
    body = {"kind": request.dataset.baseline.kind, **model, "metrics": metrics}
    store.put(f"{request.folder}baseline.json", (json.dumps(body, indent=1) + "\n").encode())
    return _hash(test, keys)


def _hash(test: Any, keys: list[str]) -> str:
    import numpy as np

    digest = hashlib.sha256()
    for name in keys:
        digest.update("\n".join(map(str, test[name].to_pylist())).encode())
    digest.update(np.rint(as_numbers(test["prediction"]) * 1e9).astype("<i8").tobytes())
    return digest.hexdigest()[:32]
