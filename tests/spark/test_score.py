"""Batch scoring inside Spark: the same predictions as everywhere, published like every stage."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, ModelRefused
from boostline.lake.arrow import read_parquet
from boostline.lake.job import JobRequest, Scorer
from boostline.lake.manifest import Manifest, Ref, read_ref
from boostline.lake.paths import attempt_folder, version_folder
from boostline.lake.plan import plan_ingest, plan_stage
from boostline.scoring.model_file import INFO, UBJ, load_model, load_published
from boostline.spark.failures import explain
from boostline.spark.score import run_score
from boostline.spark.scoring import share, with_predictions
from tests.spark.lab import DAY, GOOD_ROWS, ODD_CLASSES, Lab, csv, dataset_of
from tests.spark.model_lab import put_model

BINARY: dict[str, Any] = {"label": {"name": "high", "expression": "load > 12"}, "task": "binary",
                          "gate": {"metric": "log_loss"}, "baseline": {"kind": "logistic"}}  # fmt: skip
HOSTILE = ["20, Zebra,1e300,on,2024-03-10T23:00:00Z,1", "21,,,,,", "22,A ,NaN,off,1969-12-31T23:59:59Z,3"]
TASKS: dict[str, dict[str, Any]] = {"regression": {}, "binary": BINARY, "multiclass": ODD_CLASSES}


def score_request(lab: Lab, dataset: Dataset, model: Ref, version: str = "3") -> JobRequest:
    """What the task `score` hands to its job."""
    reads = plan_ingest(lab.store, dataset, date.fromisoformat(DAY)).current
    named = {f"{ref.table}/{ref.partition}": ref.identity for ref in [*reads, model]}
    table = version_folder(version)
    target = plan_stage(lab.store, "predictions", dataset, date.fromisoformat(DAY), named, table=table).target
    scorer = Scorer(version=version, model=model, sha256=model.row_hash)
    return lab.request("score", dataset, DAY, targets=[target], reads=reads, scorer=scorer)


def run(lab: Lab, request: JobRequest) -> Manifest:
    (ref,) = run_score(lab.spark, lab.store, request)
    return read_ref(lab.store, ref)


def raw_rows(lab: Lab, dataset: Dataset) -> pa.Table:
    """The clean day with its joins, without Spark."""
    refs = plan_ingest(lab.store, dataset, date.fromisoformat(DAY)).current
    tables = {ref.table: read_parquet(lab.store, [f.key for f in read_ref(lab.store, ref).files]) for ref in refs}
    return tables["readings"].join(tables["sites"], "site").sort_by("id")


@pytest.mark.parametrize("task", TASKS)
def test_spark_answers_as_the_model_does(lab: Lab, task: str) -> None:
    dataset = dataset_of(TASKS[task])
    lab.land_all(csv([*GOOD_ROWS, *HOSTILE]))
    model = put_model(lab, dataset, lab.features(dataset))
    manifest = run(lab, score_request(lab, dataset, model))
    assert manifest.current_key == f"predictions/meters/version=3/date={DAY}/current.json"
    assert manifest.rows == {"rows": 15} and manifest.details["version"] == "3"
    found = lab.rows(manifest).sort_by("id")
    loaded = load_published(lab.store, read_ref(lab.store, model))
    raw = raw_rows(lab, dataset)
    expected = loaded.answer(raw)
    assert found.column_names == ["id", "data_date", "model_version", *expected.column_names]
    assert set(found["model_version"].to_pylist()) == {"3"}
    assert {str(day) for day in found["data_date"].to_pylist()} == {DAY}
    for name in expected.column_names:
        ours, theirs = found[name].to_pylist(), expected[name].to_pylist()
        assert ours == (theirs if name == "prediction" and task != "regression" else pytest.approx(theirs, rel=1e-6))
    assert len(set(found["prediction"].to_pylist())) > 1


def test_versions_of_the_same_trees_keep_their_own_threshold(ready: tuple[Lab, Manifest]) -> None:
    (lab, _), dataset = ready, dataset_of(BINARY)
    model = load_published(lab.store, read_ref(lab.store, put_model(lab, dataset, lab.features(dataset))))
    joined = lab.spark.createDataFrame(raw_rows(lab, dataset).to_pandas())
    for version, threshold, classes in (("1", 0.0, {"1"}), ("2", 2.0, {"0"})):
        info = model.info.model_copy(update={"threshold": threshold}).model_dump_json().encode()
        files = {**model.files, INFO: info}
        shared = share(lab.spark, load_model(files, "changed"), version)
        assert {row["prediction"] for row in with_predictions(joined, shared, ["id"]).collect()} == classes


def test_scoring_twice_gives_the_same_rows_and_versions_do_not_mix(ready: tuple[Lab, Manifest]) -> None:
    (lab, features), dataset = ready, dataset_of()
    first, second = put_model(lab, dataset, features), put_model(lab, dataset, features, rounds=9)
    request = score_request(lab, dataset, first)
    once = run(lab, request)
    again = run(lab, lab.request("score", dataset, DAY, targets=request.targets, reads=request.reads,
                                 scorer=request.scorer))  # fmt: skip
    assert again.row_hash == once.row_hash and again.attempt == once.attempt  # the first one was published
    other = run(lab, score_request(lab, dataset, second, version="4"))
    assert other.row_hash != once.row_hash
    assert other.current_key.startswith("predictions/meters/version=4/")


def test_a_model_that_was_changed_is_refused_before_any_row(ready: tuple[Lab, Manifest]) -> None:
    (lab, features), dataset = ready, dataset_of()
    model = put_model(lab, dataset, features)
    request = score_request(lab, dataset, model)
    key = attempt_folder("model", "meters", model.attempt) + UBJ
    lab.store.put(key, lab.store.get(key)[0] + b"x")
    with pytest.raises(ModelRefused, match="SHA-256"):
        run_score(lab.spark, lab.store, request)
    assert not [item for item in lab.store.list("predictions/") if item.key.endswith(".parquet")]


def test_a_model_of_another_schema_is_named_with_its_columns(ready: tuple[Lab, Manifest]) -> None:
    (lab, features), dataset = ready, dataset_of()
    model = put_model(lab, dataset, features)
    lean = dataset_of({"tables.readings.columns.power": None, "features.numeric": ["area"]})
    lab.ingest(lean)
    with pytest.raises(DataInvalid, match="needs the column.s. power"):
        run_score(lab.spark, lab.store, score_request(lab, lean, model))


def test_a_model_that_learnt_from_otherwise_clean_rows_is_refused(ready: tuple[Lab, Manifest]) -> None:
    (lab, features), dataset = ready, dataset_of()
    model = put_model(lab, dataset, features)
    lower = {"tables.readings.columns.state": {"type": "string", "allowed": ["on", "off"], "clean": ["trim", "lower"]}}
    changes: list[tuple[dict[str, Any], str]] = [
        (lower, r"model version 3 of meters learnt from column state as string, clean: \[\]; the dataset file of today "
                r"has string, clean: \[trim, lower\](.|\n)*Train a new version"),
        ({"tables.sites.columns.area": {"type": "double"}}, "column area as integer; the dataset file of today has double"),
        ({"tables.readings.columns.site": {"type": "string", "clean": [{"replace": "x"}]}},
         r"clean: \[trim, lower\]; the dataset file of today has string, clean: \[replace 'x' by ''\]"),
    ]  # fmt: skip
    for change, says in changes:
        other = dataset_of(change)
        lab.ingest(other)
        with pytest.raises(DataInvalid, match=says):
            run_score(lab.spark, lab.store, score_request(lab, other, model))
    assert not [item for item in lab.store.list("predictions/") if item.key.endswith(".parquet")]


def test_a_changed_column_that_the_model_does_not_read_is_fine(lab: Lab) -> None:
    lab.land_all()
    dataset = dataset_of({"features.categorical": ["site", "hour"]})
    model = put_model(lab, dataset, lab.features(dataset))
    other = dataset_of({"features.categorical": ["site", "hour"], "tables.readings.columns.load": {"type": "string"},
                        "tables.readings.columns.state": {"type": "string", "clean": ["lower"]},
                        "tables.readings.columns.power": {"type": "double", "max": 1e9}})  # fmt: skip
    lab.ingest(other)
    assert run(lab, score_request(lab, other, model)).rows == {"rows": 12}


def test_an_error_in_an_executor_is_ours_again(ready: tuple[Lab, Manifest]) -> None:
    (lab, features), dataset = ready, dataset_of()
    loaded = load_published(lab.store, read_ref(lab.store, put_model(lab, dataset, features)))
    raw = raw_rows(lab, dataset).drop_columns(["power"]).append_column("power", pa.array(["many"] * 12))
    frame = lab.spark.createDataFrame(raw.to_pandas())
    with pytest.raises(Exception, match="power") as caught:
        with_predictions(frame, share(lab.spark, loaded, "1"), ["id"]).collect()
    error = explain(caught.value)
    assert isinstance(error, DataInvalid) and "column power: string does not fit double" in error.message
    assert error.remedy == "Send power as double"


def test_predictions_stay_numbers_where_all_is_missing(lab: Lab) -> None:
    dataset = dataset_of()
    lab.land_all(csv([*GOOD_ROWS, *(f"{n},,,,," for n in range(30, 40))]))
    manifest = run(lab, score_request(lab, dataset, put_model(lab, dataset, lab.features(dataset))))
    assert manifest.rows == {"rows": 22}
    assert np.isfinite(lab.rows(manifest)["prediction"].to_numpy()).all()
