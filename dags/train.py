"""Train, gate and promote one model a day.

**In:** raw files below `raw/DATASET/TABLE/date=D/` in the lake, for the days of the window that ends on the data date.
**Out:** clean rows, features, a baseline and a model, each published for the data date; a model version in MLflow;
the alias `champion`, where the gate says yes; a report. Where the dataset requires approval, the gate's yes starts
`DATASET_promote` instead, which asks a person and moves the alias.

**Start it** by schedule (midnight UTC, for the day before), by *Trigger* with the data date in the form,
by a backfill over dates, or with `boostline run DATASET --date YYYY-MM-DD`.

**When it fails:** the first red task's log ends with what is wrong and what to do. Clear that task after mending it;
stages that are up to date return at once. A gate that says no is no failure: the report has its reasons.
"""

from datetime import UTC, datetime
from math import ceil

from airflow.sdk import DAG, TaskGroup

from boostline.dataset import Dataset
from boostline.orchestration.approval import ask
from boostline.orchestration.dag import (
    clean_asset,
    dags_by_id,
    daily_partitions,
    default_args,
    python_task,
    trigger_form,
)
from boostline.orchestration.links import flow_address
from boostline.orchestration.spark_job import spark_job
from boostline.orchestration.wait import WaitForRawFiles
from boostline.settings import Settings

SETTINGS = Settings()


def train_dag(dataset: Dataset) -> DAG:
    """The training DAG of one dataset."""
    waits = dataset.on_missing == "wait"
    with DAG(
        f"{dataset.name}_train",
        description=dataset.description,
        doc_md=f"![What a training run does]({flow_address()})\n\n{__doc__}",
        schedule=daily_partitions(),
        start_date=datetime(2013, 1, 1, tzinfo=UTC),
        catchup=False,
        auto_register=False,  # `dags_by_id` does, and not before it is whole
        # Dates that wait for their files hold up no later one: without a place, the next midnight's run would be left out.
        max_active_runs=2 + (ceil(dataset.wait.timeout_minutes / (24 * 60)) if waits else 0),
        params=trigger_form(dataset),
        default_args=default_args(SETTINGS),
        tags=["boostline", dataset.name, dataset.task],
    ) as dag:
        with TaskGroup("data", group_display_name="Data and baseline (Spark)", prefix_group_id=False):
            ingest = spark_job("ingest", dataset, outlets=[clean_asset(dataset, SETTINGS)])
            if waits:
                WaitForRawFiles(task_id="wait_for_raw_files", dataset=dataset.name) >> ingest
            featurize = spark_job("featurize", dataset)
            baseline = spark_job("baseline", dataset)
        with TaskGroup("model", group_display_name="Model (XGBoost)", prefix_group_id=False):
            train = python_task("train", dataset, pool="training")
            gate = python_task("gate", dataset)
            promote = python_task("promote", dataset, pool="promotion")
            reported = gate >> promote >> python_task("report", dataset)
        ingest >> featurize >> [baseline, train] >> gate
        if dataset.promotion.approval == "required":
            reported >> ask(dataset)
    return dag


globals().update(dags_by_id("train", train_dag, SETTINGS))
