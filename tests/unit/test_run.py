"""The run date, for every way to start a run, and what makes a run an experiment."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boostline.dataset import load_dataset
from boostline.errors import DatasetInvalid, RunDateInvalid
from boostline.orchestration.run import FORM_PATHS, new_attempt, resolve_date, resolve_run
from boostline.settings import Settings

NYC = load_dataset(Path("conf/datasets/nyc_flights.yaml"))
NOON = datetime(2013, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "form", "logical", "found"),
    [
        ("2013-03-31", None, None, "2013-03-31"),
        ("2013-03-31", "2013-03-31", None, "2013-03-31"),
        ("2013-03-31", "", NOON.replace(year=2026), "2013-03-31"),
        (None, "2013-03-30", NOON, "2013-03-30"),
        (None, None, NOON, "2013-03-31"),
    ],
)
def test_key_then_form_then_logical_date(key: str | None, form: str | None, logical: Any, found: str) -> None:
    assert resolve_date(key, form, logical) == date.fromisoformat(found)


@pytest.mark.parametrize(
    ("key", "form", "says"),
    [
        (None, None, "no data date.*boostline run DATASET --date"),
        ("2013-03-31", "2013-03-30", "key says 2013-03-31 and the form's date says 2013-03-30"),
        ("2013-02-30", None, "partition key is no date: '2013-02-30'"),
        ("20130331", None, "partition key is no date"),
        (None, "31.3.2013", "form's date is no date.*YYYY-MM-DD"),
        (None, "../2013", "form's date is no date"),
    ],
)
def test_a_run_without_one_clear_date_says_how_to_pass_it(key: str | None, form: str | None, says: str) -> None:
    with pytest.raises(RunDateInvalid, match=f"(?s){says}"):
        resolve_date(key, form, None)


def context(run_type: str = "manual", **params: Any) -> dict[str, Any]:
    dag_run = SimpleNamespace(partition_key="2013-03-31", logical_date=None, run_id="manual__1", run_type=run_type)
    return {"dag_run": dag_run, "params": dict.fromkeys(FORM_PATHS) | params}


def test_the_form_untouched_is_no_experiment() -> None:
    run = resolve_run(context(date="2013-03-31", publish=False), "nyc_flights", Settings())
    assert (run.changes, run.publish, run.is_experiment, run.is_backfill) == ({}, True, False, False)
    assert run.dataset == NYC


def test_a_changed_form_is_an_experiment_unless_published() -> None:
    run = resolve_run(context(rounds=7, executor_memory="2g"), "nyc_flights", Settings())
    assert run.changes == {"model.rounds": 7, "spark.executor_memory": "2g"}
    assert (run.dataset.model.rounds, run.publish, run.is_experiment) == (7, False, True)
    assert resolve_run(context(rounds=7, publish=True), "nyc_flights", Settings()).publish


def test_a_field_filled_in_with_the_files_own_value_changes_nothing() -> None:
    assert resolve_run(context(rounds=NYC.model.rounds), "nyc_flights", Settings()).changes == {}


def test_a_form_value_out_of_bounds_is_refused() -> None:
    with pytest.raises(DatasetInvalid, match=r"window.*min_days"):
        resolve_run(context(window_days=5), "nyc_flights", Settings())


def test_backfills_are_known_as_such() -> None:
    assert resolve_run(context(run_type="backfill"), "nyc_flights", Settings()).is_backfill


def test_attempts_never_share_a_name() -> None:
    run = resolve_run(context(), "nyc_flights", Settings())
    names = {new_attempt(run, 1) for _ in range(100)}
    assert len(names) == 100
    assert all("/" not in name and name.startswith("2013-03-31-") for name in names)
