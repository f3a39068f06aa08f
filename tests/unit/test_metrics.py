"""Our evaluators against scikit-learn's, on generated rows, and what they say at the edges."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name
from sklearn import metrics as sk

from boostline.dataset.learning import Threshold
from boostline.errors import ModelRefused
from boostline.metrics import METRICS_BY_TASK, choose_threshold, evaluate, flat_metrics, improvement

numbers = st.floats(-1e6, 1e6, width=32)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32)


@st.composite
def binary_rows(draw):
    rows = draw(st.integers(1, 60))
    return draw(arrays(float, rows, elements=st.sampled_from([0.0, 1.0]))), draw(arrays(float, rows, elements=shares))


@st.composite
def class_rows(draw):
    rows, classes = draw(st.integers(1, 60)), draw(st.integers(2, 5))
    raw = draw(arrays(float, (rows, classes), elements=st.floats(0.001, 1)))
    labels = draw(arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    return labels.astype(float), raw / raw.sum(axis=1, keepdims=True)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=60))
def test_regression_metrics_agree_with_scikit_learn(rows):
    y, p = np.array(rows, float).T
    found = evaluate("regression", y, p)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(y, p), rel=1e-9)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, p), rel=1e-9)
    if y.min() < y.max():
        assert found["r2"] == pytest.approx(sk.r2_score(y, p), rel=1e-6, abs=1e-9)
        assert evaluate("regression", y, y)["gini"] == pytest.approx(1)
        assert evaluate("regression", y, -y)["gini"] == pytest.approx(-1)
    else:
        assert set(found) == {"rmse", "mae"}


@given(binary_rows(), st.floats(0, 1))
def test_binary_metrics_agree_with_scikit_learn(rows, threshold):
    y, p = rows
    found = evaluate("binary", y, p, threshold=threshold)
    decided = p >= threshold
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p, labels=[0, 1]), rel=1e-9)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, decided))
    for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        expected = function(y, decided, labels=[0, 1], average=None, zero_division=0)
        assert [found["per_class"][key][name] for key in "01"] == pytest.approx(expected)
        assert found[name] == pytest.approx(expected[1])
    if 0 < y.sum() < len(y):
        assert found["auc"] == pytest.approx(sk.roc_auc_score(y, p))
        assert found["pr_auc"] == pytest.approx(sk.average_precision_score(y, p))
        assert evaluate("regression", y, p)["gini"] == pytest.approx(2 * found["auc"] - 1, abs=1e-9)
    else:
        assert not {"auc", "pr_auc"} & set(found)


@given(class_rows())
def test_multiclass_metrics_agree_with_scikit_learn(rows):
    y, p = rows
    names = tuple("abcde"[: p.shape[1]])
    found = evaluate("multiclass", y, p, classes=names)
    decided, every = p.argmax(axis=1), list(range(len(names)))
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p, labels=every), rel=1e-6)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, decided))
    for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert found[name] == pytest.approx(function(y, decided, average="macro", zero_division=0))
        each = function(y, decided, labels=every, average=None, zero_division=0)
        assert [found["per_class"][key][name] for key in names] == pytest.approx(each)
    if set(y) == set(every) and len(names) > 2:
        assert found["auc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="macro"))
        each = (y[:, None] == every).astype(int)
        assert found["pr_auc"] == pytest.approx(sk.average_precision_score(each, p, average="macro"))
    assert ("auc" in found) == ("pr_auc" in found) == (len(set(y)) > 1)


@given(binary_rows(), st.sampled_from(["f1", "recall", "cost"]), st.floats(0.05, 1), st.floats(0, 9), st.floats(0, 9))
def test_no_other_threshold_serves_the_policy_better(rows, choose, floor, cost_fp, cost_fn):
    y, p = rows
    policy = Threshold(choose=choose, min_recall=floor, cost_false_positive=cost_fp, cost_false_negative=cost_fn)

    def score(threshold):
        found = evaluate("binary", y, p, threshold=threshold)
        if choose == "f1":
            return found["f1"]
        if choose == "recall":
            return found["precision"] if found["recall"] >= floor else -1.0
        decided = p >= threshold
        return -(cost_fp * (decided & (y == 0)).sum() + cost_fn * (~decided & (y == 1)).sum())

    chosen = choose_threshold(y, p, policy)
    others = max(score(value) for value in (*p, np.nextafter(p.max(), 2)))
    if y.sum() or choose == "cost":
        assert score(chosen) >= others - 1e-9
    else:
        assert chosen == 0.5


def test_threshold_lies_between_two_probabilities():
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], Threshold()) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("task", "prediction"),
    [("regression", [2.0, 2.0]), ("binary", [0.5, 0.5]), ("multiclass", [[0.2, 0.8], [0.2, 0.8]])],
)
@pytest.mark.parametrize("label", [[0, 0], [1, 1], [0, 1]])
def test_edges_give_json_without_nan(task, prediction, label):
    found = evaluate(task, label, prediction)
    json.dumps(found, allow_nan=False)
    assert set(found) - {"per_class"} <= set(METRICS_BY_TASK[task])


def test_no_rows_define_no_metric():
    assert evaluate("regression", [], []) == {}


def test_a_prediction_that_is_no_number_is_refused():
    with pytest.raises(ModelRefused, match="1 of 2 predictions"):
        evaluate("regression", [1, 2], [1, math.nan])


@pytest.mark.parametrize(
    ("metric", "candidate", "reference", "expected"),
    [
        ("rmse", 3.6, 4.0, 0.1),
        ("rmse", 4.4, 4.0, -0.1),
        ("auc", 0.88, 0.8, 0.1),
        ("r2", -0.1, -0.2, 0.5),
        ("f1", 0.3, 0.0, 1.0),
        ("rmse", 0.3, 0.0, -1.0),
        ("f1", 0.0, 0.0, 0.0),
    ],
)
def test_improvement_knows_the_direction(metric, candidate, reference, expected):
    assert improvement(metric, candidate, reference) == pytest.approx(expected)


def test_names_of_metrics_are_mlflows_and_each_class_has_its_own():
    labels = ["w/", "w_", "w%", "a//b", "", ".", "..", "x" * 300, "x" * 299 + "y", "grün", "two words"]
    metrics = {"auc": 0.5, "per_class": {label: {"precision": 0.1, "rows": 3} for label in labels}}
    names = [name for name, _ in flat_metrics(metrics)]
    for name in names:
        _validate_metric_name(f"in_sample_{name}")
        assert len(f"in_sample_{name}") <= MAX_ENTITY_KEY_LENGTH
    assert len(set(names)) == len(labels) + 1
    assert names[:5] == ["auc", "precision/w_ 0", "precision/w_", "precision/w_ 2", "precision/a__b"]
    assert names[-2:] == ["precision/grün", "precision/two words"]


def test_single_precision_of_many_classes_is_measured_without_a_second_copy():
    rng = np.random.default_rng(0)
    label, raw = rng.integers(0, 50, 10_000), rng.random((10_000, 50), np.float32)
    single = raw / raw.sum(axis=1, keepdims=True)
    tracemalloc.start()
    found = evaluate("multiclass", label, single)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * single.nbytes, "what a copy in double precision takes"
    assert found == evaluate("multiclass", label, single.astype(np.float64))
