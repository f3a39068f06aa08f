"""Remove attempts that nothing needs any more, once a week.

**In:** the lake's attempts and published manifests, of every dataset.
**Out:** fewer objects. An attempt goes when it is older than `BOOSTLINE_KEEP_DAYS` (14 where not set), no published
manifest names it, and no partition that it wrote was published anew within those days.

**When it fails:** nothing is lost; clear the task. What it removed stands in its log.
"""

import logging
from datetime import UTC, datetime

from airflow.sdk import dag, task

from boostline.dataset import dataset_files
from boostline.orchestration.dag import DEFAULT_ARGS, plain_id, settings

log = logging.getLogger(__name__)


@dag(
    dag_id="boostline_maintenance",
    doc_md=__doc__,
    schedule="0 4 * * 0",
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["boostline"],
)
def maintenance() -> None:
    """One task per dataset."""

    @task
    def remove_old_attempts(dataset: str) -> dict[str, object]:
        from boostline.lake.cleanup import remove_old_attempts
        from boostline.lake.store import Store
        from boostline.orchestration.failures import airflow_errors

        with airflow_errors():
            now = datetime.now(UTC)
            removed = remove_old_attempts(Store(settings()), dataset, now, settings().keep_days)
        log.info("%s: removed %s, %d bytes", dataset, removed.attempts, removed.size)
        return {"attempts": removed.attempts, "bytes": removed.size}

    for path in dataset_files(settings().datasets):
        remove_old_attempts.override(task_id=f"clean_{plain_id(path.stem)}")(path.stem)


maintenance()
