"""`boostline export` against a real MLflow registry and a real S3 store."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow as pa
import pytest
import yaml
from tests.export_lab import evaluate, pmml_rows
from tests.model_lab import toy_dataset, toy_features, toy_rows, train_toy
from typer.testing import CliRunner

from boostline.cli import app
from boostline.errors import DataMissing, FailError, ModelRefused, NotExportable
from boostline.export.files import write_file, write_folder
from boostline.lake import paths
from boostline.lake.manifest import Manifest, attempt_files, publish, read_current, read_ref
from boostline.lake.store import Store
from boostline.local.layout import BUCKET
from boostline.registry.promotion import promote_by_hand
from boostline.scoring.model_file import load_model, load_published
from boostline.settings import Settings

NAME, DAY = "exported", "2020-03-31"
LINEAR = {"kind": "linear", "intercept": 2.5, "means": {"size": 90.0, "age": 11.0}}


@pytest.fixture(scope="module")
def lake(s3, mlflow_uri, tmp_path_factory):
    """Two versions of a dataset, the first one champion, with a baseline that was written by hand."""
    store = Store(
        Settings(lake=f"s3://{BUCKET}/exporting", s3_endpoint=s3.s3_endpoint, mlflow_uri=mlflow_uri, threads=2)
    )
    dataset = toy_dataset("regression", NAME)
    features = toy_features(store, dataset, DAY)
    first = train_toy(store, store.settings, dataset, features, "m1")
    second = train_toy(store, store.settings, dataset, toy_features(store, dataset, "2020-04-01", seed=9), "m2")
    promote_by_hand(store, store.settings, NAME, "1", reason="test", who="ann")
    model = load_published(store, read_ref(store, first))
    inputs = [
        *(f"{name}={value}" for name, values in model.transform.categorical.items() for value in values),
        "size",
        "age",
    ]
    coefficients = {name: 0.1 * (index + 1) for index, name in enumerate(inputs)}
    folder = paths.attempt_folder("baseline", NAME, "b1")
    store.put(folder + "baseline.json", json.dumps(LINEAR | {"coefficients": coefficients}).encode())
    publish(store, Manifest(stage="baseline", dataset=NAME, partition=DAY, attempt="b1", fingerprint="b", row_hash="b",
                            inputs={"features": features.identity}, files=attempt_files(store, folder), rows={},
                            columns={}, details={"kind": "linear"}), None)  # fmt: skip
    home = tmp_path_factory.mktemp("datasets")
    body = dataset.model_dump(mode="json", by_alias=True, exclude_unset=True)
    (home / f"{NAME}.yaml").write_text(yaml.safe_dump(body))
    return SimpleNamespace(store=store, home=home, model=model, first=first, second=second, coefficients=coefficients)


@pytest.fixture
def run(lake, monkeypatch, tmp_path):
    """Run `boostline export` for that dataset, to a path in a folder of the test's own."""
    for key in ("lake", "s3_endpoint", "mlflow_uri"):
        monkeypatch.setenv(f"BOOSTLINE_{key.upper()}", str(getattr(lake.store.settings, key)))
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(lake.home))
    monkeypatch.setenv("COLUMNS", "200")

    def call(form, *more, name="model.out", code=0):
        arguments = ["export", NAME, "--format", form, "--out", str(tmp_path / name), *more]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output, tmp_path / name

    return call


def raw_rows():
    return toy_rows("regression", 1000, 77, new_city=True).drop_columns(["_label"])


def test_pmml_of_the_champion_predicts_what_it_does(run, lake):
    text, path = run("pmml")
    assert text.startswith(f"version 1 of {NAME}: xgboost written to {path}\n")
    assert "AGPL-3.0" in text and "pip install jpmml-evaluator" in text
    body, raw = path.read_bytes(), raw_rows()
    assert lake.model.info.sha256.encode() in body and DAY.encode() in body
    expected = lake.model.answer(raw)["prediction"].to_pylist()
    assert evaluate(body, pmml_rows(raw)) == {"prediction": pytest.approx(expected, rel=1e-5, abs=1e-6)}
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_pmml_of_the_baseline_predicts_what_it_does(run, lake):
    _, path = run("pmml", "--model", "baseline")
    raw, codes = raw_rows(), lake.model.transform.categorical
    expected = []
    for row in lake.model.transform.apply(raw).to_pylist():
        known = [f"{name}={codes[name][row[name]]}" for name in codes if row[name] is not None]
        numbers = {name: LINEAR["means"][name] if row[name] is None else row[name] for name in LINEAR["means"]}
        total = LINEAR["intercept"] + sum(lake.coefficients[name] for name in known)
        expected.append(total + sum(lake.coefficients[name] * value for name, value in numbers.items()))
    found = evaluate(path.read_bytes(), pmml_rows(raw))
    assert found == {"prediction": pytest.approx(expected, rel=1e-9)}


