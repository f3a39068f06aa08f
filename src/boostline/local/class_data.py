"""Class-data archives: half of a small Spark job is loading classes, and an archive made once spares that."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from boostline.errors import EnvironmentUnfit
from boostline.local.java import Java
from boostline.local.layout import BUCKET, Stack, spark_env
from boostline.local.places import JARS_LOCK, WARM_UP
from boostline.local.ports import free_ports
from boostline.local.services import S3, SPARK_MASTER, SPARK_WORKER
from boostline.local.spark_conf import Role, write_spark_conf
from boostline.local.stack import running_stack

EXECUTOR_EXIT = 30.0  # seconds that the executor gets to write its archive


def archives_stamp(java: Java, jars: Path) -> str:
    """Changes with all that an archive is bound to: the JVM, the class path, and the job that fills it."""
    bound = [java.version, str(java.home), version("pyspark"), str(jars)]
    digest = hashlib.sha256("\n".join(bound).encode())
    for path in (JARS_LOCK, WARM_UP):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_archives(folder: Path) -> None:
    """Run a small real job on a stack of its own, and keep what its driver and executor loaded.

    Args:
        folder: Gets `driver.jsa` and `executor.jsa`, together.

    Raises:
        EnvironmentUnfit: The job failed, or left no archive.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="cds-") as temporary:
        work = Path(temporary)
        (work / "cds").mkdir()
        with running_stack(work / "home", free_ports(), services=(S3, SPARK_MASTER, SPARK_WORKER)) as running:
            _record(replace(running, cds=work / "cds"), folder.parent / "logs/cds.log")
        shutil.rmtree(folder, ignore_errors=True)
        (work / "cds").rename(folder)


def _record(stack: Stack, log: Path) -> None:
    write_spark_conf(stack, record=True)
    command = ["spark-submit", "--master", stack.spark_master, str(WARM_UP), f"s3a://{BUCKET}/warm-up"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        done = subprocess.run(command, env=spark_env(stack), stdout=file, stderr=file, timeout=300, check=False)
    if done.returncode:
        raise EnvironmentUnfit(f"The job that makes the class-data archives failed ({done.returncode})", f"See {log}")
    deadline = time.monotonic() + EXECUTOR_EXIT
    archives = [stack.cds / f"{role}.jsa" for role in Role]
    while not all(path.exists() for path in archives):
        if time.monotonic() > deadline:
            raise EnvironmentUnfit("The JVM wrote no class-data archive", f"See {log} and {stack.home}/spark-work")
        time.sleep(0.2)
