"""The edge of a Spark job, as the operator starts it: exit codes, what it leaves for the task, and no process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psutil
import pytest

from boostline.errors import (
    BoostlineError,
    DataInvalid,
    DataMissing,
    DatasetInvalid,
    EnvironmentUnfit,
    FailError,
    InputChanged,
    ServiceUnavailable,
    SparkLost,
    StoreUnavailable,
    StoreUnsuitable,
)
from boostline.lake.job import EXIT_FAIL, EXIT_RETRY, JobRequest, load_error, load_result, save_request
from boostline.lake.manifest import read_ref
from boostline.lake.plan import plan_ingest
from boostline.lake.store import Store
from boostline.local.layout import Stack, spark_env
from boostline.local.ports import free_ports
from boostline.local.services import SPARK_MASTER
from boostline.local.stack import running_stack
from boostline.spark.failures import explain, unknown
from tests.spark.lab import DAY, GOOD_ROWS, Lab, csv, dataset_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(store: Store) -> Lab:
    """A lake to land files in; no session of this process is needed."""
    return Lab(None, store)  # type: ignore[arg-type]


def ingest_request(files: Lab) -> JobRequest:
    plan = plan_ingest(files.store, dataset_of(), date.fromisoformat(DAY))
    return files.request("ingest", dataset_of(), DAY, targets=plan.stale)


def command(address: str, *options: str) -> list[str]:
    submit = str(Path(sys.executable).with_name("spark-submit"))
    return [submit, "--master", "local[1]", *options, str(ROOT / "jobs/ingest.py"), "--request", address]


@pytest.fixture
def env(s3: Stack, store: Store) -> dict[str, str]:
    return {**spark_env(s3), "BOOSTLINE_LAKE": store.settings.lake}


def submit(address: str, env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(address, *options), env=env, capture_output=True, text=True, timeout=180, check=False)


def test_a_job_leaves_its_result_and_what_spark_applied(files: Lab, env: dict[str, str]) -> None:
    files.land_all()
    request = ingest_request(files)
    done = submit(save_request(files.store, request), env, "--conf", "spark.driver.memory=700m")
    assert done.returncode == 0, done.stderr[-3000:]
    result = load_result(files.store, "clean", "meters", request.attempt)
    assert result and {ref.table for ref in result.refs} == {"readings", "sites"}
    assert read_ref(files.store, result.refs[0]).attempt == request.attempt
    assert result.spark["driver_memory"] == "700m" and result.spark["master"] == "local[1]"
    assert result.seconds["total"] > 0
    assert env["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


def test_bad_data_ends_with_65_and_says_why(files: Lab, env: dict[str, str]) -> None:
    files.land_all(csv(header="id,site"))
    request = ingest_request(files)
    done = submit(save_request(files.store, request), env)
    error = load_error(files.store, request)
    assert done.returncode == EXIT_FAIL and isinstance(error, DataInvalid)
    assert "lacks the column(s) power, state, at, load" in str(error)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_dead_master_ends_with_75_at_once(files: Lab, env: dict[str, str]) -> None:
    files.land_all()
    request = ingest_request(files)
    start = time.monotonic()
    done = submit(save_request(files.store, request), env, "--master", "spark://127.0.0.1:9")
    error = load_error(files.store, request)
    assert done.returncode == EXIT_RETRY and isinstance(error, SparkLost) and "spark://127.0.0.1:9" in str(error)
    assert time.monotonic() - start < 60


IDLES_THEN_WORKS = """
import time
from boostline.spark import session
session.RESOURCE_SECONDS = 2
with session.spark_session("idles") as spark:
    time.sleep(6)
    print("stopped" if spark.sparkContext._jsc.sc().isStopped() else "idles")
    spark.range(1).collect()
"""


def test_an_application_without_executors_ends_once_a_job_waits_for_them(tmp_path: Path) -> None:
    with running_stack(tmp_path, free_ports(), services=(SPARK_MASTER,)) as stack:
        options = f"--master {stack.spark_master} --conf spark.eventLog.enabled=false pyspark-shell"
        done = subprocess.run(
            [sys.executable, "-c", IDLES_THEN_WORKS], env={**spark_env(stack), "PYSPARK_SUBMIT_ARGS": options},
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
    assert done.stdout.split() == ["idles"], done.stderr[-3000:]
    assert "SparkLost" in done.stderr and "gave this application no executor for 2 s" in done.stderr


def test_an_error_that_nobody_knows_is_told_and_not_tried_again(files: Lab, env: dict[str, str]) -> None:
    files.land_all()
    request = ingest_request(files)
    done = submit(save_request(files.store, request), env, "--conf", "spark.sql.shuffle.partitions=2.5")
    error = load_error(files.store, request)
    assert done.returncode == EXIT_FAIL and type(error) is FailError, done.stderr[-3000:]
    assert (
        error.message.startswith("IllegalArgumentException: Error while instantiating")
        and error.remedy == "The task's log holds the whole"
    )
    assert "Traceback" in done.stdout + done.stderr


def test_s3_down_ends_with_75(files: Lab, env: dict[str, str]) -> None:
    dead = {**env, "BOOSTLINE_S3_ENDPOINT": "http://127.0.0.1:9"}
    done = submit(files.store.uri("clean/meters/attempts/x/request.json"), dead)
    assert done.returncode == EXIT_RETRY and "S3 at http://127.0.0.1:9 does not answer" in done.stdout


def test_a_full_scratch_disk_is_told(files: Lab, env: dict[str, str], full_disk: Path) -> None:
    files.land_all(csv([f"{n},s{n * 7919 % 10007},{n}.5,on,,{n * n}" for n in range(60_000)]))
    request = ingest_request(files)
    scratch = {**env, "SPARK_LOCAL_DIRS": str(full_disk)}
    done = submit(save_request(files.store, request), scratch, "--conf", "spark.task.maxFailures=1")
    error = load_error(files.store, request)
    assert done.returncode == EXIT_FAIL and isinstance(error, EnvironmentUnfit), done.stderr[-3000:]
    assert "scratch folder is full" in str(error)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("victim", ["task", "jvm"])
def test_a_killed_task_leaves_no_driver(files: Lab, env: dict[str, str], victim: str) -> None:
    files.land_all(csv([row.replace(row.split(",")[0], str(n), 1) for n, row in enumerate(GOOD_ROWS * 2000)]))
    address = save_request(files.store, ingest_request(files))
    code = (
        "import os, subprocess, sys; os.environ['BOOSTLINE_TASK_PID'] = str(os.getpid());"
        "sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    )
    task = subprocess.Popen(
        [sys.executable, "-c", code, *command(address)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    family = _wait_for_driver(task)
    (family[0] if victim == "jvm" else psutil.Process(task.pid)).kill()
    _, alive = psutil.wait_procs(family, timeout=15)
    for process in [*alive, psutil.Process(task.pid)] if task.poll() is None else alive:
        process.kill()
    task.wait(10)
    assert not alive


def _wait_for_driver(task: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """JVM and Python driver, once the driver runs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        family = psutil.Process(task.pid).children(recursive=True)
        if any("python" in item.name() and item.ppid() != task.pid for item in family):
            return psutil.Process(task.pid).children(recursive=True)
        time.sleep(0.2)
    raise AssertionError("the driver did not start")


