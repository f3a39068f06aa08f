"""What the command line says to a wrong environment and to values that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from boostline.cli import main
from boostline.cli.app import app
from boostline.local.__main__ import main as stack


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


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "[NaN]", "1" * 5000])
@pytest.mark.parametrize("command", [("run", "--date"), ("backfill", "--to", "2013-03-31", "--from")])
def test_a_number_that_json_has_not_is_refused_before_airflow_is_asked(command: tuple[str, ...], value: str) -> None:
    name, *options = command
    arguments = [name, "nyc_flights", *options, "2013-03-31", "--set", f"eta={value}"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "no number that a run can be given" in result.stderr
