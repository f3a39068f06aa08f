"""One compose stack for the whole session, from nothing, on ports of its own, with small datasets beside the shipped ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from boostline.local.ports import free_ports
from boostline.orchestration.client import AirflowClient
from boostline.orchestration.follow import follow_run
from boostline.settings import Settings
from tests.e2e.conftest import METERS, days_to, readings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "boostline-test"
DAY = date(2024, 5, 10)
FAULTY = [f"meters_{name}" for name in ("worker", "workers", "master", "scheduler", "s3", "postgres")]
METERS_ALIKE = ["meters_back", *FAULTY]


@dataclass
class Cluster:
    """The stack, and what tests do with it."""

    env: dict[str, str]
    raw: Path
    output: str = ""
    _client: AirflowClient | None = None

    def docker(self, *args: str, check: bool = True, timeout: float = 600) -> str:
        """What `docker ARGS` printed."""
        done = subprocess.run(
            ["docker", *args], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0 or not check, (
            f"docker {' '.join(args)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout

    def compose(self, *args: str, check: bool = True, timeout: float = 600) -> str:
        """What `docker compose ARGS` printed."""
        return self.docker("compose", *args, check=check, timeout=timeout)

    def execute(self, service: str, *command: str, check: bool = True) -> str:
        """What a command in a running service printed."""
        return self.compose("exec", "-T", service, *command, check=check)

    def inside(self, *args: str) -> Any:
        """What `inside.py` says, run where the lake can be reached."""
        mounts = ["-v", f"{ROOT / 'tests/compose'}:/inside:ro", "-v", f"{self.raw}:/raw:ro"]
        said = self.compose("run", "--rm", "-T", "--no-deps", *mounts, "cli", "python", "/inside/inside.py", *args)
        return json.loads(said.splitlines()[-1])

    def master(self) -> dict[str, Any]:
        """The Spark master's own account of workers and applications."""
        script = "import urllib.request as u; print(u.urlopen('http://spark-master:8080/json/').read().decode())"
        found: dict[str, Any] = json.loads(self.execute("spark-master", "python", "-c", script))
        return found

    @property
    def client(self) -> AirflowClient:
        """Airflow's API, as a person on this machine reaches it; signed in once."""
        if self._client is None:
            self._client = AirflowClient(
                Settings(
                    airflow_url=f"http://127.0.0.1:{self.env['BOOSTLINE_PORT_AIRFLOW']}",
                    airflow_password_file=ROOT / "docker/secrets/airflow-password.json",
                )
            )
        return self._client

    def containers(self) -> list[dict[str, Any]]:
        """All containers of the project, as `docker inspect` describes them."""
        ids = self.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}").split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        return found


def docker_missing() -> str | None:
    """Why these tests cannot run here, or none."""
    if shutil.which("docker") is None:
        return "there is no docker"
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, check=False)
    if done.returncode:
        return "docker has no Compose v2"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"the docker engine does not answer: {done.stderr.strip()[-200:]}"


def run(cluster: Cluster, dag: str, day: date) -> str:
    """Trigger a run and follow it to its end."""
    cluster.client.ready_dag(dag)
    run_id = cluster.client.trigger(dag, day, {})
    ended = follow_run(cluster.client, dag, run_id, Console(quiet=True))
    assert ended["state"] == "success", [
        (task["task_id"], cluster.client.failure(dag, run_id, task))
        for task in cluster.client.tasks(dag, run_id)
        if task["state"] == "failed"
    ]
    return run_id


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if reason := docker_missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="boostline-compose-") as home:
        Path(home).chmod(0o755)  # the containers run as another user
        yield from _cluster(Path(home))


def _cluster(home: Path) -> Iterator[Cluster]:
    datasets, raw = home / "datasets", home / "raw"
    shutil.copytree(ROOT / "conf/datasets", datasets)
    raw.mkdir()
    for name in METERS_ALIKE:
        values = {"name": name, "margin": 0.0, "missing": "skip", "timeout": 10}
        (datasets / f"{name}.yaml").write_text(METERS.format(**values))
    for day in days_to(DAY, 7):
        (raw / f"readings-{day}.csv").write_text(readings(day))
    (raw / "sites.csv").write_text("site,area\n" + "".join(f"s{i},{50 + 13 * i}\n" for i in range(5)))
    ports = free_ports()
    env = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "BOOSTLINE_DATASETS_DIR": str(datasets),
        "BOOSTLINE_PORT_AIRFLOW": str(ports.airflow),
        "BOOSTLINE_PORT_MLFLOW": str(ports.mlflow),
        "BOOSTLINE_RETRY_SECONDS": "5",
    }
    stack = Cluster(env, raw)
    everything = ("--profile", "*")
    stack.compose(*everything, "down", "--volumes", "--remove-orphans")
    try:
        done = subprocess.run(
            ["make", "compose-up"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=1500, check=False
        )
        stack.output = done.stdout + done.stderr
        assert done.returncode == 0, stack.output[-6000:]
        yield stack
    finally:
        logs = ROOT / ".boostline/logs"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "compose.log").write_text(stack.compose(*everything, "logs", "--timestamps", "--no-color", check=False))
        stack.compose(*everything, "down", "--volumes", "--remove-orphans")
    assert stack.containers() == []
    assert stack.docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}") == ""


@pytest.fixture(scope="session")
def landed(cluster: Cluster) -> Cluster:
    """The stack with seven days of meters in each of their datasets."""
    cluster.inside("put", "/raw", *METERS_ALIKE)
    return cluster
