"""Reading what is published: the same rows in every form, only what a manifest names, and errors that help."""

from __future__ import annotations

import subprocess
import sys

import polars
import pyarrow as pa
import pytest
from tests.model_lab import parquet, toy_dataset, toy_features
from tests.pipeline_lab import Pipeline

from boostline.errors import DataMissing, EnvironmentUnfit, RunDateInvalid
from boostline.lake import paths, published
from boostline.lake.manifest import Manifest, attempt_files, publish
from boostline.scoring.model_file import published_model

DAY = "2020-03-31"


def put(store, stage, partition, table, rows):
    """Publish these rows, and leave a file beside them that no manifest names."""
    folder = f"{paths.attempt_folder(stage, 'toys', 'a1')}{table}/{paths.partition_folder(partition)}/"
    store.put(f"{folder}part-0.parquet", parquet(rows))
    manifest = Manifest(stage=stage, dataset="toys", table=table, partition=partition, attempt="a1", fingerprint="f",
                        inputs={}, files=attempt_files(store, folder), rows={"rows": rows.num_rows}, columns={},
                        row_hash="h")  # fmt: skip
    publish(store, manifest, None)
    store.put(f"{folder}part-1.parquet", parquet(rows))


def test_every_form_holds_the_rows_of_the_manifest_and_no_others(store) -> None:
    rows = pa.table({"id": [1, 2, 3], "city": ["Rome", None, "Oslo"], "size": [1.5, 2.5, None]})
    put(store, "clean", DAY, "houses", rows)
    day = published("clean", "toys", DAY, table="houses", store=store)
    assert day.manifest.rows == {"rows": 3}
    assert day.to_arrow() == rows
    assert day.to_pandas().equals(rows.to_pandas())
    assert day.to_polars().equals(polars.from_arrow(rows))
    assert day.to_arrow(["size"]).column_names == day.to_polars(["size"]).columns == ["size"]


def test_reference_tables_and_predictions_are_read_alike(store) -> None:
    rows = pa.table({"id": [1], "prediction": [2.5]})
    put(store, "clean", paths.REFERENCE, "cities", rows)
    put(store, "predictions", DAY, "version=3", rows)
    assert published("clean", "toys", None, table="cities", store=store).to_arrow() == rows
    assert published("predictions", "toys", DAY, version="3", store=store).to_arrow() == rows


def test_features_are_read_by_part(store) -> None:
    dataset = toy_dataset("regression", "toys")
    toy_features(store, dataset, DAY, rows=400)
    parts = {name: published("features", "toys", DAY, part=name, store=store) for name in
             ("train", "valid", "test", "test_raw")}  # fmt: skip
    assert [part.to_arrow().num_rows for part in parts.values()] == [400, 100, 100, 100]
    assert parts["test"].to_arrow(["_label"]) == parts["test_raw"].to_arrow(["_label"])
    assert parts["train"].read_json("transform.json")["date"] == DAY
    with pytest.raises(DataMissing, match=r"features/toys/date=2020-03-31 has no file run.json.*\n.*transform.json"):
        parts["train"].read_json("run.json")


def test_the_model_of_a_date_answers(store, settings) -> None:
    dataset = toy_dataset("regression", "read_toys")
    Pipeline(store, settings, dataset).train(DAY)
    found = published("model", "read_toys", DAY, store=store)
    model = published_model("read_toys", DAY, store)
    clean = published("features", "read_toys", DAY, part="test_raw", store=store).to_arrow()
    answer = model.for_clean_rows().answer(clean)
    rmse = float(((answer["prediction"].to_numpy() - clean["_label"].to_numpy()) ** 2).mean() ** 0.5)
    assert rmse == pytest.approx(found.read_json("model.json")["metrics"]["test"]["rmse"], rel=1e-9)
    with pytest.raises(DataMissing, match=f"model/read_toys/date={DAY} has no rows"):
        found.to_arrow()


def test_what_is_not_there_says_how_to_make_it(store) -> None:
    with pytest.raises(DataMissing, match=rf"nothing .* {DAY} of features/toys, part test.*\n.*run toys --date {DAY}"):
        published("features", "toys", DAY, part="test", store=store)
    with pytest.raises(DataMissing, match=rf"version 7.*\n.*boostline score toys --version 7 --date {DAY}"):
        published("predictions", "toys", DAY, version="7", store=store)
    for wrong in ("31.3.2020", "20200331", "2020-3-31", "2020-W14-2"):
        with pytest.raises(RunDateInvalid, match=f"day is no date: '{wrong}'"):
            published("report", "toys", wrong, store=store)


@pytest.mark.parametrize(
    ("stage", "choice", "told"),
    [
        ("clean", {}, "stage clean needs table=… and nothing else"),
        ("features", {"part": "train", "table": "houses"}, "stage features needs part=… and nothing else"),
        ("report", {"version": "3"}, "stage report takes neither table, part nor version"),
        ("raw", {}, "stage raw is none of clean, features"),
    ],
)
def test_a_wrong_choice_says_what_the_stage_needs(store, stage, choice, told) -> None:
    with pytest.raises(TypeError, match=told):
        published(stage, "toys", DAY, **choice, store=store)


def test_polars_is_asked_for_only_where_it_is_used(store, monkeypatch) -> None:
    put(store, "clean", DAY, "houses", pa.table({"id": [1]}))
    monkeypatch.setitem(sys.modules, "polars", None)
    day = published("clean", "toys", DAY, table="houses", store=store)
    assert day.to_pandas().id.tolist() == [1]
    with pytest.raises(EnvironmentUnfit, match="pip install polars"):
        day.to_polars()


def test_importing_the_lake_loads_nothing_heavy() -> None:
    code = "import sys, boostline.lake; print([n for n in %r if n in sys.modules])"
    heavy = ["pandas", "pyarrow", "polars", "numpy", "boto3", "pyspark", "xgboost", "mlflow", "airflow"]
    done = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
