"""The services of the embedded stack: how each is started, and how one sees that it is ready."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import httpx
import psutil

from boostline.local.layout import BUCKET, S3_KEYS, Stack, airflow_env, base_env, spark_env
from boostline.local.ports import HOST

S3, SPARK_MASTER, SPARK_WORKER, MLFLOW = "s3", "spark-master", "spark-worker", "mlflow"
AIRFLOW = ("airflow-api", "airflow-scheduler", "airflow-dags", "airflow-triggerer")
ALL = (S3, SPARK_MASTER, SPARK_WORKER, MLFLOW, *AIRFLOW)


@dataclass(frozen=True)
class Service:
    """One process that the supervisor starts.

    Attributes:
        ready: A probe of the real service; False, or any httpx or botocore error, means not yet.
        after: The service that has to be ready before this one starts.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    ready: Callable[[], bool]
    after: str | None = None


def services(stack: Stack) -> list[Service]:
    """All services of the stack, the slowest to start first."""
    return [*_airflow(stack), _mlflow(stack), *_spark(stack), _s3(stack)]


def worker_memory_mib() -> int:
    """Memory that the Spark worker offers: a fifth of the machine's, at least 2 GiB."""
    return max(2048, psutil.virtual_memory().total // 5 // 2**20)


def _s3(stack: Stack) -> Service:
    ports = stack.ports
    options = {
        "dir": stack.home / "s3",
        "ip": HOST,
        "ip.bind": HOST,
        "bucket": BUCKET,
        "s3.autoCreateBucket": "false",  # a mistyped bucket is an error, as on AWS
        "s3.port": ports.s3,
        "s3.port.grpc": ports.s3_grpc,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.port": ports.s3_master,
        "master.port.grpc": ports.s3_master_grpc,
        "master.telemetry": "false",
        "volume.port": ports.s3_volume,
        "volume.port.grpc": ports.s3_volume_grpc,
        "filer.port": ports.s3_filer,
        "filer.port.grpc": ports.s3_filer_grpc,
        "admin.ui": "false",
        "admin.port": ports.s3_admin,  # listens all the same
        "admin.port.grpc": ports.s3_admin_grpc,
        "webdav": "false",
    }
    argv = ["weed", "mini", *(f"-{key}={value}" for key, value in options.items())]
    keys = {key: value for key, value in stack.env.items() if key.startswith("AWS_")}
    return Service(S3, argv, {**base_env(), **keys}, lambda: _bucket_answers(stack))


def _spark(stack: Stack) -> list[Service]:
    ports, env = stack.ports, spark_env(stack)
    daemon = {
        **env,
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_DAEMON_JAVA_OPTS": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.io.tmpdir={stack.scratch}",
        "SPARK_WORKER_OPTS": "-Dspark.worker.cleanup.enabled=true -Dspark.worker.cleanup.appDataTtl=86400",
        "SPARK_LOCAL_DIRS": str(stack.scratch),
        "SPARK_NO_DAEMONIZE": "1",
    }
    program = [f"{env['SPARK_HOME']}/bin/spark-class"]
    master = [*program, "org.apache.spark.deploy.master.Master", "--host", HOST]
    master += ["--port", str(ports.spark_master), "--webui-port", str(ports.spark_master_ui)]
    worker = [
        *program,
        "org.apache.spark.deploy.worker.Worker",
        "--host",
        HOST,
        "--work-dir",
        f"{stack.home}/spark-work",
    ]
    worker += ["--port", str(ports.spark_worker), "--webui-port", str(ports.spark_worker_ui)]
    worker += ["--cores", str(psutil.cpu_count()), "--memory", f"{worker_memory_mib()}M", stack.spark_master]
    return [
        Service(
            SPARK_MASTER, master, daemon, lambda: _json(f"http://{HOST}:{ports.spark_master_ui}/json/") is not None
        ),
        Service(SPARK_WORKER, worker, daemon, lambda: _worker_registered(ports.spark_master_ui), after=SPARK_MASTER),
    ]


def _mlflow(stack: Stack) -> Service:
    argv = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(stack.ports.mlflow),
        "--workers",
        "1",
    ]
    argv += ["--backend-store-uri", f"sqlite:///{stack.home}/mlflow.db"]
    argv += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
    env = {
        **base_env(),
        **stack.env,
        "MLFLOW_S3_ENDPOINT_URL": stack.s3_endpoint,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job runner is several more processes
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return Service(MLFLOW, argv, env, lambda: _http().get(f"{stack.mlflow_uri}/health").is_success)


def _airflow(stack: Stack) -> list[Service]:
    env, started = airflow_env(stack), time.time()
    commands = {
        "airflow-api": ["api-server", "--workers", "1"],
        "airflow-scheduler": ["scheduler", "--skip-serve-logs"],  # the API server reads the log files itself
        "airflow-dags": ["dag-processor"],
        "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
    }
    part = {"airflow-scheduler": "scheduler", "airflow-dags": "dag_processor", "airflow-triggerer": "triggerer"}

    def ready(name: str) -> Callable[[], bool]:
        return lambda: _airflow_healthy(stack, part.get(name), started)

    return [
        Service(name, [sys.executable, "-m", "airflow", *arguments], env, ready(name))
        for name, arguments in commands.items()
    ]


@cache
def _http() -> httpx.Client:
    # One for all looks: each client reads the system's certificates first, which takes longer than the look.
    return httpx.Client(timeout=2)


def _json(url: str) -> dict[str, object] | None:
    """What a server says, or none while it has no answer yet."""
    answer = _http().get(url)
    try:
        return answer.json() if answer.is_success else None
    except ValueError:  # a Spark master attaches its pages one by one: until /json/ is there, / answers in its place
        return None


def _bucket_answers(stack: Stack) -> bool:
    _s3_client(stack.s3_endpoint, *(stack.env[name] for name in S3_KEYS)).list_objects_v2(Bucket=BUCKET, MaxKeys=1)
    return True


@cache
def _s3_client(endpoint: str, key: str, secret: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1}),
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


def _worker_registered(master_ui: int) -> bool:
    answer = _json(f"http://{HOST}:{master_ui}/json/")
    return bool(answer and answer.get("aliveworkers"))


def _airflow_healthy(stack: Stack, part: str | None, started: float) -> bool:
    """Whether the API server, or this part of Airflow, is up since this start and not since the last."""
    if part is None:
        # The API that tasks talk to is made when it is first asked: 4 s that the first task would wait for.
        return _http().get(f"{stack.airflow_url}/execution/health").is_success
    answer = _json(f"{stack.airflow_url}/api/v2/monitor/health")
    if answer is None:
        return False
    state = answer[part]
    if not isinstance(state, dict) or state.get("status") != "healthy":
        return False
    heartbeat = state.get(f"latest_{part}_heartbeat")
    return heartbeat is not None and datetime.fromisoformat(str(heartbeat)).timestamp() > started
