"""The report of a run, on a real S3 store and a real MLflow server: what it says, and what it must never do."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from secrets import token_hex

import httpx
import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.model_lab import toy_dataset
from tests.report_lab import Lab

from boostline.errors import ServiceUnavailable
from boostline.lake.manifest import read_current, read_ref, read_refs
from boostline.lake.store import Store
from boostline.local.layout import BUCKET
from boostline.metrics import evaluate
from boostline.registry.versions import find_version, load_version
from boostline.reporting.drift import _psi, _shares, changes
from boostline.reporting.evaluation import evaluation
from boostline.reporting.page import render_page, verdict_sentence
from boostline.reporting.report import Stages, build_result, load_result, report_keys
from boostline.reporting.rows import TestRows, TrainRows, load_test_rows
from boostline.reporting.terminal import run_summary
from boostline.reporting.text import days, share
from boostline.scoring.model_file import ModelInfo, load_published
from boostline.settings import Settings
from boostline.transform import Transform

TASKS = ("regression", "binary", "multiclass")
CHARTS = {
    "regression": {"learning", "scatter", "residuals", "slices", "time", "shap"},
    "binary": {"learning", "roc", "precision_recall", "calibration", "slices", "time", "shap"},
    "multiclass": {"learning", "roc", "precision_recall", "calibration", "slices", "time", "shap"},
}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module", params=TASKS)
def two_runs(request, s3, mlflow_uri):
    """A dataset of each task, the reports of its first run and of a second one that beats the champion."""
    store = Store(Settings(lake=f"s3://{BUCKET}/{token_hex(6)}", s3_endpoint=s3.s3_endpoint))
    settings = store.settings.model_copy(update={"mlflow_uri": mlflow_uri, "threads": 2})
    changes = {"gate.beat_champion": -0.5} | ({"label.unit": "EUR"} if request.param == "regression" else {})
    bench = Lab(store, settings, toy_dataset(request.param, f"report_{request.param}", **changes))
    return bench, bench.run("2020-03-30"), bench.run("2020-03-31", seed=10)


@pytest.fixture
def lab(store, settings, request):
    """`lab(task, changes)`: a dataset of the test's own."""

    def make(task, **changes):
        name = request.node.name.removeprefix("test_").replace("[", "_").replace("-", "_").rstrip("]")[:60]
        return Lab(store, settings, toy_dataset(task, name, **{"gate.beat_champion": -0.5, **changes}))

    return make


def without_scripts(page):
    return re.sub(r"(?s)<script.*?</script>", "", page)


def drawn(page):
    """The charts of a page, by key, as Bokeh's JSON."""
    found = re.findall(r'(?s)<script type="application/json" data-plot="plot-(\w+)">(.*?)</script>', page)
    return {key: json.loads(body) for key, body in found}


def test_report_says_what_a_run_came_to(two_runs):
    bench, first, report = two_runs
    assert "There is no champion to compare with" in first.page
    assert report.run["promoted"] and report.run["champion"]["version"] == "1"
    assert f"{verdict_sentence(report.run)}." in html.unescape(report.page)
    assert set(drawn(report.page)) == CHARTS[bench.dataset.task] | {"drift"}
    headings = re.findall(r"<h2>(.*?)</h2>", report.page)
    assert [text.split(" on ")[0] for text in headings] == [
        "Comparison",
        "Training",
        "How good the predictions are",
        "Where it errs",
        "What the model looks at",
        "What changed in the data since the champion",
        "Data quality",
        "The run",
    ]
    assert "5 × size is below 0" in report.page
    assert "2,110" in report.page  # ingested: clean, in quarantine and dropped
    assert read_current(bench.store, "report", bench.dataset.name, None, "2020-03-31")[0].attempt == report.ref.attempt


def test_rows_that_featurize_dropped_are_told(two_runs):
    bench, _, report = two_runs
    stages = Stages(*read_refs(bench.store, [bench.facts.features, bench.facts.baseline, bench.facts.model]))
    info, page = load_published(bench.store, stages.model).info, {}
    for unseen in (3, 0):
        rows = stages.features.rows | {"no_label": 1, "unseen_class": unseen, "duplicates": 0, "window": 9}
        changed = stages._replace(features=stages.features.model_copy(update={"rows": rows}))
        result = build_result(bench.facts, changed, info, report.run["window"])
        assert result["dropped"] == {"no_label": 1, "unseen_class": unseen, "duplicates": 0}
        page[unseen] = render_page(bench.dataset, report.run | result, report.evaluation)
    dropped = "1 rows without a label, 3 rows of a class that no train row has, 0 rows that a later day replaced."
    assert f"Dropped from the window: {dropped}" in page[3]
    assert "of a class that no train row has" not in page[0]


