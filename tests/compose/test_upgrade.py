"""Volumes that the image of an earlier commit wrote, with Airflow's tables one migration behind, under today's image."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compose.conftest import DAY, ROOT, Cluster, run, secrets, stack

DATASET, DAG = "meters_back", "meters_back_train"
BEFORE = DAY - timedelta(days=1)
STEP_BACK = """
from alembic.script import ScriptDirectory
from airflow.utils.db import _get_alembic_config
script = ScriptDirectory.from_config(_get_alembic_config())
print(script.get_revision(script.get_current_head()).down_revision)
"""

pytestmark = pytest.mark.timeout(3000)  # the earlier image may have to be built from nothing


@dataclass
class Upgraded:
    """The stack after the upgrade, and what there was before."""

    cluster: Cluster
    run_id: str
    published: dict[str, Any]
    champion: str
    migrations: tuple[str, str]


def checkout(folder: Path) -> Path:
    """The commit before the last change of the code, with the secrets of now."""
    commits = subprocess.run(
        ["git", "rev-list", "-2", "HEAD", "--", "src"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if len(commits) < 2:
        pytest.skip("the checkout has no history, and so no earlier commit to build")
    tree = subprocess.run(["git", "archive", commits[1]], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tree)) as archive:
        archive.extractall(folder, filter="data")
    subprocess.run(["docker/make-secrets.sh"], cwd=ROOT, check=True, capture_output=True)
    shutil.copytree(ROOT / "docker/secrets", folder / "docker/secrets")
    return folder


def champion(cluster: Cluster) -> str:
    """The version that MLflow's alias names."""
    answer = httpx.get(
        f"http://127.0.0.1:{cluster.env['BOOSTLINE_PORT_MLFLOW']}/api/2.0/mlflow/registered-models/alias",
        params={"name": DATASET, "alias": "champion"},
        auth=("admin", secrets()["MLFLOW_ADMIN_SECRET"]),
    )
    return str(answer.json()["model_version"]["version"])


def migration(cluster: Cluster) -> str:
    """Where Airflow's tables stand."""
    query = "SELECT version_num FROM alembic_version"
    return cluster.execute("postgres", "psql", "-U", "postgres", "-d", "airflow", "-Atc", query).strip()


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    tree = checkout(tmp_path_factory.mktemp("earlier"))
    with stack("boostline-test-upgrade") as cluster:
        earlier = replace(cluster, root=tree, env={**cluster.env, "BOOSTLINE_IMAGE": "boostline:earlier"})
        earlier.up()
        earlier.inside("put", "/raw", DATASET)
        run_id = run(earlier, DAG, BEFORE)
        published = earlier.inside("published", DATASET, BEFORE.isoformat())
        version, newest = champion(earlier), migration(earlier)
        earlier.compose("stop", "airflow-scheduler", "airflow-dags", "airflow-triggerer", "airflow-api", "mlflow")
        airflow = ("run", "--rm", "-T", "--no-deps", "init")
        target = earlier.compose(*airflow, "python", "-c", STEP_BACK).split()[-1]
        earlier.compose(*airflow, "airflow", "db", "downgrade", "--to-revision", target, "--yes")
        assert migration(earlier) == target != newest
        earlier.compose("rm", "--force", "--stop", "--volumes")  # anonymous volumes only
        earlier.compose("down")
        cluster.up()
        yield Upgraded(cluster, run_id, published, version, (newest, migration(cluster)))


def test_the_services_run_todays_image_on_migrated_tables(upgraded: Upgraded) -> None:
    images = {item["Config"]["Image"] for item in upgraded.cluster.containers()}
    assert images == {"boostline:local", "postgres:15-bookworm"}
    assert upgraded.migrations[0] == upgraded.migrations[1]
    assert "made or migrated" in upgraded.cluster.compose("logs", "--no-log-prefix", "init")


def test_runs_models_and_lake_are_intact(upgraded: Upgraded) -> None:
    cluster, run_id = upgraded.cluster, upgraded.run_id
    assert cluster.client.run(DAG, run_id)["state"] == "success"
    assert {task["state"] for task in cluster.client.tasks(DAG, run_id)} == {"success"}
    log = cluster.client._get(f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/ingest/logs/1", full_content="true")
    assert "partitions up to date" in json.dumps(log)
    assert champion(cluster) == upgraded.champion
    assert cluster.inside("published", DATASET, BEFORE.isoformat()) == upgraded.published


def test_the_next_day_runs(upgraded: Upgraded) -> None:
    run(upgraded.cluster, DAG, DAY)
    assert set(upgraded.cluster.inside("published", DATASET, DAY.isoformat())) == set(upgraded.published)
