"""The last step of a PMML model: from margins to the columns of `Model.answer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from boostline.export.elements import apply, constant, element, field, mining_schema
from boostline.transform import Transform

PREDICTION = "prediction"
"""The target field: the number or the class's name."""


def class_names(transform: Transform) -> tuple[str, ...]:
    """The classes by index, as the model names them; empty for regression."""
    return transform.classes or (("0", "1") if transform.task == "binary" else ())


def target_field(task: str, classes: Sequence[str]) -> Any:
    """The field that is predicted, for the data dictionary."""
    if task == "regression":
        return element("DataField", name=PREDICTION, optype="continuous", dataType="double")
    values = [element("Value", value=name) for name in classes]
    return element("DataField", *values, name=PREDICTION, optype="categorical", dataType="string")


def margin_output(name: str, kind: str) -> Any:
    """Hands a model's number on to the models after it."""
    output = element("OutputField", name=name, optype="continuous", dataType=kind, feature="predictedValue",
                     isFinalResult="false")  # fmt: skip
    return element("Output", output)


def decision(margin: str, cut: str | None, classes: Sequence[str]) -> Any:
    """Two classes: the second one from a margin on, and its probability.

    Args:
        margin: The field that holds the margin.
        cut: The smallest margin of the second class; none: always the first.
        classes: Both names.
    """
    odds = apply("exp", apply("-", constant("0.0", "double"), field(margin)))
    chance = apply("/", constant("1.0", "double"), apply("+", constant("1.0", "double"), odds))
    output = element("OutputField", chance, name="probability", optype="continuous", dataType="double",
                     feature="transformedValue")  # fmt: skip
    if cut in (None, "-Infinity"):
        nodes = [element("Node", element("True"), score=classes[0 if cut is None else 1])]
    else:
        nodes = [
            element("Node", element("SimplePredicate", field=margin, operator=operator, value=cut), score=name)
            for operator, name in zip(("lessThan", "greaterOrEqual"), classes, strict=True)
        ]
    root = element("Node", element("True"), *nodes)
    return element("TreeModel", mining_schema([margin], PREDICTION), element("Output", output), root,
                   functionName="classification", splitCharacteristic="multiSplit")  # fmt: skip


def class_probabilities(margins: Mapping[str, str]) -> Any:
    """Several classes: the most probable one, and the probability of each.

    Args:
        margins: Class → the field that holds its margin.
    """
    tables = [
        element(
            "RegressionTable", element("NumericPredictor", name=margin, coefficient=1), intercept=0, targetCategory=name
        )
        for name, margin in margins.items()
    ]
    return element("RegressionModel", mining_schema(margins.values(), PREDICTION), probability_outputs(margins),
                   *tables, functionName="classification", normalizationMethod="softmax")  # fmt: skip


def probability_outputs(classes: Any) -> Any:
    """The probability of each class, by the names of `answer_columns`."""
    fields = [
        element(
            "OutputField",
            name=f"probability_{name}",
            optype="continuous",
            dataType="double",
            feature="probability",
            value=name,
        )
        for name in classes
    ]
    return element("Output", *fields)
