"""An XGBoost model as PMML: the trees, then the objective's link, then the answer's columns."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from boostline.errors import NotExportable
from boostline.export.answer import PREDICTION, class_probabilities, decision, margin_output
from boostline.export.elements import Open, element, mining_schema
from boostline.export.transformation import code_field, number_field, shared_fields
from boostline.export.trees import tree_sum
from boostline.scoring.engine import import_xgboost
from boostline.scoring.model_file import Model

LINKS = {
    "reg:squarederror": "none",
    "reg:squaredlogerror": "none",
    "reg:pseudohubererror": "none",
    "reg:absoluteerror": "none",
    "reg:logistic": "logit",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "count:poisson": "exp",
    "binary:logistic": "logit",
    "multi:softprob": "softmax",
}
"""From the trees' sum to the prediction, by objective, as PMML names it."""

_ALMOST_CERTAIN = 104.0
"""Beyond it single precision knows no probability but 0 and 1."""


def xgboost_pmml(model: Model) -> Open:
    """The model with its transformation as one PMML model.

    Raises:
        NotExportable: PMML cannot say the objective, the booster or a feature; names it.
    """
    info, learner = model.info, json.loads(bytes(model.booster.save_raw("json")))["learner"]
    booster, link = learner["gradient_booster"], LINKS.get(info.objective)
    if link is None or booster["name"] != "gbtree":
        what = f"objective {info.objective}" if link is None else f"booster {booster['name']}"
        raise NotExportable(
            f"{what} has no PMML form here", f"Export as ubj or json, or train with {' or '.join(LINKS)}"
        )
    trees, group = booster["model"]["trees"], booster["model"]["tree_info"]
    bases, chance = _without_trees(model)
    fields = _feature_fields(model)
    names = [item.get("name") for item in fields[-len(info.features) :]]
    raw = mining_schema(model.transform.columns, PREDICTION)
    local = element("LocalTransformations", *fields)
    if link == "none":
        return tree_sum(bases[0], trees, names, head=[raw, local])
    margins = [f"margin({index})" for index in range(len(bases))]

    def segments() -> Iterator[Open]:
        for index, margin in enumerate(margins):
            head = [mining_schema(names), margin_output(margin, "float")]
            own = [tree for tree, of in zip(trees, group, strict=True) if of == index]
            yield _segment(margin, tree_sum(bases[index], own, names, head=head))
        if info.task == "binary":
            cut = _smallest_margin(chance, info.decision_threshold)
            final = decision(margins[0], cut, info.classes)
        elif info.task == "multiclass":
            final = class_probabilities(dict(zip(info.classes, margins, strict=True)))
        else:
            final = _linked(margins[0], link)
        yield _segment("answer", final)

    function = "regression" if info.task == "regression" else "classification"
    chain = Open("Segmentation", {"multipleModelMethod": "modelChain"}, segments())
    return Open("MiningModel", {"functionName": function}, [raw, local, chain])


def _segment(name: str, model: Any) -> Open:
    return Open("Segment", {"id": name}, [element("True"), model])


def _linked(margin: str, link: str) -> Any:
    table = element("RegressionTable", element("NumericPredictor", name=margin, coefficient=1), intercept=0)
    schema = mining_schema([margin], PREDICTION)
    return element("RegressionModel", schema, table, functionName="regression", normalizationMethod=link)


def _feature_fields(model: Model) -> list[Any]:
    """The derived fields; the last ones are the features, in the model's order."""
    fields = list(shared_fields(model.transform))
    for name, kind in model.info.features.items():
        if kind == "q":
            fields.append(number_field(name, model.transform, "float"))
        else:
            fields.append(code_field(name, model.transform, "integer" if kind == "c" else "float"))
    return fields


def _without_trees(model: Model) -> tuple[list[str], Any]:
    """What the model answers before its first tree, asked of XGBoost itself: it keeps base_score in another unit.

    Returns:
        The intercept of each class as text that single precision reads back exactly; a function from a margin to the
        probability that XGBoost gives for it.
    """
    import numpy as np

    xgboost = import_xgboost()
    body = json.loads(bytes(model.booster.save_raw("json")))
    # One round is left, with nothing in its leaves: XGBoost reads base_score otherwise where there is no tree at all.
    body["learner"]["gradient_booster"]["model"] = _first_round(body["learner"]["gradient_booster"]["model"])
    empty = xgboost.Booster({"nthread": 1})
    empty.load_model(bytearray(json.dumps(body).encode()))
    columns = model.info.columns
    values = np.zeros((1, len(columns.names)))

    def ask(margin: Any, **how: Any) -> Any:
        # A matrix of its own for each question: XGBoost remembers its answers by matrix.
        row = xgboost.DMatrix(values, feature_names=columns.names, feature_types=columns.types, base_margin=margin)
        return empty.predict(row, **how).reshape(-1)

    bases = [str(value) for value in ask(None, output_margin=True)]
    return bases, lambda margin: float(ask(np.array([margin], np.float32))[0])


def _first_round(forest: dict[str, Any]) -> dict[str, Any]:
    count = forest["iteration_indptr"][1]
    trees = [
        tree | {"split_conditions": [value if left >= 0 else 0.0 for value, left
                                     in zip(tree["split_conditions"], tree["left_children"], strict=True)]}
        for tree in forest["trees"][:count]
    ]  # fmt: skip
    size = forest["gbtree_model_param"] | {"num_trees": str(count)}
    changed = {"trees": trees, "tree_info": forest["tree_info"][:count], "iteration_indptr": [0, count]}
    return forest | changed | {"gbtree_model_param": size}


def _smallest_margin(chance: Any, threshold: float) -> str | None:
    """The smallest margin that XGBoost turns into a probability of at least the threshold; none where none does.

    Deciding on the margin is exact; the probability's last digit depends on who computes the exponential.
    """
    import numpy as np

    steps = int(np.float32(_ALMOST_CERTAIN).view(np.int32))

    def margin(step: int) -> Any:
        size = np.int32(abs(step)).view(np.float32)
        return size if step >= 0 else -size

    ordered: Sequence[int] = range(-steps, steps + 1)
    found = bisect_left(ordered, True, key=lambda step: chance(margin(step)) >= threshold)
    if found == len(ordered):
        return None
    return "-Infinity" if found == 0 else str(margin(ordered[found]))
