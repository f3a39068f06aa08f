"""Request bodies to tables of the contract's columns, and tables of answers to response bodies.

One rule for all three formats: a value fits its column where `boostline.transform.cast_column` says so. Hence a number
written as text is a number, and NaN and the infinities are missing values where a format has them: Arrow and CSV do,
JSON does not. Columns that the contract does not name are ignored, and the order of columns does not matter.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from boostline.errors import DataInvalid
from boostline.serving.arrow_stream import read_stream
from boostline.serving.refusal import Refused
from boostline.transform import RawColumn, arrow_type, cast_column

JSON, ARROW, CSV = "application/json", "application/vnd.apache.arrow.stream", "text/csv"
CSV_MISSING = ["", "NA"]
"""Texts that mean "no value" in CSV, as in a dataset file."""

Contract = Mapping[str, RawColumn]


def read_rows(media_type: str, body: bytes, contract: Contract, max_rows: int) -> Any:
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
    return (
        pa.table({name: _fit(name, columns[name], contract[name].type) for name in contract})
        if rows
        else _no_rows(contract)
    )


def few_records(body: bytes, most: int) -> list[Any] | None:
    """The rows of a JSON body of records, as they are, where there are few. Whether they fit is not checked."""
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError:
        return None  # `read_rows` says what is wrong with it
    records = data.get("records") if isinstance(data, dict) and len(data) == 1 else None
    few = isinstance(records, list) and len(records) <= most and all(isinstance(row, dict) for row in records)
    return records if few else None


def write_answer(media_type: str, table: Any, head: Mapping[str, str]) -> bytes:
    """A response body.

    Args:
        media_type: JSON, ARROW or CSV.
        table: Predictions, a row for each row.
        head: Dataset, version and date; part of the JSON answer, the other formats have them in headers.
    """
    import pyarrow as pa

    if media_type == JSON:
        return write_few(table.to_pylist(), head)
    sink = io.BytesIO()
    if media_type == ARROW:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue()
    from pyarrow import csv

    # CSV has no structs: contributions.FEATURE, or contributions.CLASS.FEATURE.
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    csv.write_csv(table, sink)
    return sink.getvalue()


def write_few(rows: list[dict[str, Any]], head: Mapping[str, str]) -> bytes:
    """The JSON answer for rows as plain values."""
    return to_json({**head, "predictions": rows})


def _from_json(body: bytes, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(
            400,
            f"the body is not JSON: {str(error)[:200]}",
            "Send UTF-8 JSON. It has no NaN and no Infinity: a missing number is null",
        ) from error
    shape = 'Send {"records": [{"COLUMN": value, …}, …]} or {"columns": {"COLUMN": [value, …], …}}'
    if not isinstance(data, dict) or len(data.keys() & {"records", "columns"}) != 1:
        raise Refused(422, "the JSON body is not an object with either `records` or `columns`", shape)
    lists = _record_lists if "records" in data else _column_lists
    found = lists(data.get("records", data.get("columns")), contract, max_rows, shape)
    return {name: _array(name, values) for name, values in found.items()}, len(next(iter(found.values()), ()))


def _record_lists(records: Any, contract: Contract, max_rows: int, shape: str) -> dict[str, list[Any]]:
    if not isinstance(records, list):
        raise Refused(422, "`records` is not a list", shape)
    _check_rows(len(records), max_rows)
    try:
        return {name: [record[name] for record in records] for name in contract}
    except (KeyError, TypeError):
        for row, record in enumerate(records, 1):
            if not isinstance(record, dict):
                raise Refused(422, f"row {row} is not an object", shape) from None
            _check_columns(record, contract, f"row {row}")
        raise


def _column_lists(columns: Any, contract: Contract, max_rows: int, shape: str) -> dict[str, list[Any]]:
    if not isinstance(columns, dict):
        raise Refused(422, "`columns` is not an object", shape)
    _check_columns(columns, contract, "the request")
    found = {name: columns[name] for name in contract}
    for name, values in found.items():
        if not isinstance(values, list):
            raise Refused(422, f"column {name} is not a list", shape)
    lengths = {name: len(values) for name, values in found.items()}
    longest = max(lengths, key=lambda name: lengths[name])
    shortest = min(lengths, key=lambda name: lengths[name])
    if lengths[longest] != lengths[shortest]:
        raise Refused(
            422,
            f"column {shortest} has {lengths[shortest]} rows, column {longest} has {lengths[longest]}",
            "Send one value for each row; a missing one is null",
        )
    _check_rows(lengths[longest], max_rows)
    return found


def _array(name: str, values: list[Any]) -> Any:
    """Values as JSON has them, as Arrow: of one type, or in pieces of one type each."""
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    if kinds - {str, int, float, bool}:
        row = next(row for row, value in enumerate(values, 1) if isinstance(value, dict | list))
        raise Refused(422, f"row {row}, column {name}: a list or an object is no value", "Send a text, number or null")
    try:
        if len(kinds) < 2:
            return pa.array(values)
        return [pa.array([value if type(value) is kind else None for value in values]) for kind in kinds]
    except OverflowError:
        row = next(row for row, value in enumerate(values, 1) if type(value) is int and not -(2**63) <= value < 2**63)
        raise Refused(
            422, f"row {row}, column {name}: the whole number needs more than 64 bits", "Write it as 1.5e30"
        ) from None


def _from_csv(body: bytes, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
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


def _from_arrow(body: bytes, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    return _table_columns(read_stream(body, contract, max_rows), contract, max_rows)


def _table_columns(table: Any, contract: Contract, max_rows: int) -> tuple[Mapping[str, Any], int]:
    names: list[str] = table.column_names
    _check_columns(names, contract, "the request")
    if twice := [name for name in contract if names.count(name) > 1]:
        raise Refused(422, f"column {twice[0]} is there twice", "Send each column once")
    _check_rows(table.num_rows, max_rows)
    return {name: table.column(name) for name in contract}, table.num_rows


_READERS: dict[str, Callable[[bytes, Contract, int], tuple[Mapping[str, Any], int]]] = {
    JSON: _from_json,
    CSV: _from_csv,
    ARROW: _from_arrow,
}


def _fit(name: str, values: Any, kind: str) -> Any:
    """A column as the contract's type, or a refusal that names the first row that does not fit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(values, list) and values.type == arrow_type(kind):
        return values
    if isinstance(values, list):  # JSON of several types: each row is present in one piece
        return pc.coalesce(*[_fit(name, piece, kind) for piece in values])
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    if not _may_fit(values.type, kind):
        row = pc.index(pc.is_valid(values), True).as_py() + 1
        raise Refused(422, f"row {row}, column {name}: {values.type} is no {kind}", f"Send {name} as {kind}")
    try:
        return cast_column(name, values, kind)
    except DataInvalid:
        row = _first_bad(name, values, kind)
        shown = repr(values[row].as_py())[:100]
        raise Refused(422, f"row {row + 1}, column {name}: {shown} is no {kind}", f"Send {name} as {kind}") from None


