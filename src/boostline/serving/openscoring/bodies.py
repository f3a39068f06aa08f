"""Openscoring's request and answer bodies: PMML, JSON, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from xml.parsers import expat

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from boostline.serving.fit import check_rows
from boostline.serving.refusal import Refused

DELIMITERS = ",;\t"
SNIFFED_LINES = 11


class EvaluationRequest(BaseModel):
    """One row: its id comes back with the answer, its arguments are the values by field."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: str | None = None
    arguments: dict[str, Any]


class BatchEvaluationRequest(BaseModel):
    """Many rows."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: str | None = None
    requests: list[EvaluationRequest]


Request = TypeVar("Request", EvaluationRequest, BatchEvaluationRequest)


def read_json(kind: type[Request], body: bytes) -> Request:
    """A request.

    Raises:
        Refused: 400, names what is wrong.
    """
    try:
        return kind.model_validate(from_json(body, allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        shape = '{"id": "1", "arguments": {"FIELD": value, …}}'
        remedy = shape if kind is EvaluationRequest else f'{{"requests": [{shape}, …]}}'
        raise Refused(400, f"{where}: {first['msg']}", f"Send {remedy}") from error
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {str(error)[:200]}", "A missing value is null") from error


def check_document(body: bytes) -> None:
    """Refuse, with 400, what is no XML, and any document type declaration: entities and other files come with it.

    JPMML refuses one as well; this holds whichever version of it is installed.
    """

    def refuse(*_: Any) -> None:
        raise Refused(400, "the document has a DOCTYPE", "Send it without; PMML needs none")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Refused(400, f"the document is not XML: {error}", "Send a PMML document") from error


@dataclass(frozen=True)
class Table:
    """A CSV body: the rows as texts, none for an empty cell, and the column that identifies them, if any."""

    delimiter: str
    quote: str
    id_column: str
    ids: list[str]
    rows: list[dict[str, str | None]]


def read_csv(body: bytes, delimiter: str | None, quote: str | None, max_rows: int) -> Table:
    """Read CSV with a header line.

    Args:
        body: UTF-8.
        delimiter: None: the one of `,`, `;` and tab that gives all of the first lines the same number of cells.
        quote: None: `"`.
        max_rows: More are refused.

    Raises:
        Refused: 400, names the line; 413 for too many rows.
    """
    try:
        text = body.decode("utf-8-sig")
        delimiter, quote = delimiter or _delimiter(text), quote or '"'
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True)
        header = next(lines, [])
        if not header or len(set(header)) < len(header):
            raise Refused(400, "the first line does not name each column once", "Send CSV with a header line")
        table = Table(delimiter, quote, header[0] if header[0].lower() == "id" else "", [], [])
        for cells in filter(None, lines):
            if len(cells) != len(header):
                text = f"line {lines.line_num} has {len(cells)} cells, the first line has {len(header)}"
                raise Refused(400, text, "Send one cell for each column")
            check_rows(len(table.rows) + 1, max_rows)
            row = {name: cell or None for name, cell in zip(header, cells, strict=True)}
            table.ids.append(row.pop(table.id_column, None) or "")
            table.rows.append(row)
        return table
    except (csv.Error, UnicodeDecodeError, TypeError, ValueError) as error:
        raise Refused(
            400, f"the body is not CSV: {error}", "Send UTF-8; delimiterChar and quoteChar are one character each"
        ) from error


def write_csv(table: Table, fields: Iterable[str], results: list[dict[str, Any]]) -> bytes:
    """The results in the form in which the rows came.

    Args:
        table: The rows.
        fields: The model's targets and outputs, in order.
        results: By field, for each row.
    """
    names = dict.fromkeys([*filter(None, [table.id_column]), *fields])
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(
        sink, names, extrasaction="ignore", delimiter=table.delimiter, quotechar=table.quote, lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({table.id_column: key, **result} for key, result in zip(table.ids, results, strict=True))
    return sink.getvalue().encode()


def _delimiter(text: str) -> str:
    """The first delimiter that cuts each of the first lines into the same number of cells, more than one."""
    for delimiter in DELIMITERS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        widths = {len(cells) for cells, _ in zip(lines, range(SNIFFED_LINES), strict=False) if cells}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return DELIMITERS[0]
