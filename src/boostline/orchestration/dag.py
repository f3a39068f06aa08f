"""What the DAGs of a dataset share: schedule, trigger forms, defaults, and the stand-in for a broken dataset file."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset, Param, get_parsing_context

from boostline.dataset import Dataset, dataset_files, load_dataset
from boostline.errors import DatasetInvalid
from boostline.orchestration import tasks
from boostline.orchestration.links import MlflowLink, ReportLink
from boostline.orchestration.run import form_default, form_schema
from boostline.orchestration.timetable import PartitionsUntilNow
from boostline.settings import Settings


def daily_partitions() -> PartitionsUntilNow:
    """Midnight UTC, for the day before: runs, backfills and triggers carry the date as their partition key."""
    return PartitionsUntilNow("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d")


def clean_asset(dataset: Dataset, settings: Settings) -> Asset:
    """The clean rows of a dataset: a partition per data date, published by ingest."""
    # Its address is no URI of the asset: Airflow would load all of boto3 to check one that starts with s3.
    return Asset(name=f"{dataset.name}_clean", extra={"lake": f"{settings.lake}/clean/{dataset.name}"})


def score_form() -> dict[str, Param]:
    """The fields of the scoring DAG's trigger form."""
    return {
        "date": date_field("The day to score, YYYY-MM-DD. Leave empty where the partition key gives it."),
        "version": Param(
            None,
            type=["null", "string"],
            pattern="^([0-9]+|[a-z]+)$",
            title="Model version",
            description="A number or an alias; the champion where left empty.",
        ),
    }


def date_field(description: str) -> Param:
    """The data date of a trigger form."""
    return Param(None, type=["null", "string"], format="date", title="Data date", description=description)


def trigger_form(dataset: Dataset) -> dict[str, Param]:
    """The fields of the trigger form; empty ones take the dataset file's values.

    Airflow's form sends every field and keeps it for the run: were they filled in, a task that is cleared after the file
    was mended would run with the old values.
    """

    def field(name: str, title: str, description: str, section: str = "Change the run") -> Param:
        value, schema = form_default(dataset, name), form_schema(name)
        text = f"{description} Empty: the dataset file's{'' if value is None else f', {value}'}."
        text += " Changing it makes the run an experiment: tracked, not published."
        schema = schema | {"type": ["null", schema["type"]]}
        return Param(None, title=title, description=text, section=section, **schema)

    margin, spark = f"Relative gain in {dataset.gate.metric}", "Spark resources"
    memory = "Of this run's Spark jobs, such as 2g."
    return {
        "date": date_field("The day to learn up to, YYYY-MM-DD. Leave empty where the partition key gives it."),
        "publish": Param(
            False,
            type="boolean",
            title="Publish an experiment",
            description="Only for a run with changes: publish its results as if they were the dataset file's own.",
        ),
        "rounds": field("rounds", "Boosting rounds", "At most so many trees."),
        "eta": field("eta", "Learning rate", "How far each tree corrects those before it."),
        "max_depth": field("max_depth", "Tree depth", "At most so many questions on the way to a leaf; 0: no limit."),
        "window_days": field("window_days", "Window", "Days to learn from."),
        "beat_baseline": field(
            "beat_baseline", "Margin over the baseline", f"{margin} that the gate asks for; 0.01 is one per cent."
        ),
        "beat_champion": field("beat_champion", "Margin over the champion", f"{margin} on the same test rows."),
        "driver_memory": field("driver_memory", "Driver memory", memory, spark),
        "executor_memory": field("executor_memory", "Executor memory", memory, spark),
        "executor_cores": field(
            "executor_cores", "Cores per executor", "One executor on each worker where neither says it.", spark
        ),
        "cores_max": field("cores_max", "Cores of the application", "Of the cluster, in all.", spark),
    }


def python_task(task_id: str, dataset: Dataset, **kwargs: Any) -> PythonOperator:
    """One of the Python tasks: `train`, `gate`, `promote` or `report`."""
    task = PythonOperator(
        task_id=task_id,
        python_callable=getattr(tasks, task_id),
        op_kwargs={"dataset": dataset.name},
        show_return_value_in_logs=False,
        **kwargs,
    )
    task.operator_extra_links = (ReportLink(), MlflowLink())
    return task


def plain_id(name: str) -> str:
    """A file's name as part of an Airflow id: what Airflow refuses becomes an underscore."""
    return re.sub(r"[^\w.-]", "_", name)


def _invalid_dag(dag_id: str, error: DatasetInvalid, settings: Settings) -> DAG:
    """What stands in for a DAG whose dataset file is wrong, so that the other datasets keep theirs.

    Its id is its own: under the DAG's, Airflow would take the tasks of runs under way for removed and end them. So those
    wait until the file is mended.
    """
    with DAG(
        f"{dag_id}_invalid",
        schedule=None,
        start_date=datetime(2013, 1, 1, tzinfo=UTC),
        tags=["boostline", "invalid"],
        default_args=default_args(settings),
        doc_md=f"The dataset file is wrong:\n\n```\n{error}\n```",
    ) as dag:
        # Not in op_kwargs, which are a template: the message quotes the file, with whatever braces that has.
        PythonOperator(task_id="dataset_file", python_callable=partial(tasks.fail_invalid, str(error)))
    return dag


def dags_by_id(kind: str, make: Callable[[Dataset], DAG | None], settings: Settings) -> dict[str, DAG]:
    """One DAG for each dataset file, by its id; a file that is wrong gets a stand-in.

    Args:
        kind: The last part of the ids.
        make: Makes the DAG of one dataset, or none where it has no such DAG.
        settings: Names the folder.
    """
    found, wanted = [], get_parsing_context().dag_id
    for path in dataset_files(settings.datasets):
        dag_id = f"{plain_id(path.stem)}_{kind}"
        if wanted and not wanted.startswith(dag_id):  # a task starts, and needs its own DAG alone
            continue
        try:
            found.append(make(load_dataset(path)))
        except DatasetInvalid as error:
            found.append(_invalid_dag(dag_id, error, settings))
        except Exception as error:  # noqa: BLE001
            # Broad, for what no check foresaw: Airflow reads all datasets in one Python file, and an exception that left
            # here would take every dataset's DAGs away. It is not hidden: the stand-in says it, and fails with it.
            told = DatasetInvalid(f"{path}: {type(error).__name__}: {error}")
            found.append(_invalid_dag(dag_id, told, settings))
    return {dag.dag_id: dag for dag in found if dag}


def default_args(settings: Settings) -> dict[str, Any]:
    """What every task has; RETRY classes of errors use the retries, FAIL classes end at once."""
    return {
        "owner": "boostline",
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_seconds),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=6),
    }
