"""The exported baseline, evaluated by JPMML, against what Spark itself predicted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
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
from tests.export_lab import evaluate, pmml_rows
from tests.spark.lab import CLASSES, Lab, csv, dataset_of, hostile_lines

LATE = {"task": "binary", "label": {"name": "late", "expression": "load > 20"}, "gate": {"metric": "auc"}}
KINDS: dict[str, dict[str, Any]] = {
    "linear one-hot": {"baseline": {"kind": "linear", "encoding": "onehot"}},
    "linear ordinal": {"baseline": {"kind": "linear", "encoding": "ordinal"}},
    "tree ordinal": {"baseline": {"kind": "tree", "max_depth": 6, "encoding": "ordinal"}},
    "tree one-hot": {"baseline": {"kind": "tree", "max_depth": 6}},
    "logistic": {**LATE, "baseline": {"kind": "logistic"}},
    "binary tree": {**LATE, "baseline": {"kind": "tree", "max_depth": 4}},
    "multinomial": {**CLASSES, "baseline": {"kind": "logistic", "max_iterations": 10}},
    "tree of classes": {**CLASSES, "baseline": {"kind": "tree", "max_depth": 4, "encoding": "ordinal"}},
}


@pytest.fixture(scope="module")
def featurized(spark: SparkSession, s3: Stack) -> tuple[Lab, Callable[[Dataset], Manifest]]:
    """A lake with these rows, ingested once, and the features of a dataset, made once for each task."""
    lab = Lab(spark, Store(Settings(lake=f"s3://{BUCKET}/exported", s3_endpoint=s3.s3_endpoint)))
    lab.land_all(csv(hostile_lines()))
    lab.ingest(dataset_of())
    made: dict[str, Manifest] = {}

    def features(dataset: Dataset) -> Manifest:
        if dataset.task not in made:
            made[dataset.task] = lab.featurize(dataset)
        return made[dataset.task]

    return lab, features


@pytest.mark.parametrize("kind", KINDS)
def test_exported_baseline_predicts_as_spark_did(
    featurized: tuple[Lab, Callable[[Dataset], Manifest]], kind: str
) -> None:
    dataset = dataset_of({**KINDS[kind], "split": {"kind": "first_rows", "test_rows": 1000, "valid_rows": 100}})
    lab, made = featurized
    features = made(dataset)
    manifest = lab.baseline(dataset, features)
    transform, threshold = lab.transform(features), manifest.details.get("threshold", 0.5)
    key = next(item.key for item in manifest.files if item.key.endswith("/baseline.json"))
    model = baseline_pmml(json.loads(lab.store.get(key)[0]), transform, threshold)
    sink = io.BytesIO()
    write_document(sink, transform, model, "test")
    raw = read_parquet(lab.store, raw_keys(features)).select(list(transform.columns))
    found = evaluate(sink.getvalue(), pmml_rows(raw))
    keys = [item.key for item in manifest.files if "/test_predictions/" in item.key]
    expected = read_parquet(lab.store, keys)["prediction"].to_pylist()
    assert len(expected) == 1000
    if dataset.task == "regression":
        assert found["prediction"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        return
    classes = transform.classes or ("0", "1")
    if dataset.task == "binary":
        assert found["probability"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        names = [classes[int(chance >= threshold)] for chance in expected]
    else:
        for index, name in enumerate(classes):
            chances = [row[index] for row in expected]
            assert found[f"probability_{name}"] == pytest.approx(chances, rel=1e-5, abs=1e-6)
        names = [classes[int(np.argmax(row))] for row in expected]
    assert found["prediction"] == names
    assert len(set(names)) > 1
