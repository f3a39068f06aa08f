"""Which champions may know the test rows of a date: by rule, and against the rows that each split deals."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model_lab import toy_dataset

from boostline.registry.leakage import why_known

TODAY = date(2020, 3, 31)
ROWS_A_DAY = 6


def under(kind, window=10, **split):
    return toy_dataset("regression", "leakage", split={"kind": kind, **split}, **{"window.days": window})


def sides(dataset, day):
    """Train and valid rows, and test rows, of a date, as (day, number); dealt as `boostline.spark.feature_rows` does."""
    split, days = dataset.split, range(dataset.window.days - 1, -1, -1)
    rows = [(day - timedelta(days=back), number) for back in days for number in range(ROWS_A_DAY)]
    if split.kind == "first_rows":
        return set(rows[split.test_rows :]), set(rows[: split.test_rows])
    if split.kind == "time":
        test = {row for row in rows if row[0] > day - timedelta(days=split.test_days)}
    else:
        place = {row: int(hashlib.md5(str(row).encode()).hexdigest()[:8], 16) / 2**32 for row in rows}
        test = {row for row in rows if place[row] < split.test_share}
    return set(rows) - test, test


splits = st.one_of(
    st.builds(
        lambda window, valid, test: under("time", valid + test + window, valid_days=valid, test_days=test),
        st.integers(1, 4), st.integers(1, 3), st.integers(1, 3),
    ),
    st.builds(
        lambda window, valid, test: under("hash", window, valid_share=valid, test_share=test),
        st.integers(1, 8), st.sampled_from([0.1, 0.2]), st.sampled_from([0.2, 0.5]),
    ),
    st.builds(
        lambda window, test: under("first_rows", window, test_rows=test, valid_rows=1), st.integers(1, 8), st.integers(1, 4)
    ),
)  # fmt: skip


@given(splits, splits, st.integers(0, 9), st.booleans())
def test_a_model_that_is_compared_has_learnt_none_of_the_test_rows(then, now, back, is_older):
    learnt = TODAY - timedelta(days=back)
    known = sides(then, learnt)[0] & sides(now, TODAY)[1]
    assumed = {} if is_older and then == now else then.split_rule
    assert why_known(assumed, learnt, now, TODAY) or not known


@pytest.mark.parametrize(
    "dataset",
    [
        under("time", valid_days=2, test_days=3),
        under("hash"),
        under("first_rows", 1, test_rows=5, valid_rows=5),
        under("first_rows", 1, test_rows=5, test_is_valid=True),
    ],
    ids=lambda dataset: dataset.split.kind,
)
@pytest.mark.parametrize("back", [0, 1, 5])
def test_a_model_of_the_same_split_is_compared(dataset, back):
    learnt = TODAY - timedelta(days=back)
    assert why_known(dataset.split_rule, learnt, dataset, TODAY) is None
    assert why_known({}, learnt, dataset, TODAY) is None


def test_a_model_whose_days_ended_before_the_test_days_is_compared_whatever_its_split():
    now = under("time", valid_days=2, test_days=3)
    assert why_known(under("hash").split_rule, TODAY - timedelta(days=3), now, TODAY) is None
    assert why_known(under("hash").split_rule, TODAY - timedelta(days=2), now, TODAY) == (
        "it learnt under another split (kind hash, now time)"
    )


def test_a_model_that_tested_on_more_rows_by_hash_is_compared():
    assert why_known(under("hash", test_share=0.3).split_rule, TODAY, under("hash", test_share=0.2), TODAY) is None
    assert why_known(under("hash", test_share=0.1).split_rule, TODAY, under("hash", test_share=0.2), TODAY) == (
        "it learnt under another split (test_share 0.1, now 0.2)"
    )


def test_another_id_deals_by_hash_anew():
    now = under("hash")
    then = now.split_rule | {"id": {"city": "string"}}
    assert why_known(then, TODAY, now, TODAY) == "it learnt under another split (id city (string), now row (long))"


def test_first_rows_of_several_days_compare_with_a_model_of_the_same_date_only():
    now = under("first_rows", 30, test_rows=5, valid_rows=5)
    assert why_known({}, TODAY, now, TODAY) is None
    assert why_known({}, TODAY - timedelta(days=1), now, TODAY) == (
        "with window.days 30 the first rows of this date are others than those of its own"
    )