def test_page_is_small_and_asks_no_other_host(two_runs):
    page = two_runs[2].page
    assert len(page.encode()) < 1_500_000
    assert "default-src 'none'" in page
    outside = without_scripts(page)
    assert not re.search(r"""(?i)\b(src|href|srcset|action|data)\s*=|url\(|@import|https?:""", outside)
    assert page.count("Copyright (c) Anaconda") == 1  # the library is there once
    assert not re.search(r"(?i)<script[^>]+src", page)


def test_page_of_a_large_run_is_small_too(two_runs):
    bench, _, report = two_runs
    task, random, rows = bench.dataset.task, np.random.default_rng(0), 3000
    classes = {"regression": [], "binary": ["no", "yes"], "multiclass": [f"class {i} of many" for i in range(60)]}[task]
    categories = {f"a_long_name_of_a_column_{i}": tuple(f"{'value ' * 30}{j}" for j in range(200)) for i in range(150)}
    names = [*categories, *(f"number_{i}" for i in range(150))]
    coded = {name: random.integers(0, 9, rows).astype("int32" if name in categories else float) for name in names}
    label = random.integers(0, max(2, len(classes)), rows).astype(float)
    shape = (rows, len(classes)) if task == "multiclass" else rows
    found = {name: random.random(shape) / 60 + 0.01 for name in ("candidate", "baseline", "champion")}
    test = TestRows(
        total=10**7, seed=1, label=label, day=np.datetime64("2020-01-01") + random.integers(0, 30, rows),
        features=pa.table(coded), categories=categories, predictions=found, thresholds=dict.fromkeys(found, 0.5),
        shap=random.normal(size=(150, *shape[1:], 301) if task == "multiclass" else (150, 301)),
        shap_rows=np.arange(150), notes=[],
    )  # fmt: skip
    stored = read_ref(bench.store, bench.facts.model)
    info = ModelInfo.model_validate_json(bench.store.get(next(f.key for f in stored.files if "model.json" in f.key))[0])
    curve = {split: random.random(20_000).tolist() for split in ("train", "valid")}
    info = info.model_copy(update={"features": dict.fromkeys(names, "q"), "classes": classes, "learning_curve": curve})
    transform = Transform.model_validate(
        {"format": 1, "dataset": "x", "task": task, "date": "2020-01-01", "columns": {}, "derived": {}, "names": names,
         "categorical": categories, "numeric": {name: None for name in names if name not in categories}, "label": "x",
         "classes": classes}
    )  # fmt: skip
    other = transform.model_copy(
        update={
            "categorical": {name: tuple(f"other {value}" for value in values) for name, values in categories.items()}
        }
    )
    now, before = (TrainRows(test.features, item, {"train": rows}, {}) for item in (transform, other))
    metrics = {name: evaluate(task, label, values, classes=tuple(classes)) for name, values in found.items()}
    dataset = bench.dataset.model_copy(
        update={"features": bench.dataset.features.model_copy(update={"categorical": tuple(categories)})}
    )
    whole = evaluation(dataset, info, metrics, test, changes(before, now, info))
    size = len(render_page(dataset, report.run, whole).encode())
    assert 1_300_000 < size < 1_500_000


def test_every_chart_has_a_text_with_unit_and_rows(two_runs):
    task, report = two_runs[0].dataset.task, two_runs[2]
    unit = "EUR" if task == "regression" else "nats"
    for key in drawn(report.page):
        assert f'id="plot-{key}" role="img" aria-labelledby="about-{key}"' in report.page
        text = re.search(rf'(?s)<figcaption id="about-{key}">(.*?)</figcaption>', report.page)[1]
        assert re.search(r"\brows\b", text), key
        expected = {"drift": "no unit", "shap": "EUR" if task == "regression" else "log-odds"}
        expected |= dict.fromkeys(("roc", "precision_recall", "calibration"), "shares of 1")
        assert expected.get(key, unit) in text, key


def test_same_run_gives_the_same_bytes(two_runs):
    bench, _, report = two_runs
    again = bench.write(bench.facts, "r2")
    assert again.evaluation == report.evaluation
    assert again.page == report.page


