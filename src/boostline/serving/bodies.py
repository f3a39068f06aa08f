"""Request bodies to tables of the contract's columns.

One rule for all three formats: a value fits its column where `boostline.transform.cast_column` says so. Hence a number
written as text is a number, and NaN and the infinities are missing values where a format has them: Arrow and CSV do,
JSON does not. Columns that the contract does not name are ignored, and the order of columns does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec

from boostline.serving.arrow_stream import read_stream
from boostline.serving.fit import Contract, check_columns, check_rows, fit_column, no_rows
from boostline.serving.refusal import Refused

JSON, ARROW, CSV = "application/json", "application/vnd.apache.arrow.stream", "text/csv"
CSV_MISSING = ["", "NA"]
"""Texts that mean "no value" in CSV, as in a dataset file."""
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SHAPE = 'Send {"records": [{"COLUMN": value, …}, …]} or {"columns": {"COLUMN": [value, …], …}}'


def read_rows(media_type: str, body: bytes | bytearray, contract: Contract, max_rows: int) -> Any:
    """The rows of a request, as the contract has them.

    Args:
        media_type: JSON, ARROW or CSV.
        body: All of it.
        contract: The model's raw columns.
        max_rows: More are refused.

    Returns:
        A `pyarrow.Table` of exactly the contract's columns, in its order and its types.

    Raises:
        Refused: 400 where the body is not what its type says; 413 for too many rows; 422 where a column is missing, or
            a value does not fit; it names the row, counted from 1, and the column.
    """
    import pyarrow as pa

    columns, rows = _READERS[media_type](body, contract, max_rows)
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


def _from_json(body: bytes | bytearray, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    try:
        found = _decoder(tuple(contract)).decode(body)
    except msgspec.ValidationError as error:
        raise _why_not(body, contract, str(error)) from None
    except _NO_JSON as error:
        raise _not_json(error) from error
    if (found.records is msgspec.UNSET) is (found.columns is msgspec.UNSET):
        raise _no_shape()
    if found.records is msgspec.UNSET:
        columns: Mapping[str, Any] = _column_lists(found.columns, contract, max_rows)
        rows = len(next(iter(columns.values()), ()))
    else:
        rows = len(found.records)
        check_rows(rows, max_rows)
        values = [*chain.from_iterable(map(msgspec.structs.astuple, found.records))]
        columns = {name: values[index :: len(contract)] for index, name in enumerate(contract)} if rows else {}
    return {name: _array(name, items) for name, items in columns.items()}, rows


@lru_cache(64)
def _decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """Reads records straight into rows of the contract's columns, which costs half of reading them as dictionaries."""
    fields = [f"c{index}" for index in range(len(names))]
    row = msgspec.defstruct(
        "Row", [(field, Any) for field in fields], rename=dict(zip(fields, names, strict=True)), gc=False
    )
    records, columns = ("records", list[row] | msgspec.UnsetType, msgspec.UNSET), ("columns", Any, msgspec.UNSET)  # type: ignore[valid-type]
    return msgspec.json.Decoder(msgspec.defstruct("Body", [records, columns], gc=False))


def _why_not(body: bytes | bytearray, contract: Contract, why: str) -> Refused:
    """What is wrong with a body whose JSON does not fit, found at leisure."""
    try:
        data = msgspec.json.decode(body)
    except _NO_JSON as error:
        return _not_json(error)
    if not isinstance(data, dict) or len(data.keys() & {"records", "columns"}) != 1:
        return _no_shape()
    if not isinstance(records := data.get("records"), list):
        return Refused(422, "`records` is not a list", _SHAPE)
    for row, record in enumerate(records, 1):
        if not isinstance(record, dict):
            return Refused(422, f"row {row} is not an object", _SHAPE)
        check_columns(record, contract, f"row {row}")
    return Refused(422, why, _SHAPE)  # a key is there twice


def _not_json(error: Exception) -> Refused:
    return Refused(
        400,
        f"the body is not JSON: {str(error)[:200]}",
        "Send UTF-8 JSON. It has no NaN and no Infinity: a missing number is null",
    )


def _no_shape() -> Refused:
    return Refused(422, "the JSON body is not an object with either `records` or `columns`", _SHAPE)


def _column_lists(columns: Any, contract: Contract, max_rows: int) -> dict[str, list[Any]]:
    if not isinstance(columns, dict):
        raise Refused(422, "`columns` is not an object", _SHAPE)
    check_columns(columns, contract, "the request")
    found = {name: columns[name] for name in contract}
    for name, values in found.items():
        if not isinstance(values, list):
            raise Refused(422, f"column {name} is not a list", _SHAPE)
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


def _array(name: str, values: Sequence[Any]) -> Any:
    """Values as JSON has them, as Arrow: of one type, or in pieces of one type each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        found = pa.array(values)
    except (pa.ArrowException, OverflowError):
        return _pieces(name, values)
    if pa.types.is_nested(found.type):
        return _pieces(name, values)
    # Arrow takes true among numbers for 1, and only there.
    suspect = pa.types.is_floating(found.type) and pc.any(pc.is_in(found, pa.array([0.0, 1.0]))).as_py()
    return _pieces(name, values) if suspect and bool in set(map(type, values)) else found


def _pieces(name: str, values: Sequence[Any]) -> list[Any]:
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    for row, value in enumerate(values, 1):
        if isinstance(value, dict | list):
            text = f"row {row}, column {name}: a list or an object is no value"
            raise Refused(422, text, "Send a text, number or null")
        if type(value) is int and not -(2**63) <= value < 2**63:
            text = f"row {row}, column {name}: the whole number needs more than 64 bits"
            raise Refused(422, text, "Write it as 1.5e30")
    return [pa.array([value if type(value) is kind else None for value in values]) for kind in kinds]


def _from_csv(body: bytes | bytearray, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(
        column_types=dict.fromkeys(contract, pa.string()),
        null_values=CSV_MISSING,
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    try:
        table = csv.read_csv(
            pa.BufferReader(body),
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=options,
        )
        table.column_names  # noqa: B018 (names that are no UTF-8 raise here, not before)
    except (pa.ArrowException, ValueError) as error:
        raise Refused(
            400, f"the body is not CSV: {_first_line(error)}", 'Send UTF-8 with a header line, commas, and " as quotes'
        ) from error
    return _table_columns(table, contract, max_rows)


def _from_arrow(body: bytes | bytearray, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    return _table_columns(read_stream(body, contract, max_rows), contract, max_rows)


def _table_columns(table: Any, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    names: list[str] = table.column_names
    check_columns(names, contract, "the request")
    if twice := [name for name in contract if names.count(name) > 1]:
        raise Refused(422, f"column {twice[0]} is there twice", "Send each column once")
    check_rows(table.num_rows, max_rows)
    return {name: table.column(name) for name in contract}, table.num_rows


_READERS: dict[str, Callable[[bytes | bytearray, Contract, int], tuple[Mapping[str, Any], int]]] = {
    JSON: _from_json,
    CSV: _from_csv,
    ARROW: _from_arrow,
}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
