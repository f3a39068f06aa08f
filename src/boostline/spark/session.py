"""The Spark session of one job."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from boostline.errors import SparkLost
from boostline.settings import Settings

RESOURCE_SECONDS = 90
"""A job that has no executor for so long ends its application; Spark itself would wait for ever."""

# Where and how big comes from spark-submit and SPARK_CONF_DIR. These decide what the rows mean.
_CORRECTNESS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",  # a division by zero in a label expression is null, not the end of the job
    "spark.sql.caseSensitive": "true",
    # Java's lower case, as Python's in boostline.transform. ICU's costs each executor 1.5 s when it is first used.
    "spark.sql.icu.caseMappings.enabled": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    # At INFO, Spark tells of every task of every stage; the steps that matter are logged by this project.
    "spark.log.level": "WARN",
}

# Most of a small job is requests to S3, some milliseconds each on both sides.
_FEWER_REQUESTS = {
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "500",  # list a window's files in the driver, not by tasks
    "spark.sql.sources.useListFilesFileSystemList": "s3a",  # a folder with its subfolders in one request
    "spark.hadoop.fs.s3a.committer.magic.track.commits.in.memory.enabled": "true",
    # Attempts are written into folders that nobody wrote before, so nothing has to be looked for there.
    "spark.hadoop.fs.s3a.performance.flags": "create,mkdir",
}

# A notebook may stay open for days: what its executors hold goes back to the cluster when they idle.
_GIVE_BACK = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.initialExecutors": "1",
    "spark.dynamicAllocation.executorIdleTimeout": "60s",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.timeout": "60s",
}


def notebook_session(properties: Mapping[str, str] | None = None) -> Any:
    """A session on the cluster for a notebook or a Python prompt; it ends with the process, or by `stop()`.

    It sits on `BOOSTLINE_SPARK_MASTER`, and leaves executors that idle for a minute to others. A second call gives the
    same session.

    Args:
        properties: Of Spark: memory and cores, such as a dataset's `spark.properties`.

    Raises:
        SparkLost: The master does not answer.
    """
    from pyspark.sql import SparkSession

    master = Settings().spark_master
    _require_master(master)
    builder = SparkSession.builder.appName("boostline notebook").master(master)
    # Given before its JVM starts, so the driver's memory counts too.
    return builder.config(map={**_CORRECTNESS, **_FEWER_REQUESTS, **_GIVE_BACK, **(properties or {})}).getOrCreate()


@contextmanager
def spark_session(app_name: str) -> Iterator[Any]:
    """A session that ends with the block, whatever happens in it.

    Args:
        app_name: Shown by the master.

    Raises:
        SparkLost: The master does not answer, or gives a job no executor for `RESOURCE_SECONDS`.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    SparkContext._ensure_initialized()  # without its JVM a SparkConf does not know what spark-submit was told
    _require_master(SparkConf().get("spark.master", "local[*]"))
    builder = SparkSession.builder.appName(app_name)
    for key, value in (_CORRECTNESS | _FEWER_REQUESTS).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    done, starved = threading.Event(), threading.Event()
    watcher = threading.Thread(target=_stop_when_starved, args=(spark, done, starved), daemon=True)
    watcher.start()
    try:
        yield spark
    except Exception as error:
        if starved.is_set():
            raise SparkLost(
                f"{spark_master(spark)} gave this application no executor for {RESOURCE_SECONDS} s",
                "See whether its workers are up and have the memory and cores asked for, and what else runs there",
            ) from error
        raise
    finally:
        done.set()
        watcher.join()
        spark.stop()


def spark_master(spark: Any) -> str:
    """The master's address, as Spark knows it."""
    return str(spark.sparkContext.master)


def applied_settings(spark: Any) -> dict[str, str]:
    """What Spark really gave the application: master, memory and cores; memory of JVM heaps in MiB."""
    context = spark.sparkContext
    java = context._jsc.sc()
    conf = context.getConf()
    heap = context._jvm.java.lang.Runtime.getRuntime().maxMemory()
    return {
        "app_id": context.applicationId,
        "master": context.master,
        "driver_heap_mib": str(heap // 2**20),
        "executors": str(_executors(java)),
        "default_parallelism": str(context.defaultParallelism),
        **{
            key.removeprefix("spark.").replace(".", "_"): conf.get(key, "")
            for key in ("spark.driver.memory", "spark.executor.memory", "spark.executor.cores", "spark.cores.max")
        },
        "shuffle_partitions": spark.conf.get("spark.sql.shuffle.partitions"),
    }


def _executors(java_context: Any) -> int:
    return int(java_context.getExecutorMemoryStatus().size()) - 1  # the driver is in the list too


def _require_master(master: str) -> None:
    """Notice a dead standalone master at once; its client would try for a minute and then lose the reason."""
    if not master.startswith("spark://"):
        return
    tried = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            tried.append(f"{address}: {error.strerror or error}")
    raise SparkLost(f"the Spark master {master} does not answer ({'; '.join(tried)})", "Start it, then try again")


def _stop_when_starved(spark: Any, done: threading.Event, starved: threading.Event) -> None:
    if spark_master(spark).startswith("local"):
        return
    java, jobs, waited = spark.sparkContext._jsc.sc(), spark.sparkContext.statusTracker(), 0
    while not done.wait(1):
        # With dynamic allocation, executors that idle are given back: none is missed before a job waits for one.
        waited = waited + 1 if jobs.getActiveJobsIds() and not _executors(java) else 0
        if waited >= RESOURCE_SECONDS:
            starved.set()
            spark.stop()
            return
