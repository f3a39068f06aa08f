"""The edge that all Spark jobs share: request in, result or error out, exit code for the task."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from boostline.errors import BoostlineError
from boostline.lake.job import (
    EXIT_FAIL,
    EXIT_RETRY,
    JobName,
    JobRequest,
    JobResult,
    load_request,
    save_error,
    save_result,
)
from boostline.lake.manifest import Ref
from boostline.lake.store import Store
from boostline.settings import Settings
from boostline.spark.failures import explain, unknown
from boostline.spark.session import applied_settings, spark_session
from boostline.spark.steps import seconds_by_step, step
from boostline.spark.watchdog import tie_to_parents

log = logging.getLogger(__name__)

Run = Callable[[Any, Store, JobRequest], list[Ref]]


def main(job_name: JobName, run: Run, description: str, argv: list[str] | None = None) -> None:
    """Run one job and end the process: 0, or 65 (do not retry), or 75 (retry).

    Args:
        job_name: What the request must be for.
        run: Takes the session, the store and the request, and returns what it published.
        description: For `--help`.
        argv: Arguments, without the program's name.
    """
    address = _parse(job_name, description, argv)
    begin()
    sys.exit(run_job(job_name, run, address))


def run_job(job_name: JobName, run: Run, address: str) -> int:
    """Run one job and return its exit code."""
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:  # the request comes while the JVM makes its context
        loading = pool.submit(_load, address)
        try:
            with spark_session(_app_name(job_name, address)) as spark:
                store, request = loading.result()
                log.info("%s of %s for %s: Spark was ready after %.1f s", job_name, request.dataset.name, request.date,
                         time.monotonic() - start)  # fmt: skip
                if request.job != job_name:
                    raise BoostlineError(f"{address} is a request for {request.job}, not for {job_name}")
                with step("total"):
                    refs = run(spark, store, request)
                result = JobResult(refs=refs, spark=applied_settings(spark), seconds=seconds_by_step())
                save_result(store, request, result)
            return 0
        except Exception as error:  # noqa: BLE001 (whatever it is becomes an exit code)
            known = tell(error)
            _leave_error(loading, known)
            return exit_code(known)


def begin() -> None:
    """What every driver does first: log to standard error, and end with whoever started it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    tie_to_parents()


def tell(error: Exception) -> BoostlineError:
    """Log an error, and return what it means. A bug is one that a retry would meet again."""
    known = explain(error) or unknown(error)
    log.error("%s", known, exc_info=None if isinstance(error, BoostlineError) else error)
    return known


def exit_code(error: BoostlineError) -> int:
    """What the process ends with: whoever started it only sees this."""
    return EXIT_RETRY if error.retry else EXIT_FAIL


def _app_name(job_name: JobName, address: str) -> str:
    """What Spark's pages show; `boostline.orchestration.spark_history` reads the dataset from it."""
    _, dataset, _, attempt, _ = address.rsplit("/", 4)
    return f"boostline {job_name} {dataset} {attempt}"


def _load(address: str) -> tuple[Store, JobRequest]:
    store = Store(Settings())
    return store, load_request(store, address)


def _leave_error(loading: Future[tuple[Store, JobRequest]], error: BoostlineError) -> None:
    """Tell the task why, where S3 is there to be told; the exit code alone says whether to retry."""
    try:
        save_error(*loading.result(timeout=60), error)
    except Exception as problem:  # noqa: BLE001 (whatever keeps it from the task, the exit code still comes)
        log.error("the error could not be stored for the task: %s", problem)


def _parse(job_name: str, description: str, argv: list[str] | None) -> str:
    parser = argparse.ArgumentParser(prog=f"spark-submit jobs/{job_name}.py", description=description)
    parser.add_argument("--request", required=True, metavar="s3://…/request.json", help="what to do, written by a task")
    address = str(parser.parse_args(argv).request)
    if not address.startswith("s3://") or not address.endswith("/request.json"):
        parser.error(f"--request must look like s3://bucket/…/request.json, not {address!r}")
    return address
