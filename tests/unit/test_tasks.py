"""The Python tasks as Airflow calls them, on a real S3 store and a real MLflow server."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace

import mlflow
import pytest
import yaml
from tests.model_lab import put_baseline, put_clean, toy_dataset, toy_features
from tests.pipeline_lab import WEAK

from boostline.lake.plan import WindowRefs, save_window
from boostline.registry.approval import record_question
from boostline.registry.overview import overview
from boostline.registry.versions import champion_of
from boostline.tracking import tracking

DAY = "2020-03-31"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The module; Airflow reads its settings when it is first imported."""
    os.environ.setdefault("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    from boostline.orchestration import tasks

    return tasks


@pytest.fixture
def task(tasks, store, settings, monkeypatch, tmp_path):
    """`task(name, **form)`: what a task of a run returns, less what it cost; the tasks before it have run."""
    name = f"tasks_{token_hex(4)}"  # of the test's own, so that tests share no registered model

    def change(**changes):
        """Write the dataset file, with these changes by dotted path."""
        dataset = toy_dataset("regression", name, **{"model.rounds": 5} | changes)
        body = dataset.model_dump(mode="json", by_alias=True, exclude_unset=True)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(body))
        return dataset

    dataset = change()
    for key in ("lake", "s3_endpoint", "mlflow_uri"):
        monkeypatch.setenv(f"BOOSTLINE_{key.upper()}", str(getattr(settings, key)))
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
    features, baseline = toy_features(store, dataset, DAY, rows=400), put_baseline(store, dataset, DAY, WEAK)
    handed = {"featurize": {"refs": [features.model_dump()]}, "baseline": {"refs": [baseline.model_dump()]}}
    window = save_window(store, name, WindowRefs(date=DAY, refs=[put_clean(store, dataset, DAY)]))
    handed["ingest"] = {"window": window}
    for costs in handed.values():
        costs["seconds"] = 1.0

    dag_run = SimpleNamespace(partition_key=DAY, logical_date=None, run_id="manual__1", run_type="manual")
    ti = SimpleNamespace(try_number=1, xcom_pull=lambda task_ids: handed[task_ids])

    def run(name, **form):
        handed[name] = getattr(tasks, name)(dataset.name, dag_run=dag_run, params=form, ti=ti)
        return tasks._timeless(handed[name])

    run.handed, run.change = handed, change
    run.dataset, run.context = dataset.name, {"dag_run": dag_run, "params": {}, "ti": ti}
    return run


def test_version_deleted_in_mlflow_is_trained_and_registered_anew(task, mlflow_uri):
    first, again = task("train"), task("train")
    assert first["ran"] and not again["ran"] and again["refs"] == first["refs"]
    client = mlflow.MlflowClient(mlflow_uri)
    client.delete_model_version(task.dataset, "1")
    client.delete_run(first["mlflow_run"])
    # An experiment needs no version.
    assert not task("train", beat_baseline=0.5)["ran"]
    assert not task("gate", beat_baseline=0.99)["passed"]

    anew = task("train")
    assert anew["ran"] and anew["mlflow_run"] != first["mlflow_run"]
    assert task("gate")["candidate"]["version"] == "2"
    assert task("promote")["promoted"]
    assert task("train") == anew | {"ran": False}
    # Another date's version may bear the number, where the whole registered model was deleted.
    client.set_model_version_tag(task.dataset, "2", "boostline.fingerprint", "another's")
    assert task("train")["ran"]


