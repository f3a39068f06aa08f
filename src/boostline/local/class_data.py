"""Class-data archives: half of a small Spark job is loading classes, and an archive made once spares that."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from boostline.errors import EnvironmentUnfit
from boostline.local.java import Java
from boostline.local.layout import BUCKET, Stack, spark_env
from boostline.local.places import JARS_LOCK, WARM_UP
from boostline.local.ports import free_ports
from boostline.local.services import S3, SPARK_MASTER, SPARK_WORKER
from boostline.local.spark_conf import Role, class_path, write_spark_conf
from boostline.local.stack import running_stack


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
    log = folder.parent / "logs/cds.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="cds-") as temporary:
        work = Path(temporary)
        (work / "cds").mkdir()
        with running_stack(work / "home", free_ports(), services=(S3, SPARK_MASTER, SPARK_WORKER)) as running:
            stack = replace(running, cds=work / "cds")
            _record(stack, log)
        for role in Role:
            _dump(stack, role, log)
        shutil.rmtree(folder, ignore_errors=True)
        (work / "cds").rename(folder)


def _record(stack: Stack, log: Path) -> None:
    """List the classes that driver and executor load."""
    write_spark_conf(stack, record=True)
    command = ["spark-submit", "--master", stack.spark_master, str(WARM_UP), f"s3a://{BUCKET}/warm-up"]
    _run(command, spark_env(stack), log)


def _dump(stack: Stack, role: Role, log: Path) -> None:
    """Make the archive of the listed classes, in a JVM that runs nothing else.

    An archive written at the exit of the job's own JVM would be less code, but the Spark worker kills an executor that
    takes more than 10 s to exit.
    """
    listed, archive = stack.cds / f"{role}.list", stack.cds / f"{role}.jsa"
    command = [
        str(stack.java_home / "bin/java"),
        "-Xshare:dump",
        "-XX:TieredStopAtLevel=1",
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
    ]
    command += [f"-XX:SharedClassListFile={listed}", f"-XX:SharedArchiveFile={archive}", "-cp", class_path(stack)]
    _run(command, spark_env(stack), log)
    if not archive.exists():
        raise EnvironmentUnfit(f"{command[0]} wrote no class-data archive {archive.name}", f"See {log}")
    listed.unlink()


def _run(command: list[str], env: dict[str, str], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        done = subprocess.run(command, env=env, stdout=file, stderr=file, timeout=300, check=False)
    if done.returncode:
        raise EnvironmentUnfit(
            f"Making the class-data archives failed: {command[0]} ended {done.returncode}", f"See {log}"
        )