@pytest.mark.parametrize("task", ("regression", "binary"))
def test_hostile_texts_stay_texts(lab, task):
    bench = lab(task, description="</title><script>alert(2)</script>")
    raw = bench.rows("2020-03-31", 0)
    for split, table in raw.items():
        city = pc.if_else(pc.equal(table["city"], "Oslo"), f"$$x$$ {HOSTILE}", table["city"])
        raw[split] = table.set_column(table.column_names.index("city"), "city", city)
    report = bench.run(raw=raw)
    assert any(HOSTILE in item["value"] for item in report.evaluation["slices"]["items"])
    assert HOSTILE.lower() not in report.page.lower()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report.page
    assert "&lt;/title&gt;&lt;script&gt;alert(2)" in report.page
    # A text of dollars would be mathematics, which Bokeh loads a script for.
    assert not re.search(r'"(TeX|MathML)"', json.dumps(drawn(report.page)))
    assert '"PlainText"' in json.dumps(drawn(report.page)["slices"])


def test_rows_of_the_report_are_predicted_as_the_gate_measured_them(two_runs):
    bench, _, report = two_runs
    features, baseline, model = read_refs(bench.store, [bench.facts.features, bench.facts.baseline, bench.facts.model])
    champion = load_version(bench.store, find_version(bench.settings, bench.dataset.name, "1"))
    rows = load_test_rows(
        bench.store, bench.settings, bench.dataset, features=features, baseline=baseline,
        candidate=load_published(bench.store, model), champion=champion,
    )  # fmt: skip
    measured = {"candidate": report.run["candidate"]["metrics"]["test"], "champion": report.run["champion"]["metrics"]}
    for name, expected in measured.items():
        found = evaluate(bench.dataset.task, rows.label, rows.predictions[name], threshold=rows.thresholds[name])
        assert {key: found[key] for key in expected if key != "per_class"} == pytest.approx(
            {key: value for key, value in expected.items() if key != "per_class"}
        )


def test_intervals_hold_the_metrics_and_pair_the_differences(two_runs):
    report, task = two_runs[2], two_runs[0].dataset.task
    found = report.evaluation["comparison"]
    assert found["rows"] == 600
    by_metric = {row["metric"]: row for row in found["metrics"]}
    assert by_metric["log_loss" if task != "regression" else "rmse"]["models"].keys() == {
        "baseline",
        "candidate",
        "champion",
    }
    for metric, row in by_metric.items():
        for name, item in row["models"].items():
            expected = report.run["champion"]["metrics"] if name == "champion" else report.run[name]["metrics"]["test"]
            assert item["value"] == pytest.approx(expected[metric], rel=1e-5)
            assert item["low"] <= item["value"] <= item["high"]
        for rival, item in row["differences"].items():
            apart = row["models"]["candidate"]["value"] - row["models"][rival]["value"]
            assert item["value"] == pytest.approx(apart, abs=1e-5)
    # Two models that err on the same rows: their difference is surer than either.
    row = found["metrics"][0]
    width = {name: item["high"] - item["low"] for name, item in row["models"].items()}
    paired = row["differences"]["champion"]
    assert paired["high"] - paired["low"] < np.hypot(width["candidate"], width["champion"])


@pytest.mark.parametrize(("kept", "there"), [(19, False), (20, True)])
def test_averages_over_classes_have_no_interval_where_a_class_has_few_rows(lab, kept, there):
    bench = lab("multiclass")
    raw = bench.rows("2020-03-31", 0)
    rare = np.flatnonzero(raw["test"].column("_label").to_numpy() == 2)[kept:]
    raw["test"] = raw["test"].take(np.setdiff1d(np.arange(raw["test"].num_rows), rare))
    report = bench.run(raw=raw)
    for row in report.evaluation["comparison"]["metrics"]:
        found = [*row["models"].values(), *row["differences"].values()]
        expected = there or row["metric"] in ("log_loss", "accuracy")
        assert all(np.isfinite(item["value"]) and (item["low"] is not None) == expected for item in found), row
    assert "averaged over the classes has none where a class has fewer than 20 of these rows" in report.page


def test_interval_is_that_of_the_bootstrap(lab):
    report = (bench := lab("regression")).run()
    found = report.evaluation["comparison"]["metrics"][0]["models"]["baseline"]
    keys = [item.key for item in read_ref(bench.store, bench.facts.baseline).files]
    table = pa.parquet.read_table(pa.BufferReader(bench.store.get(keys[0])[0]))
    label, prediction = table["_label"].to_numpy(), table["prediction"].to_numpy()
    random = np.random.default_rng(1)
    drawn_ = [random.integers(0, 600, 600) for _ in range(2000)]
    low, high = np.quantile([evaluate("regression", label[i], prediction[i])["rmse"] for i in drawn_], [0.025, 0.975])
    assert found["low"] == pytest.approx(low, abs=0.15 * (high - low))
    assert found["high"] == pytest.approx(high, abs=0.15 * (high - low))


