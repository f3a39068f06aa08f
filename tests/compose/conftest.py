"""Compose stacks from nothing, on ports of their own, with small datasets beside the shipped ones."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
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
MARCH = date(2013, 3, 31)
FAULTY = [f"meters_{name}" for name in ("worker", "workers", "master", "scheduler", "s3", "postgres")]
METERS_ALIKE = ["meters_back", *FAULTY]
LEAST_RIGHTS = {
    "pipeline": {"list lake", "write lake", "delete lake", "list logs"},
    "serving": {"list lake"},
    "mlflow": {"list mlflow"},
}
"""What each identity of the S3 server may do, of what `inside.py` tries."""


@dataclass
class Cluster:
    """The stack, and what tests do with it."""

    env: dict[str, str]
    raw: Path
    root: Path = ROOT
    output: str = ""
    _client: AirflowClient | None = None

    def up(self, target: str = "compose-up") -> None:
        """Build and start it as a person does."""
        done = subprocess.run(
            ["make", target], cwd=self.root, env=self.env, capture_output=True, text=True, timeout=1500, check=False
        )
        self.output = done.stdout + done.stderr
        assert done.returncode == 0, self.output[-6000:]

    def docker(self, *args: str, check: bool = True, timeout: float = 600) -> str:
        """What `docker ARGS` printed."""
        done = subprocess.run(
            ["docker", *args], cwd=self.root, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
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

    def inside(self, *args: str, env: dict[str, str] | None = None) -> Any:
        """What `inside.py` says, run where the lake can be reached."""
        options = ["-v", f"{ROOT / 'tests/compose'}:/inside:ro", "-v", f"{self.raw}:/raw:ro"]
        options += [part for name, value in (env or {}).items() for part in ("-e", f"{name}={value}")]
        said = self.compose("run", "--rm", "-T", "--no-deps", *options, "cli", "python", "/inside/inside.py", *args)
        return json.loads(said.splitlines()[-1])

    def rights(self) -> dict[str, set[str]]:
        """What each identity may do on the S3 server."""
        found = {}
        for name in LEAST_RIGHTS:
            lines = (ROOT / f"docker/secrets/{name}.env").read_text().splitlines()
            env = {line.partition("=")[0]: line.partition("=")[2] for line in lines if line.startswith("AWS_")}
            found[name] = set(self.inside("rights", env=env))
        return found

    def reaches(self, service: str, host: str, port: int) -> bool:
        """Whether a running service can open a connection."""
        said = self.execute(service, "timeout", "4", "bash", "-c", f"</dev/tcp/{host}/{port} && echo open", check=False)
        return "open" in said

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

    def browser(self) -> httpx.Client:
        """Airflow's pages, as the admin who has signed in sees them."""
        url = f"http://127.0.0.1:{self.env['BOOSTLINE_PORT_AIRFLOW']}"
        password = json.loads((ROOT / "docker/secrets/airflow-password.json").read_text())["admin"]
        answer = httpx.post(f"{url}/auth/token", json={"username": "admin", "password": password}, timeout=60)
        return httpx.Client(base_url=url, timeout=60, cookies={"_token": answer.json()["access_token"]})

    @property
    def label(self) -> str:
        """What all that belongs to the project is labelled with."""
        return f"label=com.docker.compose.project={self.env['COMPOSE_PROJECT_NAME']}"

    def containers(self) -> list[dict[str, Any]]:
        """All containers of the project, as `docker inspect` describes them."""
        ids = self.docker("ps", "-aq", "--filter", self.label).split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        return found


def secrets() -> dict[str, str]:
    """What `make secrets` made."""
    return dict(line.split("=", 1) for line in (ROOT / "docker/secrets/secrets.env").read_text().splitlines())


def check_hardened(cluster: Cluster) -> dict[str, Any]:
    """Assert on every container that it has no more rights than it needs; the ports that are published, by service."""
    published: dict[str, Any] = {}
    for container in cluster.containers():
        name, host = container["Config"]["Labels"]["com.docker.compose.service"], container["HostConfig"]
        assert container["Config"]["User"] in ("boostline", "postgres", "nobody"), name
        assert host["ReadonlyRootfs"], name
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False), name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["Memory"] > 0, name
        assert host["LogConfig"]["Config"]["max-size"], name
        published |= {name: host["PortBindings"]} if host["PortBindings"] else {}
    return published


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


@contextmanager
def stack(project: str, **settings: str) -> Iterator[Cluster]:
    """A project of Compose that is not up yet; nothing is left of it at the end."""
    if reason := docker_missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="boostline-compose-") as home:
        Path(home).chmod(0o755)  # the containers run as another user
        found = _prepared(Path(home), {"COMPOSE_PROJECT_NAME": project, **settings})
        found.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
        try:
            yield found
        finally:
            logs = ROOT / ".boostline/logs"
            logs.mkdir(parents=True, exist_ok=True)
            said = found.compose("--profile", "*", "logs", "--timestamps", "--no-color", check=False)
            (logs / f"{project}.log").write_text(said)
            found.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
        assert found.containers() == []
        assert found.docker("volume", "ls", "-q", "--filter", found.label) == ""


def _prepared(home: Path, settings: dict[str, str]) -> Cluster:
    datasets, raw = home / "datasets", home / "raw"
    shutil.copytree(ROOT / "conf/datasets", datasets)
    raw.mkdir()
    for name in METERS_ALIKE:
        values = {"name": name, "margin": 0.0, "missing": "skip", "timeout": 10, "promotion": "{approval: none}"}
        (datasets / f"{name}.yaml").write_text(METERS.format(**values))
    for day in days_to(DAY, 7):
        (raw / f"readings-{day}.csv").write_text(readings(day))
    (raw / "sites.csv").write_text("site,area\n" + "".join(f"s{i},{50 + 13 * i}\n" for i in range(5)))
    with (datasets / "nyc_flights.yaml").open("a") as file:
        file.write(f"\nstream: {{since: {MARCH}}}\n")
    ports = free_ports()
    env = {
        **os.environ,
        "BOOSTLINE_DATASETS_DIR": str(datasets),
        "BOOSTLINE_PORT_AIRFLOW": str(ports.airflow),
        "BOOSTLINE_PORT_MLFLOW": str(ports.mlflow),
        "BOOSTLINE_PORT_PROMETHEUS": str(ports.spark_worker_ui),
        "BOOSTLINE_PORTS_SERVING": "{}-{}".format(*neighbours()),
        "BOOSTLINE_RETRY_SECONDS": "5",
        **settings,
    }
    return Cluster(env, raw)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One stack for the whole session."""
    with stack(PROJECT) as found:
        found.up()
        yield found


def neighbours() -> tuple[int, int]:
    """Two ports side by side, both free."""
    while True:
        first = free_ports().s3
        with suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", first))
            two.bind(("127.0.0.1", first + 1))
            return first, first + 1


@pytest.fixture(scope="session")
def flights(cluster: Cluster) -> str:
    """The id of a whole run of the shipped flights."""
    cluster.compose("run", "--rm", "-T", "--no-deps", "cli", "python", "-m", "boostline.local", "demo-data")
    return run(cluster, "nyc_flights_train", MARCH)


@pytest.fixture(scope="session")
def landed(cluster: Cluster) -> Cluster:
    """The stack with seven days of meters in each of their datasets."""
    cluster.inside("put", "/raw", *METERS_ALIKE)
    return cluster
