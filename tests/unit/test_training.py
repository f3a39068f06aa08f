"""Training on a real S3 store and a real MLflow server: what is published, tracked and loadable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.model_lab import TOY_CLASSES, put_features, toy_dataset, toy_features, toy_rows, train_toy

from boostline.dataset.learning import OBJECTIVES
from boostline.errors import DataInvalid, ModelRefused, ServiceUnavailable, Superseded
from boostline.lake.manifest import publish, read_current, read_ref
from boostline.metrics import evaluate
from boostline.scoring.engine import allowed_threads
from boostline.scoring.model_file import INFO, TRANSFORM, UBJ, load_model, load_published
from boostline.tracking import tracking
from boostline.training.pyfunc import _load_pyfunc
from boostline.training.scratch import scratch_folder

TASKS = ("regression", "binary", "multiclass")


@pytest.fixture
def loaded(mlflow_uri, monkeypatch):
    """`loaded(name, version)`: a version as a person loads it."""
    mlflow.set_tracking_uri(mlflow_uri)
    return lambda name, version="1": mlflow.pyfunc.load_model(f"models:/{name}/{version}")


@pytest.mark.parametrize("task", TASKS)
def test_model_is_published_measured_and_explained(store, settings, task):
    dataset = toy_dataset(task, f"published_{task}")
    features = toy_features(store, dataset)
    ref = train_toy(store, settings, dataset, features)

    manifest, _ = read_current(store, "model", dataset.name, None, "2020-03-31")
    assert manifest.attempt == ref.attempt == "m1"
    assert manifest.rows == {"train": 1200, "valid": 300, "test": 300}
    assert list(manifest.columns) == ["city", "floors", "weekday", "size", "age"]
    assert {Path(item.key).name for item in manifest.files} == {"model.ubj", "model.json", "transform.json"}
    details = manifest.details
    assert details["sha256"] == manifest.row_hash
    assert 1 <= details["rounds"] <= 40
    assert (details["threshold"] is not None) == (task == "binary")
    assert details["importance"][0]["feature"] == "size"
    assert details["importance"][0]["shap"] > 0 < details["importance"][0]["gain"]
    good = {"regression": ("r2", 0.6), "binary": ("auc", 0.85), "multiclass": ("auc", 0.85)}[task]
    assert all(details["metrics"][split][good[0]] > good[1] for split in ("train", "valid", "test"))


def test_numbers_beyond_single_precision_count_as_the_largest(store, settings):
    dataset, largest = toy_dataset("regression", "extreme"), 3.4028234663852886e38

    def rows(size, seed):
        found = toy_rows("regression", 300, seed)
        return found.set_column(found.column_names.index("size"), "size", pa.array([size, -size, 1.0] * 100))

    raw = {split: rows(1e300, seed) for seed, split in enumerate(("train", "valid", "test"))}
    ref = train_toy(store, settings, dataset, put_features(store, dataset, "2020-03-31", raw))
    model = load_published(store, read_ref(store, ref))
    assert model.predict(raw["test"]).tolist() == model.predict(rows(largest, 2)).tolist()
    assert len(set(model.predict(raw["test"]).tolist())) > 1


def with_labels(change):
    """Toy rows of all splits whose label is what `change` makes of it."""
    rows = {split: toy_rows("regression", 200, seed) for seed, split in enumerate(("train", "valid", "test"))}
    return {split: found.drop_columns(["_label"]).append_column("_label", pa.array(change(found["_label"].to_numpy())))
            for split, found in rows.items()}  # fmt: skip


METRIC_OF = {
    "reg:squarederror": "rmse",
    "reg:squaredlogerror": "rmsle",
    "reg:logistic": "rmse",
    "reg:pseudohubererror": "mphe",
    "reg:absoluteerror": "mae",
    "reg:gamma": "gamma-deviance",
    "reg:tweedie": "tweedie-nloglik@1.5",
    "count:poisson": "poisson-nloglik",
}
"""XGBoost's own metric of each objective."""


