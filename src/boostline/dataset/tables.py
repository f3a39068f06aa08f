"""The raw tables of a dataset file, with their contracts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from boostline.dataset.base import ColumnName, Section, Share, repeated, require_known, reserved
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
        description="A raw text that is none breaks the contract; `integer` has 32 bits, `long` 64"
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
        "csv", description="`json` is an object per line; a key that a line leaves out is a missing value there"
    )
    header: Literal[True] = Field(True, description="CSV files carry a header; columns are matched by its names")
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = Field(
        ",", description="Between the fields of a CSV file"
    )
    null_values: tuple[str, ...] = Field(("", "NA"), description="Texts that mean: no value")


class Table(Section):
    """One table of raw files, with its contract."""

    daily: bool = Field(False, description="One folder of raw files per date; else one folder of reference rows")
    source: Source = Field(Source(), description="How its raw files are written")
    columns: dict[ColumnName, Column] = Field(
        min_length=1, description="Those to read, by name; other columns of the raw files are ignored"
    )
    key: tuple[ColumnName, ...] = Field((), description="Columns that identify a reference row; a join uses them")
    max_bad_share: Share = Field(0.0, description="More bad rows than this share of a date fail the run")

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        require_known(self.key, self.columns, "key")
        if taken := reserved(self.columns):
            raise ValueError(f"column names {taken} are reserved; rename with `source`")
        raw = [column.source or name for name, column in self.columns.items()]
        if doubled := repeated(raw):
            raise ValueError(f"raw columns {doubled} are read by more than one column; keep one of each")
        return self
