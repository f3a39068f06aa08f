"""Column names as Spark's SQL reads them."""

from __future__ import annotations

from collections.abc import Mapping


def quoted(name: str) -> str:
    """A column's name in backquotes: a class named v1.0 is part of one, and unquoted its dot would ask for a field."""
    return "`" + name.replace("`", "``") + "`"


def schema_of(types: Mapping[str, str]) -> str:
    """Columns and their types, in order, as a schema in Spark's words."""
    return ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
