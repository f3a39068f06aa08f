"""The fitted transformation as data: raw rows to the features that a model learnt from, without a JVM.

`transform.json` lies beside the features that Spark made with it. Applied to raw rows it gives the same features as
Spark did, to 1e-9; a property test holds that.
"""

from __future__ import annotations

from functools import cache, cached_property, reduce
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from boostline.dataset import Dataset
from boostline.dataset.base import Task
from boostline.dataset.pattern import portable_pattern
from boostline.dataset.sections import Derived
from boostline.dataset.tables import Column
from boostline.errors import DataInvalid

BLANKS = " \t\r\n"
"""What `trim` removes."""
_AS_SPARK = {
    "boolean": (("(?i)^(t|y|yes)$", "true"), ("(?i)^(f|n|no)$", "false")),
    **dict.fromkeys(("integer", "long"), ((r"^\+(\d)", r"\1"), ("[xX]", "?"))),
}
"""Texts that Arrow would refuse and Spark reads, or the other way round (0x10), and what Arrow is given in their place."""


class RawColumn(BaseModel):
    """A column that the features need: its type in the contract, how its text is cleaned, and what means "no value"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["string", "integer", "long", "double", "boolean", "date", "timestamp"]
    clean: tuple[dict[str, str] | str, ...]
    null_values: tuple[str, ...] = ("", "NA")
    """In a text format; transformations that were fitted before this was written down have the default."""


class Transform(BaseModel):
    """What turns raw rows into features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    dataset: str
    task: Task
    date: str
    columns: dict[str, RawColumn]
    derived: dict[str, Derived]
    categorical: dict[str, tuple[str, ...]]
    """Values in the order of their codes, by column."""
    numeric: dict[str, float | None]
    """What stands in for a missing number, or none: it stays missing."""
    names: tuple[str, ...]
    label: str
    classes: tuple[str, ...]

    @cached_property
    def _value_sets(self) -> dict[str, Any]:
        """The categories as Arrow looks them up: built once, since a single row would wait for it."""
        import pyarrow as pa

        return {name: pa.array(values, pa.string()) for name, values in self.categorical.items()}

    @staticmethod
    def loads(body: bytes) -> Transform:
        """Read transform.json."""
        return Transform.model_validate_json(body)

    def dumps(self) -> bytes:
        """Write transform.json."""
        return (self.model_dump_json(indent=1, exclude_unset=True) + "\n").encode()

    def apply(self, raw: Any) -> Any:
        """Features of raw rows, the reference tables' columns among them.

        Args:
            raw: A `pyarrow.Table` with the contract's columns; more columns are ignored.

        Returns:
            A `pyarrow.Table` of the features in order: int32 codes, null for a value never seen in training or a
            missing one, and float64 numbers.

        Raises:
            DataInvalid: Names the columns that are missing or do not fit their type.
        """
        return self.features(self.clean(raw))

    def for_clean_rows(self) -> Transform:
        """The same for rows of the lake. Ingest has applied these string rules, and twice they may give another text."""
        columns = {name: column.model_copy(update={"clean": ()}) for name, column in self.columns.items()}
        return self.model_copy(update={"columns": columns})

    def clean(self, table: Any) -> Any:
        """Apply the string rules to those columns that have any; a text of which nothing is left is missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = {name: table.column(index) for index, name in enumerate(table.column_names)}
        for name, column in self.columns.items():
            if column.type == "string" and name in columns:
                text = cast_column(name, columns[name], "string")
                for rule in column.clean:
                    text = _apply_rule(text, rule)
                columns[name] = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        return pa.table(columns)

    def features(self, table: Any) -> Any:
        """Features of rows that are clean and joined already; see `apply`."""
        import pyarrow as pa

        present = set(table.column_names)
        lacking = [name for name in self.columns if name not in present]
        if lacking:
            raise DataInvalid(
                f"rows for dataset {self.dataset} lack the column(s) {', '.join(lacking)}",
                f"Send all of {', '.join(self.columns)}; missing values are null",
            )
        values = {name: cast_column(name, table.column(name), spec.type) for name, spec in self.columns.items()}
        values |= {name: _derive(derived, values) for name, derived in self.derived.items()}
        columns = {name: _codes(values[name], self._value_sets[name]) for name in self.categorical}
        columns |= {name: _numbers(values[name], fill) for name, fill in self.numeric.items()}
        fields = [pa.field(name, pa.int32() if name in self.categorical else pa.float64()) for name in self.names]
        return pa.table([columns[name] for name in self.names], schema=pa.schema(fields))


def raw_contract(dataset: Dataset) -> dict[str, RawColumn]:
    """The columns that the features need, as transform.json describes them."""
    missing = dataset.null_values
    return {
        name: RawColumn(type=column.type, clean=string_rules(column), null_values=missing[name])
        for name, column in dataset.needed_columns.items()
    }


def string_rules(column: Column) -> tuple[dict[str, str] | str, ...]:
    """A column's string rules as transform.json has them."""
    return tuple(rule if isinstance(rule, str) else rule.model_dump() for rule in column.clean)