def test_more_rows_than_are_read_are_drawn_and_the_page_says_so(lab, monkeypatch):
    monkeypatch.setattr("boostline.reporting.rows.TEST_ROWS", 200)
    report = lab("binary").run()
    assert report.evaluation["test"] | {"rows": 600, "measured": 200} == report.evaluation["test"]
    assert "200 test rows drawn from 600" in report.page
    assert "on 600 test rows" in verdict_sentence(report.run)
    found = report.evaluation["comparison"]["metrics"][0]["models"]
    for name in ("baseline", "candidate"):
        assert found[name]["value"] == pytest.approx(report.run[name]["metrics"]["test"]["log_loss"], rel=1e-5)


def test_report_without_the_baselines_rows_says_so(lab):
    report = lab("binary").run(baseline_rows=False)
    models = report.evaluation["comparison"]["metrics"][0]["models"]
    assert models["baseline"]["value"] is not None and models["baseline"]["low"] is None
    assert "so it has no interval" in report.page


def test_a_slice_that_is_worse_comes_first_with_its_rows(lab):
    bench = lab("regression")
    raw = bench.rows("2020-03-31", 0)
    lima = pc.fill_null(pc.equal(raw["test"]["city"], "Lima"), False)
    noise = np.random.default_rng(3).normal(0, 4, 600)
    label = pc.add(raw["test"]["_label"], pc.multiply(pc.cast(lima, pa.float64()), pa.array(noise)))
    raw["test"] = raw["test"].set_column(raw["test"].column_names.index("_label"), "_label", label)
    found = bench.run(raw=raw).evaluation["slices"]
    worst = found["items"][0]
    assert (worst["feature"], worst["value"], worst["rows"]) == ("city", "lima", pc.sum(lima).as_py())
    assert worst["errors"]["candidate"]["value"] > 1.5 * found["all"]["candidate"]["value"]
    assert found["minimum_rows"] == 30
    errors = [item["errors"]["candidate"]["value"] for item in found["items"]]
    assert errors == sorted(errors, reverse=True)


def test_small_slices_are_left_out(lab):
    bench = lab("regression")
    raw = bench.rows("2020-03-31", 0)
    for split, table in raw.items():
        city = pa.array(["Rare" if row < 29 else "Common" for row in range(table.num_rows)])
        raw[split] = table.set_column(table.column_names.index("city"), "city", city)
    found = bench.run(raw=raw).evaluation["slices"]
    assert "rare" not in {item["value"] for item in found["items"]}
    assert found["left_out"] == 1


def test_drift_names_what_changed_since_the_champion(lab):
    bench = lab("regression")
    bench.run("2020-03-30")
    raw = bench.rows("2020-03-31", 10)
    train = raw["train"]
    city = pc.if_else(pc.equal(train["city"], "Bern"), "Paris", train["city"])
    train = train.set_column(train.column_names.index("city"), "city", city)
    raw["train"] = train.set_column(train.column_names.index("size"), "size", pc.multiply(train["size"], 2.0))
    report = bench.run("2020-03-31", seed=10, raw=raw)
    changes = report.evaluation["changes"]
    by_feature = {item["feature"]: item for item in changes["features"]}
    assert changes["features"][0]["feature"] in ("city", "size")
    assert by_feature["city"]["new"] == ["paris"] and by_feature["city"]["lost"] == ["bern"]
    assert by_feature["city"]["score"] > 0.25 < by_feature["size"]["score"]
    assert by_feature["age"]["score"] < 0.1
    assert by_feature["city"]["nulls"]["before"] == pytest.approx(0.1, abs=0.03)
    assert "population stability index" in report.page


def test_rows_of_the_champion_that_are_gone_leave_its_categories(lab):
    bench = lab("regression")
    bench.run("2020-03-30")
    bench.store.delete([f"features/{bench.dataset.name}/date=2020-03-30/current.json"])
    changed = bench.run("2020-03-31", seed=10)
    assert changed.evaluation["changes"]["gone"] is True
    assert "are not the published ones of its date any more" in changed.page


