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
_STYLE = {"success": "green", "failed": "red", "upstream_failed": "red", "skipped": "yellow", "up_for_retry": "yellow"}
_QUIET = {None, "none", "scheduled", "queued"}


def follow_run(client: AirflowClient, dag_id: str, run_id: str, console: Console) -> dict[str, Any]:
    """Print each change of a task's state until the run ends.

    Returns:
        The run, as Airflow describes it.

    Raises:
        FailError: The run failed; the message is the first failed task's own.
    """
    seen: dict[str, tuple[str | None, int]] = {}
    with console.status(f"{dag_id} waits for the scheduler") as status:
        while True:
            run = client.run(dag_id, run_id)
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
    return _follow_days(lambda: client.runs_by_date(dag_id, first, last), dag_id, days, console)


def follow_days(
    client: AirflowClient, dag_id: str, run_ids: dict[str, str], console: Console
) -> dict[str, dict[str, Any]]:
    """The same for runs that were started one by one, by date."""
    return _follow_days(
        lambda: {day: client.run(dag_id, run_id) for day, run_id in run_ids.items()}, dag_id, list(run_ids), console
    )


def _follow_days(
    look: Callable[[], dict[str, dict[str, Any]]], dag_id: str, days: list[str], console: Console
) -> dict[str, dict[str, Any]]:
    seen: dict[str, str] = {}
    with console.status(f"{dag_id}: {len(days)} dates") as status:
        while True:
            runs = look()
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
