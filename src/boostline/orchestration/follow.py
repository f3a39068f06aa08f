"""Following runs in a terminal, task by task."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

from rich.console import Console

from boostline.errors import FailError
from boostline.orchestration.client import TERMINAL, AirflowClient, days_between

POLL_SECONDS = 1.0
QUEUED_SECONDS = 10.0
"""A run that is queued for longer is asked why."""
_STYLE = {"success": "green", "failed": "red", "upstream_failed": "red", "skipped": "yellow", "up_for_retry": "yellow"}
_QUIET = {None, "none", "scheduled", "queued"}


def follow_run(client: AirflowClient, dag_id: str, run_id: str, console: Console) -> dict[str, Any]:
    """Print each change of a task's state until the run ends; without a terminal, of the run's own state too.

    Returns:
        The run, as Airflow describes it.

    Raises:
        FailError: The run failed; the message is the first failed task's own.
    """
    seen: dict[str, tuple[str | None, int]] = {}
    queue, state = _Queue(client, dag_id, console), None
    with console.status(f"{dag_id} waits for the scheduler") as status:
        while True:
            run = client.run(dag_id, run_id)
            if run["state"] != state and not console.is_terminal:  # there the status line is not shown
                console.print(f"{dag_id}: {run['state']}")
            state = run["state"]
            queue.look([run])
            for task in sorted(client.tasks(dag_id, run_id), key=lambda item: item["start_date"] or "9"):
                key = (task["state"], task["try_number"])
                if seen.get(task["task_id"]) != key and task["state"] not in _QUIET:
                    console.print(_line(task))
                seen[task["task_id"]] = key
            running = [name for name, (state, _) in seen.items() if state in ("running", "deferred")]
            status.update(f"{dag_id}: {', '.join(running) or run['state']}")
            if run["state"] in TERMINAL:
                break
            time.sleep(POLL_SECONDS)
    if run["state"] == "failed":
        raise run_failure(client, dag_id, run_id)
    return run


def follow_backfill(
    client: AirflowClient, dag_id: str, first: date, last: date, console: Console
) -> dict[str, dict[str, Any]]:
    """Print each change of a run's state until every date has ended.

    Returns:
        The newest run by date.
    """
    days = days_between(first, last)
    queue = _Queue(client, dag_id, console)
    return _follow_days(lambda: client.runs_by_date(dag_id, first, last), queue, days)


def follow_days(
    client: AirflowClient, dag_id: str, run_ids: dict[str, str], console: Console
) -> dict[str, dict[str, Any]]:
    """The same for runs that were started one by one, by date."""
    runs: dict[str, dict[str, Any]] = {}

    def look() -> dict[str, dict[str, Any]]:
        going = [day for day in run_ids if day not in runs or runs[day]["state"] not in TERMINAL]
        runs.update({day: client.run(dag_id, run_ids[day]) for day in going})
        return runs

    return _follow_days(look, _Queue(client, dag_id, console), list(run_ids))


def _follow_days(
    look: Callable[[], dict[str, dict[str, Any]]], queue: _Queue, days: list[str]
) -> dict[str, dict[str, Any]]:
    seen: dict[str, str] = {}
    dag_id, console = queue.dag_id, queue.console
    with console.status(f"{dag_id}: {len(days)} dates") as status:
        while True:
            runs = look()
            queue.look(list(runs.values()))
            for day, run in sorted(runs.items()):
                if seen.get(day) != run["state"] and run["state"] not in _QUIET:
                    seconds = f" {run['duration']:.0f} s" if run["state"] in TERMINAL and run["duration"] else ""
                    console.print(f"  {day}  [{_STYLE.get(run['state'], 'cyan')}]{run['state']}[/]{seconds}")
                seen[day] = run["state"]
            ended = [day for day in days if seen.get(day) in TERMINAL]
            status.update(f"{dag_id}: {len(ended)} of {len(days)} dates have ended")
            if len(ended) == len(days):
                return runs
            time.sleep(POLL_SECONDS)


class _Queue:
    """Says once why nothing starts, where every run that has not ended is queued for long."""

    def __init__(self, client: AirflowClient, dag_id: str, console: Console) -> None:
        self.client, self.dag_id, self.console = client, dag_id, console
        self.since, self.told = time.monotonic(), False

    def look(self, runs: list[dict[str, Any]]) -> None:
        waiting = [run for run in runs if run["state"] not in TERMINAL]
        if not waiting or any(run["state"] != "queued" for run in waiting):
            self.since = time.monotonic()
        elif not self.told and time.monotonic() - self.since >= QUEUED_SECONDS:
            self.told = True
            self.console.print(self._why(waiting[0]), style="yellow", markup=False, soft_wrap=True)

    def _why(self, run: dict[str, Any]) -> str:
        if self.client.is_paused(self.dag_id):
            return f"{self.dag_id} is paused: nothing of it starts until it is unpaused in Airflow"
        holders: list[str] = []
        if run["run_type"] != "backfill":  # a backfill's runs have places of their own
            running = self.client.runs(self.dag_id, state="running")
            holders = [other["dag_run_id"] for other in running if other["run_type"] != "backfill"]
        if holders:
            return f"{run['dag_run_id']} is queued until one of these ends: {', '.join(holders)}"
        return f"{run['dag_run_id']} is queued, and no run holds its place: see whether Airflow's scheduler is up"


def run_failure(client: AirflowClient, dag_id: str, run_id: str) -> FailError:
    """The reason of a failed run: its first failed task's message."""
    failed = [task for task in client.tasks(dag_id, run_id) if task["state"] == "failed"]
    where = f"{client.url}/dags/{dag_id}/runs/{run_id}"
    if not failed:
        return FailError(f"run {run_id} was ended from outside", f"See {where}")
    first = min(failed, key=lambda task: task["start_date"] or "9")
    return FailError(
        f"task {first['task_id']} of {run_id} failed: {client.failure(dag_id, run_id, first)}", f"Its log: {where}"
    )


def _line(task: dict[str, Any]) -> str:
    state = task["state"]
    seconds = f" {task['duration']:.1f} s" if state in (*TERMINAL, "skipped") and task["duration"] else ""
    again = f" (try {task['try_number']})" if task["try_number"] > 1 else ""
    return f"  {task['task_id']:<20} [{_STYLE.get(state, 'cyan')}]{state}[/]{seconds}{again}"
