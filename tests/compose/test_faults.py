"""Servers killed under a running job: the run ends well or says why in bounded time, and publishes exactly once."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.compose.conftest import DAY, Cluster, run
from tests.e2e.conftest import wait_for

END_WITHIN = 600


@pytest.fixture(scope="module")
def undisturbed(landed: Cluster) -> dict[str, Any]:
    """What a run that nobody disturbs publishes."""
    run(landed, "meters_back_train", DAY)  # at once, where the backfill's test has run before
    published: dict[str, Any] = landed.inside("published", "meters_back", DAY.isoformat())
    return published


def start(cluster: Cluster, dataset: str) -> str:
    """Trigger a run and return once its first Spark application has executors."""
    dag = f"{dataset}_train"
    cluster.client.ready_dag(dag)
    run_id = cluster.client.trigger(dag, DAY, {})
    wait_for(
        "an application with cores", lambda: [app for app in cluster.master()["activeapps"] if app["cores"] > 0], 120
    )
    return run_id


def ends_well(cluster: Cluster, dataset: str, run_id: str, undisturbed: dict[str, Any]) -> None:
    """The run succeeds, has published once what an undisturbed one does, and leaves nothing behind."""
    dag = f"{dataset}_train"

    def ended() -> str | None:
        state = str(cluster.client.run(dag, run_id)["state"])
        return state if state in ("success", "failed") else None

    assert wait_for("the end of the run", ended, END_WITHIN) == "success"
    published = cluster.inside("published", dataset, DAY.isoformat())
    for stage in ("features", "baseline", "model"):
        assert published[stage]["hash"] == undisturbed[stage]["hash"], stage
    assert {stage: found["manifests"] for stage, found in published.items()} == dict.fromkeys(undisturbed, 1)
    assert cluster.inside("uploads") == []
    wait_for("no application", lambda: not cluster.master()["activeapps"], 60)
    drivers = cluster.execute("airflow-scheduler", "sh", "-c", "pgrep -fc 'jobs/[a-z]*.py --request' || true")
    assert drivers.strip() == "0"


def workers(cluster: Cluster) -> list[str]:
    """The workers' containers."""
    return cluster.compose("ps", "-aq", "spark-worker").split()


def tries(cluster: Cluster, dataset: str, run_id: str, task: str) -> int:
    """How often a task was tried."""
    tasks = cluster.client.tasks(f"{dataset}_train", run_id)
    return next(int(item["try_number"]) for item in tasks if item["task_id"] == task)


def test_a_killed_worker_leaves_its_work_to_the_other(landed: Cluster, undisturbed: dict[str, Any]) -> None:
    run_id = start(landed, "meters_worker")
    victim = workers(landed)[0]
    landed.docker("kill", victim)
    try:
        ends_well(landed, "meters_worker", run_id, undisturbed)
    finally:
        landed.docker("start", victim)
    assert tries(landed, "meters_worker", run_id, "ingest") == 1


@pytest.mark.slow
def test_without_any_worker_a_try_ends_and_the_next_succeeds(landed: Cluster, undisturbed: dict[str, Any]) -> None:
    run_id = start(landed, "meters_workers")
    victims = workers(landed)
    landed.docker("kill", *victims)
    try:
        wait_for("the next try", lambda: tries(landed, "meters_workers", run_id, "ingest") > 1, 240)
    finally:
        landed.docker("start", *victims)
    path = f"/dags/meters_workers_train/dagRuns/{run_id}/taskInstances/ingest/logs/1"
    said = wait_for("the log", lambda: landed.client._get(path, none_on_404=True, full_content="true"), 60)
    assert "SparkLost" in json.dumps(said)
    assert "gave this application no executor" in json.dumps(said)
    ends_well(landed, "meters_workers", run_id, undisturbed)


@pytest.mark.slow
def test_a_restarted_master_finds_its_application_again(landed: Cluster, undisturbed: dict[str, Any]) -> None:
    run_id = start(landed, "meters_master")
    landed.compose("kill", "spark-master")
    landed.compose("start", "spark-master")
    ends_well(landed, "meters_master", run_id, undisturbed)
    wait_for("both workers", lambda: landed.master()["aliveworkers"] == 2, 120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "service", "seconds"),
    [("meters_scheduler", "airflow-scheduler", 45), ("meters_s3", "s3", 30), ("meters_postgres", "postgres", 0)],
)
def test_a_server_that_was_away_costs_no_publish_and_makes_no_second(
    landed: Cluster, undisturbed: dict[str, Any], dataset: str, service: str, seconds: int
) -> None:
    run_id = start(landed, dataset)
    landed.compose("kill", service)
    time.sleep(seconds)
    landed.compose("start", service)
    ends_well(landed, dataset, run_id, undisturbed)