@pytest.mark.parametrize("objective", OBJECTIVES["regression"])
def test_every_objective_of_regression_trains_and_is_measured_in_the_labels_unit(
    store, settings, mlflow_uri, objective
):
    dataset = toy_dataset("regression", f"objective_{objective[-5:]}", **{"model.params.objective": objective})
    rows = with_labels(lambda label: 1 / (1 + np.exp(-label)))
    ref = train_toy(store, settings, dataset, put_features(store, dataset, "2020-03-31", rows), publish=False)
    manifest = read_ref(store, ref)
    assert manifest.details["metrics"]["test"]["r2"] > 0.3
    info = load_published(store, manifest).info
    assert info.params["eval_metric"] == METRIC_OF[objective]
    assert info.rounds == 1 + int(np.argmin(info.learning_curve["valid"]))
    logged = mlflow.MlflowClient(mlflow_uri).get_run(manifest.details["mlflow"]["run_id"]).data.metrics
    assert f"curve_valid_{METRIC_OF[objective].replace('@', '_')}" in logged


def test_a_training_is_stopped_by_what_its_objective_makes_small(store, settings):
    changes = {"model.params.objective": "reg:absoluteerror", "model.rounds": 200, "model.params.eta": 0.5}
    dataset = toy_dataset("regression", "stopped_by_mae", **changes)
    rows = with_labels(lambda label: np.exp(2 * label))
    ref = train_toy(store, settings, dataset, put_features(store, dataset, "2020-03-31", rows), publish=False)
    info = load_published(store, read_ref(store, ref)).info
    assert info.metrics["valid"]["mae"] == pytest.approx(min(info.learning_curve["valid"]), rel=1e-5)


def test_a_metric_that_is_not_a_number_is_told(store, settings):
    changes = {"model.params.objective": "reg:squaredlogerror", "model.params.eta": 1.0, "model.params.lambda": 0}
    dataset = toy_dataset("regression", "no_number", **changes)
    rows = with_labels(lambda label: np.where(label > 0, 50.0, -0.99))
    features = put_features(store, dataset, "2020-03-31", rows)
    with pytest.raises(
        DataInvalid, match="rmsle of the train rows is nan after round 1: .* reg:squaredlogerror"
    ) as error:
        train_toy(store, settings, dataset, features, publish=False)
    assert "label cost" in error.value.remedy


def test_counts_with_few_large_ones_do_not_run_away(store, settings):
    dataset = toy_dataset("regression", "counts", **{"model.params.objective": "count:poisson", "model.rounds": 1})
    rows = with_labels(lambda label: np.floor(np.exp(3 * label)))
    ref = train_toy(store, settings, dataset, put_features(store, dataset, "2020-03-31", rows))
    spread = float(rows["train"]["_label"].to_numpy().std())
    assert read_ref(store, ref).details["metrics"]["train"]["rmse"] < 1.5 * spread


@pytest.mark.parametrize(
    ("objective", "change", "says"),
    [
        ("count:poisson", lambda label: label - 1e3, "label must be non-negative"),
        ("reg:gamma", np.zeros_like, "must be greater than 0 for gamma regression"),
        ("reg:squarederror", lambda label: label * 1e39, "Label contains NaN, infinity or a value too large"),
    ],
)
def test_a_label_that_the_objective_does_not_take_is_told(store, settings, objective, change, says):
    dataset = toy_dataset("regression", "odd_labels", **{"model.params.objective": objective})
    features = put_features(store, dataset, "2020-03-31", with_labels(change))
    with pytest.raises(DataInvalid, match=f"^XGBoost cannot learn from these rows: .*{says}.*") as error:
        train_toy(store, settings, dataset, features, publish=False)
    assert "label cost and model.params" in error.value.remedy
    assert "\n" not in error.value.message and "/src/" not in error.value.message


