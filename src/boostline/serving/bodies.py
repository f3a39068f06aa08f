"""Request bodies to tables of the contract's columns.

One rule for all three formats: a value fits its column where `boostline.transform.cast_column` says so. Hence a number
written as text is a number, and NaN and the infinities are missing values where a format has them: Arrow and CSV do,
JSON does not. A CSV body has the missing values of the dataset's own files: an empty cell, and the texts that the contract
lists for its column. Columns that the contract does not name are ignored (in CSV so many of them), and the order of columns
does not matter.
"""

from __future__ import annotations

import csv as text_csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, count
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from boostline.serving.arrow_stream import read_stream
from boostline.serving.fit import Contract, Limits, check_columns, check_rows, fit_column, no_rows
from boostline.serving.refusal import Refused
from boostline.transform import BLANKS

JSON, ARROW, CSV = "application/json", "application/vnd.apache.arrow.stream", "text/csv"
MORE_COLUMNS = 1_000
"""So many columns of a CSV body may be none of the contract's."""
HEADER_BYTES = 1024**2
"""Arrow takes no longer CSV header: it has to end within the first block that is read."""
Value = str | int | float | bool | None
"""What JSON has in a row's column."""
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SHAPE = 'Send {"records": [{"COLUMN": value, …}, …]} or {"columns": {"COLUMN": [value, …], …}}'


def read_rows(media_type: str, body: bytes | bytearray, contract: Contract, limits: Limits) -> Any:
    """The rows of a request, as the contract has them.

    Args:
        media_type: JSON, ARROW or CSV.
        body: All of it.
        contract: The model's raw columns.
        limits: More is refused.

    Returns:
        A `pyarrow.Table` of exactly the contract's columns, in its order and its types.

    Raises:
        Refused: 400 where the body is not what its type says; 413 for too many rows or bytes; 422 where a column is
            missing, or a value does not fit; it names the row, counted from 1, and the column.
    """
    import pyarrow as pa

    columns, rows = _READERS[media_type](body, contract, limits)
    if not rows:
        return no_rows(contract)
    return pa.table({name: fit_column(name, columns[name], contract[name].type) for name in contract})


def few_records(body: bytes | bytearray, most: int) -> list[Any] | None:
    """The rows of a JSON body of records, as they are, where there are few. Whether they fit is not checked."""
    try:
        data = msgspec.json.decode(body)
    except _NO_JSON:
        return None  # `read_rows` says what is wrong with it
    records = data.get("records") if isinstance(data, dict) and len(data) == 1 else None
    few = isinstance(records, list) and len(records) <= most and all(isinstance(row, dict) for row in records)
    return records if few else None


def _from_json(body: bytes | bytearray, contract: Contract, limits: Limits) -> tuple[Mapping[str, Any], int]:
    try:
        # Values as objects take many times the bytes of their text: columns that may be too long are counted before.
        many = body.count(b",") > limits.rows * (len(contract) + 1)
        found = _decoder(tuple(contract), msgspec.Raw if many else list[Value]).decode(body)
    except _NO_JSON as error:
        _check_records(body, contract, str(error))
        raise _why_not(str(error)) from None
    if (found.records is UNSET) is (found.columns is UNSET):
        raise _no_shape()
    if found.records is UNSET:
        columns: Mapping[str, Any] = _column_lists(found.columns, contract, limits.rows)
        rows = len(next(iter(columns.values()), ()))
    else:
        rows = len(found.records)
        check_rows(rows, limits.rows)
        values = [*chain.from_iterable(map(msgspec.structs.astuple, found.records))]
        columns = {name: values[index :: len(contract)] for index, name in enumerate(contract)} if rows else {}
    return {name: _array(name, items, contract[name].type) for name, items in columns.items()}, rows


@lru_cache(64)
def _decoder(names: tuple[str, ...], column: Any) -> msgspec.json.Decoder[Any]:
    """Reads what the contract names and nothing else; the lists below `columns` as that type.

    Rows without a dictionary each cost half of the time; and of what is skipped no objects are made, which take many
    times the bytes of their text.
    """
    fields = {f"c{index}": name for index, name in enumerate(names)}
    row = msgspec.defstruct("Row", [(field, Value) for field in fields], rename=fields, gc=False)
    optional = [(field, column | UnsetType, UNSET) for field in fields]
    lists = msgspec.defstruct("Columns", optional, rename=fields, gc=False)
    records, columns = ("records", list[row] | UnsetType, UNSET), ("columns", lists | UnsetType, UNSET)  # type: ignore[valid-type]
    return msgspec.json.Decoder(msgspec.defstruct("Body", [records, columns], gc=False))


