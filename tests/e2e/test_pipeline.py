"""What a user does with the pipeline, on a real stack: land, run, repeat, change, backfill, schedule."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from boostline.cli.notebook import notebook_env
from boostline.errors import FailError
from boostline.lake.arrow import read_parquet
from boostline.lake.features import test_raw_keys as raw_keys
from boostline.lake.manifest import Manifest, read_current
from boostline.lake.paths import version_folder
from tests.e2e.conftest import DAY, World, days_to, meters_file, readings, wait_for


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
    for stage in ("features", "baseline", "model", "report"):
        assert read_current(world.store, stage, "meters", None, "2024-05-10"), stage


def test_show_prints_the_same_as_the_run(world: World, first: dict[str, object]) -> None:
    assert world.cli("show", "meters", "--json").json == first
    shown = world.cli("show", "meters", "--date", "2024-05-10")
    assert shown.code == 0
    assert "Promoted: RMSE" in shown.out
    assert "linear baseline" in shown.out
    missing = world.cli("show", "meters", "--date", "2024-05-09")
    assert missing.code == 1
    assert "boostline run meters --date" in missing.err


def test_the_report_is_one_page_without_outside_requests(world: World, first: dict[str, object]) -> None:
    page = world.store.get(str(first["report"]).removeprefix(world.store.uri("")))[0].decode()
    assert "Promoted: RMSE" in page
    assert "default-src 'none'" in page
    own = re.sub(r"(?s)<script.*?</script>", "", page)
    assert "http://" not in own
    assert "https://" not in own
    key = str(first["report"]).removeprefix(world.store.uri("")).replace("report.html", "evaluation.json")
    found = json.loads(world.store.get(key)[0])
    assert found["notes"] == []
    rmse = found["comparison"]["metrics"][0]
    assert rmse["models"]["candidate"]["value"] == pytest.approx(
        first["candidate"]["metrics"]["test"]["rmse"], rel=1e-5
    )
    assert rmse["differences"]["baseline"]["low"] < rmse["differences"]["baseline"]["high"]


def test_the_champion_loads_from_mlflow_and_scores_raw_rows(world: World, first: dict[str, object]) -> None:
    import mlflow

    mlflow.set_tracking_uri(world.stack.mlflow_uri)
    model = mlflow.pyfunc.load_model("models:/meters@champion")
    features, _ = read_current(world.store, "features", "meters", None, "2024-05-10")
    raw = read_parquet(world.store, raw_keys(features)).to_pandas()
    predicted = model.predict(raw.drop(columns=["_label", "data_date"])).prediction
    rmse = float(((predicted - raw._label) ** 2).mean() ** 0.5)
    assert rmse == pytest.approx(first["candidate"]["metrics"]["test"]["rmse"], rel=1e-9)


def scored(world: World, version: str, day: str) -> Any:
    """The published predictions of a day, as pandas."""
    found = read_current(world.store, "predictions", "meters", version_folder(version), day)
    assert found, day
    return read_parquet(world.store, [item.key for item in found[0].files]).to_pandas()


def test_a_day_is_scored_by_the_command_once(world: World, first: dict[str, object]) -> None:
    version = first["candidate"]["version"]
    answer = world.cli("score", "meters", "--date", DAY.isoformat(), "--json")
    assert answer.code == 0, answer.err
    where = world.store.uri(f"predictions/meters/version={version}/date={DAY}/current.json")
    told = {"date": DAY.isoformat(), "version": version, "rows": 288, "manifest": where}
    assert answer.json == [told | {"ran": True}]
    predictions = scored(world, version, DAY.isoformat())
    assert set(predictions.model_version) == {version} and set(predictions.data_date) == {DAY}
    features, _ = read_current(world.store, "features", "meters", None, DAY.isoformat())
    raw = read_parquet(world.store, raw_keys(features)).to_pandas()
    both = raw.merge(predictions.drop(columns=["data_date"]), on=["day", "meter", "hour"], validate="one_to_one")
    rmse = float(((both.prediction - both._label) ** 2).mean() ** 0.5)
    assert len(both) == 288 and rmse == pytest.approx(first["candidate"]["metrics"]["test"]["rmse"], rel=1e-9)
    assert world.cli("score", "meters", "--date", DAY.isoformat(), "--json").json == [told | {"ran": False}]
    assert world.cli("score", "meters").code == 2
    wrong = world.cli("score", "meters", "--date", DAY.isoformat(), "--version", "99")
    assert wrong.code == 1 and "meters has no version 99" in wrong.err


def test_a_stream_scores_what_is_landed(world: World, first: dict[str, object]) -> None:
    answer = world.cli("stream", "meters", "--once")
    assert answer.code == 0, answer.err
    found = [item.key for item in world.store.list("predictions/meters/stream=") if item.key.endswith("/current.json")]
    batches = [Manifest.model_validate_json(world.store.get(key)[0]) for key in found]
    streamed = read_parquet(world.store, [item.key for batch in batches for item in batch.files]).to_pandas()
    assert len(streamed) == 5 * 288
    day = streamed[streamed.data_date == DAY].merge(
        scored(world, first["candidate"]["version"], DAY.isoformat()), on=["day", "meter", "hour"]
    )
    assert len(day) == 288 and (day.prediction_x == day.prediction_y).all()


PYTHON = re.findall(r"```python\n(.*?)```", Path("docs/use.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", [block for block in PYTHON if "http" not in block])
def test_documented_python_runs(world: World, first: dict[str, object], block: str) -> None:
    code = (
        block.replace("nyc_flights", "meters").replace('"flights"', '"readings"').replace("2013-03-31", DAY.isoformat())
    )
    # What needs a Spark session says that it is for a notebook.
    env = notebook_env(world.stack) if "notebook_session" in block else world.env
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "prediction" in done.stdout, done.stderr


def test_a_repeat_does_no_work_and_changes_nothing(world: World, first: dict[str, object]) -> None:
    before = {item.key: item.etag for item in world.store.list("")}
    answer = world.cli("run", "meters", "--date", DAY.isoformat(), "--json")
    assert answer.code == 0, answer.err
    assert answer.json == first
    handed = world.handed("meters_train", world.newest_run("meters_train")["dag_run_id"])
    assert [name for name, value in handed.items() if value.get("ran")] == []
    assert {item.key: item.etag for item in world.store.list("")} == before


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


def test_a_backfill_makes_one_run_per_date_and_cleans_a_corrected_day_once(
    world: World, first: dict[str, object], tmp_path: Path
) -> None:
    world.land(tmp_path, "meters", days_to(DAY + timedelta(days=2), 2))
    corrected, unchanged = DAY - timedelta(days=1), DAY - timedelta(days=2)
    path = tmp_path / "readings.csv"
    path.write_text(readings(corrected).replace(",0,0, S0 ,", ",0,0, S1 ,"))
    assert world.cli("land", "meters", str(path), "--date", str(corrected)).code == 0
    answer = world.cli("backfill", "meters", "--from", "2024-05-11", "--to", "2024-05-12")
    assert answer.code == 0, answer.out + answer.err
    assert "2 of 2 dates succeeded" in answer.out
    runs = world.client.runs_by_date("meters_train", DAY + timedelta(days=1), DAY + timedelta(days=2))
    assert sorted(runs) == ["2024-05-11", "2024-05-12"]
    assert {run["run_type"] for run in runs.values()} == {"backfill"}

    def attempt(day: date) -> str:
        return read_current(world.store, "clean", "meters", "readings", str(day))[0].attempt

    # One of the two runs wrote the corrected day beside a day of its own; the first run's other days lie as they were.
    assert attempt(corrected) in {attempt(DAY + timedelta(days=1)), attempt(DAY + timedelta(days=2))}
    assert attempt(unchanged) == attempt(DAY)
    second = world.cli("show", "meters", "--date", "2024-05-12", "--json").json
    assert second["promoted"] is False
    assert second["champion"]["version"] == first["candidate"]["version"]
    assert second["champion"]["metrics"]["rmse"] > 0


def test_a_published_day_is_scored_by_itself(world: World, first: dict[str, object]) -> None:
    """The scoring DAG listens to clean partitions, once it is unpaused: the backfill's days were scored beside it."""
    days = {"2024-05-11", "2024-05-12"}

    def runs() -> dict[str, Any]:
        return {run["partition_key"]: run for run in world.client.runs("meters_score") if run["partition_key"] in days}

    wait_for("both are scored", lambda: [run["state"] for run in runs().values()] == ["success"] * 2, 180)
    assert {run["triggered_by"] for run in runs().values()} == {"asset"}
    for day in days:
        assert len(scored(world, first["candidate"]["version"], day)) == 288
    answer = world.cli("score", "meters", "--from", "2024-05-11", "--to", "2024-05-12")
    assert answer.code == 0, answer.err
    assert answer.out.count("288 rows") == answer.out.count("up to date") == 2


