"""Cancelled, timed-out and failed runs on a real stack: what is told, and no process left."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from boostline.lake.manifest import read_current
from tests.e2e.conftest import World, days_to, wait_for

DAY = date(2024, 6, 20)
BIG = "meters_big"


def test_a_cancelled_run_leaves_no_driver_and_no_executor(world: World, tmp_path: Path) -> None:
    world.land(tmp_path, BIG, days_to(DAY, 5), copies=100)
    world.client.ready_dag(f"{BIG}_train")
    run_id = world.client.trigger(f"{BIG}_train", DAY, {})
    wait_for("an executor", world.executors)
    shown = world.spark_processes(BIG).values()
    assert world.cli("cancel", run_id).code == 0
    assert len(shown) >= 2 and not [line for line in shown if world.stack.env["AWS_SECRET_ACCESS_KEY"] in line]
    wait_for("no Spark process", lambda: not world.spark_processes(BIG), seconds=15)
    assert read_current(world.store, "clean", BIG, "readings", DAY.isoformat()) is None
    assert "ended already: failed" in world.cli("cancel", run_id).out


def test_a_timed_out_spark_task_leaves_no_process(world: World, tmp_path: Path) -> None:
    world.land(tmp_path, "meters_hasty", days_to(DAY, 5))
    run = world.start("run", "meters_hasty", "--date", DAY.isoformat())
    wait_for("a driver", lambda: world.processes("/meters_hasty/attempts/") or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    said = run.communicate(timeout=800)[1]
    assert run.returncode == 1
    assert "task ingest of" in said and "failed: Timeout, PID" in said
    wait_for("no Spark process", lambda: not world.spark_processes("meters_hasty"), seconds=15)
    assert read_current(world.store, "clean", "meters_hasty", "readings", DAY.isoformat()) is None


def test_a_broken_file_ends_the_run_with_its_name(world: World, tmp_path: Path) -> None:
    world.land(tmp_path, "meters_broken", days_to(DAY, 5))
    path = tmp_path / "readings.csv"
    path.write_text("meter,hour,load\n1,2,3\n")
    assert world.cli("land", "meters_broken", str(path), "--date", DAY.isoformat()).code == 0
    answer = world.cli("run", "meters_broken", "--date", DAY.isoformat())
    assert answer.code == 1
    assert "DataInvalid" in answer.err
    assert f"readings/date={DAY}/readings.csv" in answer.err
    assert "site" in answer.err
    tasks = {
        task["task_id"]: task
        for task in world.client.tasks("meters_broken_train", world.newest_run("meters_broken_train")["dag_run_id"])
    }
    assert (tasks["ingest"]["state"], tasks["ingest"]["try_number"]) == ("failed", 1)


def test_no_secret_is_shown(world: World) -> None:
    """Not on a command line of any process, not in a log of a service or task."""
    secret = world.stack.env["AWS_SECRET_ACCESS_KEY"]
    assert [line for line in world.processes("").values() if secret in line] == []
    logs = [path for path in (world.stack.home / "logs").rglob("*") if path.is_file()]
    assert len(logs) > 10
    assert [path for path in logs if secret in path.read_text(errors="replace")] == []