def _check_records(body: bytes | bytearray, contract: Contract, why: str) -> None:
    """Where msgspec named a column that a record lacks, refuse with all that it lacks."""
    if not why.startswith("Object missing"):
        return
    numbers, fields = count(1), {f"c{index}": name for index, name in enumerate(contract)}

    def check(record: Any) -> None:
        there = [name for field, name in fields.items() if getattr(record, field) is not UNSET]
        check_columns(there, contract, f"row {next(numbers)}")

    optional = [(field, Value | UnsetType, UNSET) for field in fields]
    record = msgspec.defstruct("Record", optional, rename=fields, namespace={"__post_init__": check}, gc=False)
    msgspec.json.decode(body, type=msgspec.defstruct("Records", [("records", list[record])]))  # type: ignore[valid-type]


def _why_not(why: str) -> Refused:
    """What msgspec says of a body that is no JSON or does not fit, in the caller's terms."""
    expected, _, place = why.removesuffix("`").partition(" - at `$")
    if not expected.startswith("Expected"):
        return _not_json(expected)
    if not place:
        return _no_shape()
    if place in (".records", ".columns"):
        return Refused(422, f"`{place[1:]}` is not {'a list' if place == '.records' else 'an object'}", _SHAPE)
    if record := re.fullmatch(r"\.records\[(\d+)\](?:\.(.+))?", place, re.S):
        row, name = record.groups()
        if name is None:
            return Refused(422, f"row {int(row) + 1} is not an object", _SHAPE)
    elif expected.startswith("Expected `array`"):
        return Refused(422, f"column {place.removeprefix('.columns.')} is not a list", _SHAPE)
    else:
        name, _, row = place.removeprefix(".columns.").removesuffix("]").rpartition("[")
    text = f"row {int(row) + 1}, column {name}: a list or an object is no value"
    return Refused(422, text, "Send a text, number or null")


def _not_json(why: str) -> Refused:
    return Refused(
        400,
        f"the body is not JSON: {why[:200]}",
        "Send UTF-8 JSON. It has no NaN and no Infinity: a missing number is null",
    )


def _no_shape() -> Refused:
    return Refused(422, "the JSON body is not an object with either `records` or `columns`", _SHAPE)


def _column_lists(columns: Any, contract: Contract, max_rows: int) -> dict[str, list[Any]]:
    found = dict(zip(contract, msgspec.structs.astuple(columns), strict=True))
    check_columns([name for name, values in found.items() if values is not UNSET], contract, "the request")
    found = {name: _counted(name, values, max_rows) for name, values in found.items()}
    lengths = {name: len(values) for name, values in found.items()}
    longest = max(lengths, key=lambda name: lengths[name])
    shortest = min(lengths, key=lambda name: lengths[name])
    if lengths[longest] != lengths[shortest]:
        raise Refused(
            422,
            f"column {shortest} has {lengths[shortest]} rows, column {longest} has {lengths[longest]}",
            "Send one value for each row; a missing one is null",
        )
    check_rows(lengths[longest], max_rows)
    return found


def _counted(name: str, values: Any, max_rows: int) -> list[Any]:
    """A column as a list, if it has not too many values."""
    if isinstance(values, list):
        return values
    text = bytes(values)
    if text.count(b",") >= max_rows:
        check_rows(_commas_between(text) + 1, max_rows)
    try:
        return msgspec.json.decode(text, type=list[Value])
    except _NO_JSON as error:
        what, _, place = str(error).partition(" - at `$")
        raise _why_not(f"{what} - at `$.columns.{name}{place or '`'}") from None


