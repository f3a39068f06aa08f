"""What the command line says to a wrong environment, to values that are none, and to what is gone."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock
from urllib.request import proxy_bypass

import pytest
from typer.testing import CliRunner

from boostline.cli import main
from boostline.cli.app import app
from boostline.errors import DataMissing, FailError, RunDateInvalid
from boostline.lake.manifest import Manifest, publish
from boostline.lake.store import Store
from boostline.local.__main__ import main as stack
from boostline.serving.settings import ServeSettings
from boostline.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("BOOSTLINE_LAKE", "lake", "error: BOOSTLINE_LAKE must look like s3://bucket/prefix, not 'lake'"),
        ("BOOSTLINE_KEEP_DAYS", "0", "error: BOOSTLINE_KEEP_DAYS: Input should be greater than or equal to 1"),
        ("BOOSTLINE_RETRIES", "[/]", "error: BOOSTLINE_RETRIES: Input should be a valid integer"),
        ("BOOSTLINE_S3_ENDPOINT", "localhost:8333", "error: BOOSTLINE_S3_ENDPOINT: Invalid endpoint: localhost:8333"),
    ],
)
def test_a_wrong_variable_is_named(
    name: str,
    value: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BOOSTLINE_HOME", str(tmp_path))
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["boostline", "show", "nyc_flights"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(says)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("0.5", "error: BOOSTLINE_SERVE_CHALLENGER_SHARE: Input should be a valid dictionary"),
        ("flights=0.5", "error: BOOSTLINE_SERVE_CHALLENGER_SHARE is not JSON: Expecting value"),
        ('{"flights": 2}', "error: BOOSTLINE_SERVE_CHALLENGER_SHARE: flights: Input should be less than or equal to 1"),
    ],
)
def test_a_wrong_variable_of_the_service_is_named(
    value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOOSTLINE_SERVE_CHALLENGER_SHARE", value)
    monkeypatch.setattr("sys.argv", ["boostline", "serve"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(says)


def test_the_stack_names_a_wrong_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("BOOSTLINE_THREADS", "two")
    monkeypatch.setattr("sys.argv", ["boostline.local", "demo-data"])
    with pytest.raises(SystemExit) as ended:
        stack()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: BOOSTLINE_THREADS: Input should be a valid integer")


def test_a_variable_that_is_set_to_nothing_is_as_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOSTLINE_KEEP_DAYS", "")
    monkeypatch.setenv("BOOSTLINE_SERVE_MAX_ROWS", "")
    monkeypatch.setenv("BOOSTLINE_SERVE_CHALLENGER_SHARE", "")
    assert Settings().keep_days == 14
    assert (ServeSettings().max_rows, ServeSettings().challenger_share) == (100_000, {})


@pytest.fixture
def behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment with a proxy that does not answer, and no exceptions from it."""
    with mock.patch.dict(os.environ):
        for name in ("no_proxy", "NO_PROXY"):
            os.environ.pop(name, None)
        os.environ.update(http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
        yield


def test_requests_to_this_machine_do_not_go_through_a_proxy(
    behind_a_proxy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return

    passwords = tmp_path / "passwords.json"
    passwords.write_text('{"admin": "old"}')
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("BOOSTLINE_HOME", str(tmp_path))
        monkeypatch.setenv("BOOSTLINE_AIRFLOW_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("BOOSTLINE_AIRFLOW_PASSWORD_FILE", str(passwords))
        monkeypatch.setattr("sys.argv", ["boostline", "runs", "nyc_flights"])
        with pytest.raises(SystemExit):
            main()
        server.shutdown()
    assert "refuses user 'admin'" in capsys.readouterr().err


def test_nor_do_those_of_the_stacks_commands(
    behind_a_proxy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOSTLINE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["boostline.local", "status"])
    with pytest.raises(SystemExit):
        stack()
    assert proxy_bypass("127.0.0.1:8080")
    assert not proxy_bypass("example.org")


DATED = [
    ("run", "nyc_flights", "--date"),
    ("show", "nyc_flights", "--date"),
    ("score", "nyc_flights", "--date"),
    ("land", "nyc_flights", "flights.csv", "--date"),
    ("backfill", "nyc_flights", "--to", "2013-03-31", "--from"),
    ("score", "nyc_flights", "--from", "2013-03-31", "--to"),
]


@pytest.mark.parametrize("value", ["2013-3-1", "20130301", "2013-W09-5", "2013-02-29", "1.3.2013"])
@pytest.mark.parametrize("command", DATED, ids=" ".join)
def test_a_date_of_another_form_is_refused_before_a_server_is_asked(
    command: tuple[str, ...], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIRFLOW_URL", "S3_ENDPOINT"):
        monkeypatch.setenv(f"BOOSTLINE_{name}", "http://127.0.0.1:9")
    with pytest.raises(RunDateInvalid, match=f"{command[-1]} is no date: '{value}'"):
        CliRunner().invoke(app, [*command, value], catch_exceptions=False)


@pytest.mark.parametrize("command", ["backfill", "score"])
def test_a_range_from_back_to_front_is_refused(command: str) -> None:
    arguments = [command, "nyc_flights", "--from", "2013-03-31", "--to", "2013-03-30"]
    with pytest.raises(RunDateInvalid, match="--to 2013-03-30 lies before --from 2013-03-31"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_report_that_was_removed_is_a_message_and_no_traceback(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Manifest(
        stage="report", dataset="nyc_flights", partition="2013-03-31", attempt="r1", fingerprint="", inputs={}, files=[],
        rows={}, columns={}, row_hash="",
    )  # fmt: skip
    publish(store, found, None)
    monkeypatch.setenv("BOOSTLINE_HOME", str(tmp_path))
    monkeypatch.setenv("BOOSTLINE_LAKE", store.settings.lake)
    monkeypatch.setenv("BOOSTLINE_S3_ENDPOINT", str(store.settings.s3_endpoint))
    monkeypatch.setattr("sys.argv", ["boostline", "show", "nyc_flights"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    folder = f"{store.settings.lake}/report/nyc_flights"
    assert capsys.readouterr().err == (
        f"error: the report {folder}/attempts/r1/run.json was removed.\n"
        f"Delete {folder}/date=2013-03-31/current.json if it still names attempt r1; "
        "then run the date again: boostline run nyc_flights --date 2013-03-31.\n"
    )


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "[NaN]", "1" * 5000])
@pytest.mark.parametrize("command", [("run", "--date"), ("backfill", "--to", "2013-03-31", "--from")])
def test_a_number_that_json_has_not_is_refused_before_airflow_is_asked(command: tuple[str, ...], value: str) -> None:
    name, *options = command
    arguments = [name, "nyc_flights", *options, "2013-03-31", "--set", f"eta={value}"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "no number that a run can be given" in result.stderr


DAG_IDS = ("meters_train", "meters_promote", "meters_daily_train", "meters_daily_promote")


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """Airflow's API with the DAGs of two datasets: each has asked about its version 3; no date had raw data."""
    client = mock.Mock(url="http://airflow")
    client.dag_ids.return_value = list(DAG_IDS)
    client.trigger.return_value = "manual__1"
    client.run.return_value = {"state": "success", "run_type": "manual"}
    client.tasks.return_value = []
    client.xcom.return_value = None
    runs = {("meters_promote", "approve__3"), ("meters_daily_promote", "approve__3"), ("meters_daily_train", "daily")}
    client.find_run.side_effect = lambda dag, run: {"state": "running"} if (dag, run) in runs else None
    monkeypatch.setattr("boostline.orchestration.client.AirflowClient", lambda settings: client)
    return client


def test_a_run_is_not_cancelled_where_several_dags_have_its_id(airflow: mock.Mock) -> None:
    says = "several DAGs have a run approve__3: meters_promote, meters_daily_promote(?s:.*)--dataset NAME"
    with pytest.raises(FailError, match=says):
        CliRunner().invoke(app, ["cancel", "approve__3"], catch_exceptions=False)
    airflow.cancel.assert_not_called()


@pytest.mark.parametrize("dataset", ["meters", "meters_daily"])
def test_a_run_of_the_named_dataset_is_cancelled(dataset: str, airflow: mock.Mock) -> None:
    arguments = ["cancel", "approve__3", "--dataset", dataset]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    airflow.cancel.assert_called_once_with(f"{dataset}_promote", "approve__3")


def test_a_dataset_whose_name_starts_alike_is_another(airflow: mock.Mock) -> None:
    with pytest.raises(DataMissing, match="no run has the id 'daily'"):
        CliRunner().invoke(app, ["cancel", "daily", "--dataset", "meters"], catch_exceptions=False)


def test_a_skipped_run_is_null_for_programs(airflow: mock.Mock) -> None:
    arguments = ["run", "nyc_flights", "--date", "2013-03-31", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "was skipped" in result.stderr
    assert json.loads(result.stdout) is None
