"""The baseline's Spark ML stages, and what they learnt in words of the features."""

from __future__ import annotations

import re
from typing import Any

from pyspark.ml.classification import DecisionTreeClassifier, LogisticRegression
from pyspark.ml.feature import Imputer, ImputerModel, OneHotEncoder, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.ml.regression import DecisionTreeRegressor, LinearRegression
from pyspark.sql import Column
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.lake.features import LABEL
from boostline.transform import Transform

INDEX_PREFIX = "_index_"
_ONE_HOT_PREFIX = "_onehot_"
_FILLED_PREFIX = "_filled_"
VECTOR = "_vector"


def build_stages(dataset: Dataset, transform: Transform) -> list[Any]:
    """Unfitted stages: codes one-hot (unknown is all zeros) or as numbers, means for missing numbers, all of them as one
    vector; the last stage is the model."""
    stages: list[Any] = []
    inputs = [INDEX_PREFIX + name for name in transform.categorical]
    if inputs and dataset.baseline.encoding == "onehot":
        outputs = [_ONE_HOT_PREFIX + name for name in transform.categorical]
        stages.append(OneHotEncoder(inputCols=inputs, outputCols=outputs, dropLast=True, handleInvalid="error"))
        inputs = outputs
    if numbers := list(transform.numeric):
        filled = [_FILLED_PREFIX + name for name in numbers]
        stages.append(Imputer(strategy="mean", inputCols=numbers, outputCols=filled))
        inputs = [*inputs, *filled]
    return [*stages, VectorAssembler(inputCols=inputs, outputCol=VECTOR), _estimator(dataset, transform)]


def predicted(dataset: Dataset, transform: Transform) -> Column:
    """The prediction: the number, the probability of class 1, or one probability per class.

    A tree's probability is (rows of the class + 1) / (rows + classes) of the leaf (Provost and Domingos 2003, Tree induction
    for probability-based ranking): Spark's own is 0 or 1 where a leaf is pure, and one such row that is of the other class
    costs more log loss than many right ones gain.
    """
    if dataset.task == "regression":
        return F.col("prediction")
    probability = vector_to_array(F.col("probability"))
    if dataset.baseline.kind == "tree":
        counts = F.transform(vector_to_array(F.col("rawPrediction")), lambda count: count + 1)
        rows = F.aggregate(counts, F.lit(0.0), lambda total, count: total + count)
        probability = F.transform(counts, lambda count: count / rows)
    return probability if dataset.task == "multiclass" else F.element_at(probability, 2)


def describe(stages: list[Any], dataset: Dataset, transform: Transform) -> dict[str, Any]:
    """What was learnt, in full: a program can predict from it, see `boostline.export.baseline`.

    Args:
        stages: Fitted, the model last.
        dataset: Gives the encoding.
        transform: Gives the features.

    Returns:
        `means` of the numeric features, which stand in for missing numbers; coefficients by input (and class), or the
        tree as text and as `nodes`; numbers as fitted.
    """
    *prepared, model = stages
    names = _input_names(dataset, transform)
    means = [stage.surrogateDF.first().asDict() for stage in prepared if isinstance(stage, ImputerModel)]
    learnt: dict[str, Any] = {"means": {name: float(value) for found in means for name, value in found.items()}}
    if hasattr(model, "toDebugString"):
        named = re.sub(r"\bfeature (\d+)\b", lambda match: names[int(match[1])], model.toDebugString)
        return learnt | {"tree": named.splitlines()[1:], "nodes": _nodes(model, names)}
    if dataset.task != "multiclass":
        coefficients = _by_name(names, model.coefficients.toArray())
        return learnt | {"intercept": float(model.intercept), "coefficients": coefficients}
    matrix = model.coefficientMatrix.toArray()
    return learnt | {
        "intercept": _by_name(list(transform.classes), model.interceptVector.toArray()),
        "coefficients": {name: _by_name(names, matrix[index]) for index, name in enumerate(transform.classes)},
    }


def _nodes(model: Any, names: list[str]) -> list[dict[str, Any]]:
    """The tree's nodes, the root first; PySpark itself has no face for them.

    A leaf has a `value`, or `counts` by class: of its train rows and one more, so that the shares of their sum are the
    probabilities that `predicted` gives. Another has the `input` that it asks, a `left` and a `right`
    child by index, and what goes left: up to a `threshold`, or one of the `codes`.
    """
    classifier, nodes = hasattr(model, "numClasses"), list[dict[str, Any]]()
    pending: list[tuple[Any, dict[str, Any], str]] = [(model._java_obj.rootNode(), {}, "")]
    while pending:
        java, parent, side = pending.pop()
        parent[side] = len(nodes)
        if java.subtreeDepth() == 0:
            counts = [float(count) + 1 for count in java.impurityStats().stats()] if classifier else None
            nodes.append({"counts": counts} if counts else {"value": float(java.prediction())})
            continue
        split = java.split()
        node: dict[str, Any] = {"input": names[split.featureIndex()]}
        if split.getClass().getSimpleName() == "ContinuousSplit":
            node["threshold"] = float(split.threshold())
        else:
            node["codes"] = sorted(int(code) for code in split.leftCategories())
        pending += [(java.rightChild(), node, "right"), (java.leftChild(), node, "left")]
        nodes.append(node)
    return nodes


def _estimator(dataset: Dataset, transform: Transform) -> Any:
    spec = dataset.baseline
    common = {"featuresCol": VECTOR, "labelCol": LABEL}
    if spec.kind == "tree":
        bins = max([32, *[len(values) + 1 for values in transform.categorical.values()]])
        tree = DecisionTreeRegressor if dataset.task == "regression" else DecisionTreeClassifier
        return tree(**common, maxDepth=spec.max_depth, maxBins=bins, seed=0)
    penalty = {"regParam": spec.regularization, "elasticNetParam": spec.elastic_net, "maxIter": spec.max_iterations}
    if spec.kind == "linear":
        return LinearRegression(**common, **penalty)
    return LogisticRegression(**common, **penalty, family="multinomial" if dataset.task == "multiclass" else "binomial")


def _input_names(dataset: Dataset, transform: Transform) -> list[str]:
    """A name for each place in the assembled vector."""
    names = []
    for name, values in transform.categorical.items():
        names += [f"{name}={value}" for value in values] if dataset.baseline.encoding == "onehot" else [name]
    return [*names, *transform.numeric]


def _by_name(names: list[str], values: Any) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}
