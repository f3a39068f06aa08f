"""Whether the stack fits together: driver and executors of one build, and S3 and MLflow open to the pipeline.

spark-submit --master spark://spark-master:7077 src/boostline/containers/verify.py
"""

from __future__ import annotations

import platform
import socket
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version

import httpx
from pyspark.sql import SparkSession

from boostline.containers.preflight import code_hash
from boostline.errors import BoostlineError, EnvironmentUnfit
from boostline.lake.store import Store
from boostline.local.places import ROOT
from boostline.settings import Settings
from boostline.tracking import tracking

PACKAGES = ("pyspark", "numpy", "pyarrow", "xgboost")
EXECUTORS_WITHIN = 60


def versions() -> tuple[str, ...]:
    """What must be equal in every process."""
    found = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    return (*found, f"code {code_hash(ROOT)[:12]}")


def on_executor(_: Iterator[int]) -> list[tuple[str, tuple[str, ...]]]:
    """The executor's host and versions."""
    time.sleep(0.2)  # long enough that every executor gets some of the tasks
    return [(socket.gethostname(), versions())]


def verify_executors() -> list[str]:
    """Ask every executor what it runs, and return their hosts.

    Raises:
        EnvironmentUnfit: An executor runs other versions than the driver, or is missing.
    """
    state = httpx.get("http://spark-master:8080/json/", timeout=10).json()
    workers = [worker for worker in state["workers"] if worker["state"] == "ALIVE"]
    cores = sum(worker["cores"] for worker in workers)
    builder = SparkSession.builder.appName("boostline verify").config("spark.cores.max", str(cores))
    spark = builder.config("spark.executor.memory", "512m").config("spark.eventLog.enabled", "false").getOrCreate()
    try:
        until = time.monotonic() + EXECUTORS_WITHIN
        found: dict[str, tuple[str, ...]] = {}
        while len(found) < len(workers) and time.monotonic() < until:
            tasks = 4 * cores
            found |= dict(spark.sparkContext.range(tasks, numSlices=tasks).mapPartitions(on_executor).collect())
    finally:
        spark.stop()
    own = versions()
    if len(found) < len(workers):
        raise EnvironmentUnfit(
            f"{len(found)} of {len(workers)} Spark workers gave an executor", "See the workers' logs"
        )
    for host, theirs in found.items():
        if theirs != own:
            raise EnvironmentUnfit(f"the worker {host} runs {', '.join(theirs)}; the driver {', '.join(own)}",
                                   "Build one image and start all services from it: docker compose up -d --build")  # fmt: skip
    return sorted(found)


def main() -> None:
    """Check, and say what was found."""
    try:
        settings = Settings()
        Store(settings).probe()
        with tracking(settings) as mlflow:
            mlflow.versions("any")
        hosts = verify_executors()
        sys.stdout.write(f"{len(hosts)} executors run what the driver runs: {', '.join(versions())}\n")
    except BoostlineError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
