"""A real API server of Airflow with users and roles, the plugin, and a lake with reports."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from secrets import token_hex

import httpx
import pytest
import yaml

from boostline.lake import paths
from boostline.lake.manifest import Manifest, attempt_files, publish
from boostline.lake.store import Store
from boostline.local.java import find_java
from boostline.local.layout import BUCKET, HISTORY_SERVER, Stack
from boostline.local.places import ROOT
from boostline.local.ports import HOST, free_ports
from boostline.settings import Settings
from tests.servers import http_server, put_database

HOSTILE = "<script>alert('here')</script>"
RUNS = 400
APP = "app-20130101000000-000{}"
DATASET = """
name: {name}
description: "{description}"
task: binary
label: {{name: late, expression: delay > 15}}
id: [row]
tables: {{rows: {{daily: true, columns: {{row: {{type: long, required: true}}, city: {{type: string}}, delay: {{type: double}}, size: {{type: double}}}}}}}}
split: {{kind: hash}}
features: {{categorical: [city], numeric: [size]}}
baseline: {{kind: logistic}}
gate: {{metric: log_loss}}
"""
# One process for all, since each that imports Airflow takes seconds.
PREPARE = """
import sys
from airflow.__main__ import main
for command in ("db migrate", "dags reserialize"):
    sys.argv = ["airflow", *command.split()]
    main()
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    manager = builder.sm
    role = manager.add_role("Alpha")
    for action, resource in (("can_read", "DAG:alpha_train"), ("can_read", "Plugins"), ("can_read", "Website")):
        manager.add_permission_to_role(role, manager.create_permission(action, resource))
    for name, roles in (("admin", "Admin"), ("ann", "Alpha"), ("bob", "User")):
        manager.add_user(name, name, name, f"{name}@localhost", manager.find_role(roles), password="word-of-" + name)
"""


@dataclass
class Site:
    """The running server."""

    url: str
    store: Store
    env: dict[str, str]

    def client(self, user: str | None) -> httpx.Client:
        """A browser that has signed in."""
        cookies = {}
        if user:
            login = {"username": user, "password": f"word-of-{user}"}
            answer = httpx.post(f"{self.url}/auth/token", json=login, timeout=60)
            assert answer.status_code == 201, answer.text
            cookies = {"_token": answer.json()["access_token"]}
        return httpx.Client(base_url=self.url, timeout=60, cookies=cookies)

    def attempt(self, dataset: str, day: int = RUNS - 1) -> str:
        """A report's attempt."""
        return f"{date(2013, 1, 1) + timedelta(days=day)}-{dataset}"


def put_reports(store: Store, dataset: str, runs: int) -> None:
    """Publish reports as the report task does, with a page and a run each."""

    def put(index: int) -> None:
        day = (date(2013, 1, 1) + timedelta(days=index)).isoformat()
        attempt = f"{day}-{dataset}"
        folder = paths.attempt_folder("report", dataset, attempt)
        run = {"date": day, "run_id": f"manual__{day}T00:00:00+00:00", "model": {"mlflow": {"run_id": "abc"}}}
        page = f"<!doctype html><title>{dataset} {day}</title><h1>Report of {dataset}</h1>"
        store.put_many([(folder + "run.json", json.dumps(run).encode()), (folder + "report.html", page.encode())])
        summary = {
            "verdict": f"Promoted: log loss 0.5 {HOSTILE}", "metric": "log_loss", "candidate": 0.5 - index / 10_000,
            "baseline": 0.6, "champion": None, "version": str(index + 1), "run_id": run["run_id"],
        }  # fmt: skip
        manifest = Manifest(
            stage="report", dataset=dataset, partition=day, attempt=attempt, fingerprint=attempt, inputs={},
            files=attempt_files(store, folder), rows={}, columns={}, row_hash=hashlib.sha256(page.encode()).hexdigest(),
            details={"passed": True, "promoted": index % 20 == 0, "summary": summary},
        )  # fmt: skip
        publish(store, manifest, None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(runs)))