def test_folder_of_ubj_is_a_model_that_loads(run, lake):
    _, path = run("ubj")
    files = {item.name: item.read_bytes() for item in path.iterdir()}
    assert set(files) == {"model.ubj", "model.json", "transform.json"}
    raw = raw_rows()
    assert load_model(files, "export").answer(raw) == lake.model.answer(raw)


def test_folder_of_json_holds_xgboosts_own_file(run, lake):
    import xgboost

    _, path = run("json", "--version", "1")
    assert {item.name for item in path.iterdir()} == {"xgboost.json", "model.json", "transform.json"}
    booster = xgboost.Booster(model_file=path / "xgboost.json")
    assert booster.get_dump() == lake.model.booster.get_dump()
    _, baseline = run("json", "--model", "baseline", name="baseline")
    assert json.loads((baseline / "baseline.json").read_bytes())["coefficients"] == lake.coefficients
    assert (baseline / "transform.json").read_bytes() == (path / "transform.json").read_bytes()


def test_wrong_use_is_named(run, tmp_path):
    assert "'pickle' is not one of 'pmml', 'ubj', 'json'" in run("pickle", code=2)[0]
    assert "no XGBoost model; write pmml or json" in run("ubj", "--model", "baseline", code=2)[0]
    with pytest.raises(FailError, match="exported has no version 9"):
        run("pmml", "--version", "9")
    with pytest.raises(FailError, match="cannot write to .*nowhere"):
        run("pmml", name="nowhere/model.pmml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["pmml", "ubj"])
def test_what_is_there_is_never_overwritten(run, tmp_path, form):
    (tmp_path / "model.out").write_text("mine")
    with pytest.raises(FailError, match="model.out is there already"):
        run(form)
    assert (tmp_path / "model.out").read_text() == "mine"


def test_a_file_that_appears_while_it_is_written_stays(tmp_path):
    path = tmp_path / "model.pmml"
    with pytest.raises(FailError, match="is there already"):
        write_file(path, lambda file: path.write_text("theirs"))
    with pytest.raises(FailError, match="is there already"):
        write_folder(path, {"model.ubj": b"ours"})
    assert path.read_text() == "theirs" and [item.name for item in tmp_path.iterdir()] == ["model.pmml"]


def test_half_a_document_is_never_left(tmp_path):
    def fail(file):
        file.write(b"<PMML>")
        raise NotExportable("feature city", "")

    with pytest.raises(NotExportable):
        write_file(tmp_path / "model.pmml", fail)
    assert not list(tmp_path.iterdir())


def test_baseline_on_other_features_is_not_passed_off(run):
    with pytest.raises(DataMissing, match="version 2 of exported.*no baseline on the same features"):
        run("pmml", "--model", "baseline", "--version", "2")


def test_older_baseline_says_what_it_lacks(lake):
    from boostline.export.baseline import baseline_pmml

    with pytest.raises(NotExportable, match="before baselines could be exported"):
        baseline_pmml({"kind": "linear", "intercept": 0.0, "coefficients": {}}, lake.model.transform, 0.5)


@pytest.mark.parametrize("form", ["pmml", "ubj", "json"])
def test_a_model_that_was_changed_is_refused_before_it_is_parsed(run, lake, tmp_path, monkeypatch, form):
    manifest = read_ref(lake.store, lake.second)
    key = next(item.key for item in manifest.files if item.key.endswith("model.ubj"))
    body = lake.store.get(key)[0]
    lake.store.put(key, body[:-1] + b"x")
    monkeypatch.setattr("xgboost.Booster.load_model", lambda *_: pytest.fail("parsed"))
    try:
        with pytest.raises(ModelRefused, match="SHA-256"):
            run(form, "--version", "2")
    finally:
        lake.store.put(key, body)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["xgboost", "baseline"])
def test_a_transformation_that_was_changed_is_refused(run, lake, tmp_path, model):
    (key,) = [item.key for item in read_ref(lake.store, lake.first).files if item.key.endswith("transform.json")]
    body = lake.store.get(key)[0]
    lake.store.put(key, json.dumps(json.loads(body) | {"numeric": {"size": 1.0, "age": 2.0}}).encode())
    try:
        with pytest.raises(ModelRefused, match=r"transform\.json is not the file that was published"):
            run("json", "--model", model)
    finally:
        lake.store.put(key, body)
    assert not list(tmp_path.iterdir())


def test_a_baseline_that_was_changed_is_refused(run, lake, tmp_path):
    manifest, _ = read_current(lake.store, "baseline", NAME, None, DAY)
    body = lake.store.get(manifest.files[0].key)[0]
    lake.store.put(manifest.files[0].key, body.replace(b"2.5", b"9.5"))
    try:
        for form in ("pmml", "json"):
            with pytest.raises(ModelRefused, match=r"baseline\.json is not the file that was published"):
                run(form, "--model", "baseline")
    finally:
        lake.store.put(manifest.files[0].key, body)
    assert not list(tmp_path.iterdir())


def test_raw_rows_have_what_training_had_not():
    cities = set(raw_rows()["city"].drop_null().to_pylist())
    assert "Atlantis" in cities and raw_rows()["size"].null_count and isinstance(raw_rows(), pa.Table)