def _commas_between(text: bytes) -> int:
    """The commas of a JSON list that are not within its texts."""
    import numpy as np

    plain, inside, commas = text.replace(rb"\\", b"").replace(rb"\"", b""), False, 0
    for start in range(0, len(plain), 2**20):
        block = np.frombuffer(plain[start : start + 2**20], np.uint8)
        within = np.logical_xor.accumulate(block == ord('"')) ^ inside
        commas += int(np.count_nonzero((block == ord(",")) & ~within))
        inside = within[-1]
    return commas


def _array(name: str, values: Sequence[Any], kind: str) -> Any:
    """Values as JSON has them, as Arrow: of one type, or in pieces of one type each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        found = pa.array(values, pa.float64() if kind == "double" else None)  # twice as fast as where Arrow has to look
    except (pa.ArrowException, OverflowError):
        return _pieces(name, values)
    # Arrow takes true among numbers for 1, and only there.
    suspect = pa.types.is_floating(found.type) and pc.any(pc.is_in(found, pa.array([0.0, 1.0]))).as_py()
    return _pieces(name, values) if suspect and bool in set(map(type, values)) else found


def _pieces(name: str, values: Sequence[Any]) -> list[Any]:
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    for row, value in enumerate(values, 1):
        if type(value) is int and not -(2**63) <= value < 2**63:
            text = f"row {row}, column {name}: the whole number needs more than 64 bits"
            raise Refused(422, text, "Write it as 1.5e30")
    return [pa.array([value if type(value) is kind else None for value in values]) for kind in kinds]


def _from_csv(body: bytes | bytearray, contract: Contract, limits: Limits) -> tuple[Mapping[str, Any], int]:
    import pyarrow as pa
    from pyarrow import csv

    _check_header(body, contract)
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(contract, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    # A missing value of a single column is an empty line.
    several = len(contract) > 1 or b"," in body[: body.find(b"\n")]
    try:
        table = csv.read_csv(
            pa.BufferReader(body),
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=several),
            convert_options=options,
        )
        table.column_names  # noqa: B018 (names that are no UTF-8 raise here, not before)
    except (pa.ArrowException, ValueError) as error:
        raise Refused(
            400, f"the body is not CSV: {_first_line(error)}", 'Send UTF-8 with a header line, commas, and " as quotes'
        ) from error
    columns, rows = _table_columns(table, contract, limits.rows)
    return {name: _null_where(texts, contract[name].null_values) for name, texts in columns.items()}, rows


def _check_header(body: bytes | bytearray, contract: Contract) -> None:
    """Refuse very many columns before Arrow makes an array for each, some 4 KB whether the contract names it or not."""
    most, start = len(contract) + MORE_COLUMNS, io.BytesIO(memoryview(body)[:HEADER_BYTES])
    lines = io.TextIOWrapper(start, "utf-8-sig", "replace", newline="")
    try:
        columns = len(next(filter(None, text_csv.reader(lines)), ()))
    except text_csv.Error as error:
        raise Refused(400, f"the body is not CSV: its header: {error}", "Send a header line of column names") from error
    if columns > most:
        raise Refused(
            413, f"the header has more than {most:,} columns", f"Send those that are asked for: {', '.join(contract)}"
        )


def _null_where(texts: Any, missing: Sequence[str]) -> Any:
    """Texts with null for those that mean it, blanks around them aside: the rule for raw files, see `boostline.spark.raw`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(pc.utf8_trim(texts, characters=BLANKS), value_set=pa.array(missing, pa.string()))
    return pc.if_else(found, pa.scalar(None, pa.string()), texts)


def _from_arrow(body: bytes | bytearray, contract: Contract, limits: Limits) -> tuple[Mapping[str, Any], int]:
    return _table_columns(read_stream(body, contract, limits), contract, limits.rows)


def _table_columns(table: Any, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    names: list[str] = table.column_names
    check_columns(names, contract, "the request")
    if twice := [name for name in contract if names.count(name) > 1]:
        raise Refused(422, f"column {twice[0]} is there twice", "Send each column once")
    check_rows(table.num_rows, max_rows)
    return {name: table.column(name) for name in contract}, table.num_rows


_READERS: dict[str, Callable[[bytes | bytearray, Contract, Limits], tuple[Mapping[str, Any], int]]] = {
    JSON: _from_json,
    CSV: _from_csv,
    ARROW: _from_arrow,
}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
