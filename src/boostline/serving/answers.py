"""Answers as response bodies."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import msgspec

from boostline.serving.bodies import ARROW, JSON

SLICE_ROWS = 5_000
"""Rows of a JSON answer that are plain values at one time: these take several times the bytes of their text."""


def write_answer(media_type: str, table: Any, head: Mapping[str, str]) -> bytes:
    """A response body.

    Args:
        media_type: JSON, ARROW or CSV.
        table: Predictions, a row for each row.
        head: Dataset, version and date; part of the JSON answer, the other formats have them in headers.
    """
    import pyarrow as pa

    if media_type == JSON:
        slices = [table.slice(start, SLICE_ROWS) for start in range(0, len(table), SLICE_ROWS)]
        rows = b",".join([msgspec.json.encode(part.to_pylist())[1:-1] for part in slices])
        return b"".join([write_few([], head)[: -len("]}")], rows, b"]}"])
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
    return msgspec.json.encode({**head, "predictions": rows})