def test_wrong_use_is_refused_without_spark(env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs/ingest.py"), "--request", "/etc/passwd"],
        env={**os.environ, **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "must look like s3://" in done.stderr


MEANINGS: list[tuple[str, type[BoostlineError], str]] = [
    ("java.io.IOException: No space left on device", EnvironmentUnfit, "scratch folder is full"),
    ("[FAILED_READ_FILE] file s3a://lake/x/raw/a.csv.gz.\njava.io.EOFException: Unexpected end of input stream",
     DataInvalid, "s3://lake/x/raw/a.csv.gz is truncated or corrupt"),
    ("[FAILED_READ_FILE] s3a://lake/a.csv.gz\nAWSClientIOException: SdkClientException\nCaused by: java.io.EOFException: SSL "
     "peer shut down incorrectly", StoreUnavailable, "S3 failed while Spark worked with it"),
    ("org.apache.hadoop.fs.s3a.RemoteFileChangedException: open `s3a://lake/a.csv': Change reported", InputChanged,
     "s3://lake/a.csv changed"),
    ("SparkException: Python worker exited unexpectedly (crashed)\nCaused by: java.io.EOFException", SparkLost,
     "a Python process of an executor ended by itself"),
    ("[STREAM_FAILED] Query terminated with exception: org.apache.kafka.common.errors.TimeoutException: Timed out waiting "
     "for a node assignment. Call: listNodes", ServiceUnavailable, "Kafka does not answer"),
    ("org.apache.kafka.common.config.ConfigException: No resolvable bootstrap urls given", ServiceUnavailable,
     "Kafka does not answer"),
    ("[KAFKA_DATA_LOSS.PARTITION_OFFSET_CHANGED] Some data may have been lost", DataMissing, "Kafka holds messages no more"),
    ("AnalysisException: [PARQUET_TYPE_ILLEGAL] Illegal Parquet type: INT64 (TIME(NANOS,false))", DataInvalid,
     "a column of a type that Spark does not know"),
    ("zlib.error: Error -3 while decompressing data: invalid literal/length code", DataInvalid, "truncated or corrupt"),
    ("Job aborted: ExecutorLostFailure (executor 1 exited)", SparkLost, "lost its driver"),
    ("Master removed our application: FAILED", SparkLost, "lost its driver"),
    ("SparkRuntimeException: [INVALID_PARAMETER_VALUE.PATTERN] The value of parameter(s) `regexp` in `regexp_replace` is "
     "invalid: 'a{b}'. SQLSTATE: 22023", DatasetInvalid, "Spark refuses a regular expression"),
    ("BrokenPipeError: [Errno 32] Broken pipe", SparkLost, "lost its driver"),
    ("org.apache.spark.rpc.RpcTimeoutException: Futures timed out after [120 seconds]", SparkLost, "lost its driver"),
    ("java.lang.OutOfMemoryError: Java heap space", SparkLost, "ran out of memory"),
    ("org.apache.hadoop.fs.s3a.AWSClientIOException: getFileStatus on s3a://lake/k: Connect refused", StoreUnavailable,
     "S3 failed while Spark worked with it (s3://lake/k)"),
    ("org.apache.hadoop.fs.s3a.AWSServiceThrottledException: PUT on s3a://lake/k: SlowDown", StoreUnavailable,
     "S3 failed while Spark worked with it (s3://lake/k)"),
    ("java.nio.file.AccessDeniedException: s3a://lake/k: Forbidden", StoreUnsuitable, "S3 refuses Spark's keys"),
    ("UnknownStoreException: `s3a://nowhere/': Bucket does not exist", StoreUnsuitable, "no such bucket"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "message"), MEANINGS)
def test_what_spark_says_becomes_what_a_person_reads(text: str, kind: type[BoostlineError], message: str) -> None:
    error = explain(RuntimeError(text))
    assert type(error) is kind and message in str(error) and error.remedy


def test_a_bug_stays_a_bug() -> None:
    assert explain(KeyError("column")) is None
    assert unknown(KeyError("column")).message == "KeyError: 'column'"
    assert unknown(AssertionError()).message == "AssertionError: no message"
    assert explain(ValueError("invalid literal for int() with base 10: 'x'")) is None
