"""One embedded stack for the whole session, with small datasets, and the command line as a user types it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest

from boostline.dataset import Dataset, load_dataset
from boostline.lake.raw import land
from boostline.lake.store import Store
from boostline.local.layout import Stack
from boostline.local.ports import free_ports
from boostline.local.stack import read_state, running_stack
from boostline.orchestration.client import AirflowClient
from boostline.settings import Settings

METERS = """
name: {name}
description: Load of a meter in the coming hour
task: regression
label: {{name: load}}
id: [day, meter, hour]
tables:
  readings:
    daily: true
    max_bad_share: 0.05
    columns:
      day: {{type: date, required: true}}
      meter: {{type: long, required: true}}
      hour: {{type: integer, required: true, min: 0, max: 23}}
      site: {{type: string, clean: [trim, lower]}}
      temperature: {{type: double, min: -60, max: 60}}
      load: {{type: double}}
  sites:
    key: [site]
    columns:
      site: {{type: string, required: true}}
      area: {{type: double}}
joins: [sites]
split: {{kind: time, valid_days: 1, test_days: 1}}
window: {{days: 5, min_days: 3, min_rows: 100}}
features: {{categorical: [site, hour], numeric: [temperature, area]}}
baseline: {{kind: linear, encoding: ordinal}}
model: {{params: {{eta: 0.3, max_depth: 4}}, rounds: 60, early_stopping: 10}}
gate: {{metric: rmse, beat_baseline: {margin}}}
on_missing: {missing}
spark: {{driver_memory: 700m, executor_memory: 600m, timeout_minutes: {timeout}}}
wait: {{timeout_minutes: 5, poll_seconds: 2}}
promotion: {promotion}
"""

APPROVAL = "{{approval: required, approvers: [admin], timeout_hours: {hours}}}"

DATASETS: dict[str, dict[str, Any]] = {
    "meters": {},
    "meters_daily": {"margin": 0.99, "missing": "wait"},
    "meters_hasty": {"timeout": 0.1},  # Spark has started by then, and is far from done
    "meters_big": {},
    "meters_broken": {},
    "meters_form": {},
    "meters_approved": {"promotion": APPROVAL.format(hours=1)},
}


DAY = date(2024, 5, 10)
EXECUTOR = "CoarseGrainedExecutorBackend"


@dataclass
class Answer:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class World:
    """The stack, and what tests do with it."""

    stack: Stack
    store: Store
    client: AirflowClient
    env: dict[str, str] = field(repr=False)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start `boostline ARGS` and return at once."""
        command = [str(Path(sys.executable).parent / "boostline"), *args]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def cli(self, *args: str, timeout: float = 800) -> Answer:
        """Run `boostline ARGS` to its end."""
        command = [str(Path(sys.executable).parent / "boostline"), *args]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    def dataset(self, name: str) -> Dataset:
        return load_dataset(self.stack.datasets / f"{name}.yaml")

    def land(self, tmp: Path, name: str, days: list[date], copies: int = 1) -> None:
        """Land readings of these days, and the sites, as `boostline land` does."""
        dataset, path = self.dataset(name), tmp / "readings.csv"
        sites = tmp / "sites.csv"
        sites.write_text("site,area\n" + "".join(f"s{i},{50 + 13 * i}\n" for i in range(5)))
        land(self.store, dataset, "sites", [sites], None)
        for day in days:
            path.write_text(readings(day, copies))
            land(self.store, dataset, "readings", [path], day)

    def handed(self, dag: str, run_id: str) -> dict[str, Any]:
        """What each task of a run handed on."""
        return {
            task["task_id"]: self.client.xcom(dag, run_id, task["task_id"]) for task in self.client.tasks(dag, run_id)
        }

    def states(self, dag: str, run_id: str) -> dict[str, str]:
        """What became of each task of a run."""
        return {task["task_id"]: task["state"] for task in self.client.tasks(dag, run_id)}

    def processes(self, *words: str) -> dict[psutil.Process, str]:
        """Those of this stack that have one of these words in their command line; and that line."""
        supervisor = psutil.Process(int(read_state(self.stack.home)["pid"]))
        found = {}
        for process in supervisor.children(recursive=True):
            try:
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if any(word in command for word in words):
                found[process] = command
        return found

    def executors(self) -> dict[psutil.Process, str]:
        """Every executor."""
        return self.processes(EXECUTOR)

    def spark_processes(self, dataset: str) -> dict[psutil.Process, str]:
        """Every executor, and a dataset's drivers: JVM and Python."""
        return self.processes(EXECUTOR, f"/{dataset}/attempts/")

    def newest_run(self, dag: str) -> dict[str, Any]:
        """That somebody started; the scheduler may have made its own for yesterday after it."""
        return next(run for run in self.client.runs(dag) if run["run_type"] == "manual")


def meters_file(name: str, **changes: Any) -> str:
    """A dataset file."""
    values = {"margin": 0.0, "missing": "skip", "timeout": 10, "promotion": "{approval: none}"}
    return METERS.format(name=name, **values | changes)


def readings(day: date, copies: int = 1) -> str:
    """A day of readings, the same text for the same day; the load is no line in anything.

    Args:
        day: Of the readings.
        copies: With some hundred, Spark takes some seconds for them.
    """
    lines = ["day,meter,hour,site,temperature,load"]
    for number in range(12 * copies):
        meter = number % 12
        for hour in range(24):
            seed = (day.toordinal() * 7919 + meter * 104729 + hour * 1299709) % 1000 / 1000
            temperature = 12 + 10 * math.sin(day.toordinal() / 9) + 6 * math.sin(hour / 4) + 4 * seed
            load = 20 * (hour in (7, 8, 18, 19)) + abs(temperature - 15) * (1 + meter % 5) + 3 * seed
            lines.append(f"{day},{number},{hour}, S{meter % 5} ,{temperature:.3f},{load:.4f}")
    return "\n".join(lines) + "\n"


def days_to(last: date, count: int) -> list[date]:
    return [last - timedelta(days=back) for back in reversed(range(count))]


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 600) -> Any:
    """What a condition gives once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)  # asking costs the API server time that the runs need
    raise AssertionError(f"{what}: not within {seconds} s")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("stack")
    datasets = home / "datasets"
    datasets.mkdir()
    for name, changes in DATASETS.items():
        (datasets / f"{name}.yaml").write_text(meters_file(name, **changes))
    with (
        mock.patch.dict(os.environ, {"BOOSTLINE_RETRIES": "1", "BOOSTLINE_RETRY_SECONDS": "1"}),
        running_stack(home=home, ports=free_ports(), datasets=datasets) as stack,
    ):
        env = {**os.environ, **stack.env, "COLUMNS": "160"}
        os.environ.update(stack.env)
        settings = Settings()
        yield World(stack, Store(settings), AirflowClient(settings), env)


@pytest.fixture(scope="session")
def first(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The first run on an empty lake."""
    tmp = tmp_path_factory.mktemp("raw")
    world.land(tmp, "meters", days_to(DAY, 5))
    assert world.cli("land", "meters", str(tmp / "sites.csv"), "--table", "sites").code == 0
    answer = world.cli("run", "meters", "--date", DAY.isoformat(), "--json")
    assert answer.code == 0, answer.err
    assert "ingest" in answer.err
    return dict(answer.json)
