"""The baseline as PMML, from its baseline.json: a linear, logistic or tree model in double precision.

A value that the baseline does not know has the code after the last one, as in training; for a missing number stands the
mean of the train rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from boostline.errors import NotExportable
from boostline.export.answer import PREDICTION, class_names, decision, margin_output, probability_outputs
from boostline.export.elements import Open, element, mining_schema
from boostline.export.transformation import code_field, number_field, shared_fields
from boostline.transform import Transform

MARGIN = "margin(0)"
"""As internal names are: no column has parentheses."""


def baseline_pmml(body: Mapping[str, Any], transform: Transform, threshold: float) -> Any:
    """The baseline with its transformation as one PMML model.

    Args:
        body: baseline.json.
        transform: Of the features that it learnt from.
        threshold: Binary: from this probability on it is class 1.

    Raises:
        NotExportable: baseline.json is of an older form, or PMML cannot say a feature.
    """
    if "means" not in body or ("tree" in body and "nodes" not in body):
        raise NotExportable(
            "baseline.json was written before baselines could be exported: it lacks what stands for missing numbers",
            f"Run the date again: boostline run {transform.dataset} --date {transform.date}",
        )
    fields = list(shared_fields(transform))
    fields += [code_field(name, transform, "integer", len(values)) for name, values in transform.categorical.items()]
    fields += [number_field(name, transform, "double", body["means"].get(name)) for name in transform.numeric]
    raw = mining_schema(transform.columns, PREDICTION)
    local = element("LocalTransformations", *fields)
    if "nodes" in body:
        return _tree(body["nodes"], transform, threshold, raw, local)
    if transform.task == "regression":
        table = _table(body["intercept"], body["coefficients"], transform)
        return element("RegressionModel", raw, local, table, functionName="regression")
    if transform.task == "multiclass":
        tables = [
            _table(body["intercept"][name], body["coefficients"][name], transform, name)
            for name in class_names(transform)
        ]
        return element("RegressionModel", raw, probability_outputs(class_names(transform)), local, *tables,
                       functionName="classification", normalizationMethod="softmax")  # fmt: skip
    return _logistic(body, transform, threshold, [raw, local])


def _logistic(body: Mapping[str, Any], transform: Transform, threshold: float, head: list[Any]) -> Open:
    names = [*[f"code({name})" for name in transform.categorical], *[f"double({name})" for name in transform.numeric]]
    table = _table(body["intercept"], body["coefficients"], transform)
    margin = element("RegressionModel", mining_schema(names), margin_output(MARGIN, "double"), table,
                     functionName="regression")  # fmt: skip
    cut = None
    if threshold < 1:
        cut = repr(math.log(threshold / (1 - threshold))) if threshold > 0 else "-Infinity"
    models = {"margin": margin, "answer": decision(MARGIN, cut, class_names(transform))}
    chain = [element("Segment", element("True"), model, id=name) for name, model in models.items()]
    segmentation = element("Segmentation", *chain, multipleModelMethod="modelChain")
    return Open("MiningModel", {"functionName": "classification"}, [*head, segmentation])


def _table(
    intercept: float, coefficients: Mapping[str, float], transform: Transform, category: str | None = None
) -> Any:
    """A linear sum: numbers first, then one coefficient for each known value of a one-hot feature."""
    numbers, values = [], []
    for name, coefficient in coefficients.items():
        field, code = _field(name, transform)
        if code is None:
            numbers.append(element("NumericPredictor", name=field, coefficient=repr(coefficient)))
        else:
            values.append(element("CategoricalPredictor", name=field, value=code, coefficient=repr(coefficient)))
    return element("RegressionTable", *numbers, *values, intercept=repr(intercept), targetCategory=category)


def _field(name: str, transform: Transform) -> tuple[str, int | None]:
    """The field of one input of the baseline, and the code that a one-hot input stands for."""
    feature, equals, value = name.partition("=")
    if equals:
        return f"code({feature})", transform.categorical[feature].index(value)
    return (f"code({feature})" if feature in transform.categorical else f"double({feature})"), None


def _tree(nodes: Sequence[Mapping[str, Any]], transform: Transform, threshold: float, raw: Any, local: Any) -> Any:
    root = element("Node", element("True"))
    pending = [(0, root)]
    while pending:
        index, made = pending.pop()
        node = nodes[index]
        if "input" not in node:
            _leaf(made, node, transform, threshold)
            continue
        for side, test in zip(("left", "right"), _tests(node, transform), strict=True):
            child = element("Node", test)
            made.append(child)
            pending.append((node[side], child))
    if transform.task == "regression":
        return element("TreeModel", raw, local, root, functionName="regression", splitCharacteristic="binarySplit")
    output = probability_outputs(class_names(transform))
    if transform.task == "binary":
        output.remove(output[0])
        output[0].set("name", "probability")
    return element("TreeModel", raw, output, local, root, functionName="classification",
                   splitCharacteristic="binarySplit")  # fmt: skip


def _leaf(made: Any, node: Mapping[str, Any], transform: Transform, threshold: float) -> None:
    if "value" in node:
        made.set("score", repr(node["value"]))
        return
    counts, total = node["counts"], sum(node["counts"])
    best = int(counts[1] / total >= threshold) if transform.task == "binary" else counts.index(max(counts))
    made.set("score", class_names(transform)[best])
    for name, count in zip(class_names(transform), counts, strict=True):
        made.append(element("ScoreDistribution", value=name, recordCount=repr(count)))


def _tests(node: Mapping[str, Any], transform: Transform) -> list[Any]:
    """The conditions of the left and the right child."""
    field, code = _field(node["input"], transform)

    def either(left: str, right: str, value: Any) -> list[Any]:
        return [
            element("SimplePredicate", field=field, operator=operator, value=value) for operator in (left, right)
        ]  # fmt: skip

    if code is not None:
        goes_left = [side for side in (0, 1) if _left(node, side)]
        return either("equal", "notEqual", code) if goes_left == [1] else either("notEqual", "equal", code)
    if "threshold" in node:
        return either("lessOrEqual", "greaterThan", repr(node["threshold"]))
    text = " ".join(map(str, node["codes"]))
    return [
        element(
            "SimpleSetPredicate",
            element("Array", type="int", n=len(node["codes"]), text=text),
            field=field,
            booleanOperator=operator,
        )
        for operator in ("isIn", "isNotIn")
    ]


def _left(node: Mapping[str, Any], value: int) -> bool:
    return value <= node["threshold"] if "threshold" in node else value in node["codes"]
