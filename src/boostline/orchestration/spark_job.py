"""Spark stages as tasks: look first, submit only where there is work, hand on exactly what was written."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import timedelta
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from boostline.dataset import Dataset
from boostline.dataset.sections import Window
from boostline.errors import EnvironmentUnfit, FailError, NothingToDo, SparkLost
from boostline.lake.job import (
    STAGE_OF_JOB,
    JobName,
    JobRequest,
    JobResult,
    Scorer,
    load_error,
    load_result,
    save_request,
)
from boostline.lake.manifest import Ref, ref_of
from boostline.lake.paths import REFERENCE, version_folder
from boostline.lake.plan import WindowRefs, load_window, plan_ingest, plan_stage, save_window
from boostline.lake.store import Store
from boostline.orchestration.failures import airflow_errors
from boostline.orchestration.links import SparkLink
from boostline.orchestration.run import Run, new_attempt, resolve_run
from boostline.settings import Settings
from boostline.spark.watchdog import TASK_PID

SPARK_POOL = "spark"


class SparkJob(SparkSubmitOperator):
    """A Spark stage of one dataset.

    It resolves the run, finds out without a JVM whether the stage is up to date, and only else writes a request into a
    new attempt and submits the job. What it returns by XCom names the manifests that were written, by attempt and ETag.

    Args:
        job: `ingest`, `featurize`, `baseline` or `score`.
        dataset: The dataset's name.
        window_days: Days to ingest, instead of the dataset's window.
    """

    # The request is made at run time; nothing of ours is a template.
    template_fields = ()
    operator_extra_links = (SparkLink(),)

    def __init__(self, *, job: JobName, dataset: str, window_days: int | None = None, **kwargs: Any) -> None:
        # Not durable: a retry writes an attempt of its own, and must not wait for the driver of the one before.
        super().__init__(application="", conn_id="spark_default", name=f"{dataset}-{job}", durable=False, **kwargs)
        self.job = job
        self.dataset = dataset
        self.window_days = window_days

    def execute(self, context: Any) -> dict[str, Any]:
        """Bring the stage of the run's date up to date.

        Returns:
            `{"refs" | "window", "ran", "spark", "seconds"}` for the next task.
        """
        with airflow_errors():
            started = time.monotonic()
            settings = Settings()
            store = Store(settings)
            run = resolve_run(context, self.dataset, settings)
            self.log.info("Data date %s%s", run.day, f", experiment: {run.changes}" if run.is_experiment else "")
            bring = self._ingest if self.job == "ingest" else self._stage
            handed = bring(context, settings, store, run)
            return handed | {"seconds": round(time.monotonic() - started, 1)}

    def _ingest(self, context: Any, settings: Settings, store: Store, run: Run) -> dict[str, Any]:
        window = Window(days=self.window_days) if self.window_days else run.dataset.window
        plan = plan_ingest(store, run.dataset.model_copy(update={"window": window}), run.day)
        self.log.info(
            "%d partitions up to date, %d to write, %d days missing",
            len(plan.current),
            len(plan.stale),
            len(plan.missing),
        )
        refs = plan.current
        if plan.stale:
            # A store without conditional writes would lose one of two racing runs, so it is refused before any work.
            store.probe()
            # Clean rows hold nothing of the form, so an experiment publishes them like any run.
            request = JobRequest(
                job="ingest",
                dataset=run.dataset,
                date=run.day.isoformat(),
                attempt=new_attempt(run, context["ti"].try_number),
                publish=True,
                targets=plan.stale,
            )
            refs = refs + self._submit(context, settings, store, request).refs
        refs = sorted(refs, key=lambda ref: (ref.table or "", ref.partition))
        key = save_window(
            store, run.dataset.name, WindowRefs(date=run.day.isoformat(), refs=refs, missing=plan.missing)
        )
        for asset in self.outlets:  # a run whose date stands in the form has no partition key of its own
            context["outlet_events"][asset].add_partitions(run.day.isoformat())
        return {"window": key, "partitions": len(refs), "ran": bool(plan.stale), "spark": _applied(store, refs)}

    def _stage(self, context: Any, settings: Settings, store: Store, run: Run) -> dict[str, Any]:
        reads, scorer, table = self._reads(context, store), None, None
        sources = reads
        if self.job == "score":
            scorer = _scorer(settings, store, run.dataset.name, context["params"].get("version"))
            self.log.info("Model version %s, which learnt up to %s", scorer.version, scorer.model.partition)
            sources, table = [*reads, scorer.model], version_folder(scorer.version)
        named = {f"{ref.stage}/{ref.table or ''}/{ref.partition}": ref for ref in sources}
        stage = STAGE_OF_JOB[self.job]
        plan = plan_stage(store, stage, run.dataset, run.day, named, table=table, publish=run.publish)
        if plan.current:
            self.log.info("Up to date: attempt %s. No Spark job is submitted", plan.current.attempt)
            return _handed(store, [plan.current], ran=False)
        request = JobRequest(
            job=self.job,
            dataset=run.dataset,
            date=run.day.isoformat(),
            attempt=new_attempt(run, context["ti"].try_number),
            publish=run.publish,
            targets=[plan.target],
            reads=reads,
            scorer=scorer,
        )
        return _handed(store, self._submit(context, settings, store, request).refs, ran=True)

    def _reads(self, context: Any, store: Store) -> list[Ref]:
        if self.job in ("featurize", "score"):
            return load_window(store, pull(context, "ingest")["window"]).refs
        return refs_of(pull(context, "featurize"))

    def _submit(self, context: Any, settings: Settings, store: Store, request: JobRequest) -> JobResult:
        application = settings.jobs / f"{self.job}.py"
        if not application.is_file():
            raise EnvironmentUnfit(f"there is no {application}", "Set BOOSTLINE_JOBS to the folder of the job files")
        self.application = str(application)
        self.application_args = ["--request", save_request(store, request)]
        self.conf = request.dataset.spark.properties
        os.environ[TASK_PID] = str(os.getpid())  # spark-submit inherits it, and no template field shows it
        self.log.info("Attempt %s, %d partition(s)", request.attempt, len(request.targets))
        try:
            super().execute(context)
        except AirflowException as error:
            if known := load_error(store, request):
                raise known from error
            _require_java()
            raise SparkLost(
                f"the Spark job ended without saying why: {error}", "The task's log above holds the driver's output"
            ) from error
        result = load_result(store, STAGE_OF_JOB[request.job], request.dataset.name, request.attempt)
        if result is None:
            raise SparkLost(f"the Spark job of attempt {request.attempt} left no result", "See the task's log above")
        self.log.info("Spark applied: %s", json.dumps(result.spark, sort_keys=True))
        return result


def _require_java() -> None:
    """Tell a spark-submit that found no Java, which no retry mends, from one that lost Spark."""
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java", path=f"{home}/bin" if home else None):
        where = f"in {home}/bin, below JAVA_HOME" if home else "on the PATH, and JAVA_HOME is not set"
        raise EnvironmentUnfit(f"there is no Java {where}", "Install Java 17 or 21, and set JAVA_HOME to it")


def _scorer(settings: Settings, store: Store, dataset: str, wanted: str | None) -> Scorer:
    """The version that the form names, else the champion."""
    from boostline.registry.versions import champion_of, find_version, version_manifest
    from boostline.tracking import TAG

    version = find_version(settings, dataset, wanted) if wanted else champion_of(settings, dataset)
    if version is None:
        raise NothingToDo(f"{dataset} has no champion to score with", f"Train one: boostline run {dataset} --date D")
    ref = ref_of(*version_manifest(store, version))
    return Scorer(version=version.version, model=ref, sha256=version.tags[TAG + "sha256"])


def _handed(store: Store, refs: list[Ref], *, ran: bool) -> dict[str, Any]:
    return {"refs": [ref.model_dump() for ref in refs], "ran": ran, "spark": _applied(store, refs)}


def _applied(store: Store, refs: list[Ref]) -> dict[str, str]:
    """What Spark really gave the attempt that wrote the newest of these partitions, this run's or an earlier one's."""
    newest = max(refs, key=lambda ref: (ref.partition != REFERENCE, ref.partition))
    result = load_result(store, newest.stage, newest.dataset, newest.attempt)
    return result.spark if result else {}


def spark_job(job: JobName, dataset: Dataset, **kwargs: Any) -> SparkJob:
    """The task of one Spark stage, in the pool that bounds how many Spark applications run at once."""
    return SparkJob(
        task_id=job,
        job=job,
        dataset=dataset.name,
        pool=SPARK_POOL,
        execution_timeout=timedelta(minutes=dataset.spark.timeout_minutes),
        # One ingest of a dataset at a time: a backfill's neighbours then find the shared days done.
        max_active_tis_per_dag=1 if job == "ingest" else None,
        **kwargs,
    )


def pull(context: Any, task_id: str) -> Any:
    """What an earlier task of this run handed on.

    Raises:
        FailError: The task handed nothing on.
    """
    handed = context["ti"].xcom_pull(task_ids=task_id)
    if handed is None:
        raise FailError(f"task {task_id} of this run handed nothing on", f"Clear {task_id}, so that it runs again")
    return handed


def refs_of(handed: dict[str, Any]) -> list[Ref]:
    """The references in what a task handed on."""
    return [Ref.model_validate(ref) for ref in handed["refs"]]