def put_spark_events(home: Path, port: int, *datasets: str) -> dict[str, str]:
    """Write what Spark leaves of a short job of each dataset; the settings of a History Server that shows them."""
    import pyspark

    events, conf = home / "events", home / "spark-conf"
    events.mkdir()
    conf.mkdir()
    for number, dataset in enumerate(datasets, 1):
        lines: list[dict[str, object]] = [
            {"Event": "SparkListenerLogStart", "Spark Version": pyspark.__version__},
            {
                "Event": "SparkListenerApplicationStart",
                "App Name": f"boostline ingest {dataset} 2013-01-01-x",
                "App ID": APP.format(number),
                "Timestamp": 1_700_000_000_000,
                "User": "x",
            },
            {"Event": "SparkListenerEnvironmentUpdate"}
            | {f"{kind} Properties": {} for kind in ("Spark", "Hadoop", "System", "Metrics")}
            | {"JVM Information": {}, "Classpath Entries": {}},
            {"Event": "SparkListenerApplicationEnd", "Timestamp": 1_700_000_001_000},
        ]
        (events / APP.format(number)).write_text(
            "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        )
    text = f"spark.history.fs.logDirectory {events.as_uri()}\nspark.history.ui.port {port}\n"
    (conf / "spark-defaults.conf").write_text(text)
    spark = Path(pyspark.__file__).parent
    return {
        "JAVA_HOME": str(find_java().home),
        "SPARK_HOME": str(spark),
        "SPARK_CONF_DIR": str(conf),
        "SPARK_LOCAL_IP": HOST,
        "BOOSTLINE_SPARK_HISTORY": f"http://{HOST}:{port}",
        "BOOSTLINE_SPARK_HISTORY_COMMAND": shlex.join([f"{spark}/bin/spark-class", HISTORY_SERVER]),
    }


@pytest.fixture(scope="session")
def site(s3: Stack, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("airflow")
    datasets = home / "datasets"
    datasets.mkdir()
    for name in ("alpha", "beta"):
        (datasets / f"{name}.yaml").write_text(DATASET.format(name=name, description=f"The {name} {HOSTILE}"))
    store = Store(Settings(lake=f"s3://{BUCKET}/{token_hex(6)}", s3_endpoint=s3.s3_endpoint))
    put_reports(store, "alpha", RUNS)
    put_reports(store, "beta", 3)
    ports = free_ports()
    port = ports.airflow
    env = {
        **os.environ,
        **put_spark_events(home, ports.spark_history, "alpha", "beta"),
        "BOOSTLINE_LAKE": store.settings.lake,
        "BOOSTLINE_S3_ENDPOINT": str(s3.s3_endpoint),
        "BOOSTLINE_MLFLOW_URI": mlflow_uri,
        "BOOSTLINE_DATASETS": str(datasets),
        "BOOSTLINE_JOBS": str(ROOT / "jobs"),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__AUTH_MANAGER": "boostline.orchestration.people.ByNameFabAuthManager",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API_AUTH__JWT_SECRET": token_hex(32),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=30",
        "AIRFLOW__FAB__CONFIG_FILE": str(ROOT / "docker/airflow/webserver_config.py"),
    }
    put_database("airflow.db", home)
    prepare = [sys.executable, "-c", PREPARE]
    done = subprocess.run(prepare, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    with airflow_server(env, port) as url:
        yield Site(url, store, env)


@contextmanager
def airflow_server(env: dict[str, str], port: int) -> Iterator[str]:
    """Address of an API server that is started as the compose stack starts it."""
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["airflow-api"]
    airflow, *arguments = service["command"]
    command = [str(Path(sys.executable).with_name(airflow)), *arguments, "--host", "127.0.0.1", "--port", str(port)]
    trusted = {"FORWARDED_ALLOW_IPS": service["environment"]["FORWARDED_ALLOW_IPS"]}
    url = f"http://127.0.0.1:{port}"
    with http_server(command, env | trusted, f"{url}/api/v2/version", Path(env["AIRFLOW_HOME"]) / f"log.{port}"):
        yield url
