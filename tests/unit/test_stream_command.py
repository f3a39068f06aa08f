"""What `boostline stream` hands to spark-submit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from boostline.cli.app import app


def test_a_stream_writes_no_event_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = tmp_path / "spark-submit"
    submit.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/said\n')
    submit.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # spark-submit is looked for beside it
    monkeypatch.setenv("BOOSTLINE_HOME", str(tmp_path))
    answer = CliRunner().invoke(app, ["stream", "nyc_flights"])
    assert answer.exit_code == 0, answer.output
    said = (tmp_path / "said").read_text().splitlines()
    assert said[said.index("spark.eventLog.enabled=false") - 1] == "--conf"
    assert said[-2:] == ["--dataset", "nyc_flights"]