def test_psi_is_that_of_the_textbook():
    before, now = np.array([50.0, 30.0, 20.0, 0.0]), np.array([30.0, 30.0, 40.0, 0.0])
    p, q = (before + 0.5)[:3] / 101.5, (now + 0.5)[:3] / 101.5
    assert _psi(before, now) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert _psi(before, before) == 0


def test_numbers_below_all_of_the_champions_drift():
    transform = Transform.model_validate(
        {"format": 1, "dataset": "x", "task": "regression", "date": "2020-01-01", "columns": {}, "derived": {},
         "categorical": {}, "numeric": {"rain": None}, "names": ("rain",), "label": "x", "classes": ()}
    )  # fmt: skip

    def psi(*numbers):
        first, now = (TrainRows(pa.table({"rain": item}), transform, {}, {}) for item in (before, np.array(numbers)))
        return _psi(*_shares("rain", first, now))

    before = np.repeat([0.0, 1, 2, 3], 100)
    assert psi(*before) == 0
    assert psi(*np.repeat([-1.0, 1, 2, 3], 100)) > 0.25 < psi(*np.repeat([0.0, 1, 2, 4], 100))


def test_learning_curve_says_when_all_rounds_were_kept(lab):
    bench = lab("regression", **{"model.early_stopping": 0, "model.rounds": 300, "model.params.eta": 0.5})
    report = bench.run()
    stored = next(item.key for item in read_ref(bench.store, bench.facts.model).files if "model.json" in item.key)
    valid = ModelInfo.model_validate_json(bench.store.get(stored)[0]).learning_curve["valid"]
    best = valid.index(min(valid)) + 1
    assert best < 300 and report.evaluation["learning_curve"]["best"] == best
    assert f"best at round {best} (dotted line)" in report.page
    assert "all 300 rounds were kept." in report.page and "the model ends there" not in report.page


def test_all_rows_of_a_linear_model_are_those_that_it_was_fitted_on(two_runs):
    bench, _, report = two_runs
    measured = report.run["baseline"]["metrics"]
    for test_is_valid, rows in ((False, "2,100"), (True, "1,800")):
        changed = {"baseline": {"kind": "linear", "metrics": measured | {"in_sample": measured["test"]}}}
        page = render_page(bench.dataset, report.run | changed | {"test_is_valid": test_is_valid}, report.evaluation)
        assert f'<td>all rows, fitted and measured on them</td><td class="n">{rows}</td>' in page


def test_constant_label_gives_a_page(lab):
    bench = lab("regression")
    raw = bench.rows("2020-03-31", 0)
    raw["test"] = raw["test"].set_column(
        raw["test"].column_names.index("_label"), "_label", pa.array([1.0] * raw["test"].num_rows)
    )
    report = bench.run(raw=raw)
    assert set(drawn(report.page)) == CHARTS["regression"]
    assert {row["metric"] for row in report.evaluation["comparison"]["metrics"]} == {"rmse", "mae"}


@pytest.mark.parametrize("task", ("binary", "multiclass"))
def test_one_class_in_test_gives_a_page(lab, task):
    bench = lab(task)
    raw = bench.rows("2020-03-31", 0)
    raw["test"] = raw["test"].set_column(
        raw["test"].column_names.index("_label"), "_label", pa.array([1.0] * raw["test"].num_rows)
    )
    report = bench.run(raw=raw)
    assert "All test rows are of one class" in report.page
    assert not {"roc", "precision_recall"} & set(drawn(report.page))


def test_no_categorical_and_one_date_give_a_page(lab):
    bench = lab("regression", **{"features.categorical": [], "features.derived": {}})
    raw = {split: table.drop_columns(["data_date"]) for split, table in bench.rows("2020-03-31", 0).items()}
    for split, table in raw.items():
        raw[split] = table.append_column("data_date", pa.array(["2020-03-31"] * table.num_rows).cast(pa.date32()))
    report = bench.run(raw=raw)
    assert set(drawn(report.page)) == {"learning", "scatter", "residuals", "shap"}
    assert "No slice to show" in report.page


def test_an_experiment_is_reported_and_not_published(lab):
    bench = lab("regression")
    report = bench.run(publish=False)
    assert "nothing of it is published" in report.page
    assert read_current(bench.store, "report", bench.dataset.name, None, "2020-03-31") is None


def test_test_rows_that_validate_are_named(lab):
    bench = lab("regression", split={"kind": "first_rows", "test_rows": 600, "test_is_valid": True})
    raw = bench.rows("2020-03-31", 0)
    del raw["valid"]
    assert "The test rows also stopped the training" in bench.run(raw=raw).page