def test_java_that_is_gone_fails_the_spark_task_for_good(task, tmp_path, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from boostline.orchestration.spark_job import SparkJob

    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", "spark://127.0.0.1:1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # of spark-submit
    job = SparkJob(task_id="baseline", job="baseline", dataset=task.dataset)
    told = f"EnvironmentUnfit: there is no Java in {tmp_path}/gone/bin, below JAVA_HOME.\nInstall Java 17 or 21"
    with pytest.raises(AirflowFailException, match=told):
        job.execute(task.context)


def test_experiment_of_the_published_model_changes_nothing_of_its_version(task, settings, mlflow_uri):
    task("train")
    plain = task("gate"), task("promote")
    assert plain[1]["promoted"]
    client = mlflow.MlflowClient(mlflow_uri)

    def recorded():
        with tracking(settings) as api:
            version = api.version(task.dataset, "1")
        return version.tags, client.get_run(version.run_id).data.tags

    before = recorded()
    assert not task("train", beat_baseline=0.99)["ran"]
    verdict = task("gate", beat_baseline=0.99)
    assert not verdict["passed"]
    assert verdict["reasons"][-1] == "version 1 is the champion itself, so the baseline alone was to beat"
    assert not task("promote", beat_baseline=0.99)["promoted"]
    assert recorded() == before
    assert (task("gate"), task("promote")) == plain


def test_gate_is_asked_again_where_another_version_became_champion_meanwhile(task, store, settings, mlflow_uri):
    task("train")
    verdict = task("gate")
    assert verdict["champion"] is None
    client = mlflow.MlflowClient(mlflow_uri)
    # Another run has registered the same model as a version of its own, and promoted it.
    first = client.get_model_version(task.dataset, "1")
    client.create_model_version(task.dataset, first.source, first.run_id, tags=first.tags)
    client.set_registered_model_alias(task.dataset, "champion", "2")
    outcome = task("promote", beat_champion=None)
    assert outcome["verdict"]["champion"]["version"] == "2"
    assert "equals the champion's" in outcome["verdict"]["reasons"][-1]
    assert (outcome["promoted"], client.get_model_version_by_alias(task.dataset, "champion").version) == (True, "1")
    assert task("gate") == outcome["verdict"]


@pytest.mark.parametrize("newer", ["data", "settings"])
def test_old_run_replaces_no_newer_model_of_its_date(task, store, settings, newer):
    from airflow.sdk.exceptions import AirflowFailException

    task.change(**{"gate.beat_champion": -1.0})
    task("train")
    task("gate")
    old = {name: task.handed[name] for name in ("featurize", "train", "gate")}
    # A corrected file lands, or the dataset file is changed, and another run of the date follows.
    dataset = task.change(**{"gate.beat_champion": -1.0, "model.rounds": 5 if newer == "data" else 8})
    if newer == "data":
        task.handed["featurize"] = {
            "refs": [toy_features(store, dataset, DAY, rows=400, seed=5).model_dump()],
            "seconds": 1.0,
        }
    task("train")
    done = task("gate"), task("promote"), task("report")
    assert done[1]["promoted"] and champion_of(settings, dataset.name).version == "2"
    assert (task("gate"), task("promote"), task("report") | {"ran": True}) == done

    task.handed.update(old)
    for name in ("gate", "promote"):
        with pytest.raises(AirflowFailException, match="Outdated: .* is a newer run's model"):
            task(name)
    assert champion_of(settings, dataset.name).version == "2"


@pytest.mark.parametrize("option", ["Approve", "Reject"])
def test_answer_about_a_version_that_was_replaced_goes_to_no_other(task, store, settings, option):
    from airflow.sdk.exceptions import AirflowSkipException

    from boostline.orchestration import approval

    dataset = task.change(**{"promotion.approval": "required", "gate.beat_champion": -0.5})
    for name in ("train", "gate", "promote", "report"):
        task(name)
    said = {
        "chosen_options": [option],
        "responded_by_user": {"id": "ann", "name": "ann"},
        "responded_at": datetime(2024, 5, 10, 12, tzinfo=UTC),
        "params_input": {"reason": "fits"},
    }
    promotes = {"approve": said}

    def xcom_pull(task_ids, dag_id=None, run_id=None):
        return (task.handed if dag_id else promotes)[task_ids]

    ti = SimpleNamespace(try_number=1, xcom_pull=xcom_pull)
    context = {"params": {"run": "manual__1"}, "ti": ti}
    promotes["question"] = approval.question(dataset.name, **context)
    assert promotes["question"]["version"] == "1" and "Promote version 1 " in promotes["question"]["subject"]

    # A corrected file lands, and somebody clears the training run.
    task.handed["featurize"]["refs"] = [toy_features(store, dataset, DAY, rows=400, seed=5).model_dump()]
    for name in ("train", "gate", "promote", "report"):
        task(name)
    record_question(settings, dataset.name, "2", "http://airflow/there")
    told = "version 1 lapsed, since its run manual__1 was run again and holds version 2 now; it was (approv|reject)ed by ann"
    for _ in range(2):
        with pytest.raises(AirflowSkipException, match=told):
            approval.decide(dataset.name, **context)
    second, first = overview(settings, dataset.name)
    assert not first["aliases"] and not second["aliases"]
    assert [item["decision"] for item in second["approvals"]] == ["asked"]
    assert [(item["decision"], item["who"]) for item in first["approvals"]] == [("asked", ""), ("lapsed", "ann")]

    promotes["question"] = approval.question(dataset.name, **context)
    assert approval.decide(dataset.name, **context)["promoted"] is (option == "Approve")
    del promotes["question"]["version"]  # as one that was put before an upgrade
    assert approval.decide(dataset.name, **context)["promoted"] is (option == "Approve")


def test_a_question_about_a_report_that_was_removed_says_what_to_do_instead(tasks, store, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from boostline.orchestration.approval import question

    for key in ("lake", "s3_endpoint"):
        monkeypatch.setenv(f"BOOSTLINE_{key.upper()}", str(getattr(store.settings, key)))
    named = dict.fromkeys(("dataset", "partition", "attempt", "etag", "fingerprint", "row_hash"), "toys")
    handed = {name: {} for name in tasks.REPORTED} | {"report": {"refs": [{"stage": "report", **named}]}}
    ti = SimpleNamespace(xcom_pull=lambda task_ids, dag_id, run_id: handed[task_ids])
    with pytest.raises(AirflowFailException, match=r"run.json was removed: the question .*\n.*boostline promote toys"):
        question("toys", params={"run": "manual__1"}, ti=ti)