def test_a_date_without_data_is_skipped_green(world: World) -> None:
    answer = world.cli("run", "meters", "--date", "2023-01-01")
    assert answer.code == 0, answer.err
    assert "skipped: no raw data" in answer.err
    # What was called a success can be called off, which `boostline cancel` needs where the scheduler was quicker.
    run_id = world.newest_run("meters_train")["dag_run_id"]
    world.client.cancel("meters_train", run_id)
    assert world.client.run("meters_train", run_id)["state"] == "failed"


def test_wrong_use_says_what_to_do(world: World) -> None:
    assert "Write it as YYYY-MM-DD" in world.cli("run", "meters", "--date", "10.5.2024").err
    assert "meters_daily" in world.cli("run", "metres", "--date", "2024-05-10").err
    assert world.cli("run", "meters").code == 2
    assert "Swap them" in world.cli("backfill", "meters", "--from", "2024-05-02", "--to", "2024-05-01").err
    assert "boostline runs" in world.cli("cancel", "nothing").err


def test_a_new_dataset_file_is_known_at_once_and_so_is_its_mending(world: World) -> None:
    path, text = world.stack.datasets / "meters_new.yaml", meters_file("meters_new")
    try:
        path.write_text(text + "bogus: 1\n")
        with pytest.raises(FailError, match="its dataset file is wrong"):
            world.client.ready_dag("meters_new_train", unpause=False)
        path.write_text(text)
        world.client.ready_dag("meters_new_train", unpause=False)
    finally:
        path.unlink()


def test_check_and_runs(world: World, first: dict[str, object]) -> None:
    checked = world.cli("check")
    assert checked.code == 0, checked.out
    assert "ok    S3" in checked.out
    listed = world.cli("runs", "meters", "--json").json
    assert {"2024-05-10"} <= {run["partition_key"] for run in listed}
    assert "success" in world.cli("runs", "meters").out
