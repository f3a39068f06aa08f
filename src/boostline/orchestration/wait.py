"""Waiting for a date's raw files without holding a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator

from boostline.errors import DataMissing, StoreUnavailable
from boostline.lake import paths
from boostline.lake.store import Store
from boostline.orchestration.failures import airflow_errors
from boostline.orchestration.run import Run, resolve_run
from boostline.settings import Settings


class WaitForRawFiles(BaseOperator):
    """Waits until the run's date has raw files (and the completeness marker, where the dataset names one).

    The task is deferred between two looks. The S3 sensor of the Amazon provider needs aiobotocore, which pins an older
    botocore than boto3 here does; a timer and one listing do the same.

    Args:
        dataset: The dataset's name.
    """

    def __init__(self, *, dataset: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset

    def execute(self, context: Any, event: Any = None, deadline: str | None = None) -> str:
        """Look, and come back later where nothing is there, or S3 does not answer.

        Returns:
            The folder in which the files are.
        """
        with airflow_errors():
            settings = Settings()
            run = resolve_run(context, self.dataset, settings)
            wait = run.dataset.wait
            until = (
                datetime.fromisoformat(deadline)
                if deadline
                else datetime.now(UTC) + timedelta(minutes=wait.timeout_minutes)
            )
            folder = _folder(run)
            store = Store(settings)
            away: StoreUnavailable | None = None
            try:
                if _is_there(store, folder, wait.marker):
                    self.log.info("%s is there", store.uri(folder))
                    return folder
            except StoreUnavailable as error:  # a failed try would lose the deadline, and the next one wait anew
                away = error
            if datetime.now(UTC) >= until:
                raise away or DataMissing(
                    f"no {wait.marker or 'raw file'} in {store.uri(folder)} after {wait.timeout_minutes} minutes",
                    f"Land it: boostline land {run.dataset.name} FILE --date {run.day}, then clear this task",
                )
        reason = away.message if away else f"Nothing in {folder} yet"
        self.log.info("%s; looking again in %d s, until %s", reason, wait.poll_seconds, until)
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=wait.poll_seconds)),
            method_name="execute",
            kwargs={"deadline": until.isoformat()},
        )
        raise AssertionError("defer() does not return")


def _folder(run: Run) -> str:
    return paths.raw_folder(run.dataset.name, run.dataset.daily_table, run.day.isoformat())


def _is_there(store: Store, folder: str, marker: str | None) -> bool:
    keys = [item.key for item in store.list(folder)]
    return marker in [key.rsplit("/", 1)[-1] for key in keys] if marker else not all(map(paths.is_hidden, keys))
