"""XGBoost's trees as PMML.

XGBoost compares a feature with a threshold, and adds up leaves, in single precision; so do these trees
(`x-mathContext="float"`, as JPMML's own converter writes it, on fields of type float). A missing value follows the
tree's default child. Of a categorical split, the listed codes go right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from boostline.export.elements import Open, element, mining_schema

FLOAT = {"x-mathContext": "float"}
_NO_CHILD = -1
_CATEGORICAL = 1


def tree_sum(base: str, trees: Iterable[dict[str, Any]], fields: Sequence[str], *, head: list[Any]) -> Open:
    """A model that adds up trees, one after the other and from `base` on, as XGBoost does.

    Args:
        base: The intercept, in the margin's unit.
        trees: As XGBoost's JSON has them.
        fields: Name of the field of each feature.
        head: What comes before the trees: mining schema, output, local transformations.
    """

    def segments() -> Iterator[Any]:
        yield _segment(0, _tree_model([], element("Node", element("True"), score=base)))
        for number, tree in enumerate(trees, 1):
            used = sorted({index for index, left in zip(tree["split_indices"], tree["left_children"], strict=True)
                           if left != _NO_CHILD})  # fmt: skip
            yield _segment(number, _tree_model([fields[index] for index in used], _nodes(tree, fields)))

    segmentation = Open("Segmentation", {"multipleModelMethod": "sum"}, segments())
    return Open("MiningModel", {"functionName": "regression", **FLOAT}, [*head, segmentation])


def _segment(number: int, model: Any) -> Any:
    return element("Segment", element("True"), model, id=number)


def _tree_model(names: list[str], root: Any) -> Any:
    model = element("TreeModel", mining_schema(names), root, functionName="regression",
                    missingValueStrategy="defaultChild", splitCharacteristic="binarySplit")  # fmt: skip
    model.set(*next(iter(FLOAT.items())))
    return model


def _nodes(tree: dict[str, Any], fields: Sequence[str]) -> Any:
    """The tree's root; the nodes below it are made without recursion, since a tree may be deep."""
    listed = _category_sets(tree)
    root = element("Node", element("True"), id=0)
    pending = [(0, root)]
    while pending:
        index, node = pending.pop()
        left, right = tree["left_children"][index], tree["right_children"][index]
        if left == _NO_CHILD:
            node.set("score", repr(tree["split_conditions"][index]))
            continue
        node.set("defaultChild", str(left if tree["default_left"][index] else right))
        name = fields[tree["split_indices"][index]]
        if tree["split_type"][index] == _CATEGORICAL:
            tests = _category_tests(name, listed[index])
        else:
            threshold = repr(tree["split_conditions"][index])
            tests = [
                element("SimplePredicate", field=name, operator=operator, value=threshold)
                for operator in ("lessThan", "greaterOrEqual")
            ]
        # An evaluator asks the children in order, so the one that more rows of training went to comes first.
        both = sorted(zip((left, right), tests, strict=True), key=lambda item: -tree["sum_hessian"][item[0]])
        for child, test in both:
            made = element("Node", test, id=child)
            node.append(made)
            pending.append((child, made))
    return root


def _category_sets(tree: dict[str, Any]) -> dict[int, list[int]]:
    """The listed codes, by node."""
    spans = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    return {node: tree["categories"][start : start + size] for node, start, size in spans}


def _category_tests(name: str, codes: list[int]) -> list[Any]:
    """Left: not listed; right: listed."""
    if len(codes) == 1:
        return [
            element("SimplePredicate", field=name, operator=operator, value=codes[0])
            for operator in ("notEqual", "equal")
        ]
    text = " ".join(map(str, codes))
    return [
        element(
            "SimpleSetPredicate",
            element("Array", type="int", n=len(codes), text=text),
            field=name,
            booleanOperator=operator,
        )
        for operator in ("isNotIn", "isIn")
    ]
