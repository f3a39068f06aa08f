"""Columns that somebody sent to columns of the contract, or a refusal that names row and column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from boostline.errors import DataInvalid
from boostline.serving.refusal import Refused
from boostline.transform import RawColumn, arrow_type, cast_column

Contract = Mapping[str, RawColumn]


class Limits(NamedTuple):
    """How much one request may hold."""

    rows: int
    size: int
    """In bytes, of what the body decodes to."""


def fit_column(name: str, values: Any, kind: str) -> Any:
    """A column as the contract's type.

    Args:
        name: Of the column.
        values: An Arrow array; or several, where JSON mixes types: each row is present in one of them.
        kind: The contract's type.

    Raises:
        Refused: 422; names the first row that does not fit, counted from 1.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, list):
        return pc.coalesce(*[fit_column(name, piece, kind) for piece in values])
    if values.type == arrow_type(kind):
        return values
    if values.null_count == len(values):
        return pa.nulls(len(values), arrow_type(kind))
    coded = pa.types.is_dictionary(values.type)
    found = values.type.value_type if coded else values.type
    if not _may_fit(found, kind):
        row = pc.index(pc.is_valid(values), True).as_py() + 1
        raise Refused(422, f"row {row}, column {name}: {found} is no {kind}", f"Send {name} as {kind}")
    plain = pa.string() if is_text(found) else found
    if coded:  # by chunk: Arrow's own cast knows no dictionary of string views
        values = pa.chunked_array([part.dictionary.cast(plain).take(part.indices) for part in values.chunks], plain)
    elif values.type != plain:
        values = values.cast(plain)
    try:
        return cast_column(name, values, kind)
    except DataInvalid:
        row = _first_bad(name, values, kind)
        # A time of a zone that is none has no Python value to show.
        shown = f"this {values.type}" if pa.types.is_temporal(values.type) else repr(values[row].as_py())[:100]
        raise Refused(422, f"row {row + 1}, column {name}: {shown} is no {kind}", f"Send {name} as {kind}") from None


def is_text(kind: Any) -> bool:
    """Whether an Arrow type holds texts, whatever their layout."""
    import pyarrow.types as pt

    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _may_fit(found: Any, kind: str) -> bool:
    """Whether values of an Arrow type may stand for the contract's type, before their cast is tried."""
    import pyarrow.types as pt

    if pt.is_null(found) or is_text(found):
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


def check_columns(present: Any, contract: Contract, what: str) -> None:
    """Refuse, with 422, what lacks a column of the contract."""
    if lacking := [name for name in contract if name not in present]:
        raise Refused(
            422,
            f"{what} lacks the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}",
            f"Send all of {', '.join(contract)}; a missing value is null",
        )


def check_rows(rows: int, max_rows: int) -> None:
    """Refuse, with 413, more rows than are allowed."""
    if rows > max_rows:
        raise Refused(413, f"the request has more than {max_rows:,} rows", "Send them in several requests")


def no_rows(contract: Contract) -> Any:
    """A table of the contract's columns and no rows."""
    import pyarrow as pa

    return pa.table({name: cast_column(name, pa.nulls(0), column.type) for name, column in contract.items()})