@pytest.mark.parametrize("task", TASKS)
def test_registered_model_scores_raw_rows_as_it_was_measured(store, settings, loaded, task):
    dataset = toy_dataset(task, f"raw_{task}")
    ref = train_toy(store, settings, dataset, toy_features(store, dataset))
    raw = toy_rows(task, 300, 2, new_city=True)
    model, classes = loaded(dataset.name), list(TOY_CLASSES[task])

    answer = model.predict(raw.drop_columns(["_label"]).to_pandas())

    label = raw.column("_label").to_numpy()
    if task == "regression":
        assert list(answer.columns) == ["prediction"]
        found = evaluate(task, label, answer.prediction)
    elif task == "binary":
        threshold = read_ref(store, ref).details["threshold"]
        assert list(answer.prediction) == [classes[value >= threshold] for value in answer.probability]
        found = evaluate(task, label, answer.probability, threshold=threshold, classes=tuple(classes))
    else:
        chances = answer[[f"probability_{name}" for name in classes]].to_numpy()
        assert list(answer.prediction) == [classes[index] for index in chances.argmax(axis=1)]
        found = evaluate(task, label, chances, classes=tuple(classes))
    expected = read_ref(store, ref).details["metrics"]["test"]
    assert found.pop("per_class", None) == expected.pop("per_class", None)
    assert found == pytest.approx(expected, rel=1e-6)


def test_registered_model_takes_rows_as_people_have_them(store, settings, loaded):
    dataset = toy_dataset("binary", "as_people_have_them")
    train_toy(store, settings, dataset, toy_features(store, dataset))
    model = loaded(dataset.name)
    rows = pd.DataFrame(
        {
            "city": ["OSLO ", None, "never seen"],
            "floors": [1.0, None, 3.0],
            "built": ["2020-01-06", None, "2021-01-01"],
            "size": [100, 120, 90],
            "age": [np.nan, np.inf, 3.5],
            "extra": ["is", "left", "alone"],
        },
        index=[7, 8, 9],
    )
    answer = model.predict(rows)
    assert list(answer.index) == [7, 8, 9]
    assert answer.probability.between(0, 1).all()
    clean = rows.assign(city=["oslo", None, None], age=[None, None, 3.5], floors=pd.array([1, None, 3], "Int64"))
    pd.testing.assert_frame_equal(model.predict(clean), answer)
    assert len(model.predict(model.input_example)) == 5
    assert model.metadata.signature.inputs.input_names() == ["city", "floors", "built", "size", "age"]
    with pytest.raises(Exception, match=r"lack the column.*size"):
        model.predict(rows.drop(columns="size"))


def test_mlflow_knows_all_that_was_measured_and_holds_no_pickle(store, settings, mlflow_uri, loaded):
    dataset = toy_dataset("multiclass", "known")
    features = toy_features(store, dataset)
    manifest = read_ref(store, train_toy(store, settings, dataset, features))
    run = mlflow.MlflowClient(mlflow_uri).get_run(manifest.details["mlflow"]["run_id"])
    assert run.info.run_name == f"{manifest.dataset} {manifest.partition}"
    read = {item.tags[0].value: item.dataset for item in run.inputs.dataset_inputs}
    assert set(read) == {"training", "validation", "testing"}
    assert json.loads(read["testing"].profile) == {"num_rows": manifest.rows["test"]}
    assert mlflow.data.get_source(read["training"]).uri.startswith(f"{store.settings.lake}/features/")
    assert run.info.status == "FINISHED"
    expected = {
        "dataset": "known",
        "data_date": "2020-03-31",
        "fingerprint": manifest.fingerprint,
        "data_fingerprint": features.identity,
        "experiment": "no",
        "run": "test",
    }
    assert expected.items() <= run.data.tags.items()
    assert run.data.params["eta"] == "0.1" and run.data.params["objective"] == "multi:softprob"
    metrics = manifest.details["metrics"]
    assert run.data.metrics["test_log_loss"] == pytest.approx(metrics["test"]["log_loss"])
    assert run.data.metrics["valid_recall/mid"] == pytest.approx(metrics["valid"]["per_class"]["mid"]["recall"])
    curve = mlflow.MlflowClient(mlflow_uri).get_metric_history(run.info.run_id, "curve_valid_mlogloss")
    assert min(range(len(curve)), key=lambda index: curve[index].value) + 1 == manifest.details["rounds"]
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id))
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"importance.json", "model.ubj", "MLmodel", "requirements.txt"} <= names
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    assert "cloudpickle" not in (folder / "model" / "MLmodel").read_text()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("categorical", ["native", "ordinal"])
def test_threads_and_external_memory_change_no_byte(store, settings, task, categorical):
    dataset = toy_dataset(task, f"bytes_{task}_{categorical}", **{"model.categorical": categorical})
    features = toy_features(store, dataset, rows=3000)
    setups = {"m1": {"threads": 1}, "m2": {"threads": 2}, "m3": {"external_memory_bytes": 0}}
    trained = [
        read_ref(store, train_toy(store, settings.model_copy(update=change), dataset, features, name, publish=False))
        for name, change in setups.items()
    ]
    assert len({item.row_hash for item in trained}) == 1
    assert trained[0].details["metrics"] == trained[2].details["metrics"]


