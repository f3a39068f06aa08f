"""An exported PMML document, evaluated by JPMML, predicts what the model does; the command writes it safely."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from lxml import etree
from tests.export_lab import CITIES, evaluate, parity_rows, pmml_of, pmml_rows, trained

from boostline.errors import NotExportable
from boostline.export.baseline import baseline_pmml
from boostline.export.document import write_document
from boostline.export.xgboost_model import LINKS, xgboost_pmml
from boostline.transform import Transform

KINDS = {
    "regression": {"task": "regression"},
    "binary": {"task": "binary"},
    "multiclass": {"task": "multiclass"},
    "regression, ordinal codes": {"task": "regression", "categorical": "ordinal"},
    "binary, ordinal codes": {"task": "binary", "categorical": "ordinal"},
    "multiclass, one leaf a tree": {"task": "multiclass", "min_child_weight": 1e9},
    "lossguide, one-hot splits": {
        "task": "regression",
        "grow_policy": "lossguide",
        "max_leaves": 40,
        "max_depth": 0,
        "max_cat_to_onehot": 9,
    },
}
KINDS |= {name: {"task": "regression", "objective": name, "rounds": 3} for name in LINKS if name[:3] in ("reg", "cou")}


def assert_same(found, expected):
    """Same columns, same names, numbers to 1e-5 relative or 1e-6 absolute."""
    assert list(found) == expected.column_names
    for name in expected.column_names:
        wanted = expected[name].to_pylist()
        if isinstance(wanted[0], str):
            assert found[name] == wanted
        else:
            assert found[name] == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_document_predicts_what_the_model_does(kind):
    model = trained(**KINDS[kind])
    raw = parity_rows(model)
    assert raw.num_rows == 1000
    found = evaluate(pmml_of(model.transform, xgboost_pmml(model)), pmml_rows(raw))
    assert_same(found, model.answer(raw))


def test_predictions_do_not_depend_on_the_machines_language():
    code = "from test_export import *; test_sums_are_exact_to_the_last_bit()"
    turkish = {"JAVA_TOOL_OPTIONS": "-Duser.language=tr -Duser.country=TR", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | turkish, check=True, timeout=300, capture_output=True, text=True
    )
    assert "Picked up JAVA_TOOL_OPTIONS: -Duser.language=tr" in done.stderr


def test_sums_are_exact_to_the_last_bit():
    model = trained("regression")
    raw = parity_rows(model)
    found = evaluate(pmml_of(model.transform, xgboost_pmml(model)), pmml_rows(raw))
    assert found["prediction"] == model.predict(raw).tolist()


def test_rows_cover_what_may_go_wrong():
    model = trained("binary")
    raw = parity_rows(model)
    features = model.transform.apply(raw)
    for name in model.transform.names:
        column = features[name].to_numpy(zero_copy_only=False)
        assert 0 < features[name].null_count < 900 or name in ("age", "share"), name
        assert len(np.unique(column[~np.isnan(column)])) > 1, name
    assert set(model.answer(raw)["prediction"].to_pylist()) == set(model.info.classes)
    used = model.booster.get_score(importance_type="weight")
    assert {"city", "firm", "floors", "hour", "day", "month", "left", "gap", "share", "place", "lot"} <= set(used)


def with_threshold(model, threshold):
    return replace(model, info=model.info.model_copy(update={"threshold": threshold}))


def test_threshold_decides_as_the_model_does_even_where_a_row_lies_on_it():
    model = trained("binary", rounds=3)
    raw = parity_rows(model, 40)
    for chance in np.unique(model.predict(raw))[::12]:
        for threshold in (math.nextafter(chance, 0), chance, math.nextafter(chance, 1)):
            moved = with_threshold(model, threshold)
            found = evaluate(pmml_of(moved.transform, xgboost_pmml(moved)), pmml_rows(raw))
            assert found["prediction"] == moved.answer(raw)["prediction"].to_pylist()


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_threshold_below_or_above_all_probabilities(threshold):
    model = with_threshold(trained("binary", rounds=3), threshold)
    raw = parity_rows(model, 20)
    found = evaluate(pmml_of(model.transform, xgboost_pmml(model)), pmml_rows(raw))
    assert set(found["prediction"]) == {model.info.classes[int(threshold == 0)]}


@pytest.mark.parametrize(
    "rules", [["trim", "lower"], ["lower", {"replace": "[^a-z]+$", "by": "-"}], ["trim"], []], ids=str
)
def test_texts_are_cleaned_as_the_transformation_does(rules):
    rng = np.random.default_rng(5)
    letters = np.array(list(" \t\r\nab#AIiİıΣσςßẞǅÀàÉ\u0307\u00a0\u2028\x0b\x1f😀<&\"'-"))
    texts = ["".join(rng.choice(letters, rng.integers(0, 7))) for _ in range(600)]
    spec = {"columns": {"t": {"type": "string", "clean": rules}}, "derived": {}, "numeric": {}, "names": ["t"]}
    basis = trained("regression", rounds=3).transform.model_dump(exclude_unset=True) | spec
    cleaned = Transform.model_validate(basis | {"categorical": {"t": []}}).clean(pa.table({"t": texts}))["t"]
    written = [text for text in cleaned.drop_null().unique().to_pylist() if not {"\x0b", "\x1f"} & set(text)]
    transform = Transform.model_validate(basis | {"categorical": {"t": written[::2]}})
    wanted = transform.apply(pa.table({"t": texts}))["t"].fill_null(len(written[::2])).to_pylist()
    body = {"means": {}, "intercept": 0.0, "coefficients": {"t": 1.0}}
    found = evaluate(pmml_of(transform, baseline_pmml(body, transform, 0.5)), [{"t": text} for text in texts])
    assert found["prediction"] == wanted
    assert len(set(wanted)) > 50


def test_names_are_escaped_and_kept():
    model = trained("multiclass")
    body = pmml_of(model.transform, xgboost_pmml(model))
    assert b"<script>" not in body
    root = etree.fromstring(body)
    space = {"p": "http://www.dmg.org/PMML-4_4"}
    table = root.xpath("//p:DerivedField[@name='code(city)']//p:input/text()", namespaces=space)
    assert table == CITIES
    classes = root.xpath("//p:DataField[@name='prediction']/p:Value/@value", namespaces=space)
    assert tuple(classes) == model.transform.classes
    names = root.xpath("//p:DataField/@name", namespaces=space)
    assert names == [*model.transform.columns, "prediction"]


def changed(model, **update):
    transform = model.transform.model_copy(update=update)
    return replace(model, transform=transform)


def test_a_feature_may_have_the_name_of_what_a_logistic_baseline_computes():
    spec = {"columns": {"margin": {"type": "double", "clean": []}}, "derived": {}, "numeric": {"margin": None}}
    spec |= {"format": 1, "dataset": "d", "task": "binary", "date": "2020-01-01", "categorical": {}, "label": "l"}
    transform = Transform.model_validate({**spec, "names": ["margin"], "classes": ["no", "yes"]})
    body = {"means": {"margin": 0.25}, "intercept": -1.0, "coefficients": {"margin": 2.0}}
    rows = [{"margin": value} for value in (3.0, 0.1, -4.0, None)]
    chances = [1 / (1 + math.exp(1 - 2 * (0.25 if row["margin"] is None else row["margin"]))) for row in rows]
    found = evaluate(pmml_of(transform, baseline_pmml(body, transform, 0.5)), rows)
    assert found["prediction"] == ["yes", "no", "no", "no"]
    assert found["probability"] == pytest.approx(chances)


def test_what_pmml_cannot_say_is_refused_by_name():
    model = trained("regression")
    for name, value, message in (
        ("city", "bell\x07", r"feature city: 'bell\\x07' holds the character U\+0007"),
        ("serial", str(2**60), "feature serial: its category '1152921504606846976' has more digits"),
        ("lot", f"{2**60}|2020-01-01", "feature lot"),
    ):
        categories = model.transform.categorical | {name: (*model.transform.categorical[name][:-1], value)}
        with pytest.raises(NotExportable, match=message):
            xgboost_pmml(changed(model, categorical=categories))
    columns = {"prediction": model.transform.columns["plain"], **model.transform.columns}
    with pytest.raises(NotExportable, match="column prediction has the name of a column of the answer"):
        write_document(io.BytesIO(), changed(model, columns=columns).transform, xgboost_pmml(model), "")
    odd = replace(model, info=model.info.model_copy(update={"objective": "binary:hinge"}))
    with pytest.raises(NotExportable, match="objective binary:hinge"):
        xgboost_pmml(odd)
