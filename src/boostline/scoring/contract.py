"""Whether a model reads its columns as the clean rows of today have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from boostline.dataset import Dataset
from boostline.scoring.model_file import Model
from boostline.transform import string_rules


def other_contract(model: Model, dataset: Dataset) -> str | None:
    """How a model learnt from a column of another type, or cleaned by other rules, than the clean rows of now have.

    Args:
        model: The model. Columns that it does not read may have changed.
        dataset: The dataset file of now. Columns that it lacks are left to whoever scores.

    Returns:
        The first such column, in words; none where there is none.
    """
    now = dataset.raw_columns
    for name, column in model.transform.columns.items():
        if name not in now:
            continue
        then, today = _rules(column.type, column.clean), _rules(now[name].type, string_rules(now[name]))
        if then != today:
            return f"learnt from column {name} as {then}; the dataset file of today has {today}"
    return None


def _rules(kind: str, clean: Iterable[Any]) -> str:
    """A column's type and its string rules, in the words of the dataset file."""
    if kind != "string":
        return kind
    said = (r if isinstance(r, str) else f"replace {r['replace']!r} by {r.get('by', '')!r}" for r in clean)
    return f"string, clean: [{', '.join(said)}]"
