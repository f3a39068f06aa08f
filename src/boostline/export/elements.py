"""PMML elements: what is said often gets a short function. A document is written piece by piece, so that a large model
takes no more memory than one of its trees."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

from lxml import etree

from boostline.errors import NotExportable

NAMESPACE = "http://www.dmg.org/PMML-4_4"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Open(NamedTuple):
    """An element whose children are made while it is written."""

    tag: str
    attributes: dict[str, str]
    children: Iterable[Any]


def element(tag: str, *children: Any, text: str | None = None, **attributes: Any) -> Any:
    """An element; a number as an attribute is written in full, an underscore at the end of a name is dropped."""
    made = etree.Element(tag, {key.rstrip("_"): str(value) for key, value in attributes.items() if value is not None})
    made.text = text
    made.extend(children)
    return made


def write(file: IO[bytes], root: Open) -> None:
    """Write a document in UTF-8."""
    with etree.xmlfile(file, encoding="utf-8") as xml:
        xml.write_declaration()
        _write(xml, root)


def _write(xml: Any, part: Any) -> None:
    if not isinstance(part, Open):
        xml.write(part)
        return
    with xml.element(part.tag, part.attributes):
        for child in part.children:
            _write(xml, child)


def expressible(text: str, what: str) -> str:
    """A text that XML can hold.

    Raises:
        NotExportable: It holds a control character; names what it belongs to.
    """
    if found := _NOT_XML.search(text):
        raise NotExportable(
            f"{what}: {text!r} holds the character U+{ord(found[0]):04X}, which XML cannot",
            "Remove it with a `replace` rule and train again, or export as ubj or json",
        )
    return text


def field(name: str, **attributes: Any) -> Any:
    """The value of a field."""
    return element("FieldRef", field=name, **attributes)


def constant(value: str | float, kind: str) -> Any:
    """A constant of a PMML data type."""
    return element("Constant", dataType=kind, text=str(value))


def apply(function: str, *arguments: Any) -> Any:
    """A built-in function applied to expressions."""
    return element("Apply", *arguments, function=function)


def when_present(names: Iterable[str], expression: Any) -> Any:
    """The expression where all fields have a value, else missing: functions may refuse a missing argument."""
    for name in dict.fromkeys(names):
        expression = apply("if", apply("isNotMissing", field(name)), expression)
    return expression


def derived(name: str, kind: str, expression: Any) -> Any:
    """A derived field; `kind` is its PMML data type, an integer is a code."""
    optype = "continuous" if kind in ("float", "double") else "categorical"
    return element("DerivedField", expression, name=name, optype=optype, dataType=kind)


def mining_schema(names: Iterable[str], target: str | None = None) -> Any:
    """The fields that a model reads, and the one that it predicts."""
    fields = [element("MiningField", name=name) for name in names]
    return element(
        "MiningSchema", *fields, *([element("MiningField", name=target, usageType="target")] if target else [])
    )
