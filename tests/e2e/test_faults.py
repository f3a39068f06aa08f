"""Killed, cancelled and timed-out runs on a real stack: published once, and no process left."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest

from boostline.lake.manifest import read_current
from boostline.local.stack import read_state
from tests.e2e.conftest import World, days_to, readings, wait_for

DAY = date(2024, 6, 20)
BIG = "meters_big"
COPIES = 400


def spark_processes(world: World, dataset: str) -> list[psutil.Process]:
    """Drivers (JVM and Python) of a dataset, and every executor of this stack."""
    supervisor = psutil.Process(int(read_state(world.stack.home)["pid"]))
    found = []
    for process in supervisor.children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if f"/{dataset}/attempts/" in command or "CoarseGrainedExecutorBackend" in command:
            found.append(process)
    return found


@pytest.fixture(scope="module")
def big(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset whose last day takes Spark some seconds."""
    tmp = tmp_path_factory.mktemp("big")
    world.land(tmp, BIG, days_to(DAY, 5))
    head, *rows = readings(DAY).splitlines()
    path = tmp / "readings.csv"
    with path.open("w") as file:
        file.write(head + "\n")
        for copy in range(COPIES):
            file.writelines(f"{DAY},{copy * 12 + int(m)},{rest}\n" for m, rest in (r.split(",", 2)[1:] for r in rows))
    assert world.cli("land", BIG, str(path), "--date", DAY.isoformat()).code == 0
    return BIG


def start(world: World, dataset: str) -> str:
    world.client.ready_dag(f"{dataset}_train")
    return world.client.trigger(f"{dataset}_train", DAY, {})


def executors(world: World) -> list[psutil.Process]:
    return [item for item in spark_processes(world, BIG) if "CoarseGrainedExecutorBackend" in " ".join(item.cmdline())]


def test_a_cancelled_run_leaves_no_driver_and_no_executor(world: World, big: str) -> None:
    run_id = start(world, big)
    wait_for("an executor", lambda: executors(world))
    assert world.cli("cancel", run_id).code == 0
    wait_for("no Spark process", lambda: not spark_processes(world, big), seconds=15)
    assert read_current(world.store, "clean", big, "readings", DAY.isoformat()) is None
    assert "ended already: failed" in world.cli("cancel", run_id).out


def test_a_killed_driver_and_a_killed_training_are_retried_and_publish_once(world: World, big: str) -> None:
    run_id = start(world, big)
    folder, models = f"clean/{big}/attempts/", f"model/{big}/attempts/"

    def written(below: str, what: str) -> list[str]:
        return [item.key for item in world.store.list(below) if run_id[-6:] in item.key and what in item.key]

    def task(name: str) -> dict[str, Any]:
        return next(item for item in world.client.tasks(f"{big}_train", run_id) if item["task_id"] == name)

    def ended() -> bool:
        return world.client.run(f"{big}_train", run_id)["state"] in ("success", "failed")

    wait_for("an executor", lambda: executors(world))
    wait_for("files of the attempt, or its end", lambda: written(folder, "/readings/") or not executors(world))
    drivers = [item for item in spark_processes(world, big) if "jobs/ingest.py" in " ".join(item.cmdline())]
    assert drivers, "ingest ended before its driver could be killed"
    for driver in drivers:
        driver.kill()
    # The model lies in the lake, MLflow is being told, and no manifest names it yet.
    wait_for("files of the model", lambda: written(models, "/model.") or ended())
    title = f"airflow worker -- {task('train')['id']}"
    for process in psutil.process_iter(["cmdline"]):
        if title in " ".join(process.info["cmdline"] or ()):
            process.kill()
    wait_for("the end", ended)
    assert world.client.run(f"{big}_train", run_id)["state"] == "success"
    manifest, _ = read_current(world.store, "clean", big, "readings", DAY.isoformat())
    attempts = {key.removeprefix(folder).split("/")[0] for key in written(folder, "/readings/")}
    assert manifest.attempt in attempts
    assert manifest.rows["rows"] == COPIES * 288
    published = [name for name in attempts if any(world.store.list(f"{folder}{name}/result.json"))]
    assert published == [manifest.attempt]
    assert (task("ingest")["try_number"], task("train")["try_number"]) == (2, 2)
    model, _ = read_current(world.store, "model", big, None, DAY.isoformat())
    tries = {key.removeprefix(models).split("/")[0] for key in written(models, "/model.")}
    assert len(tries) == 2 and model.attempt in tries
    assert world.cli("show", big, "--json").json["candidate"]["version"] == "1"


def test_a_timed_out_spark_task_leaves_no_process(world: World, tmp_path: Path) -> None:
    world.land(tmp_path, "meters_hasty", days_to(DAY, 5))
    answer = world.cli("run", "meters_hasty", "--date", DAY.isoformat())
    assert answer.code == 1
    assert "task ingest" in answer.err
    wait_for("no Spark process", lambda: not spark_processes(world, "meters_hasty"), seconds=15)
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
    supervisor = psutil.Process(int(read_state(world.stack.home)["pid"]))
    for process in supervisor.children(recursive=True):
        try:
            assert secret not in " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
    logs = [path for path in (world.stack.home / "logs").rglob("*") if path.is_file()]
    assert len(logs) > 10
    assert [path for path in logs if secret in path.read_text(errors="replace")] == []
