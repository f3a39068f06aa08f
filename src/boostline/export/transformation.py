"""transform.json as PMML: raw columns to the features, with nothing left out and nothing added.

Names of derived fields hold parentheses, which no column's name can. JPMML's functions refuse a missing argument, so
each is guarded. A timestamp is PMML's `dateTime`, which has no zone: it is UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

from boostline.dataset.pattern import portable_pattern
from boostline.dataset.sections import Derived
from boostline.errors import NotExportable
from boostline.export.elements import apply, constant, derived, element, expressible, field, when_present
from boostline.transform import BLANKS, Transform

_FIELDS = {
    "string": ("categorical", "string"),
    "integer": ("continuous", "integer"),
    "long": ("continuous", "double"),  # PMML's integer is read with 32 bits
    "double": ("continuous", "double"),
    "boolean": ("categorical", "boolean"),
    "date": ("ordinal", "date"),
    "timestamp": ("ordinal", "dateTime"),
}
_LARGEST = "1.7976931348623157E308"
_LOWER_FIRST = (
    ("I", "i"),
    ("\u0130", "i\u0307"),
    ("\u03a3", "\u03c3"),
)
"""What is put into lower case before an engine does the rest: it may see to its machine's language, as Turkish has another
i, and a sigma is σ wherever it stands."""

EXACT_DIGITS = 15
"""Whole numbers of so many digits are exact in double precision."""


def data_fields(transform: Transform) -> list[Any]:
    """The raw columns, as fields of the data dictionary. NaN and the infinities are missing, as in `Transform`."""
    fields = []
    for name, column in transform.columns.items():
        optype, kind = _FIELDS[column.type]
        absent = ("NaN", "Infinity", "-Infinity") if kind == "double" else ()
        values = [element("Value", value=value, property="missing") for value in absent]
        fields.append(element("DataField", *values, name=name, optype=optype, dataType=kind))
    return fields


def shared_fields(transform: Transform) -> Iterator[Any]:
    """The derived fields that the features are made from: cleaned texts, numbers and the derived columns in use."""
    used = [name for name in transform.names if name in transform.derived]
    joined = [
        source for name in used for source in transform.derived[name].columns if _is_cross(transform.derived[name])
    ]
    counted = [
        source
        for name in used
        if transform.derived[name].operation in ("difference", "ratio")
        for source in transform.derived[name].columns
    ]
    numbers = [name for name in transform.numeric if name not in transform.derived]
    for name, column in transform.columns.items():
        if column.type == "string" and column.clean:
            yield derived(f"clean({name})", "string", when_present([name], _cleaned(name, column.clean)))
        if name in joined:
            yield derived(f"text({name})", "string", _text(name, transform))
        if name in counted or (name in numbers and column.type == "boolean"):
            yield derived(f"number({name})", "double", _number(name, transform))
    for name in used:
        spec = transform.derived[name]
        kind = {"string": "string", "double": "double", "integer": "integer"}[spec.type]
        yield derived(name, kind, _derived(spec))


def code_field(name: str, transform: Transform, kind: str, unknown: int | None = None) -> Any:
    """A category's code as `code(NAME)`.

    Args:
        name: A categorical feature.
        transform: Gives the categories.
        kind: PMML's data type of the code.
        unknown: The code of a missing or never seen value; none: it is missing.

    Raises:
        NotExportable: A category cannot be written, or would be confused with another.
    """
    values = transform.categorical[name]
    source, spec = _source(name, transform), transform.derived.get(name)
    kinds = [transform.columns[item].type for item in (spec.columns if spec else (name,))]
    digits = re.compile(rf"\d{{{EXACT_DIGITS + 1},}}")
    if "long" in kinds and (large := next((value for value in values if digits.search(value)), None)):
        raise NotExportable(
            f"feature {name}: its category {large!r} has more digits than PMML's numbers keep apart",
            "Give the column the type string and train again, or export as ubj or json",
        )
    rows = [
        element("row", element("input", text=expressible(value, f"feature {name}")), element("output", text=str(code)))
        for code, value in enumerate(values)
        if value != ""  # an empty text is missing
    ]
    table = element("MapValues", element("FieldColumnPair", field=source, column="input"), element("InlineTable", *rows),
                    outputColumn="output", dataType=kind, defaultValue=unknown, mapMissingTo=unknown)  # fmt: skip
    return derived(f"code({name})", kind, table)


def number_field(name: str, transform: Transform, kind: str, instead: float | None = None) -> Any:
    """A numeric feature as `KIND(NAME)`, with what stands in for a missing number.

    Args:
        name: A numeric feature.
        transform: Gives what it imputes.
        kind: "float" or "double".
        instead: What stands in where the transformation leaves it missing.
    """
    fill = transform.numeric[name]
    fill = instead if fill is None else fill
    column = transform.columns.get(name)
    source = f"number({name})" if column and column.type == "boolean" else name
    return derived(f"{kind}({name})", kind, field(source, mapMissingTo=None if fill is None else repr(fill)))


def _is_cross(spec: Derived) -> bool:
    return spec.type == "string"


def _source(name: str, transform: Transform) -> str:
    """The field that holds a column's value after the string rules."""
    column = transform.columns.get(name)
    return f"clean({name})" if column and column.clean else name


