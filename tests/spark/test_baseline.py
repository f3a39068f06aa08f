"""The baseline of every kind: measured on every split, told by name, and exported so that JPMML answers as Spark did."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from boostline.dataset import Dataset
from boostline.export.baseline import baseline_pmml
from boostline.export.document import write_document
from boostline.lake.arrow import read_parquet
from boostline.lake.features import test_raw_keys as raw_keys
from boostline.lake.manifest import Manifest
from boostline.lake.store import Store
from boostline.local.layout import BUCKET, Stack
from boostline.settings import Settings
from boostline.transform import Transform
from tests.export_lab import evaluate, pmml_rows
from tests.spark.lab import CLASSES, DAY, GOLDEN, ODD_CLASSES, Lab, csv, dataset_of, hostile_lines

LATE = {"task": "binary", "label": {"name": "late", "expression": "load > 20"}, "gate": {"metric": "auc"}}
KINDS: dict[str, dict[str, Any]] = {
    "linear one-hot": {"baseline": {"kind": "linear", "encoding": "onehot", "in_sample": True}},
    "linear ordinal": {"baseline": {"kind": "linear", "encoding": "ordinal"}},
    "tree ordinal": {"baseline": {"kind": "tree", "max_depth": 6, "encoding": "ordinal"}},
    "tree one-hot": {"baseline": {"kind": "tree", "max_depth": 6}},
    "logistic": {**LATE, "baseline": {"kind": "logistic"}},
    "binary tree": {**LATE, "baseline": {"kind": "tree", "max_depth": 4}},
    "multinomial": {**ODD_CLASSES, "baseline": {"kind": "logistic", "max_iterations": 10}},
    "tree of classes": {**CLASSES, "baseline": {"kind": "tree", "max_depth": 4, "encoding": "ordinal"}},
}
Featurized = tuple[Lab, Callable[[Dataset], Manifest]]


@pytest.fixture(scope="module")
def featurized(spark: SparkSession, s3: Stack) -> Featurized:
    """A lake with these rows, ingested once, and the features of a dataset, made once for each label."""
    lab = Lab(spark, Store(Settings(lake=f"s3://{BUCKET}/baselines", s3_endpoint=s3.s3_endpoint)))
    lab.land_all(csv(hostile_lines()))
    lab.ingest(dataset_of())
    made: dict[str | None, Manifest] = {}

    def features(dataset: Dataset) -> Manifest:
        if dataset.label.expression not in made:
            made[dataset.label.expression] = lab.featurize(dataset)
        return made[dataset.label.expression]

    return lab, features


@pytest.mark.parametrize("kind", KINDS)
def test_baseline_is_measured_told_and_exported(featurized: Featurized, kind: str) -> None:
    dataset = dataset_of({**KINDS[kind], "split": {"kind": "first_rows", "test_rows": 1000, "valid_rows": 100}})
    lab, made = featurized
    features = made(dataset)
    manifest, transform = lab.baseline(dataset, features), lab.transform(features)
    splits = {"train", "valid", "test"} | ({"in_sample"} if dataset.baseline.in_sample else set())
    assert set(manifest.details["metrics"]) == splits and manifest.details["kind"] == dataset.baseline.kind
    assert ("threshold" in manifest.details) == (dataset.task == "binary")
    told = json.loads(lab.store.get(f"baseline/meters/attempts/{manifest.attempt}/baseline.json")[0])
    assert told["metrics"] == manifest.details["metrics"]
    check_names(told, dataset)
    predictions = read_parquet(lab.store, [item.key for item in manifest.files if "/test_predictions/" in item.key])
    assert predictions.column_names == ["data_date", "_id_id", "_label", "prediction"]
    assert predictions["_id_id"].to_pylist() == list(range(1, 1001)) and manifest.rows["test"] == 1000
    check_metrics(manifest.details["metrics"]["test"], predictions, dataset)
    if dataset.baseline.kind == "tree" and dataset.task != "regression":
        check_smoothed(told["nodes"], predictions, manifest.rows["train"])
    sink = io.BytesIO()
    threshold = manifest.details.get("threshold", 0.5)
    write_document(sink, transform, baseline_pmml(told, transform, threshold), "test")
    raw = read_parquet(lab.store, raw_keys(features)).select(list(transform.columns))
    check_export(evaluate(sink.getvalue(), pmml_rows(raw)), predictions, transform, threshold)


def check_names(told: dict[str, Any], dataset: Dataset) -> None:
    """What the baseline learnt is told by the names of features and classes."""
    if dataset.baseline.kind == "tree":
        feature = "hour=" if dataset.baseline.encoding == "onehot" else "hour"
        assert any(feature in line for line in told["tree"]), told["tree"]
        assert not any("feature " in line for line in told["tree"])
    elif dataset.task == "multiclass":
        assert list(told["coefficients"]) == list(told["intercept"]) == ["St. Louis", "v1.`0`"]
    else:
        assert ("site=b" in told["coefficients"]) == (dataset.baseline.encoding == "onehot")


def check_metrics(metrics: dict[str, Any], predictions: pa.Table, dataset: Dataset) -> None:
    """What was measured is what the predictions give."""
    label, found = predictions["_label"].to_numpy(), np.array(predictions["prediction"].to_pylist())
    if dataset.task == "regression":
        assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean((found - label) ** 2)), rel=1e-12)
        return
    chances = found if dataset.task == "multiclass" else np.column_stack([1 - found, found])
    right = np.clip(chances[np.arange(len(label)), label.astype(int)], np.finfo(float).eps, 1)
    assert metrics["log_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-6)
    if dataset.task == "binary":
        above = found[label == 1][:, None] - found[label == 0][None, :]
        assert metrics["auc"] == pytest.approx(((above > 0) + (above == 0) / 2).mean(), rel=1e-9)


def check_smoothed(nodes: list[dict[str, Any]], predictions: pa.Table, train_rows: int) -> None:
    """A leaf's probabilities are the shares of its train rows with one more of each class: a pure leaf is not certain."""
    leaves = np.array([node["counts"] for node in nodes if "counts" in node])
    assert (leaves - 1).sum() == train_rows and (leaves == 1).any()
    told = leaves / leaves.sum(axis=1, keepdims=True)
    found = np.array(predictions["prediction"].to_pylist())
    assert set(found.ravel()) <= set((told if found.ndim > 1 else told[:, 1]).ravel())
    assert 0 < found.min() < found.max() < 1


