"""What the sections of a dataset file share: their base, the names they may hold, and how a wrong one is refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Task = Literal["regression", "binary", "multiclass"]
RESERVED_COLUMNS = frozenset(
    {"data_date", "split", "date", "file", "reasons", "model_version", "prediction", "probability"}
)


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


def reserved(names: Iterable[str]) -> list[str]:
    """Those of the names that columns of Boostline's own have, or may get."""
    return sorted(name for name in names if name in RESERVED_COLUMNS or name.startswith("_"))


def repeated(names: Sequence[str]) -> list[str]:
    """Those of the names that stand there more than once."""
    return sorted({name for name in names if names.count(name) > 1})


def require_type(name: str, found: str, allowed: frozenset[str], what: str) -> None:
    """Refuse a column whose type does not suit its place."""
    if found not in allowed:
        raise ValueError(f"{what}: {name} is of type {found}; allowed there: {', '.join(sorted(allowed))}")


def require_known(names: Any, known: Any, what: str) -> None:
    """Refuse a name that is not among the known ones, with the nearest one as a hint."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            raise ValueError(f"{what}: {name!r} is not known{hint}")
