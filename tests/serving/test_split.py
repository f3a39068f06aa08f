"""Champion and challenger side by side."""

from __future__ import annotations

import pytest

from tests.model_lab import toy_dataset
from tests.serving.conftest import raw_rows, serving, wait_for


@pytest.fixture(scope="module")
def challenger(world):
    world.promote("regression", "1")
    world.alias("regression", "challenger", "2")


@pytest.fixture(scope="module")
def shared(world, challenger, tmp_path_factory):
    home = tmp_path_factory.mktemp("serve")
    with serving(world, home, datasets=("regression",), SERVE_CHALLENGER_SHARE='{"regression": 0.3}') as running:
        yield running


@pytest.fixture(scope="module")
def shadowed(world, challenger, tmp_path_factory):
    home = tmp_path_factory.mktemp("serve")
    with serving(
        world, home, datasets=("regression",), SERVE_SHADOW='["regression"]', SERVE_MAX_ROWS="5000"
    ) as running:
        yield running


def test_a_key_sticks_to_its_model_and_the_share_is_kept(shared, world):
    rows = raw_rows("regression", 2)
    expected = {version: world.model("regression", version).answer(rows).to_pylist() for version in ("1", "2")}
    versions = {}
    for number in range(400):
        answer = shared.predict("regression", rows, headers={"X-Boostline-Key": f"caller-{number}"})
        versions[number] = answer.json()["version"]
        assert answer.headers["x-boostline-version"] == versions[number]
        assert answer.json()["predictions"] == expected[versions[number]]
    # 120 of 400 are expected; six standard deviations either way. The keys are fixed, so it is the same every time.
    assert 65 < sum(version == "2" for version in versions.values()) < 175
    for number in range(0, 400, 40):
        again = shared.predict("regression", rows, params={"key": f"caller-{number}"})
        assert again.json()["version"] == versions[number]


def test_without_a_key_the_request_id_decides_and_the_log_has_the_version(shared):
    rows = raw_rows("regression", 1)
    found = {
        f"r{i}": shared.predict("regression", rows, headers={"X-Request-ID": f"r{i}"}).json()["version"]
        for i in range(60)
    }
    assert set(found.values()) == {"1", "2"}
    for request, version in found.items():
        line = shared.line(request)
        assert (line["version"], line["alias"]) == (version, {"1": "champion", "2": "challenger"}[version])
        assert line["date"] == {"1": "2020-03-30", "2": "2020-03-31"}[version]
    assert shared.model("regression")["challenger"] == "2"


def test_the_shadow_is_scored_and_logged_and_never_answered(shadowed, world):
    rows = raw_rows("regression", 200)
    sums = {version: sum(world.model("regression", version).answer(rows).column(0).to_pylist()) for version in "12"}
    answer = shadowed.predict("regression", rows, headers={"X-Request-ID": "watched"})
    assert answer.json()["version"] == "1"
    wait_for("the shadow", lambda: shadowed.metric("boostline_shadow_rows_total", dataset="regression") == 200, 20)
    assert shadowed.metric("boostline_prediction_running_sum", role="shadow", version="2") == pytest.approx(sums["2"])
    assert shadowed.metric("boostline_prediction_running_sum", role="answered", version="1") == pytest.approx(sums["1"])
    assert shadowed.metric("boostline_prediction_bucket", role="answered", version="2", le="+Inf") == 0
    (line,) = wait_for("its line", lambda: [line for line in shadowed.lines() if line["message"] == "shadow"], 10)
    assert line["request"] == "watched" and line["version"] == "2" and line["rows"] == 200
    assert line["date"] == "2020-03-31" and line["mean_difference"] > 0
    assert shadowed.metric("boostline_shadow_difference_total") == pytest.approx(
        200 * line["mean_difference"], rel=0.01
    )
    assert shadowed.predict("regression", rows.slice(0, 1)).status_code == 200
    wait_for("another", lambda: shadowed.metric("boostline_shadow_rows_total", dataset="regression") == 201, 20)


def test_a_challenger_that_is_taken_away_leaves_the_champion_to_answer(shared, shadowed, world):
    from boostline.tracking import tracking

    with tracking(world.settings) as mlflow:
        mlflow.delete_alias("regression", "challenger")
    wait_for("its end", lambda: shared.model("regression")["challenger"] is None, 10)
    rows = raw_rows("regression", 1)
    found = {shared.predict("regression", rows, params={"key": str(i)}).json()["version"] for i in range(40)}
    assert found == {"1"}


def test_rows_that_do_not_fit_the_challenger_are_answered_by_the_champion(world, tmp_path):
    narrow = toy_dataset("regression", "regression", **{"features.numeric": ["size"]})
    world.pipelines["regression"].train("2020-04-01", dataset=narrow)
    world.promote("regression", "3")
    world.alias("regression", "challenger", "1")
    try:
        with serving(
            world, tmp_path, datasets=("regression",), SERVE_CHALLENGER_SHARE='{"regression": 1.0}'
        ) as running:
            rows = raw_rows("regression", 20)
            assert running.predict("regression", rows).json()["version"] == "1"
            for count in (20, 1):
                answer = running.predict(
                    "regression", rows.drop_columns(["age"]).slice(0, count), headers={"X-Request-ID": f"old-{count}"}
                )
                assert (answer.status_code, answer.json()["version"]) == (200, "3")
                assert answer.json()["predictions"] == world.model("regression", "3").answer(rows)[:count].to_pylist()
                line = running.line(f"old-{count}")
                assert (line["version"], line["alias"], line["status"]) == ("3", "champion", 200)
            refused = running.predict("regression", rows.drop_columns(["age", "size"]))
            assert (refused.status_code, "size" in refused.json()["error"]) == (422, True)
    finally:
        world.promote("regression", "1")
