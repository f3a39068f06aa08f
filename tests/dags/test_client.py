"""The command line against a real Airflow API on a database of its own; a scheduler there is none."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from airflow.api_fastapi.auth.managers.simple.services.login import SimpleAuthManagerLogin
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models import DagRun
from airflow.models.backfill import Backfill
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session
from rich.console import Console
from sqlalchemy import update
from typer.testing import CliRunner, Result

from boostline.cli.app import app, out
from boostline.errors import DataMissing, FailError, RunDateInvalid, ServiceUnavailable
from boostline.local.places import stack_home
from boostline.local.ports import free_ports
from boostline.orchestration.client import AirflowClient, days_between
from boostline.orchestration.follow import follow_days, follow_run
from boostline.settings import Settings

DAG, DAY = "nyc_flights_train", date(2013, 3, 31)
OLD = DAY - timedelta(days=119)


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """Where the API answers that knows the training DAGs."""
    home, port = Path(os.environ["AIRFLOW_HOME"]), free_ports().airflow
    shutil.copy(stack_home() / "fresh/airflow.db", home)
    with create_session() as session:
        session.merge(DagBundleModel(name="test"))
    parse()
    from airflow.api_fastapi.app import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(apps="core"), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOSTLINE_AIRFLOW_URL", f"http://127.0.0.1:{port}")
        patch.setenv("BOOSTLINE_AIRFLOW_PASSWORD_FILE", str(home / "simple_auth_manager_passwords.json.generated"))
        yield Settings()
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def client(settings: Settings) -> AirflowClient:
    """A client for which 120 dates have been started, the newest date last."""
    client = AirflowClient(settings)
    client.ready_dag(DAG)
    number = client.backfill(DAG, OLD, DAY, max_active=2, conf={})["id"]
    client.cancel_backfill(number)
    return client


@pytest.fixture(autouse=True)
def scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends every run that waits while the command line sleeps."""

    def end_all(_: float) -> None:
        with create_session() as session:
            waiting = update(DagRun).where(DagRun.state == "queued")
            session.execute(waiting.values(state="success", end_date=datetime.now(UTC)))
            session.execute(update(Backfill).values(completed_at=datetime.now(UTC)))

    clock = SimpleNamespace(sleep=end_all, monotonic=time.monotonic)
    monkeypatch.setattr("boostline.orchestration.follow.time", clock)
    monkeypatch.setattr(out, "width", 200)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_more_runs_than_a_page_holds_are_all_seen(client: AirflowClient) -> None:
    days = days_between(OLD, DAY)
    assert len(days) == 120
    assert sorted(client.runs_by_date(DAG, OLD, DAY)) == days
    newest = [run["partition_key"] for run in client.runs(DAG, limit=110)]
    assert newest == sorted(days, reverse=True)[:110]
    assert len(client.runs(DAG, limit=1000)) == 120