def test_champion_that_cannot_be_compared_is_named(lab):
    bench = lab("regression")
    bench.run("2020-04-30")
    report = bench.run("2020-03-31", seed=10)
    assert report.run["champion"]["metrics"] is None
    assert "was not compared: its data date 2020-04-30 is later" in report.page
    assert report.evaluation["changes"] == {}


def test_page_is_an_artifact_of_the_mlflow_run(lab, mlflow_uri):
    bench = lab("regression")
    report = bench.run()
    bench.write(bench.facts, "r2")
    run = report.run["model"]["mlflow"]["run_id"]
    listed = httpx.get(f"{mlflow_uri}/api/2.0/mlflow/artifacts/list", params={"run_id": run, "path": "report"}).json()
    assert [item["path"] for item in listed["files"]] == ["report/report.html"]
    stored = httpx.get(f"{mlflow_uri}/get-artifact", params={"run_id": run, "path": "report/report.html"})
    assert stored.text == report.page

    client = mlflow.MlflowClient(mlflow_uri)
    parent = client.get_run(run)
    assert parent.info.run_name == f"{bench.dataset.name} 2020-03-31"
    below = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run}'")
    named = {child.info.run_name.removeprefix(f"{parent.info.run_name} "): child for child in below}
    assert len(below) == 4 and set(named) == {"ingest", "featurize", "baseline", "gate"}  # twice written, once there
    assert named["baseline"].data.metrics["test_rmse"] == report.run["baseline"]["metrics"]["test"]["rmse"]
    assert named["gate"].data.tags["passed"] == "yes" and named["gate"].data.tags["reasons"]
    assert {child.info.status for child in below} == {"FINISHED"}


def test_experiment_leaves_the_page_of_the_published_run_and_puts_its_own_beside_its_own_model(lab, mlflow_uri):
    bench = lab("regression")

    def stored(report):
        params = {"run_id": report.run["model"]["mlflow"]["run_id"], "path": "report/report.html"}
        return httpx.get(f"{mlflow_uri}/get-artifact", params=params).text

    published = bench.run()
    told = bench.write(replace(bench.facts, publish=False, changes={"gate.beat_baseline": 0.9}), "r2")
    assert told.page != published.page == stored(told)
    own = bench.run(seed=5, publish=False)
    assert own.page == stored(own)


def test_mlflow_that_is_down_is_tried_again_and_publishes_nothing(lab):
    bench = lab("regression")
    bench.run(publish=True)
    bench.settings = bench.settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    before = read_current(bench.store, "report", bench.dataset.name, None, "2020-03-31")
    with pytest.raises(ServiceUnavailable):
        bench.write(bench.facts, "r2")
    assert read_current(bench.store, "report", bench.dataset.name, None, "2020-03-31") == before


def test_report_of_an_earlier_version_is_still_shown(lab):
    bench = lab("regression")
    report = bench.run()
    for key in ("test", "software", "params", "peak_memory_bytes"):
        del report.run[key]
    bench.store.put(report_keys(report.ref)[1], json.dumps(report.run).encode())
    result = load_result(bench.store, report.ref)
    assert verdict_sentence(result).startswith("Promoted: RMSE ")
    assert run_summary(result)


def test_verdict_has_unit_rows_and_days():
    metrics = {"rmse": 12.345}
    result = {
        "promoted": True,
        "metric": "rmse",
        "rows": {"test": 11204},
        "candidate": {"metrics": {"test": metrics}},
        "baseline": {"kind": "linear", "metrics": {"test": {"rmse": 14.7}}},
        "champion": {"version": "3", "date": "2013-06-29", "metrics": {"rmse": 12.39}},
        "test": {"noun": "flights", "unit": "min", "first": "2013-06-24", "last": "2013-06-30"},
    }
    assert verdict_sentence(result) == (
        "Promoted: RMSE 12.35 min on 11,204 test flights of 24–30 June 2013, 16% below the linear baseline, "
        "0.4% below the champion"
    )


def test_days_and_shares_as_people_write_them():
    assert days("2013-06-24", "2013-07-01") == "24 June – 1 July 2013"
    assert days("2013-12-31", "2014-01-01") == "31 December 2013 – 1 January 2014"
    assert days("2013-06-24", "2013-06-24") == "24 June 2013"
    assert [share(value) for value in (0.16, 0.004, 0.0996, 1.0)] == ["16%", "0.4%", "10%", "100%"]
