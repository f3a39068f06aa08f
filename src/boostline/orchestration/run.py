"""What one DAG run works on: its data date, its dataset with the form's changes, and whether it publishes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

from boostline.dataset import Dataset, change_dataset, dataset_path, load_dataset
from boostline.errors import RunDateInvalid
from boostline.lake.day import parse_day
from boostline.settings import Settings

FORM_PATHS = {
    "rounds": "model.rounds",
    "eta": "model.params.eta",
    "max_depth": "model.params.max_depth",
    "beat_baseline": "gate.beat_baseline",
    "beat_champion": "gate.beat_champion",
    "window_days": "window.days",
    "driver_memory": "spark.driver_memory",
    "executor_memory": "spark.executor_memory",
    "executor_cores": "spark.executor_cores",
    "cores_max": "spark.cores_max",
}
"""Fields of the trigger form, and the keys of the dataset file that they change."""


@dataclass(frozen=True)
class Run:
    """One DAG run, as every task of it sees it."""

    day: date
    dataset: Dataset
    run_id: str
    changes: dict[str, Any]
    publish: bool
    is_backfill: bool

    @property
    def is_experiment(self) -> bool:
        """The form changed something else than the date."""
        return bool(self.changes)


def resolve_date(partition_key: str | None, form_date: str | None, logical_date: datetime | None) -> date:
    """The data date of a run: the partition key, else the form's date, else the logical date.

    Raises:
        RunDateInvalid: None of them is there, one is no date, or key and form disagree.
    """
    key = parse_day(partition_key, "the partition key") if partition_key else None
    form = parse_day(form_date, "the form's date") if form_date else None
    if key and form and key != form:
        raise RunDateInvalid(
            f"the partition key says {key} and the form's date says {form}", "Give one of them, or the same date twice"
        )
    if found := key or form or (logical_date.date() if logical_date else None):
        return found
    raise RunDateInvalid(
        "this run has no data date",
        "Fill in the form's date, give a partition key (YYYY-MM-DD), or use `boostline run DATASET --date YYYY-MM-DD`",
    )


def form_changes(dataset: Dataset, params: Mapping[str, Any]) -> dict[str, Any]:
    """What the form changes, as dotted paths of the dataset file; fields left at the file's value change nothing."""
    return {
        path: params[field]
        for field, path in FORM_PATHS.items()
        if params.get(field) is not None and params[field] != form_default(dataset, field)
    }


def form_default(dataset: Dataset, field: str) -> Any:
    """The dataset file's value of a form field."""
    value: Any = dataset
    for part in FORM_PATHS[field].split("."):
        value = getattr(value, part)
    return value


@cache
def form_schema(field: str) -> dict[str, Any]:
    """The JSON schema of a form field's value: its type and bounds, as the dataset file has them."""
    *parents, leaf = FORM_PATHS[field].split(".")
    section: Any = Dataset
    for part in parents:
        section = section.model_fields[part].annotation
    found = section.model_json_schema(by_alias=False)["properties"][leaf]
    found = found.get("anyOf", [found])[0]  # of a value that may be none, what it is otherwise
    return {key: value for key, value in found.items() if key not in ("title", "description", "default")}


def resolve_run(context: Mapping[str, Any], name: str, settings: Settings) -> Run:
    """The run that a task belongs to, from Airflow's context.

    Raises:
        RunDateInvalid: See `resolve_date`.
        DatasetInvalid: The dataset file, or a value of the form.
    """
    dag_run, params = context["dag_run"], context["params"]
    day = resolve_date(dag_run.partition_key, params.get("date"), dag_run.logical_date)
    dataset = load_dataset(dataset_path(settings.datasets, name))
    changes = form_changes(dataset, params)
    return Run(
        day=day,
        dataset=change_dataset(dataset, changes) if changes else dataset,
        run_id=dag_run.run_id,
        changes=changes,
        publish=not changes or bool(params.get("publish")),
        is_backfill=str(getattr(dag_run.run_type, "value", dag_run.run_type)) == "backfill",
    )


def new_attempt(run: Run, try_number: int) -> str:
    """A name for an attempt that no other attempt has: the date, the run, the try, and something random."""
    tail = re.sub(r"[^A-Za-z0-9]+", "-", run.run_id).strip("-")[-40:]
    return f"{run.day}-{tail}-{try_number}-{secrets.token_hex(4)}"
