"""A table's contract as column expressions: text to typed values, and why a row breaks it."""

from __future__ import annotations

from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.dataset.pattern import portable_pattern
from boostline.dataset.tables import Column as ColumnSpec
from boostline.dataset.tables import Table
from boostline.lake.features import DATA_DATE
from boostline.spark.feature_rows import finite
from boostline.transform import BLANKS

SPARK_TYPES = {
    "string": "string",
    "integer": "int",
    "long": "bigint",
    "double": "double",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
}

_SHOWN_CHARACTERS = 40


def identifying(dataset: Dataset, name: str) -> list[str]:
    """The columns that identify a row of a table; all of them where a reference table has no key."""
    table = dataset.tables[name]
    return list(dataset.id if table.daily else table.key or table.columns)


def required_columns(dataset: Dataset, name: str) -> set[str]:
    """Columns that may not be missing: those said to be, and those that identify the row."""
    table = dataset.tables[name]
    key = dataset.id if table.daily else table.key
    return {*key, *(column for column, spec in table.columns.items() if spec.required)}


def clean_types(table: Table) -> dict[str, str]:
    """The columns of a clean partition and their Spark types."""
    types = {name: SPARK_TYPES[spec.type] for name, spec in table.columns.items()}
    return types | ({DATA_DATE: "date"} if table.daily else {})


def typed_columns(table: Table) -> list[Column]:
    """The contract's columns from `_raw`, typed and cleaned; null where the text does not fit."""
    return [_typed(spec, _raw(name)).alias(name) for name, spec in table.columns.items()]


def is_bad(table: Table, required: set[str]) -> Column:
    """Whether a row with typed columns, `_raw` and `_problem` breaks the contract.

    Args:
        table: The contract.
        required: As `required_columns` gives them.
    """
    checks = [condition for condition, _ in _checks(table, required)]
    return reduce(or_, checks, F.col("_problem").isNotNull())


def reasons(table: Table, required: set[str]) -> Column:
    """Why such a row breaks the contract, as an array of sentences; empty where it does not."""
    told = [F.when(condition, reason) for condition, reason in _checks(table, required)]
    # A broken line has its fields in the wrong places: what they seem to hold is no news.
    return F.when(F.col("_problem").isNotNull(), F.array("_problem")).otherwise(F.array_compact(F.array(*told)))


def clean_text(spec: ColumnSpec, text: Column) -> Column:
    """The string rules of a column; a text of which nothing is left is missing."""
    for rule in spec.clean:
        if rule == "trim":
            text = F.btrim(text, F.lit(BLANKS))
        elif rule == "lower":
            text = F.lower(F.translate(text, "Σ", "σ"))  # see boostline.transform
        else:
            text = F.regexp_replace(text, portable_pattern(rule.replace), rule.by)
    return F.when(text != "", text)


def _raw(name: str) -> Column:
    return F.col(f"_raw.`{name}`")


def _typed(spec: ColumnSpec, raw: Column) -> Column:
    if spec.type == "string":
        return clean_text(spec, raw)
    if spec.type == "double":
        return finite(_number(raw))
    if spec.type in ("date", "timestamp"):
        # Spark would read 12:30 as a time of today and 2013 as its first day.
        raw = F.when(raw.rlike(r"^\s*\d{4}-\d"), raw)
    return raw.try_cast(SPARK_TYPES[spec.type])


def _number(raw: Column) -> Column:
    """A text as double. Java would read 3d, 3f and 0x1p3 as numbers too."""
    return F.when(~raw.rlike("[dDfFxX]"), raw.try_cast("double"))


def _checks(table: Table, required: set[str]) -> list[tuple[Column, Column]]:
    """Pairs of a condition that breaks the contract and the sentence for it."""
    checks = []
    for name, spec in table.columns.items():
        raw, value = _raw(name), F.col(f"`{name}`")
        shown = F.concat(F.lit(f"{name}: '"), F.substring(raw, 1, _SHOWN_CHARACTERS))
        if spec.type != "string":
            unread = raw.isNotNull() & value.isNull()
            why = F.lit(f"' is not a {spec.type}")
            if spec.type == "double":
                unread &= F.lower(F.btrim(raw, F.lit(BLANKS))) != "nan"  # it means missing
                infinite = raw.rlike(r"(?i)^\s*[+-]?inf") | (F.abs(_number(raw)) == float("inf"))
                why = F.when(infinite, F.lit("' is not finite")).otherwise(why)
            checks.append((unread, F.concat(shown, why)))
            missing = value.isNull() & ~unread
        else:
            missing = value.isNull()
        if name in required:
            checks.append((missing, F.lit(f"{name}: required and missing")))
        if spec.min is not None:
            checks.append((_known(value < spec.min), F.concat(shown, F.lit(f"' is below {spec.min:g}"))))
        if spec.max is not None:
            checks.append((_known(value > spec.max), F.concat(shown, F.lit(f"' is above {spec.max:g}"))))
        if spec.allowed is not None:
            foreign = _known(~value.isin(list(spec.allowed)))
            checks.append((foreign, F.concat(shown, F.lit(f"' is none of {', '.join(spec.allowed)}"))))
    return checks


def _known(condition: Column) -> Column:
    return F.coalesce(condition, F.lit(False))