def _cleaned(name: str, rules: tuple[dict[str, str] | str, ...]) -> Any:
    def step(value: Any, rule: dict[str, str] | str) -> Any:
        if rule == "lower":
            for pattern, lower in _LOWER_FIRST:
                value = apply("replace", value, constant(pattern, "string"), constant(lower, "string"))
            return apply("lowercase", value)
        if isinstance(rule, dict):
            pattern, by = portable_pattern(rule["replace"]), rule.get("by", "")
        else:
            blanks = "[" + BLANKS.replace("\t", r"\t").replace("\r", r"\r").replace("\n", r"\n") + "]+"
            pattern, by = rf"^{blanks}|{blanks}\z", ""
        by = expressible(by, f"column {name}")
        return apply("replace", value, constant(pattern, "string"), constant(by, "string"))

    return reduce(step, rules, field(name))


def _text(name: str, transform: Transform) -> Any:
    """A column's value as text, as it enters a cross; an empty text is missing."""
    source, kind = _source(name, transform), transform.columns[name].type
    by_kind = {
        "string": lambda: apply("if", apply("notEqual", field(source), constant("", "string")), field(source)),
        "integer": lambda: field(source),
        "long": lambda: apply("formatNumber", field(source), constant("%.0f", "string")),
        "boolean": lambda: apply("if", field(source), constant("true", "string"), constant("false", "string")),
        "date": lambda: apply("formatDatetime", field(source), constant("%Y-%m-%d", "string")),
    }
    return when_present([source], by_kind[kind]())


def _number(name: str, transform: Transform) -> Any:
    if transform.columns[name].type == "boolean":
        return when_present([name], apply("if", field(name), constant(1, "double"), constant(0, "double")))
    return field(name)


def _derived(spec: Derived) -> Any:
    names = list(spec.columns)
    match spec.operation:
        case "hour":
            seconds = apply("dateSecondsSinceMidnight", field(names[0]))
            return when_present(names, apply("floor", apply("/", seconds, constant(3600, "integer"))))
        case "weekday":
            days = apply("dateDaysSinceYear", field(names[0]), constant(1900, "integer"))  # which began on a Monday
            weekday = apply("+", apply("modulo", days, constant(7, "integer")), constant(1, "integer"))
            return when_present(names, weekday)
        case "month":
            return when_present(names, apply("formatDatetime", field(names[0]), constant("%m", "string")))
        case "difference":
            names = [f"number({name})" for name in names]
            return when_present(names, _finite(lambda: apply("-", *map(field, names))))
        case "ratio":
            names = [f"number({name})" for name in names]
            quotient = _finite(lambda: apply("/", *map(field, names)))
            nonzero = apply("notEqual", apply("abs", field(names[1])), constant("0.0", "double"))  # abs: -0 is 0
            return when_present(names, apply("if", nonzero, quotient))
        case _:
            names = [f"text({name})" for name in names]
            bar = constant("|", "string")
            parts: list[Any] = [field(names[0])]
            for name in names[1:]:
                parts += [element("Constant", dataType="string", text=bar.text), field(name)]
            return when_present(names, apply("concat", *parts))


def _finite(make: Any) -> Any:
    """A number, or missing where it is beyond all numbers; `make` builds the expression, which stands there twice."""
    return apply("if", apply("lessOrEqual", apply("abs", make()), constant(_LARGEST, "double")), make())
