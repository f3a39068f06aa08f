"""The raw tables of a dataset file, with their contracts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from boostline.dataset.base import RESERVED_COLUMNS, ColumnName, Section, Share, repeated, require_known, reserved
from boostline.dataset.pattern import check_pattern


class Replace(Section):
    """Replace each match of a regular expression by a literal text."""

    replace: str = Field(description="Regular expression; the subset that Spark and Arrow read alike")
    by: str = Field("", description="Literal text, may be empty")

    @model_validator(mode="after")
    def _same_everywhere(self) -> Self:
        check_pattern(self.replace)
        if set(self.by) & set("\\$"):
            raise ValueError("`by` is literal text and may not hold \\ or $")
        return self


class Column(Section):
    """The contract of one column. A value that breaks it sends its row to quarantine."""

    type: Literal["string", "integer", "long", "double", "boolean", "date", "timestamp"] = Field(
        description="A raw text that is none breaks the contract. `integer` has 32 bits, `long` 64; neither takes `3.0`. "
        "`date` and `timestamp`: texts begin with year and month, as `2024-01-31` does; "
        "`01/31/2024` is none. A time without an offset is UTC. `boolean`: true, t, yes, y, 1 or false, f, no, n, 0, "
        "in upper or lower case"
    )
    source: str | None = Field(None, description="Name in the raw file, where it differs")
    required: bool = Field(False, description="A missing value breaks the contract")
    min: float | None = Field(None, description="Smallest allowed value, numbers only")
    max: float | None = Field(None, description="Largest allowed value, numbers only")
    allowed: tuple[str, ...] | None = Field(None, description="The only allowed values, strings only")
    clean: tuple[Literal["trim", "lower"] | Replace, ...] = Field((), description="Applied in this order, strings only")

    @model_validator(mode="after")
    def _rules_fit_type(self) -> Self:
        if (self.min is not None or self.max is not None) and self.type not in ("integer", "long", "double"):
            raise ValueError(f"min and max are for numbers, not for type {self.type}")
        if (self.allowed is not None or self.clean) and self.type != "string":
            raise ValueError(f"allowed and clean are for strings, not for type {self.type}")
        return self


class Source(Section):
    """How the raw files of a table are written. Files ending in .gz are decompressed."""

    format: Literal["csv", "json", "parquet"] = Field(
        "csv",
        description="`csv` and `json` are UTF-8, a row per line: no field of a CSV file may hold a line break, quoted or not. "
        "`json` is an object per line; a key that a line leaves out is a missing value there",
    )
    header: Literal[True] = Field(True, description="CSV files carry a header; columns are matched by its names")
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = Field(
        ",", description="Between the fields of a CSV file"
    )
    null_values: tuple[str, ...] = Field(("", "NA"), description="Texts that mean: no value")


class Table(Section):
    """One table of raw files, with its contract."""

    daily: bool = Field(
        False,
        description="One folder of raw files per date; else one folder of reference rows. Of equal rows of a date one stays. "
        "Rows of a date with the same id and other content all go to quarantine. Of an id on several days of the window "
        "the latest day's row counts",
    )
    source: Source = Field(Source(), description="How its raw files are written")
    columns: dict[ColumnName, Column] = Field(
        min_length=1,
        description="Those to read, by name; other columns of the raw files are ignored. Names are letters, digits and `_`, "
        f"with no digit first. Reserved: {', '.join(sorted(RESERVED_COLUMNS))}, and what begins with `_`",
    )
    key: tuple[ColumnName, ...] = Field(
        (),
        description="Columns that identify a reference row; a join uses them. Rows that differ under one key fail the run",
    )
    max_bad_share: Share = Field(0.0, description="More bad rows than this share of a date fail the run")

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        require_known(self.key, self.columns, "key")
        if taken := reserved(self.columns):
            raise ValueError(f"column names {taken} are reserved; rename with `source`")
        raw = [name if column.source is None else column.source for name, column in self.columns.items()]
        if doubled := repeated(raw):
            raise ValueError(f"raw columns {doubled} are read by more than one column; keep one of each")
        return self
