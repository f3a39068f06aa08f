"""Addresses in Airflow's UI, and links beside a task: to the run's report, its MLflow run, its Spark job."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

from boostline.settings import Settings


def report_address(dag_id: str, run_id: str) -> str:
    """Where the report of a training run is shown."""
    return f"{_base()}/boostline/{dag_id}/runs/{quote(run_id)}"


def approval_address(dag_id: str, run_id: str) -> str:
    """Where a person answers a run of `DATASET_promote`."""
    return f"{_base()}/dags/{dag_id}/runs/{quote(run_id)}/tasks/approve/required_actions"


def flow_address() -> str:
    """A picture of what a training run does, for the DAG's documentation."""
    return f"{_base()}/boostline/static/flow.svg"


class ReportLink(BaseOperatorLink):
    """To the report of the run; before there is one the page says so."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, for a task instance that has ended."""
        return report_address(ti_key.dag_id, ti_key.run_id)


class MlflowLink(BaseOperatorLink):
    """To the MLflow run of the model."""

    name = "MLflow run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, for a task instance that has ended; empty where it trained nothing."""
        # Airflow hands over the task instance itself when the task ends, and keeps the address.
        handed = ti_key.xcom_pull(task_ids="train")
        return f"{Settings().mlflow_page}/#/runs/{handed['mlflow_run']}" if handed else ""


class SparkLink(BaseOperatorLink):
    """To the finished Spark job in the History Server, see `boostline.orchestration.spark_history`."""

    name = "Spark job"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, for a task instance that has ended; empty where no History Server is known.

        A stage that was up to date leads to the job that wrote it.
        """
        handed = ti_key.xcom_pull(task_ids=ti_key.task_id)
        app = handed["spark"].get("app_id") if handed and Settings().spark_history else None
        return f"{_base()}/boostline/spark/history/{app}/jobs/" if app else ""


def _base() -> str:
    return str(conf.get("api", "base_url", fallback="")).rstrip("/")
