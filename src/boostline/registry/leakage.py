"""Whether a model may have learnt from the test rows that it is to be compared on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from boostline.dataset import Dataset


def why_known(split: Mapping[str, Any], learnt: date, dataset: Dataset, day: date) -> str | None:
    """Why a model may know the test rows of a date, or none where it cannot.

    Rows that stop the training, or choose the threshold, count as learnt from. A row is its day and its id: where an id comes
    again on a later day, a model may have learnt an earlier copy of a test row, and is compared all the same. Which ids
    come again no manifest says, since each date counts them within its own window alone, and the rows that an old model
    learnt from may be gone. By hash, under the same split, an id is on one side whatever its day.

    Args:
        split: `Dataset.split_rule` that the model learnt under; empty in older models, which are taken to have learnt
            under today's.
        learnt: The model's data date, no later than `day`.
        dataset: Deals the test rows.
        day: The data date of these.
    """
    now = dataset.split_rule
    then = split or now
    if _last_learnt(then, learnt) < _first_test(now, day):
        return None
    if then["kind"] == now["kind"] == "hash" and then["id"] == now["id"] and then["test_share"] >= now["test_share"]:
        return None  # an id is on one side whatever the date, and what was below the smaller share is below the larger
    if then == now:
        first = f"with window.days {now['window_days']} the first rows of this date are others than those of its own"
        return None if learnt == day else first
    return f"it learnt under another split ({_difference(then, now)})"


def _last_learnt(split: Mapping[str, Any], day: date) -> date:
    return day - timedelta(days=split["test_days"] if split["kind"] == "time" else 0)


def _first_test(split: Mapping[str, Any], day: date) -> date:
    return day - timedelta(days=split["test_days" if split["kind"] == "time" else "window_days"] - 1)


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = ["kind"] if then["kind"] != now["kind"] else [key for key in then if then[key] != now.get(key)]
    return ", ".join(f"{key} {_shown(then[key])}, now {_shown(now.get(key))}" for key in keys)


def _shown(value: Any) -> str:
    return " and ".join(f"{name} ({kind})" for name, kind in value.items()) if isinstance(value, dict) else str(value)
