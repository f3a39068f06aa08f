"""The class-data archive: half of a small Spark job is loading classes, and an archive made once spares that."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from boostline.errors import EnvironmentUnfit
from boostline.local.java import Java
from boostline.local.layout import BUCKET, Stack, spark_env
from boostline.local.places import JARS_LOCK, WARM_UP
from boostline.local.ports import free_ports
from boostline.local.processes import run_logged
from boostline.local.services import S3, SPARK_MASTER, SPARK_WORKER
from boostline.local.spark_conf import ARCHIVE, class_path, write_spark_conf
from boostline.local.stack import running_stack


def archive_stamp(java: Java, jars: Path) -> str:
    """Changes with all that the archive is bound to: the JVM, the class path, and the job that fills it."""
    bound = [java.version, str(java.home), version("pyspark"), str(jars)]
    digest = hashlib.sha256("\n".join(bound).encode())
    for path in (JARS_LOCK, WARM_UP):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_archive(folder: Path, log: Path) -> None:
    """Run a small real job on a stack of its own, and archive the classes that its driver and executor loaded.

    Raises:
        EnvironmentUnfit: The job failed, or Java wrote no archive; names the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as temporary:
        work = Path(temporary)
        with running_stack(work / "home", free_ports(), services=(S3, SPARK_MASTER, SPARK_WORKER)) as running:
            stack = replace(running, cds=work)
            write_spark_conf(stack, record=True)
            command = ["spark-submit", "--master", stack.spark_master, str(WARM_UP), f"s3a://{BUCKET}/warm-up"]
            _run(command, spark_env(stack), log)
        _dump(stack, log)
        (work / ARCHIVE).replace(folder / ARCHIVE)


def _dump(stack: Stack, log: Path) -> None:
    """Make the archive of the listed classes, in a JVM that runs nothing else.

    Letting the job's own JVMs write archives at their exit would be less code, but the Spark worker kills an executor
    that takes more than 10 s to exit.
    """
    lines = [line for path in sorted(stack.cds.glob("*.list")) for line in path.read_text().splitlines()]
    (stack.cds / "all.list").write_text("\n".join(dict.fromkeys(lines)))
    command = [f"{stack.java_home}/bin/java", "-Xshare:dump", "-Xlog:disable", "-Xlog:all=error:stderr"]
    command += [f"-XX:SharedClassListFile={stack.cds}/all.list", f"-XX:SharedArchiveFile={stack.cds / ARCHIVE}"]
    _run([*command, "-cp", class_path(stack)], spark_env(stack), log)
    if not (stack.cds / ARCHIVE).exists():
        raise EnvironmentUnfit("Java wrote no class-data archive", f"See {log}")


def _run(command: list[str], env: dict[str, str], log: Path) -> None:
    run_logged(f"Making the class-data archive: {Path(command[0]).name}", command, env, log)
