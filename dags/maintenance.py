"""Remove attempts that nothing needs any more, uploads that were never finished, and old logs, once a week.

**In:** the lake's attempts and published manifests, of every dataset; its pending uploads; task logs and Spark's event logs.
**Out:** fewer objects and files. Logs, and uploads that a killed job left pending, go when they are older than
`BOOSTLINE_KEEP_DAYS` (14 where not set). An attempt goes when it is older than that, no published manifest and no model
version names it, and no partition that it wrote was published anew within those days.

**Unpause it** once: like the DAGs that train and score it is created paused, and until then nothing is ever removed.

**When it fails:** nothing is lost; clear the task. What it removed stands in its log.
"""

import logging
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from boostline.dataset import dataset_files
from boostline.orchestration.dag import default_args, plain_id
from boostline.settings import Settings

SETTINGS = Settings()
log = logging.getLogger(__name__)


@dag(
    dag_id="boostline_maintenance",
    doc_md=__doc__,
    schedule="0 4 * * 0",
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=default_args(SETTINGS),
    tags=["boostline"],
)
def maintenance() -> None:
    """One task per dataset, one for pending uploads, and one for the logs."""

    @task
    def remove_old_attempts(dataset: str) -> dict[str, object]:
        from boostline.lake.cleanup import remove_old_attempts
        from boostline.lake.store import Store
        from boostline.orchestration.failures import airflow_errors
        from boostline.registry.versions import named_attempts

        with airflow_errors():
            now, keep = datetime.now(UTC), named_attempts(SETTINGS, dataset)
            removed = remove_old_attempts(Store(SETTINGS), dataset, now, SETTINGS.keep_days, keep)
        log.info("%s: removed %s, %d bytes", dataset, removed.attempts, removed.size)
        return {"attempts": removed.attempts, "bytes": removed.size}

    @task
    def abort_old_uploads() -> dict[str, int]:
        from boostline.lake.store import Store
        from boostline.orchestration.failures import airflow_errors

        with airflow_errors():
            count = Store(SETTINGS).abort_uploads(datetime.now(UTC) - timedelta(days=SETTINGS.keep_days))
        log.info("aborted %d uploads", count)
        return {"uploads": count}

    @task
    def remove_old_logs() -> dict[str, int]:
        from boostline.orchestration.failures import airflow_errors
        from boostline.orchestration.logs import remove_old_logs

        with airflow_errors():
            sizes = remove_old_logs(SETTINGS, datetime.now(UTC))
        return {"files": len(sizes), "bytes": sum(sizes)}

    abort_old_uploads()
    remove_old_logs()
    for path in dataset_files(SETTINGS.datasets):
        remove_old_attempts.override(task_id=f"clean_{plain_id(path.stem)}")(path.stem)


maintenance()