def test_external_memory_leaves_no_file_behind(store, settings, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dataset = toy_dataset("regression", "leaves_nothing")
    with caplog.at_level("INFO"):
        train_toy(
            store, settings.model_copy(update={"external_memory_bytes": 0}), dataset, toy_features(store, dataset)
        )
    assert "out of core" in caplog.text
    assert not list(tmp_path.iterdir())


def test_rows_that_a_killed_training_left_on_disk_go_at_the_next_and_those_of_a_running_one_stay(
    store, settings, tmp_path
):
    settings = settings.model_copy(update={"external_memory_bytes": 0, "spark_scratch": tmp_path})
    dataset = toy_dataset("regression", "left_rows")
    features = toy_features(store, dataset, rows=400)
    begun = tmp_path / "boostline-train-begun"  # and not locked yet
    begun.mkdir()
    (begun / "lock").touch()
    with scratch_folder(tmp_path) as running:
        kill_training(settings, "left_rows", features, "fit", after=True)
        (left,) = {*tmp_path.iterdir()} - {running.parent, begun}
        assert any(path.stat().st_size for path in left.glob("rows/train/*"))
        train_toy(store, settings, dataset, features)
        assert {*tmp_path.iterdir()} == {running.parent, begun}
        assert running.exists()


def test_early_stopping_looks_at_valid_alone(store, settings):
    dataset = toy_dataset("regression", "stops", **{"model.rounds": 400, "model.params.eta": 0.5})
    rows = {name: toy_rows("regression", 400, seed) for seed, name in enumerate(("train", "valid", "test"))}
    one = put_features(store, dataset, "2020-03-01", rows, attempt="f1")
    other = put_features(store, dataset, "2020-03-02", rows | {"test": toy_rows("regression", 200, 9)}, attempt="f2")
    first, second = (read_ref(store, train_toy(store, settings, dataset, ref, ref.attempt)) for ref in (one, other))
    assert first.details["rounds"] < 400
    assert first.row_hash == second.row_hash
    assert first.details["metrics"]["test"] != second.details["metrics"]["test"]


def test_without_early_stopping_all_rounds_are_kept(store, settings):
    dataset = toy_dataset("regression", "all_rounds", **{"model.rounds": 25, "model.early_stopping": 0})
    manifest = read_ref(store, train_toy(store, settings, dataset, toy_features(store, dataset)))
    assert manifest.details["rounds"] == 25


def test_test_rows_stop_the_training_where_the_dataset_says_so(store, settings):
    dataset = toy_dataset("regression", "test_is_valid")
    rows = {"train": toy_rows("regression", 400, 0), "test": toy_rows("regression", 200, 1)}
    manifest = read_ref(store, train_toy(store, settings, dataset, put_features(store, dataset, "2020-03-01", rows)))
    assert manifest.details["metrics"]["valid"] == pytest.approx(manifest.details["metrics"]["test"])


def test_experiment_is_tracked_and_published_nowhere(store, settings, mlflow_uri):
    dataset = toy_dataset("regression", "experiment")
    ref = train_toy(store, settings, dataset, toy_features(store, dataset), publish=False)
    details = read_ref(store, ref).details
    assert details["mlflow"]["version"] is None
    assert read_current(store, "model", dataset.name, None, "2020-03-31") is None
    assert mlflow.MlflowClient(mlflow_uri).get_run(details["mlflow"]["run_id"]).data.tags["experiment"] == "yes"
    assert mlflow.MlflowClient(mlflow_uri).search_registered_models("name = 'experiment'") == []


def test_model_with_another_hash_is_refused_before_it_is_parsed(store, settings, tmp_path, monkeypatch):
    dataset = toy_dataset("regression", "swapped")
    manifest = read_ref(store, train_toy(store, settings, dataset, toy_features(store, dataset)))
    files = {Path(item.key).name: store.get(item.key)[0] for item in manifest.files}
    assert load_model(files, "here").info.sha256 == manifest.row_hash
    for name, body in (files | {UBJ: files[UBJ][:-1]}).items():
        (tmp_path / name).write_bytes(body)
    monkeypatch.setattr("xgboost.Booster.load_model", lambda *_: pytest.fail("parsed"))
    with pytest.raises(ModelRefused, match="SHA-256"):
        _load_pyfunc(str(tmp_path))
    with pytest.raises(ModelRefused, match="manifest or registry"):
        load_published(store, manifest, "0" * 64)
    with pytest.raises(ModelRefused, match=r"lacks model\.json"):
        load_model({UBJ: files[UBJ], "transform.json": b""}, "here")


def test_model_with_another_transformation_is_refused_before_it_is_used(store, settings, tmp_path, monkeypatch):
    dataset = toy_dataset("regression", "transformed")
    manifest = read_ref(store, train_toy(store, settings, dataset, toy_features(store, dataset), publish=False))
    files = {Path(item.key).name: store.get(item.key)[0] for item in manifest.files}
    assert b"rome" in files[TRANSFORM]
    changed = files | {TRANSFORM: files[TRANSFORM].replace(b"rome", b"bern")}
    for name, body in changed.items():
        (tmp_path / name).write_bytes(body)
    monkeypatch.setattr("xgboost.Booster.load_model", lambda *_: pytest.fail("parsed"))
    with pytest.raises(ModelRefused, match=r"transform\.json has SHA-256"):
        _load_pyfunc(str(tmp_path))


def test_model_of_before_its_split_and_its_transformation_were_recorded_is_read(store, settings):
    dataset = toy_dataset("regression", "of_before")
    manifest = read_ref(store, train_toy(store, settings, dataset, toy_features(store, dataset), publish=False))
    files = {Path(item.key).name: store.get(item.key)[0] for item in manifest.files}
    info = json.loads(files[INFO])
    del info["split"], info["transform_sha256"]
    model = load_model(files | {INFO: json.dumps(info).encode()}, "here")
    assert (model.info.split, model.info.transform_sha256) == ({}, None)
    rows = toy_rows("regression", 50, 2)
    assert model.predict(rows).tolist() == load_published(store, manifest).predict(rows).tolist()


def test_retry_of_a_registered_training_finds_its_version(store, settings, mlflow_uri):
    dataset = toy_dataset("regression", "found_again")
    features = toy_features(store, dataset)
    first = train_toy(store, settings, dataset, features, "m1")
    with tracking(settings) as api:
        api.tag_version(dataset.name, "1", {"boostline.attempt": "swept-away"})
    again = train_toy(store, settings, dataset, features, "m2")
    details = [read_ref(store, ref).details["mlflow"] for ref in (first, again)]
    assert details[0] == details[1]
    with tracking(settings) as api:
        (version,) = api.versions(dataset.name)
    assert version.tags["boostline.attempt"] == again.attempt == "m2"


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import boostline.training.train as stage
from boostline.dataset import parse_dataset
from boostline.lake.manifest import Ref
from boostline.lake.store import Store
from boostline.settings import Settings
from tests.model_lab import train_toy, toy_dataset
def die(*args, **kwargs):
    done = real(*args, **kwargs) if {after} else None
    os.kill(os.getpid(), signal.SIGKILL)
real = getattr(stage, {step!r})
setattr(stage, {step!r}, die)
settings = Settings.model_validate_json({settings!r})
train_toy(Store(settings), settings, toy_dataset("regression", {name!r}), Ref.model_validate_json({ref!r}), "killed")
"""


def kill_training(settings, name, features, step, after):
    """Train in a process of its own that ends by SIGKILL at a step."""
    program = KILLED.format(
        folder=str(Path(__file__).parents[2]),
        step=step,
        after=after,
        settings=settings.model_dump_json(),
        name=name,
        ref=features.model_dump_json(),
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("step", "after"), [("track", False), ("track", True), ("publish_manifest", True)])
def test_killed_training_is_published_once_by_its_retry(store, settings, step, after):
    name = f"killed_{step}_{after}".lower()
    dataset = toy_dataset("regression", name)
    features = toy_features(store, dataset, rows=400)
    kill_training(settings, name, features, step, after)
    if step == "publish_manifest":
        assert read_current(store, "model", name, None, "2020-03-31")[0].attempt == "killed"
    retried = train_toy(store, settings, dataset, features, "retry")
    manifest, _ = read_current(store, "model", name, None, "2020-03-31")
    assert retried.attempt == manifest.attempt
    assert manifest.files == [item for item in manifest.files if store.get(item.key)[1] == item.etag]
    with tracking(settings) as api:
        (version,) = api.versions(name)
    assert version.tags["boostline.attempt"] == manifest.attempt


def test_other_features_published_meanwhile_supersede(store, settings):
    dataset = toy_dataset("regression", "superseded")
    features = toy_features(store, dataset)
    first = train_toy(store, settings, dataset, features)
    other = read_ref(store, first).model_copy(update={"fingerprint": "other", "attempt": "other"})

    def overtake(*args, **kwargs):
        publish(store, other, first.etag)
        return original(*args, **kwargs)

    import boostline.training.train as stage

    original = stage.track
    stage.track = overtake
    try:
        with pytest.raises(Superseded, match="attempt other published first"):
            train_toy(store, settings, dataset, toy_features(store, dataset, seed=5), "m2")
    finally:
        stage.track = original


def test_features_of_another_split_than_the_files_are_not_learnt_from(store, settings):
    features = toy_features(store, toy_dataset("regression", "split_changed"))
    changed = toy_dataset("regression", "split_changed", split={"kind": "hash", "test_share": 0.2})
    with pytest.raises(DataInvalid, match=r"(?s)features split_changed .* was made by other rules .*\nClear featurize"):
        train_toy(store, settings, changed, features)


def test_mlflow_down_is_a_retry_in_bounded_time(store, settings):
    dataset = toy_dataset("regression", "mlflow_down")
    features = toy_features(store, dataset, rows=200)
    started = time.monotonic()
    with pytest.raises(ServiceUnavailable, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        train_toy(store, settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"}), dataset, features)
    assert time.monotonic() - started < 15
    assert read_current(store, "model", dataset.name, None, "2020-03-31") is None


def test_failed_training_leaves_no_run_open_in_mlflow(store, settings, monkeypatch):
    import boostline.training.track as stage

    def fail(*args):
        raise OSError(28, "No space left on device")

    dataset = toy_dataset("regression", "disk_full")
    features = toy_features(store, dataset, rows=400)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(stage, "write_mlmodel", fail)
        train_toy(store, settings, dataset, features, "full")
    train_toy(store, settings, dataset, features, "retry")
    client = mlflow.MlflowClient(settings.mlflow_uri)
    runs = client.search_runs([client.get_experiment_by_name(dataset.name).experiment_id])
    assert {run.data.tags["attempt"]: run.info.status for run in runs} == {"full": "FAILED", "retry": "FINISHED"}
    assert all(run.info.end_time for run in runs)


def test_no_more_threads_than_the_control_group_gives(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert allowed_threads(64, tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert allowed_threads(64, tmp_path) == len(os.sched_getaffinity(0))
    assert allowed_threads(1, tmp_path / "none") == 1
    old = tmp_path / "old" / "cpu"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("50000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert allowed_threads(8, tmp_path / "old") == 1


def test_what_the_machine_lacks_is_no_fault_of_the_data():
    from xgboost.core import XGBoostError

    from boostline.training.fit import refusals

    with pytest.raises(XGBoostError, match="LocalFileSystem"), refusals(toy_dataset("regression", "machine")):
        raise XGBoostError("[12:00:00] /src/io/local_filesys.cc:224: Check failed: LocalFileSystem::Open: No such file")
