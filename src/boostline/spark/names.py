"""Column names as Spark's SQL reads them."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A column's name in backquotes: a class named v1.0 is part of one, and unquoted its dot would ask for a field."""
    return "`" + name.replace("`", "``") + "`"
