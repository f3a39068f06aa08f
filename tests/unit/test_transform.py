"""transform.json applied to what a person may send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from boostline.dataset import parse_dataset
from boostline.dataset.sections import Derived
from boostline.errors import DataInvalid
from boostline.transform import RawColumn, Transform, cast_column, raw_contract

TRANSFORM = Transform(
    format=1,
    dataset="meters",
    task="regression",
    date="2024-03-10",
    columns={
        "site": RawColumn(type="string", clean=("trim", "lower", {"replace": "[0-9]+$", "by": ""})),
        "power": RawColumn(type="double", clean=()),
        "at": RawColumn(type="timestamp", clean=()),
    },
    derived={"hour": Derived(hour="at"), "double": Derived(difference=("power", "power"))},
    categorical={"site": ("a", "b"), "hour": ("5", "6")},
    numeric={"power": None, "double": 7.0},
    names=("site", "hour", "power", "double"),
    label="load",
    classes=(),
)


def test_it_survives_its_file() -> None:
    assert Transform.loads(TRANSFORM.dumps()) == TRANSFORM


def test_raw_rows_become_codes_and_numbers() -> None:
    raw = pa.table({
        "more": [1, 2, 3], "site": [" B12", "zebra", None], "power": [1, None, 3],
        "at": pa.array([datetime(2024, 3, 10, 5, 59, tzinfo=UTC), None, datetime(2024, 3, 10, 7, tzinfo=UTC)]),
    })  # fmt: skip
    features = TRANSFORM.apply(raw)
    assert features.to_pydict() == {"site": [1, None, None], "hour": [0, None, None], "power": [1.0, None, 3.0],
                                    "double": [0.0, 7.0, 0.0]}  # fmt: skip
    assert [str(field.type) for field in features.schema] == ["int32", "int32", "double", "double"]


@pytest.mark.parametrize(
    ("times", "codes"),
    [
        (["2024-03-10T05:00:00Z", "2024-03-10 06:00:00", "2024-03-10T07:00:00+01:00"], [0, 1, 1]),
        (["2024-03-10T05:00Z", "2024-03-10T07:00:00.5+0100", "2024-03-10 04-02"], [0, 1, 1]),
        (["2024-03-10 05:00", "2024-03-10", None], [0, None, None]),
        (pa.array([0, 5 * 3600 * 10**9, None], pa.timestamp("ns")), [None, 0, None]),
    ],
)
def test_times_as_people_send_them(times: object, codes: list[int | None]) -> None:
    raw = pa.table({"site": ["a", "a", "a"], "power": ["1", "2.5", None], "at": times})
    assert TRANSFORM.apply(raw)["hour"].to_pylist() == codes
    assert TRANSFORM.apply(raw)["power"].to_pylist() == [1.0, 2.5, None]


def test_nan_and_infinity_are_missing() -> None:
    raw = pa.table({"site": ["a"] * 3, "power": [float("nan"), float("inf"), float("-inf")], "at": pa.nulls(3)})
    assert TRANSFORM.apply(raw)["power"].to_pylist() == [None] * 3


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataInvalid, match=r"lack the column\(s\) power, at"):
        TRANSFORM.apply(pa.table({"site": ["a"]}))


def test_a_wrong_type_is_named() -> None:
    raw = pa.table({"site": ["a"], "power": ["much"], "at": pa.nulls(1)})
    with pytest.raises(DataInvalid, match="column power: string does not fit double"):
        TRANSFORM.apply(raw)


@pytest.mark.parametrize("number", [2**53 + 1, 10**17 + 1, 2**63 - 1, -(2**63)])
def test_a_whole_number_that_no_double_equals_becomes_the_nearest_as_it_does_from_text(number: int) -> None:
    for values in (pa.array([number, None]), pa.array([str(number), None]), pa.array([float(number), None])):
        assert cast_column("power", values, "double").to_pylist() == [float(number), None]
    with pytest.raises(DataInvalid, match="column floors: uint64 does not fit long"):
        cast_column("floors", pa.array([2**64 - 1], pa.uint64()), "long")


AS_TEXT = {
    "boolean": {
        True: ["true", "TRUE", "tRue", "t", "T", "yes", "Yes", "y", "1"],
        False: ["false", "False", "f", "F", "no", "NO", "n", "0"],
        None: ["on", "off", "2", "01", "yess", "true?", "tt", "-"],
    },
    "integer": {3: ["3", "+3", "03", "+03"], -3: ["-3", "-03"], None: [
        "0x10", "0X10", "-0x1", "+0x1", "0xFFFFFFFFFFFFFFFF", "3.0", "1e2", "++3", "+-3", "+", "-", "+ 3", "3L", "٣", "x"]},
    "long": {2**63 - 1: [str(2**63 - 1), f"+{2**63 - 1}"], None: ["0x10", "0xFFFFFFFFFFFFFFFF", str(2**63)]},
}  # fmt: skip
"""Texts by what Spark reads them as; tests/spark/test_transform_agrees.py asks Spark."""


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [(kind, value, text) for kind, values in AS_TEXT.items() for value, texts in values.items() for text in texts],
)
def test_texts_are_read_as_spark_reads_them(kind: str, value: object, text: str) -> None:
    if value is None:
        with pytest.raises(DataInvalid, match=f"does not fit {kind}"):
            cast_column("c", pa.array([text]), kind)
        return
    for layout in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        assert cast_column("c", pa.array([text, None]).cast(layout), kind).to_pylist() == [value, None]


@pytest.mark.parametrize(
    "layout", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())], ids=str
)
def test_times_may_be_texts_of_any_layout(layout: pa.DataType) -> None:
    for kind, texts in {
        "timestamp": ["2013-03-31T10:00:00", "2013-03-31T12:00:00+02:00", None],
        "date": ["2013-03-31", "2013-02-28", None],
    }.items():
        expected = cast_column("c", pa.array(texts), kind)
        assert cast_column("c", pa.array(texts).cast(layout), kind).equals(expected)


def test_texts_that_mean_missing_are_those_of_the_table_that_a_column_comes_from() -> None:
    kind = {"type": "string", "clean": ["trim", {"replace": "[0-9]+"}]}
    readings: dict[str, Any] = {"meter": {"type": "long"}, "load": {"type": "double"}, "kind": kind}
    sites = {"meter": {"type": "long"}, "area": {"type": "double", "min": 0}}
    dataset = parse_dataset({
        "name": "meters", "task": "regression", "label": {"name": "load"}, "id": ["meter"], "joins": ["sites"],
        "tables": {
            "readings": {"daily": True, "source": {"null_values": ["?"]}, "columns": readings},
            "sites": {"key": ["meter"], "source": {"null_values": []}, "columns": sites},
        },
        "split": {"kind": "hash"}, "features": {"categorical": ["meter", "kind"], "numeric": ["area"]},
        "baseline": {"kind": "linear"}, "gate": {"metric": "rmse"},
    })  # fmt: skip
    contract = raw_contract(dataset)
    assert contract == {
        "meter": RawColumn(type="long", clean=(), null_values=("?",)),
        "kind": RawColumn(type="string", clean=("trim", {"replace": "[0-9]+", "by": ""}), null_values=("?",)),
        "area": RawColumn(type="double", clean=(), null_values=()),
    }
    written = TRANSFORM.model_copy(update={"columns": contract})
    assert Transform.loads(written.dumps()).columns == contract


def test_a_transformation_that_does_not_say_what_means_missing_has_the_default() -> None:
    assert b"null_values" not in TRANSFORM.dumps()
    assert {column.null_values for column in Transform.loads(TRANSFORM.dumps()).columns.values()} == {("", "NA")}