def check_export(found: dict[str, list[Any]], predictions: pa.Table, transform: Transform, threshold: float) -> None:
    """JPMML's answers to the raw rows are Spark's."""
    expected = predictions["prediction"].to_pylist()
    if transform.task == "regression":
        assert found["prediction"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        return
    classes = transform.classes or ("0", "1")
    if transform.task == "binary":
        assert found["probability"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        names = [classes[int(chance >= threshold)] for chance in expected]
    else:
        for index, name in enumerate(classes):
            chances = [row[index] for row in expected]
            assert found[f"probability_{name}"] == pytest.approx(chances, rel=1e-5, abs=1e-6)
        names = [classes[int(np.argmax(row))] for row in expected]
    assert found["prediction"] == names
    assert len(set(names)) > 1


MANY = [f"{n},{'abc'[n * n % 3]},{n % 17}.25,{'on' if n % 5 else 'off'},{DAY}T{n % 24:02}:00:00Z,{(n * 7) % 23 + n % 17}"
        for n in range(1, 121)]  # fmt: skip


def test_baseline_repeats_to_the_hash(lab: Lab) -> None:
    lab.land_all(csv(MANY))
    split = {"kind": "first_rows", "test_rows": 30, "valid_rows": 30}
    dataset = dataset_of({**LATE, "split": split, "baseline": {"kind": "logistic"}})
    first = lab.baseline(dataset, lab.features(dataset))
    again = lab.baseline(dataset, lab.featurize(dataset))
    assert (first.row_hash, first.details["metrics"]) == (again.row_hash, again.details["metrics"])
    assert first.row_hash == GOLDEN["baseline"]


def test_test_rows_may_serve_as_valid(good: Lab) -> None:
    dataset = dataset_of({"split": {"kind": "first_rows", "test_rows": 4, "test_is_valid": True}})
    features = good.featurize(dataset)
    assert (features.rows["train"], features.rows["valid"], features.rows["test"]) == (8, 0, 4)
    assert good.rows(features, "valid").equals(good.rows(features, "test"))
    metrics = good.baseline(dataset, features).details["metrics"]
    assert metrics["valid"] == metrics["test"]
