"""Rows that show what a model takes, made from its own transformation."""

from __future__ import annotations

from typing import Any

from boostline.scoring.model_file import Model
from boostline.transform import RawColumn, Transform, cast_column


def example_values(transform: Transform) -> dict[str, Any]:
    """One raw row as JSON has it: real categories, the data date, and plain numbers.

    A category is a value that training saw. Cleaning has been applied to it, and cleaning it again changes nothing.
    """
    return {name: _value(name, column, transform) for name, column in transform.columns.items()}


def example_row(model: Model) -> Any:
    """The same row as a `pyarrow.Table` of the contract's types."""
    import pyarrow as pa

    columns = model.transform.columns
    return pa.table(
        {
            name: cast_column(name, pa.array([value]), columns[name].type)
            for name, value in example_values(model.transform).items()
        }
    )


def _value(name: str, column: RawColumn, transform: Transform) -> Any:
    known = transform.categorical.get(name)
    first = known[0] if known else None
    match column.type:
        case "string":
            return first or "text"
        case "integer" | "long":
            return int(first) if first else 1
        case "double":
            fill = transform.numeric.get(name)
            return 1.0 if fill is None else fill
        case "boolean":
            return first != "false"
        case "date":
            return first or transform.date
        case _:
            return f"{transform.date}T12:00:00Z"
