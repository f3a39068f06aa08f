"""Ask a person before a model becomes champion, for datasets with `promotion.approval: required`.

**In:** a training run whose candidate passed the gate. Its last task, `ask`, starts a run here, one for each version.
**Out:** the alias `champion`, where a person says yes, the gate says yes once more, and no newer model is champion;
with the version, who said what, when and why; the run's report, written anew.

**Answer it** under *Required Actions*, in the run or in the navigation. Nothing else waits: training goes on. Without an
answer within `promotion.timeout_hours` the dataset's `promotion.on_timeout` decides.

**When it fails:** the red task's log ends with what is wrong and what to do; clear it after mending. To ask again after
an answer, clear `approve` with what follows it.
"""

import itertools
from datetime import UTC, datetime

from airflow.sdk import DAG

from boostline.dataset import Dataset
from boostline.orchestration.approval import approval_form, approval_tasks
from boostline.orchestration.dag import dags_by_id, default_args
from boostline.settings import Settings

SETTINGS = Settings()


def promote_dag(dataset: Dataset) -> DAG | None:
    """The approval DAG of one dataset, where it requires approval."""
    if dataset.promotion.approval != "required":
        return None
    with DAG(
        f"{dataset.name}_promote",
        description=f"A person's yes before a new champion. {dataset.description}",
        doc_md=__doc__,
        schedule=None,
        start_date=datetime(2013, 1, 1, tzinfo=UTC),
        catchup=False,
        auto_register=False,  # `dags_by_id` does, and not before it is whole
        max_active_runs=1000,  # a run that waits for a person holds up no other
        is_paused_upon_creation=False,  # it runs only when asked to, and a paused one would ask nobody
        params=approval_form(),
        default_args=default_args(SETTINGS),
        tags=["boostline", dataset.name, dataset.task],
    ) as dag:
        for before, after in itertools.pairwise(approval_tasks(dataset)):
            before >> after
    return dag


globals().update(dags_by_id("promote", promote_dag, SETTINGS))
