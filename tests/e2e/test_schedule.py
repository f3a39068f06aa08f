"""The run that the scheduler starts, whose driver and whose training are killed on its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from boostline.errors import FailError
from boostline.lake.manifest import read_current
from tests.e2e.conftest import World, days_to, wait_for

DATASET, DAG = "meters_daily", "meters_daily_train"
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
COPIES = 400
CLEAN, MODELS = f"clean/{DATASET}/attempts/", f"model/{DATASET}/attempts/"


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Yesterday's run, ended."""
    tmp = tmp_path_factory.mktemp("daily")
    world.land(tmp, DATASET, days_to(YESTERDAY - timedelta(days=1), 4))
    world.client.ready_dag(DAG)
    run = wait_for("a run", lambda: next(iter(world.client.runs(DAG)), None))
    run_id = run["dag_run_id"]
    wait_for("a waiting task", lambda: world.states(DAG, run_id).get("wait_for_raw_files") == "deferred")
    world.land(tmp, DATASET, [YESTERDAY], COPIES)
    wait_for("an executor", world.executors)
    wait_for("files of the attempt, or its end", lambda: written(world, CLEAN) or not world.executors())
    drivers = [process for process, line in world.spark_processes(DATASET).items() if "jobs/ingest.py" in line]
    assert drivers, "ingest ended before its driver could be killed"
    for driver in drivers:
        driver.kill()
    with silent_mlflow(world):
        # The model lies in the lake, MLflow has not answered yet, and no manifest names it.
        wait_for("files of the model", lambda: written(world, MODELS))
        spoil_the_dataset_file_for_a_moment(world)
        title = f"airflow worker -- {task(world, run_id, 'train')['id']}"
        trainings = [p for p in psutil.process_iter(["cmdline"]) if title in " ".join(p.info["cmdline"] or ())]
        assert trainings, "train ended before it could be killed"
        for process in trainings:
            process.kill()
    wait_for("the end", lambda: world.client.run(DAG, run_id)["state"] in ("success", "failed"))
    return world.client.run(DAG, run_id)


def spoil_the_dataset_file_for_a_moment(world: World) -> None:
    """Until Airflow has seen it: the run under way must not end by that."""
    path = world.stack.datasets / f"{DATASET}.yaml"
    text = path.read_text()
    path.write_text(text + "bogus: 1\n")
    with pytest.raises(FailError, match="its dataset file is wrong"):
        world.client.ready_dag(f"{DAG}_invalid")
    path.write_text(text)
    world.client.ready_dag(DAG)


@contextmanager
def silent_mlflow(world: World) -> Iterator[None]:
    """MLflow takes connections and answers none meanwhile."""
    (server,) = world.processes("/mlflow.db")
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def task(world: World, run_id: str, name: str) -> dict[str, Any]:
    return next(item for item in world.client.tasks(DAG, run_id) if item["task_id"] == name)


def written(world: World, folder: str) -> set[str]:
    """The attempts that have written readings or a model."""
    keys = [item.key.removeprefix(folder) for item in world.store.list(folder)]
    return {key.split("/")[0] for key in keys if "/readings/" in key or "/model." in key}


def test_the_scheduler_starts_yesterdays_run_which_waits_and_ends_green_where_the_gate_says_no(
    world: World, run: dict[str, Any]
) -> None:
    assert (run["partition_key"], run["run_type"]) == (YESTERDAY.isoformat(), "scheduled")
    assert run["state"] == "success"
    assert set(world.states(DAG, run["dag_run_id"]).values()) == {"success"}
    reason = "99.0% better was asked"
    assert reason in str(world.client.xcom(DAG, run["dag_run_id"], "gate"))
    shown = world.cli("show", DATASET)
    assert "Refused: RMSE" in shown.out
    assert reason in shown.out
    told = world.cli("show", DATASET, "--json").json
    assert (told["date"], told["gate"]["passed"], told["promoted"]) == (YESTERDAY.isoformat(), False, False)
    assert reason in world.store.get(told["report"].removeprefix(world.store.uri("")))[0].decode()
    logs = (world.stack.home / "logs/tasks").rglob(f"dag_id={DAG}/*/task_id=gate/*.log")
    assert any(reason in path.read_text() for path in logs)


def test_what_was_killed_was_tried_again_and_published_once(world: World, run: dict[str, Any]) -> None:
    tries = {name: task(world, run["dag_run_id"], name)["try_number"] for name in ("ingest", "train")}
    assert tries == {"ingest": 2, "train": 2}
    manifest, _ = read_current(world.store, "clean", DATASET, "readings", YESTERDAY.isoformat())
    assert manifest.rows["rows"] == COPIES * 288
    published = [name for name in written(world, CLEAN) if any(world.store.list(f"{CLEAN}{name}/result.json"))]
    assert published == [manifest.attempt]
    model, _ = read_current(world.store, "model", DATASET, None, YESTERDAY.isoformat())
    assert len(written(world, MODELS)) == 2 and model.attempt in written(world, MODELS)
    assert world.cli("show", DATASET, "--json").json["candidate"]["version"] == "1"
