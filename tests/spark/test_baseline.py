"""The baseline of every kind, fitted on train and measured on every split."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boostline.lake import paths
from boostline.lake.arrow import read_parquet
from boostline.lake.manifest import Manifest
from tests.spark.lab import DAY, GOLDEN, ODD_CLASSES, SITES, Lab, csv, dataset_of

MANY = [f"{n},{'abc'[n * n % 3]},{n % 17}.25,{'on' if n % 5 else 'off'},{DAY}T{n % 24:02}:00:00Z,{(n * 7) % 23 + n % 17}"
        for n in range(1, 121)]  # fmt: skip
LATE = {"task": "binary", "label": {"name": "late", "expression": "load > 20"}, "gate": {"metric": "auc"},
        "split": {"kind": "first_rows", "test_rows": 30, "valid_rows": 30}}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "linear one-hot": {"baseline": {"kind": "linear", "encoding": "onehot", "in_sample": True}},
    "linear ordinal": {"baseline": {"kind": "linear", "encoding": "ordinal"}},
    "tree": {"baseline": {"kind": "tree", "max_depth": 3, "encoding": "ordinal"}},
    "logistic": {**LATE, "baseline": {"kind": "logistic"}},
    "binary tree": {**LATE, "baseline": {"kind": "tree", "max_depth": 3}},
    "multinomial": {**ODD_CLASSES, "split": LATE["split"], "baseline": {"kind": "logistic", "max_iterations": 10}},
}


def _baseline(lab: Lab, changes: dict[str, Any] | None = None) -> Manifest:
    lab.land(SITES, paths.REFERENCE, table="sites")
    lab.land(csv(MANY))
    dataset = dataset_of(changes)
    return lab.baseline(dataset, lab.features(dataset))


@pytest.mark.parametrize("kind", KINDS)
def test_baseline_is_measured_on_every_split(lab: Lab, kind: str) -> None:
    dataset = dataset_of(KINDS[kind])
    manifest = _baseline(lab, KINDS[kind])
    splits = {"train", "valid", "test"} | ({"in_sample"} if dataset.baseline.in_sample else set())
    assert set(manifest.details["metrics"]) == splits and manifest.details["kind"] == dataset.baseline.kind
    assert all(dataset.gate.metric in metrics for metrics in manifest.details["metrics"].values())
    assert ("threshold" in manifest.details) == (dataset.task == "binary")
    folder = f"baseline/meters/attempts/{manifest.attempt}/"
    told = json.loads(lab.store.get(folder + "baseline.json")[0])
    assert told["metrics"] == manifest.details["metrics"]
    if dataset.baseline.kind == "tree":
        assert any("power <=" in line for line in told["tree"])
    elif dataset.task == "multiclass":
        assert list(told["coefficients"]) == list(told["intercept"]) == ["St. Louis", "v1.`0`"]
    else:
        assert ("site=b" in told["coefficients"]) == (dataset.baseline.encoding == "onehot")
    keys = [item.key for item in manifest.files if "/test_predictions/" in item.key]
    predictions = read_parquet(lab.store, keys)
    assert predictions.column_names == ["data_date", "_id_id", "_label", "prediction"]
    assert predictions["_id_id"].to_pylist() == list(range(1, manifest.rows["test"] + 1))


def test_baseline_repeats_to_the_hash(lab: Lab) -> None:
    first = _baseline(lab, KINDS["logistic"])
    again = lab.baseline(dataset_of(KINDS["logistic"]), lab.featurize(dataset_of(KINDS["logistic"])))
    assert (first.row_hash, first.details["metrics"]) == (again.row_hash, again.details["metrics"])
    assert first.row_hash == GOLDEN["baseline"]


def test_test_rows_may_serve_as_valid(lab: Lab) -> None:
    lab.land_all()
    split = {"kind": "first_rows", "test_rows": 4, "test_is_valid": True}
    dataset = dataset_of({"split": split})
    features = lab.features(dataset)
    assert (features.rows["train"], features.rows["valid"], features.rows["test"]) == (8, 0, 4)
    assert lab.rows(features, "valid").equals(lab.rows(features, "test"))
    metrics = lab.baseline(dataset, features).details["metrics"]
    assert metrics["valid"] == metrics["test"]
