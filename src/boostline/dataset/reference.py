"""The reference of the dataset file, made from the model itself: `python -m boostline.dataset.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from boostline.dataset.base import Section
from boostline.dataset.model import Dataset

HEAD = """# The dataset file

One YAML file in `conf/datasets/` describes a dataset; its name is the file's name. `boostline init FILE --label COLUMN`
writes a first version, `boostline check` says what is wrong with one. Unknown keys are errors.

This page is made from the model that checks the files (`python -m boostline.dataset.reference > docs/dataset-file.md`).
"""


def render() -> str:
    """The reference as Markdown."""
    parts = [HEAD]
    for title, section in _sections():
        parts.append(f"## {title}\n\n{_summary(section)}\n\n| key | value | default | meaning |\n|---|---|---|---|")
        parts.extend(_row(name, field) for name, field in section.model_fields.items())
        parts.append("")
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section once, each after the one that mentions it first."""
    queue: list[type[BaseModel]] = [Dataset]
    seen: list[type[BaseModel]] = []
    while queue:
        section = queue.pop(0)
        if section not in seen:
            seen.append(section)
            queue += [inner for field in section.model_fields.values() for inner in _inner(field.annotation)]
    for section in seen:
        yield ("The file" if section is Dataset else section.__name__), section


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _inner(argument)


def _summary(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()


def _row(name: str, field: FieldInfo) -> str:
    text = (field.description or "").replace("|", "\\|")
    return f"| `{field.alias or name}` | {_type(field.annotation)}{_bounds(field)} | {_default(field)} | {text} |"


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0]) + _bounds_of(arguments[1:])
    if origin is Literal:
        return " \\| ".join(f"`{_yaml(value)}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not NoneType)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of name to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {str: "text", int: "integer", float: "number", bool: "true or false", date: "date"}.get(
        annotation, str(annotation)
    )


def _bounds(field: FieldInfo) -> str:
    return _bounds_of(field.metadata)


def _bounds_of(metadata: Any) -> str:
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    flat = [item for entry in metadata for item in getattr(entry, "metadata", None) or [entry]]
    found = [f"{sign} {getattr(item, key):g}" for item in flat for key, sign in words.items() if hasattr(item, key)]
    return f" ({', '.join(found)})" if found else ""


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, BaseModel):
        return "its defaults"
    return "–" if value is None or value in ((), {}) else f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return str(value) if str(value).strip() else f'"{value}"'


if __name__ == "__main__":
    sys.stdout.write(render())
