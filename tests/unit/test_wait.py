"""The task that waits for a date's raw files, as Airflow calls it, on a real S3 server."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tests.model_lab import toy_dataset

from boostline.lake.raw import land
from boostline.lake.store import Store

DAY = date(2020, 3, 31)


@pytest.fixture
def waiting(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`waiting(deadline, **wait)`: what the task returns or raises; `waiting.land(name)` lands a file of its date."""
    os.environ.setdefault("AIRFLOW_HOME", str(tmp_path / "airflow"))  # read when Airflow is first imported
    from boostline.orchestration.wait import WaitForRawFiles

    for key in ("lake", "s3_endpoint"):
        monkeypatch.setenv(f"BOOSTLINE_{key.upper()}", str(getattr(store.settings, key)))
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))

    def execute(deadline: datetime | None = None, **wait: Any) -> str:
        dataset = toy_dataset("regression", "toys", on_missing="wait", wait=wait)
        body = dataset.model_dump(mode="json", by_alias=True, exclude_unset=True)
        (tmp_path / "toys.yaml").write_text(yaml.safe_dump(body))
        dag_run = SimpleNamespace(partition_key=str(DAY), logical_date=None, run_id="manual__1", run_type="manual")
        task = WaitForRawFiles(task_id="wait_for_raw_files", dataset="toys")
        again = {"event": DAY, "deadline": deadline.isoformat()} if deadline else {}
        return task.execute({"dag_run": dag_run, "params": {}}, **again)

    def land_file(name: str) -> None:
        (tmp_path / name).write_text("row\n1\n")
        dataset = toy_dataset("regression", "toys", wait={"marker": "_SUCCESS"})
        land(store, dataset, "rows", [tmp_path / name], DAY)

    execute.land = land_file  # type: ignore[attr-defined]
    return execute


def in_minutes(minutes: int) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def test_without_files_the_task_comes_back_until_its_deadline(waiting: Any) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    before = in_minutes(5)
    with pytest.raises(TaskDeferred) as deferred:
        waiting(timeout_minutes=5, poll_seconds=7)
    assert deferred.value.method_name == "execute"
    deadline = datetime.fromisoformat(deferred.value.kwargs["deadline"])
    assert before <= deadline <= in_minutes(5)
    assert abs(deferred.value.trigger.moment - in_minutes(0) - timedelta(seconds=7)) < timedelta(seconds=5)
    with pytest.raises(TaskDeferred) as again:
        waiting(deadline, timeout_minutes=5)
    assert again.value.kwargs == deferred.value.kwargs, "the second look moves no deadline"


def test_after_its_deadline_the_task_fails_for_good_and_says_how_to_land(waiting: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    says = (
        rf"(?s)DataMissing: no raw file in s3://.*/date={DAY}/ after 5 minutes.*boostline land toys FILE --date {DAY}"
    )
    with pytest.raises(AirflowFailException, match=says):
        waiting(in_minutes(-1), timeout_minutes=5)
    waiting.land("a.csv")
    assert waiting(in_minutes(-1), timeout_minutes=5).endswith(f"/rows/date={DAY}/"), "files that came late are taken"


def test_a_look_that_finds_s3_away_moves_no_deadline(waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowException, TaskDeferred

    waiting.land("a.csv")
    deadline = in_minutes(5)
    with monkeypatch.context() as patch:
        patch.setenv("BOOSTLINE_S3_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(TaskDeferred) as deferred:
            waiting(deadline, timeout_minutes=60)
        with pytest.raises(AirflowException, match="StoreUnavailable: S3 at http://127.0.0.1:9 does not answer"):
            waiting(in_minutes(-1), timeout_minutes=60)
    assert deferred.value.kwargs == {"deadline": deadline.isoformat()}
    assert waiting(deadline).endswith(f"/rows/date={DAY}/")


def test_files_without_the_marker_are_waited_for(waiting: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

    waiting.land("a.csv")
    with pytest.raises(TaskDeferred):
        waiting(marker="_SUCCESS")
    with pytest.raises(AirflowFailException, match="DataMissing: no _SUCCESS in "):
        waiting(in_minutes(-1), marker="_SUCCESS")
    waiting.land("_SUCCESS")
    assert waiting(marker="_SUCCESS").endswith(f"/rows/date={DAY}/")


def test_a_marker_alone_is_no_file_where_none_is_named(waiting: Any) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    waiting.land("_SUCCESS")
    with pytest.raises(TaskDeferred):
        waiting()
    waiting.land("a.csv")
    assert waiting().endswith(f"/rows/date={DAY}/")


def test_what_a_job_still_writes_is_waited_for(waiting: Any, store: Store) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    store.put(f"raw/toys/rows/date={DAY}/_temporary/0/task_1/part.csv", b"row\n1\n")
    with pytest.raises(TaskDeferred):
        waiting()
    store.put(f"raw/toys/rows/date={DAY}/part.csv", b"row\n1\n")
    assert waiting().endswith(f"/rows/date={DAY}/")
