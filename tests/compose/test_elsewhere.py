"""The stack on a PostgreSQL and an S3 server that are not its own, in another region, by settings alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import psutil
import pytest

from boostline.containers.servers import write_s3_identities
from tests.compose.conftest import DAY, ROOT, Cluster, docker_missing, run, secrets, stack

DATASET, DAG = "meters_back", "meters_back_train"
PROJECT, REGION = "boostline-test-elsewhere", "eu-central-1"
PLACES = {
    "BOOSTLINE_LAKE": "s3://team-lake/prefix",
    "BOOSTLINE_LOGS": "s3://team-logs/airflow",
    "BOOSTLINE_EVENT_LOG": "s3a://team-logs/events",
    "BOOSTLINE_MLFLOW_ARTIFACTS": "s3://team-mlflow/artifacts",
}


@pytest.fixture(scope="module")
def host() -> str:
    """This machine's address on Docker's own network: containers that may go out reach what listens there."""
    if reason := docker_missing():
        pytest.skip(reason)
    found = [item.address for item in psutil.net_if_addrs().get("docker0", []) if item.family == socket.AF_INET]
    if not found:
        pytest.skip("there is no network docker0 here, on which servers could listen beside the stack")
    return str(found[0])


@pytest.fixture(scope="module")
def elsewhere(host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {
        **PLACES,
        "BOOSTLINE_S3_ENDPOINT": f"http://{host}:8333",
        "BOOSTLINE_S3_REGION": REGION,
        "BOOSTLINE_LAKE_INTERNAL": "false",
        "BOOSTLINE_DB_INTERNAL": "false",
    }
    with (
        stack(PROJECT, **settings) as cluster,
        database_named(f"{host}:5432"),
        postgres(cluster, host),
        s3_server(host, tmp_path_factory.mktemp("s3")),
    ):
        cluster.up()
        yield cluster


@contextmanager
def database_named(address: str) -> Iterator[None]:
    """The line of secrets.env that names PostgreSQL elsewhere; gone again at the end."""
    make, file = ROOT / "docker/make-secrets.sh", ROOT / "docker/secrets/secrets.env"
    subprocess.run([make], check=True, capture_output=True)
    before = file.read_text()
    try:
        file.write_text(f"{before}BOOSTLINE_DB={address}\n")
        yield
    finally:
        file.write_text(before)
        subprocess.run([make], check=True, capture_output=True)


@contextmanager
def postgres(cluster: Cluster, host: str) -> Iterator[None]:
    """A server that listens at this address."""
    name = f"{PROJECT}-db"
    options = ["--network", "host", "--env-file", str(ROOT / "docker/secrets/postgres.env")]
    image = ["postgres:15-bookworm", "postgres", "-c", f"listen_addresses={host}"]
    cluster.docker("run", "--detach", "--rm", "--name", name, *options, *image)
    try:
        yield
    finally:
        cluster.docker("rm", "--force", "--volumes", name)


@contextmanager
def s3_server(host: str, folder: Path) -> Iterator[None]:
    """A server that listens at this address and knows the stack's keys."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**PLACES, **secrets()}.items():
            patch.setenv(key, value)
        write_s3_identities(folder / "s3.json")
    options = [f"-dir={folder}", f"-ip={host}", f"-ip.bind={host}", f"-s3.config={folder / 's3.json'}"]
    options += ["-s3.autoCreateBucket=false", "-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    command = [str(Path(sys.executable).parent / "weed"), "mini", *options]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            yield
        finally:
            server.terminate()


def test_a_run_publishes_there(elsewhere: Cluster) -> None:
    elsewhere.inside("put", "/raw", DATASET)
    run_id = run(elsewhere, DAG, DAY)
    assert elsewhere.client.xcom(DAG, run_id, "promote")["promoted"] is True
    published = elsewhere.inside("published", DATASET, DAY.isoformat())
    assert set(published) == {"features", "baseline", "model", "report"}
    assert set(elsewhere.inside("committers", DATASET)) == {"magic"}
    log = elsewhere.client._get(f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/ingest/logs/1", full_content="true")
    assert "partitions up to date" in json.dumps(log)


def test_nothing_lies_on_the_stack_s_own_servers(elsewhere: Cluster, host: str) -> None:
    made = secrets()
    key, secret = made["S3_ADMIN_KEY"], made["S3_ADMIN_SECRET"]
    client = boto3.session.Session(key, secret, region_name=REGION).client("s3", endpoint_url=f"http://{host}:8333")
    for folder in ("lake/prefix/model", "logs/airflow", "logs/events", "mlflow/artifacts"):
        bucket, _, prefix = f"team-{folder}/".partition("/")
        assert client.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] > 0, folder
    script = "import boto3; print(boto3.client('s3', endpoint_url='http://s3:8333').list_buckets()['Buckets'])"
    as_admin = ("-e", f"AWS_ACCESS_KEY_ID={key}", "-e", f"AWS_SECRET_ACCESS_KEY={secret}")
    assert elsewhere.compose("run", "--rm", "-T", "--no-deps", *as_admin, "cli", "python", "-c", script) == "[]\n"
    list_databases = ("psql", "-U", "postgres", "-Atc", "SELECT datname FROM pg_database WHERE NOT datistemplate")
    assert elsewhere.execute("postgres", *list_databases).split() == ["postgres"]


def test_a_backup_of_the_idle_servers_is_refused(elsewhere: Cluster, host: str, tmp_path: Path) -> None:
    backup = [ROOT / "docker/backup.sh", tmp_path / "backup"]
    done = subprocess.run(backup, env=elsewhere.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"error: PostgreSQL is at {host}:5432: back it up there\n")
    assert not (tmp_path / "backup").exists()


def test_keys_that_were_made_elsewhere_are_not_thrown_away(elsewhere: Cluster, host: str) -> None:
    before = secrets()
    rotate = [ROOT / "docker/rotate.sh", "S3_PIPELINE_SECRET"]
    done = subprocess.run(rotate, env=elsewhere.env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the lake is on http://{host}:8333: make new keys there")
    assert secrets() == before