def test_all_dags_are_seen_where_a_page_holds_fewer(client: AirflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = client.dag_ids()
    monkeypatch.setenv("AIRFLOW__API__MAXIMUM_PAGE_LIMIT", "1")
    assert client.dag_ids() == everything
    assert len(everything) > 1


def test_an_old_run_is_found_by_its_id(client: AirflowClient) -> None:
    run = client.runs_by_date(DAG, OLD, OLD)[str(OLD)]
    assert run["dag_run_id"] not in {item["dag_run_id"] for item in client.runs(DAG)}
    assert "has ended already: failed" in command("cancel", run["dag_run_id"]).stdout
    for wrong in ("nothing", "a/b?c", ""):
        with pytest.raises(DataMissing, match="no run has the id"):
            command("cancel", wrong)


def test_a_backfill_runs_dates_again_that_succeeded_and_waits_for_the_new_runs(client: AirflowClient) -> None:
    first, last = DAY + timedelta(days=1), DAY + timedelta(days=3)
    arguments = ("backfill", "nyc_flights", "--from", str(first), "--to", str(last))
    assert "3 of 3 dates succeeded" in command(*arguments).stdout
    before = client.runs_by_date(DAG, first, last)
    again = command(*arguments, "--set", "rounds=50")
    assert "3 of 3 dates succeeded" in again.stdout
    assert "under way" not in again.stderr
    after = client.runs_by_date(DAG, first, last)
    assert [run["conf"] for run in after.values()] == [{"rounds": 50}] * 3
    assert not ids(before) & ids(after)


def test_a_backfill_says_which_dates_were_under_way(client: AirflowClient) -> None:
    first, last = DAY + timedelta(days=4), DAY + timedelta(days=5)
    run_id = client.trigger(DAG, first, {})
    answer = command("backfill", "nyc_flights", "--from", str(first), "--to", str(last))
    assert "2 of 2 dates succeeded" in answer.stdout
    assert f"under way already, so not started anew: {first};" in answer.stderr
    assert run_id in ids(client.runs_by_date(DAG, first, last))


def test_a_backfill_of_old_dates_is_listed_first(client: AirflowClient) -> None:
    client.trigger(DAG, DAY, {})
    first = OLD - timedelta(days=2)
    assert command("backfill", "nyc_flights", "--from", str(first), "--to", str(first)).exit_code == 0
    assert client.runs(DAG, limit=1)[0]["partition_key"] == str(first)
    assert str(first) in command("runs", "nyc_flights", "--limit", "1").stdout


@pytest.fixture
def held(client: AirflowClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A run that is queued for eleven looks, a second each, and then succeeds; `text` is what its follower prints."""
    run_id = client.trigger(DAG, DAY, {})
    looks, file = [0.0], io.StringIO()

    def sleep(seconds: float) -> None:
        looks.append(looks[-1] + seconds)
        if len(looks) > 12:
            set_state(run_id, "success")

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: looks[-1])
    monkeypatch.setattr("boostline.orchestration.follow.time", clock)
    yield SimpleNamespace(run_id=run_id, console=Console(file=file, width=60), text=file.getvalue)


def test_a_queued_run_says_once_which_runs_hold_its_places(client: AirflowClient, held: SimpleNamespace) -> None:
    holder = client.trigger(DAG, DAY, {})
    set_state(holder, "running")
    follow_run(client, DAG, held.run_id, held.console)
    told = f"{held.run_id} is queued until one of these ends: {holder}"
    assert held.text().splitlines() == [f"{DAG}: queued", told, f"{DAG}: success"]
    set_state(holder, "success")


@pytest.mark.parametrize("paused", [True, False])
def test_queued_dates_say_that_their_dag_is_paused_or_that_nothing_holds_them(
    client: AirflowClient, held: SimpleNamespace, paused: bool
) -> None:
    client._send("PATCH", f"/dags/{DAG}", {"is_paused": paused})
    follow_days(client, DAG, {str(DAY): held.run_id}, held.console)
    client.ready_dag(DAG)
    told = f"{DAG} is paused: nothing" if paused else f"{held.run_id} is queued, and no run holds its place"
    assert held.text().count(told) == 1


def test_a_run_that_has_ended_is_asked_for_no_more(client: AirflowClient, held: SimpleNamespace) -> None:
    ended, asked = client.trigger(DAG, OLD, {}), []
    set_state(ended, "success")
    client._http.event_hooks["request"].append(lambda request: asked.append(request.url.path))
    runs = follow_days(client, DAG, {str(OLD): ended, str(DAY): held.run_id}, held.console)
    client._http.event_hooks["request"].clear()
    assert [run["state"] for run in runs.values()] == ["success", "success"]
    assert sum(path.endswith(ended) for path in asked) == 1
    assert sum(path.endswith(held.run_id) for path in asked) == 13


def test_a_run_starts_once_where_a_lock_in_the_database_made_airflow_fail(
    client: AirflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(Path(os.environ["AIRFLOW_HOME"]) / "airflow.db")
    send, failed = client._send, []

    def send_and_look(*arguments: Any, **kwargs: Any) -> Any:
        try:
            return send(*arguments, **kwargs)
        except ServiceUnavailable as error:
            failed.append(error)
            other.rollback()
            raise

    monkeypatch.setattr(client, "_send", send_and_look)
    before = {run["dag_run_id"] for run in client.runs(DAG, limit=None)}
    other.execute("BEGIN IMMEDIATE")
    run_id = client.trigger(DAG, DAY, {})
    other.close()
    assert len(failed) == 1
    assert {run["dag_run_id"] for run in client.runs(DAG, limit=None)} - before == {run_id}


def test_a_token_that_has_expired_is_replaced_by_a_new_one(
    client: AirflowClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SimpleAuthManagerLogin.create_token, "__defaults__", (-60,))  # Airflow reads it when imported
        late = AirflowClient(settings)
        with pytest.raises(FailError, match="Token Expired"):
            late.dag_ids()
    before = {run["dag_run_id"] for run in client.runs(DAG, limit=None)}
    late._send("POST", f"/dags/{DAG}/dagRuns", {"dag_run_id": "late", "logical_date": None})
    assert {run["dag_run_id"] for run in late.runs(DAG, limit=None)} - before == {"late"}


def test_a_date_to_come_is_refused(settings: Settings) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    with pytest.raises(RunDateInvalid, match=f"{tomorrow} lies in the future: today is"):
        command("backfill", "nyc_flights", "--from", "2013-03-31", "--to", str(tomorrow))


def test_a_backfill_into_the_future_ends_today_and_holds_up_no_schedule(client: AirflowClient) -> None:
    """As the form in Airflow's UI sends it, which takes any last date."""
    today = datetime.now(UTC).date()
    first = today - timedelta(days=2)
    client.cancel_backfill(client.backfill(DAG, first, today + timedelta(days=5), max_active=2, conf={})["id"])
    assert sorted(client.runs_by_date(DAG, first, today + timedelta(days=9))) == days_between(first, today)
    parse()
    tomorrow = datetime.combine(today, datetime.min.time(), UTC) + timedelta(days=1)
    assert datetime.fromisoformat(client._get(f"/dags/{DAG}")["next_dagrun_run_after"]) <= tomorrow


def test_a_dag_of_a_wrong_dataset_file_keeps_its_tasks_and_is_not_started(
    client: AirflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boostline.orchestration.client.PARSED_WITHIN", 0)
    tasks = client._get(f"/dags/{DAG}/tasks")
    text = Path("conf/datasets/nyc_flights.yaml").read_text()
    (tmp_path / "nyc_flights.yaml").write_text(text + "bogus: 1\n")
    with monkeypatch.context() as patch:
        patch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
        parse()
    with pytest.raises(FailError, match=f"{DAG}: its dataset file is wrong"):
        client.ready_dag(DAG)
    assert client._get(f"/dags/{DAG}/tasks") == tasks
    parse()
    client.ready_dag(DAG)


def parse() -> None:
    """What Airflow does with the DAG files now and then."""
    sync_bag_to_db(DagBag(dag_folder=str(Path("dags/train.py").resolve()), bundle_name="test"), "test", None)


def set_state(run_id: str, state: str) -> None:
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == run_id).values(state=state))


def ids(runs: dict[str, dict[str, Any]]) -> set[str]:
    return {run["dag_run_id"] for run in runs.values()}
