"""The same 1,000 raw rows on every path that a prediction can take: the same answers."""

from __future__ import annotations

import csv as csv_files
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest

from boostline.dataset import Dataset
from boostline.export.files import export_baseline, export_model
from boostline.lake.arrow import read_parquet
from boostline.lake.manifest import Manifest, Ref, read_ref
from boostline.registry.promotion import promote_by_hand
from boostline.scoring.model_file import load_published
from boostline.settings import Settings
from tests.export_lab import evaluate, pmml_rows
from tests.model_lab import train_toy
from tests.serving.conftest import World, serving
from tests.spark.lab import CLASSES, HEADER, Lab, csv, dataset_of, hostile_lines
from tests.spark.test_score import run, score_request
from tests.spark.test_stream import drain, published, scored

ROWS = 1000
BINARY: dict[str, Any] = {"task": "binary", "label": {"name": "late", "expression": "load > 20"},
                          "gate": {"metric": "auc"}, "baseline": {"kind": "logistic"}}  # fmt: skip
CLASS_NAMES = ("low", "mid", "high")
TASKS: dict[str, dict[str, Any]] = {"regression": {}, "binary": BINARY, "multiclass": CLASSES}


def raw_rows(lines: list[str]) -> pa.Table:
    """The rows as somebody has them who has the files: nothing cleaned, and the sites joined by hand."""
    records = list(csv_files.DictReader([HEADER, *lines[:ROWS]]))
    areas = {"a": 1, "b": 2, "c": 3}
    return pa.table(
        {
            "site": [row["site"] or None for row in records],
            "power": pa.array([float(row["power"]) if row["power"] else None for row in records], pa.float64()),
            "state": [row["state"] or None for row in records],
            "at": pa.array([datetime.fromisoformat(row["at"]) for row in records], pa.timestamp("us", tz="UTC")),
            "area": pa.array([areas.get(row["site"].strip().lower()) for row in records], pa.int32()),
        }
    )


def parity_lines() -> list[str]:
    """Those of the lab. Of "XXd" the rules leave "xd", and would leave "d" of that."""
    lines = []
    for line in hostile_lines():
        rest, load = line.rsplit(",", 1)
        odd = ",d," in rest
        lines.append(f"{rest.replace(',d,', ',XXd,')},{float(load) + 9 * odd:.3f}")
    return lines


def as_columns(rows: list[dict[str, Any]], names: list[str]) -> dict[str, list[Any]]:
    """The answers to the first rows, by column."""
    return {name: [row[name] for row in rows[:ROWS]] for name in names}


@pytest.fixture
def trained(request: pytest.FixtureRequest, lab: Lab, settings: Settings) -> tuple[Dataset, Manifest, Ref]:
    """A dataset of the task with its baseline, and a champion that the training task made."""
    changes = {"name": f"parity_{request.param}", "stream": {},
               "tables.readings.columns.site.clean": ["trim", "lower", {"replace": "^x"}], "model": {"rounds": 40, "early_stopping": 10},
               "split": {"kind": "first_rows", "test_rows": ROWS, "valid_rows": 100}}  # fmt: skip
    dataset = dataset_of(TASKS[request.param] | changes)
    lab.name = dataset.name
    lab.land_all(csv(parity_lines()))
    features = lab.features(dataset)
    baseline = lab.baseline(dataset, features)
    model = train_toy(lab.store, settings, dataset, lab.refs[features.attempt])
    promote_by_hand(lab.store, settings, dataset.name, "1", reason="test", who="test")
    return dataset, baseline, model


@pytest.mark.parametrize("trained", TASKS, indirect=True)
def test_every_path_gives_the_same_predictions(
    lab: Lab, settings: Settings, trained: tuple[Dataset, Manifest, Ref], tmp_path: Path
) -> None:
    dataset, baseline, model = trained
    raw = raw_rows(parity_lines())
    answer = load_published(lab.store, read_ref(lab.store, model)).answer(raw)
    expected, names = answer.to_pydict(), answer.column_names
    found: dict[str, dict[str, list[Any]]] = {}

    batch = lab.rows(run(lab, score_request(lab, dataset, model, "1"))).sort_by("id")
    found["Spark batch"] = as_columns(batch.to_pylist(), names)

    drain(lab, settings, dataset)
    found["stream"] = as_columns(scored(lab, published(lab, dataset)), names)

    with serving(World(lab.store, settings, {}), tmp_path, datasets=(dataset.name,)) as server:
        records = [row | {"at": row["at"].isoformat()} for row in raw.to_pylist()]
        predictions = server.predict(dataset.name, records).json()["predictions"]
        found["REST"] = as_columns(predictions, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_uri)
        loaded = mlflow.pyfunc.load_model(f"models:/{dataset.name}/1")
        found["mlflow.pyfunc"] = loaded.predict(raw.to_pandas()).to_dict("list")

    export_model(lab.store, settings, dataset.name, "1", "pmml", tmp_path / "model.pmml")
    found["PMML"] = evaluate((tmp_path / "model.pmml").read_bytes(), pmml_rows(raw))

    assert len(set(expected["prediction"])) > 1 and len(expected["prediction"]) == ROWS
    for path, columns in found.items():
        for name in names:
            assert same(columns[name], expected[name]), f"{path}: {name}"

    # The baseline's paths: Spark, which fitted and measured it, and PMML.
    export_baseline(lab.store, settings, dataset.name, "1", "pmml", tmp_path / "baseline.pmml")
    ours = evaluate((tmp_path / "baseline.pmml").read_bytes(), pmml_rows(raw))
    keys = [item.key for item in baseline.files if "/test_predictions/" in item.key]
    spark = read_parquet(lab.store, keys)["prediction"].to_pylist()
    if dataset.task == "multiclass":
        for index, name in enumerate(sorted(CLASS_NAMES)):
            assert same(ours[f"probability_{name}"], [row[index] for row in spark]), name
    else:
        assert same(ours["prediction" if dataset.task == "regression" else "probability"], spark)


def same(found: list[Any], expected: list[Any]) -> bool:
    """Classes are equal, numbers to single precision."""
    if isinstance(expected[0], str):
        return found == expected
    return bool(found == pytest.approx(expected, rel=1e-5, abs=1e-6))