def _may_fit(found: Any, kind: str) -> bool:
    """Whether values of an Arrow type may stand for the contract's type, before their cast is tried."""
    import pyarrow.types as pt

    if pt.is_null(found) or pt.is_string(found):
        return True
    if kind in ("integer", "long", "double"):
        return bool(pt.is_integer(found) or pt.is_floating(found) or pt.is_decimal(found))
    if kind == "boolean":
        return bool(pt.is_boolean(found))
    if kind in ("date", "timestamp"):
        return bool(pt.is_date(found) or pt.is_timestamp(found))
    return bool(pt.is_integer(found))


def _first_bad(name: str, values: Any, kind: str) -> int:
    """The first row whose cast fails, by halves."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast_column(name, values.slice(low, middle - low), kind)
        except DataInvalid:
            high = middle
        else:
            low = middle
    return low


def _check_columns(present: Any, contract: Contract, what: str) -> None:
    if lacking := [name for name in contract if name not in present]:
        raise Refused(
            422,
            f"{what} lacks the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}",
            f"Send all of {', '.join(contract)}; a missing value is null",
        )


def _check_rows(rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise Refused(413, f"the request has more than {max_rows:,} rows", "Send them in several requests")


def _no_rows(contract: Contract) -> Any:
    import pyarrow as pa

    return pa.table({name: cast_column(name, pa.nulls(0), column.type) for name, column in contract.items()})


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
