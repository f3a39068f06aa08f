"""The demo's files: the package's own flights, one CSV file a day."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from boostline.errors import FailError
from boostline.local import demo
from boostline.local.demo import make_files
from boostline.local.layout import Stack


def test_the_flights_of_2013_become_one_file_a_day(tmp_path: Path) -> None:
    folder = make_files(tmp_path / "demo")
    days = sorted((folder / "flights").iterdir())
    assert [days[0].name, days[-1].name, len(days)] == ["2013-01-01.csv", "2013-12-31.csv", 365]
    assert sum(len(day.read_text().splitlines()) - 1 for day in days) == 336_776
    first = days[0].read_text().splitlines()
    assert first[0].startswith("year,month,day,")
    assert len(first) == 842 + 1
    assert all(line.startswith("2013,1,1,") for line in first[1:])
    changed = days[0].stat().st_mtime_ns
    make_files(folder)
    assert days[0].stat().st_mtime_ns == changed


def test_the_demo_lands_with_the_stacks_keys_whatever_a_person_set(s3: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in s3.env:
        monkeypatch.setenv(name, "own")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "own")
    monkeypatch.setenv("AWS_PROFILE", "own")
    monkeypatch.setattr(demo, "DAYS", 1)
    said = io.StringIO()
    with pytest.raises(FailError, match="The run of nyc_flights for 2013-03-31 failed"):  # there is no Airflow
        demo.run_demo(s3, Console(file=said))
    assert "Landed 1 days of flights" in said.getvalue()
