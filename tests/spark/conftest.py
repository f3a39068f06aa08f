"""One Spark session for all tests, configured as the embedded stack configures its applications."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from boostline.lake.manifest import Manifest
from boostline.lake.store import Store
from boostline.local.jars import fetch_jars, jars_complete, read_lock
from boostline.local.java import find_java
from boostline.local.layout import BUCKET, Stack
from boostline.settings import Settings
from boostline.spark.session import spark_session
from tests.spark.lab import Lab, dataset_of

PLAIN_PLANS = [
    "codegen.wholeStage=false",
    "codegen.factoryMode=NO_CODEGEN",
    "adaptive.enabled=false",
    "shuffle.partitions=2",
]


@pytest.fixture(scope="session")
def spark(s3: Stack) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(s3.spark_conf))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("JAVA_HOME", str(s3.java_home))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        # For a handful of rows, plans that are compiled and adapted cost more than they gain; test_job runs with them.
        plain = " ".join(f"--conf spark.sql.{setting}" for setting in PLAIN_PLANS)
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"--master local[2] --driver-memory 2g {plain} pyspark-shell")
        patch.delenv("SPARK_HOME", raising=False)
        with spark_session("tests") as session:
            yield session
    assert "PYSPARK_SUBMIT_ARGS" not in os.environ


@pytest.fixture(scope="session")
def kafka(s3: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real broker, started from the jars of kafka.lock and of PySpark."""
    jars, home = read_lock(Path(__file__).with_name("kafka.lock")), tmp_path_factory.mktemp("kafka")
    folder = s3.jars.parent / "kafka-broker"
    if not jars_complete(folder, jars):
        fetch_jars(folder, jars, find_java())
    broker, controller = free_port(), free_port()
    (home / "server.properties").write_text(
        f"process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n"
        f"controller.listener.names=CONTROLLER\nlog.dirs={home}/data\noffsets.topic.replication.factor=1\n"
    )
    classes = f"{folder}/*:{Path(pyspark.__file__).parent}/jars/*"
    java = [str(s3.java_home / "bin/java"), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classes]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    storage = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties"]
    subprocess.run(storage, cwd=home, check=True, capture_output=True)
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([*java, "kafka.Kafka", "server.properties"], cwd=home, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not is_open(broker):
            assert server.poll() is None and time.monotonic() < deadline, (home / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield f"127.0.0.1:{broker}"
    finally:
        server.kill()
        server.wait(20)


@pytest.fixture(scope="session")
def prepared(spark: SparkSession, s3: Stack) -> tuple[Lab, Manifest]:
    """A lake with good rows, ingested, and the plain dataset's features."""
    lab = Lab(spark, Store(Settings(lake=f"s3://{BUCKET}/good", s3_endpoint=s3.s3_endpoint)))
    lab.land_all()
    return lab, lab.features(dataset_of())


@pytest.fixture
def good(prepared: tuple[Lab, Manifest]) -> Lab:
    """That lake itself, which tests share that only featurize."""
    return prepared[0]


@pytest.fixture
def ready(lab: Lab, prepared: tuple[Lab, Manifest]) -> tuple[Lab, Manifest]:
    """A copy of it for one test."""
    source, features = prepared
    kept = ("raw/", "clean/", f"features/meters/attempts/{features.attempt}/")
    found = source.store.get_many(item.key for folder in kept for item in source.store.list(folder))
    lab.store.put_many((key, body) for key, (body, _) in found.items())
    return lab, features


@pytest.fixture
def lab(spark: SparkSession, store: Store) -> Lab:
    return Lab(spark, store)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
