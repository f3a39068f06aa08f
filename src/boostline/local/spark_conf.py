"""Spark's properties for one stack: the shared defaults, plus paths, addresses and JVM flags."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from boostline.errors import EnvironmentUnfit
from boostline.local.layout import Stack
from boostline.local.places import SPARK_DEFAULTS
from boostline.local.ports import HOST
from boostline.settings import Settings

ARCHIVE = "spark.jsa"  # one for drivers and executors: they share a class path, and most classes


def write_spark_conf(stack: Stack, record: bool = False) -> None:
    """Write `spark-defaults.conf` into the stack's SPARK_CONF_DIR.

    Args:
        stack: The stack.
        record: List the classes that are loaded rather than use the archive.
    """
    path = class_path(stack)
    lines = {
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.driver.extraClassPath": path,
        "spark.executor.extraClassPath": path,
        "spark.driver.defaultJavaOptions": jvm_flags(stack, "driver" if record else None),
        "spark.executor.defaultJavaOptions": jvm_flags(stack, "executor" if record else None),
        "spark.pyspark.python": sys.executable,
        "spark.local.dir": str(stack.scratch),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": stack.spark_events.as_uri(),
        "spark.history.fs.logDirectory": stack.spark_events.as_uri(),
        "spark.history.fs.cleaner.enabled": "true",
        "spark.history.fs.cleaner.maxAge": f"{Settings().keep_days}d",
        "spark.history.ui.port": str(stack.ports.spark_history),
        "spark.hadoop.fs.s3a.endpoint": stack.s3_endpoint,
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    }
    for folder in (stack.spark_conf, stack.spark_events):
        folder.mkdir(parents=True, exist_ok=True)
    own = "".join(f"{key} {value}\n" for key, value in lines.items())
    (stack.spark_conf / "spark-defaults.conf").write_text(f"{SPARK_DEFAULTS.read_text()}\n{own}")


def check_paths(stack: Stack) -> None:
    """Refuse folders that JVM flags cannot name: flags are one text, which Spark splits at blanks and at quotes.

    Raises:
        EnvironmentUnfit: The path of one has a blank, a quote or a backslash.
    """
    for path in (stack.home, stack.jars, stack.cds, stack.scratch):
        if re.search(r"[\s'\"\\]", str(path)):
            raise EnvironmentUnfit(
                f"Java cannot be given the folder {str(path)!r}: its path has a blank, a quote or a backslash",
                "Move the checkout, or what BOOSTLINE_HOME names where that is set, to a path without them",
            )


def class_path(stack: Stack) -> str:
    """The first part of every driver's and executor's class path.

    Spark's own jars are named in it, though Spark appends them: SPARK_CONF_DIR comes between, and a folder with files in
    it ends the part of a class path that a class-data archive can cover.
    """
    import pyspark

    return f"{stack.jars}/*:{Path(pyspark.__file__).parent}/jars/*"


def jvm_flags(stack: Stack, record: str | None = None) -> str:
    """JVM flags of drivers and executors.

    The quick compiler alone (C1) wins up to about a million rows; an application with more overrides it with
    `-XX:TieredStopAtLevel=4` in `spark.*.extraJavaOptions`. Native libraries unpack into the scratch folder, since
    /tmp may forbid execution.

    Args:
        stack: The stack.
        record: List the classes that are loaded in `RECORD.list` rather than use the archive.
    """
    # An archive that does not match this JVM or class path is left aside in silence.
    use = f"-Xshare:auto -XX:SharedArchiveFile={stack.cds / ARCHIVE} -Xlog:disable"
    share = f"-XX:DumpLoadedClassList={stack.cds}/{record}.list" if record else use
    # Spark generates row code that is larger than the compiler takes by default.
    return (
        f"{share} -XX:TieredStopAtLevel=1 -XX:-DontCompileHugeMethods -XX:-UsePerfData -Djava.io.tmpdir={stack.scratch}"
    )
