"""What a user does with the pipeline, on a real stack: land, run, repeat, change, backfill, schedule."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from boostline.lake.arrow import read_parquet
from boostline.lake.features import test_raw_keys as raw_keys
from boostline.lake.manifest import read_current
from boostline.lake.paths import STAGES
from tests.e2e.conftest import World, days_to, readings

DAY = date(2024, 5, 10)


@pytest.fixture(scope="module")
def first(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The first run on an empty lake."""
    world.land(tmp_path_factory.mktemp("raw"), "meters", days_to(DAY, 5))
    answer = world.cli("run", "meters", "--date", DAY.isoformat(), "--json")
    assert answer.code == 0, answer.err
    assert "ingest" in answer.err
    return dict(answer.json)


def test_first_run_trains_gates_and_promotes(world: World, first: dict[str, object]) -> None:
    assert first["dataset"] == "meters"
    assert first["date"] == "2024-05-10"
    assert first["rows"] == {"train": 3 * 288, "valid": 288, "test": 288}
    assert first["gate"]["passed"] is True
    assert first["promoted"] is True
    assert first["champion"] is None
    assert first["candidate"]["metrics"]["test"]["rmse"] < first["baseline"]["metrics"]["test"]["rmse"]
    assert set(first["seconds"]) == {"ingest", "featurize", "baseline", "train", "gate", "promote"}
    assert first["spark"]["ingest"]["executor_memory"] == "600m"
    for stage in STAGES[1:]:
        assert read_current(world.store, stage, "meters", None, "2024-05-10"), stage


def test_show_prints_the_same_as_the_run(world: World, first: dict[str, object]) -> None:
    assert world.cli("show", "meters", "--json").json == first
    shown = world.cli("show", "meters", "--date", "2024-05-10")
    assert shown.code == 0
    assert "Promoted: rmse" in shown.out
    assert "linear baseline" in shown.out
    missing = world.cli("show", "meters", "--date", "2024-05-09")
    assert missing.code == 1
    assert "boostline run meters --date" in missing.err


def test_the_report_is_one_page_without_outside_requests(world: World, first: dict[str, object]) -> None:
    page = world.store.get(str(first["report"]).removeprefix(world.store.uri("")))[0].decode()
    assert "Promoted: rmse" in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_champion_loads_from_mlflow_and_scores_raw_rows(world: World, first: dict[str, object]) -> None:
    import mlflow

    mlflow.set_tracking_uri(world.stack.mlflow_uri)
    model = mlflow.pyfunc.load_model("models:/meters@champion")
    features, _ = read_current(world.store, "features", "meters", None, "2024-05-10")
    raw = read_parquet(world.store, raw_keys(features)).to_pandas()
    predicted = model.predict(raw.drop(columns=["_label", "data_date"])).prediction
    rmse = float(((predicted - raw._label) ** 2).mean() ** 0.5)
    assert rmse == pytest.approx(first["candidate"]["metrics"]["test"]["rmse"], rel=1e-9)


def test_a_repeat_does_no_work_and_changes_nothing(world: World, first: dict[str, object]) -> None:
    before = {item.key: item.etag for item in world.store.list("")}
    answer = world.cli("run", "meters", "--date", DAY.isoformat(), "--json")
    assert answer.code == 0, answer.err
    assert answer.json == first
    handed = world.handed("meters_train", world.newest_run("meters_train")["dag_run_id"])
    assert [name for name, value in handed.items() if value.get("ran")] == []
    assert {item.key: item.etag for item in world.store.list("")} == before


