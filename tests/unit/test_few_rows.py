"""Rows coded one by one, beside the transformation of the same rows as a table."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boostline.dataset.sections import Derived
from boostline.errors import DataInvalid
from boostline.scoring.few_rows import MOST_ASKED, FewRows
from boostline.transform import RawColumn, Transform

TRANSFORM = Transform(
    format=1,
    dataset="meters",
    task="regression",
    date="2024-03-10",
    columns={
        "site": RawColumn(type="string", clean=("trim", "lower", {"replace": "[0-9]+$", "by": ""})),
        "floors": RawColumn(type="integer", clean=()),
        "power": RawColumn(type="double", clean=()),
        "load": RawColumn(type="double", clean=()),
        "open": RawColumn(type="boolean", clean=()),
        "day": RawColumn(type="date", clean=()),
        "at": RawColumn(type="timestamp", clean=()),
    },
    derived={
        "hour": Derived(hour="at"),
        "month": Derived(month="at"),
        "weekday": Derived(weekday="day"),
        "gap": Derived(difference=("power", "load")),
        "share": Derived(ratio=("power", "load")),
        "pair": Derived(concat=("site", "floors")),
    },
    categorical={
        "site": ("a", "b"), "floors": ("1", "2"), "hour": ("5", "6"), "pair": ("a|1", "b|2"), "open": ("true",), "day": ("2024-03-10",),
    },
    numeric={"power": None, "load": 7.5, "weekday": None, "month": 0.5, "gap": -1.0, "share": None},
    names=("site", "floors", "hour", "power", "load", "weekday", "month", "gap", "share", "pair", "open", "day"),
    label="label",
    classes=(),
)  # fmt: skip

NUMBERS = st.one_of(st.floats(allow_nan=False), st.integers(-(2**53), 2**53), st.just(float("inf")))
TIMES = st.builds(
    "2024-0{}-{:02}{}0{}:{:02}{}{}".format, st.integers(1, 3), st.integers(1, 29), st.sampled_from("T "), st.integers(4, 7),
    st.integers(0, 59), st.sampled_from(["", ":00", ":59", ":59.5", ":59.999999"]),
    st.sampled_from(["", "Z", "+00:00", "+0000", "+01:00", "-00:30", "+05"]),
)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {
        "site": st.none() | st.sampled_from([" A1", "b", "B22 ", "", "zebra", "İ"]) | st.text(max_size=5),
        "floors": st.none() | st.integers(-3, 3) | st.integers(-(2**53), 2**53),
        "power": st.none() | NUMBERS,
        "load": st.none() | NUMBERS | st.just(0.0),
        "open": st.none() | st.booleans(),
        "day": st.none() | st.sampled_from(["2024-03-10", "2024-03-11"]),
        "at": st.none()
        | st.sampled_from(["2024-03-10T05:00:00Z", "2024-03-10 06:59:59", "2024-03-10T07:00:00+01:00"])
        | TIMES,
    }
)
WRONG_TIMES = (
    "2024-02-30T05:00:00Z", "2024-03-10T24:00:00Z", "2024-03-10T05:60:00Z", "2024-03-10T05:00:60Z", "2024-03-10T05:00:00z",
    "2024-03-10T05:00:00.1234567Z", "2024-03-10T05:00:00Z ", "2024-03-10T05:00:00Z\n", "２０２４-03-10T05:00:00Z", "24-03-10T05:00Z",
)  # fmt: skip
WRONG = st.sampled_from([*WRONG_TIMES, True, 1, 1.5, "1.5", "x", 2**60, 10**400, [], {}, "2024-03-10"])


def as_table(rows):
    """The features by way of Arrow, NaN for what is missing."""
    table = TRANSFORM.apply(pa.table({name: pa.array([row[name] for row in rows]) for name in TRANSFORM.columns}))
    return np.column_stack([table.column(name).to_numpy().astype(float) for name in TRANSFORM.names])


def warm(row):
    """A coder that knows the row: what is all new is left to a table at first."""
    coder = FewRows(TRANSFORM)
    for _ in range(2):
        coder.code([row])
    return coder


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_rows_are_coded_as_the_transformation_does(rows):
    coder = FewRows(TRANSFORM)
    first = coder.code(rows)  # where all is new, it may be left to a table
    assert first is None or np.array_equal(first, as_table(rows), equal_nan=True)
    for _ in range(2):  # asked for the rest; then from memory
        np.testing.assert_array_equal(coder.code(rows), as_table(rows))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ROWS, st.sampled_from(sorted(TRANSFORM.columns)), WRONG)
def test_a_value_of_another_type_is_left_to_the_casts(row, name, value):
    coder = warm(row)
    changed = row | {name: value}
    coded = coder.code([changed])
    if coded is None:
        return
    try:
        expected = as_table([changed])
    except (DataInvalid, pa.ArrowException) as error:
        raise AssertionError("coded what the transformation refuses") from error
    np.testing.assert_array_equal(coded, expected)


@pytest.mark.parametrize(
    "change", [{"floors": True}, {"floors": 1.0}, {"open": 1}, {"site": 7}, {"power": "1"}, {"day": []}]
)
def test_other_types_need_a_table(change):
    row = {"site": "a", "floors": 1, "power": 1.0, "load": 1, "open": True, "day": "2024-03-10", "at": None}
    coder = warm(row)
    assert coder.code([row]) is not None
    assert coder.code([row | change]) is None
    assert coder.code([{"site": "a"}]) is None


def test_what_is_remembered_has_a_bound(monkeypatch):
    monkeypatch.setattr("boostline.scoring.few_rows.REMEMBERED", 3)
    coder = FewRows(TRANSFORM)
    row = json.loads('{"floors": 1, "power": 1.0, "load": 1, "open": true, "day": null, "at": null}')
    for number in range(10):
        coder.code([row | {"site": f"x{number}y"}])
    assert max(len(feature.remembered) for feature in coder._others) <= 3


def test_a_long_text_is_coded_and_not_remembered():
    row = {"floors": 1, "power": 1.0, "load": 1, "open": True, "day": None, "at": None, "site": "a" + "7" * 300}
    coder = warm(row)
    for _ in range(2):
        np.testing.assert_array_equal(coder.code([row]), as_table([row]))
    remembered = {TRANSFORM.names[feature.place]: feature.remembered for feature in coder._others}
    assert not remembered["site"] and not remembered["pair"] and remembered["floors"]


def test_new_values_cost_a_bounded_number_of_calls(monkeypatch):
    calls, apply = [], Transform.apply
    monkeypatch.setattr(Transform, "apply", lambda self, raw: calls.append(len(raw)) or apply(self, raw))
    row = {"site": "a", "floors": 1, "power": 1.0, "load": 1, "open": True, "day": "2024-03-10", "at": None}
    coder = warm(row)
    calls.clear()
    rows = [row | {"site": f"new {number}", "power": 0.5 + number} for number in range(16)]
    np.testing.assert_array_equal(coder.code(rows), as_table(rows))
    assert calls == [16, 16, 16, 16, 16], "site, gap, share, pair; and the table to compare with"
    calls.clear()
    days = [dict.fromkeys(row) | {"site": f"{number}", "floors": number} for number in range(16)]
    assert FewRows(TRANSFORM).code(days) is None
    assert len(calls) <= MOST_ASKED


def test_times_of_one_day_are_asked_for_once(monkeypatch):
    calls, apply = [], Transform.apply
    monkeypatch.setattr(Transform, "apply", lambda self, raw: calls.append((self.names, len(raw))) or apply(self, raw))
    row = {"site": "a", "floors": 1, "power": 1.0, "load": 1, "open": True, "day": "2024-03-10", "at": None}
    coder = warm(row)
    calls.clear()
    times = [f"2024-03-10T0{5 + number % 2}:{number:02}:00Z" for number in range(16)]
    coder.code([row | {"at": time} for time in times])
    assert calls == [(("hour",), 2), (("month",), 1)]
