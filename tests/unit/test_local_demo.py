"""The demo's files: the package's own flights, one CSV file a day."""

from __future__ import annotations

from pathlib import Path

from boostline.local.demo import make_files


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