def test_a_corrected_day_is_cleaned_alone(world: World, first: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(readings(DAY - timedelta(days=4)).replace(",0,0, S0 ,", ",0,0, S1 ,"))
    assert world.cli("land", "meters", str(path), "--date", str(DAY - timedelta(days=4))).code == 0
    answer = world.cli("run", "meters", "--date", DAY.isoformat(), "--json")
    assert answer.code == 0, answer.err
    refs = {
        day: read_current(world.store, "clean", "meters", "readings", str(day))[0].attempt for day in days_to(DAY, 5)
    }
    assert len(set(refs.values())) == 2
    assert list(refs.values()).count(refs[DAY - timedelta(days=4)]) == 1
    assert answer.json["champion"]["version"] == first["candidate"]["version"]
    assert answer.json["champion"]["metrics"]["rmse"] > 0


def test_an_experiment_is_tracked_and_published_nowhere(world: World, first: dict[str, object]) -> None:
    before = {item.key: item.etag for item in world.store.list("") if item.key.endswith("current.json")}
    answer = world.cli("run", "meters", "--date", DAY.isoformat(), "--set", "rounds=3", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["experiment"] == {"changes": {"model.rounds": 3}, "published": False}
    assert answer.json["candidate"]["rounds"] == 3
    assert answer.json["candidate"]["version"] is None
    assert answer.json["promoted"] is False
    assert {item.key: item.etag for item in world.store.list("") if item.key.endswith("current.json")} == before
    wrong = world.cli("run", "meters", "--date", DAY.isoformat(), "--set", "speed=3")
    assert wrong.code == 2
    assert "rounds" in wrong.err


def test_a_gate_that_says_no_ends_green_with_its_reason(world: World, tmp_path: Path) -> None:
    world.land(tmp_path, "meters_strict", days_to(DAY, 5))
    answer = world.cli("run", "meters_strict", "--date", DAY.isoformat())
    assert answer.code == 0, answer.err
    assert "Refused: rmse" in answer.out
    assert "99.0% better was asked" in answer.out
    shown = world.cli("show", "meters_strict", "--json").json
    assert (shown["gate"]["passed"], shown["promoted"]) == (False, False)


def test_a_backfill_makes_one_run_per_date(world: World, first: dict[str, object], tmp_path: Path) -> None:
    world.land(tmp_path, "meters", days_to(DAY + timedelta(days=3), 3))
    answer = world.cli("backfill", "meters", "--from", "2024-05-11", "--to", "2024-05-13")
    assert answer.code == 0, answer.out + answer.err
    assert "3 of 3 dates succeeded" in answer.out
    runs = world.client.runs_by_date("meters_train", DAY + timedelta(days=1), DAY + timedelta(days=3))
    assert sorted(runs) == ["2024-05-11", "2024-05-12", "2024-05-13"]
    assert {run["run_type"] for run in runs.values()} == {"backfill"}
    assert world.cli("show", "meters", "--date", "2024-05-12", "--json").json["promoted"] is False


def test_a_date_without_data_is_skipped_green(world: World) -> None:
    answer = world.cli("run", "meters", "--date", "2023-01-01")
    assert answer.code == 0, answer.err
    assert "skipped: no raw data" in answer.err


def test_wrong_use_says_what_to_do(world: World) -> None:
    assert "Write it as YYYY-MM-DD" in world.cli("run", "meters", "--date", "10.5.2024").err
    assert "meters_strict" in world.cli("run", "metres", "--date", "2024-05-10").err
    assert world.cli("run", "meters").code == 2
    assert "Swap them" in world.cli("backfill", "meters", "--from", "2024-05-02", "--to", "2024-05-01").err
    assert "boostline runs" in world.cli("cancel", "nothing").err


def test_check_and_runs(world: World, first: dict[str, object]) -> None:
    checked = world.cli("check")
    assert checked.code == 0, checked.out
    assert "ok    S3" in checked.out
    listed = world.cli("runs", "meters", "--json").json
    assert {"2024-05-10"} <= {run["partition_key"] for run in listed}
    assert "success" in world.cli("runs", "meters").out


def test_the_scheduler_starts_the_run_of_yesterday(world: World, tmp_path: Path) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    world.land(tmp_path, "meters_scheduled", days_to(yesterday, 5))
    world.client.ready_dag("meters_scheduled_train")
    run = _wait_for_run(world, "meters_scheduled_train")
    assert (run["partition_key"], run["run_type"], run["state"]) == (yesterday.isoformat(), "scheduled", "success")
    assert world.cli("show", "meters_scheduled", "--json").json["date"] == yesterday.isoformat()


def test_a_run_waits_for_its_data(world: World, tmp_path: Path) -> None:
    world.land(tmp_path, "meters_waiting", days_to(DAY - timedelta(days=1), 4))
    world.client.ready_dag("meters_waiting_train")
    run_id = world.client.trigger("meters_waiting_train", DAY, {})
    _wait_for_task(world, "meters_waiting_train", run_id, "wait_for_raw_files", "deferred")
    world.land(tmp_path, "meters_waiting", [DAY])
    _wait_for_task(world, "meters_waiting_train", run_id, "report", "success")


def _wait_for_run(world: World, dag: str, seconds: float = 600) -> dict[str, object]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        runs = [run for run in world.client.runs(dag) if run["state"] in ("success", "failed")]
        if runs:
            return runs[0]
        time.sleep(1)
    raise AssertionError(f"{dag} has no finished run after {seconds} s")


def _wait_for_task(world: World, dag: str, run_id: str, task_id: str, state: str, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        states = {task["task_id"]: task["state"] for task in world.client.tasks(dag, run_id)}
        if states.get(task_id) == state:
            return
        assert states.get(task_id) not in ("failed", "upstream_failed"), states
        time.sleep(0.5)
    raise AssertionError(f"{task_id} is not {state} after {seconds} s: {states}")