def _apply_rule(text: Any, rule: dict[str, str] | str) -> Any:
    import pyarrow.compute as pc

    if rule == "trim":
        return pc.utf8_trim(text, characters=BLANKS)
    if rule == "lower":
        return _lower(text)
    if isinstance(rule, dict):
        return pc.replace_substring_regex(text, portable_pattern(rule["replace"]), rule.get("by", ""))
    raise DataInvalid(f"transform.json holds the unknown rule {rule!r}", "Use the version of boostline that wrote it")


def _lower(text: Any) -> Any:
    """Lower case as Unicode has it, in Spark as here (İ becomes two characters); Arrow's is simpler.

    Σ becomes σ wherever it stands: what a word's end is, which would make it ς, Java and Python see differently.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    unique = pc.unique(text.drop_null())
    lowered = pa.array([value.replace("Σ", "σ").lower() for value in unique.to_pylist()], pa.string())
    return pc.take(lowered, pc.index_in(text, value_set=unique))


@cache
def arrow_type(kind: str) -> Any:
    """The `pyarrow.DataType` of a contract's type."""
    import pyarrow as pa

    return {
        "string": pa.string(),
        "integer": pa.int64(),
        "long": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }[kind]


def cast_column(name: str, values: Any, kind: str) -> Any:
    """A column as the contract's type. NaN and the infinities are missing; a naive timestamp is UTC.

    Args:
        name: For the error.
        values: A `pyarrow.Array` or `ChunkedArray`.
        kind: The contract's type.

    Raises:
        DataInvalid: A value does not fit.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    target = arrow_type(kind)
    if values.type == target and kind != "double":
        return values
    try:
        if pa.types.is_floating(values.type):
            values = _finite(values if values.type == pa.float64() else values.cast(pa.float64()))
            if kind == "double":
                return values
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if kind != "string" and values.type in (pa.string(), pa.large_string(), pa.string_view()):
            values = values.cast(pa.string())
            # Most whole numbers are digits and a sign, which both read; replacing costs many times the cast.
            if kind in _AS_SPARK and not pc.all(pc.ascii_is_decimal(pc.ascii_ltrim(values, characters="-"))).as_py():
                for pattern, by in _AS_SPARK[kind]:
                    values = pc.replace_substring_regex(values, pattern, by)
            if kind == "timestamp":
                return _timestamps(values)
        # Pandas' timestamps count nanoseconds, which the contract's do not. Whole numbers that no double equals become the
        # nearest one, as they do from text.
        values = values.cast(target, safe=kind not in ("timestamp", "date", "double"))
        return _finite(values) if kind == "double" else values
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataInvalid(
            f"column {name}: {values.type} does not fit {kind}: {str(error).splitlines()[0][:200]}",
            f"Send {name} as {kind}",
        ) from error


def _timestamps(text: Any) -> Any:
    """ISO texts; those without an offset are UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    target = arrow_type("timestamp")
    try:
        return text.cast(target)  # all have an offset: a fifth of the time
    except pa.ArrowInvalid:
        zoned = pc.match_substring_regex(text, r"(Z|[T ].*[+-]\d\d(:?\d\d)?)$")
        none = pa.scalar(None, pa.string())
        naive = pc.if_else(zoned, none, text).cast(pa.timestamp("us")).cast(target)
        return pc.coalesce(pc.if_else(zoned, text, none).cast(target), naive)


def _finite(numbers: Any) -> Any:
    """Numbers with null for NaN and the infinities."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _derive(derived: Derived, values: dict[str, Any]) -> Any:
    import pyarrow.compute as pc

    arguments = [values[name] for name in derived.columns]
    match derived.operation:
        case "hour":
            return pc.hour(arguments[0])
        case "weekday":
            return pc.day_of_week(arguments[0], count_from_zero=False, week_start=1)
        case "month":
            return pc.month(arguments[0])
        case "difference":
            return _finite(reduce(pc.subtract, [_doubles(item) for item in arguments]))
        case "ratio":
            return _finite(reduce(pc.divide, [_doubles(item) for item in arguments]))
        case _:
            return pc.binary_join_element_wise(
                *[item.cast("string") for item in arguments], "|", null_handling="emit_null"
            )


def _doubles(values: Any) -> Any:
    """Values of the contract's type, or derived ones, as float64; both are finite already."""
    import pyarrow as pa

    if values.type == pa.float64():
        return values
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return values.cast(pa.float64(), safe=False)


def _codes(values: Any, categories: Any) -> Any:
    import pyarrow.compute as pc

    # As text, whole numbers, truth values and dates look as Spark writes them.
    return pc.index_in(values.cast("string"), value_set=categories)


def _numbers(values: Any, fill: float | None) -> Any:
    numbers = _doubles(values)
    return numbers if fill is None else numbers.fill_null(fill)
