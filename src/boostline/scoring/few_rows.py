"""A few rows of plain Python values, coded without a kernel call for each column.

Arrow's kernels are made for columns: on one row, calling them costs several times what XGBoost takes to score it. Numbers
are what they are; for everything else (a text, a date, what is derived from them) `Transform.apply` says once what it
becomes, and that is remembered. Of a time it is asked for the day or the hour alone, since nothing that is derived from
times looks at more of them. So there is no second set of rules here, and a test compares the two ways.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boostline.errors import DataInvalid
from boostline.transform import Transform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REMEMBERED = 10_000
"""Values by feature; beyond that all of the feature's are forgotten."""
LONGEST = 64
"""Characters of texts together that are remembered: longer ones would fill the memory, and hardly come again."""
MOST_ASKED = 8
"""Features of a request that the transformation is asked for, each in a tenth of a millisecond; a table takes one or two."""
EXACT = 2**53
"""Whole numbers up to here are the same as double."""
_UTC = re.compile(r"(\d{4}-\d\d-\d\d)[T ]([01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|\+00:?00)?", re.ASCII)
"""A time in UTC: its day and its hour."""
_NATURAL: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "double": (float, int),
    "boolean": (bool,),
    "date": (str,),
    "timestamp": (str,),
}
_New = dict[tuple[Any, ...], list[int]]
"""Values that are not remembered, with their types, and the rows that have them."""


@dataclass(frozen=True)
class _Asked:
    """A feature that is no plain number: its place, the columns that it is made of, the transformation cut down to it,
    and what is remembered."""

    place: int
    columns: tuple[str, ...]
    finest: str
    """What of a time it depends on: `hour`, `day`, or nothing where it is not of a time."""
    transform: Transform
    remembered: dict[tuple[Any, ...], float]


class FewRows:
    """Codes rows for one model. Not for several threads at once.

    Args:
        transform: The model's.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._numbers: list[tuple[int, str, bool, float]] = []
        """Place, column, whether it holds whole numbers, and what a missing one becomes."""
        self._others: list[_Asked] = []
        for place, name in enumerate(transform.names):
            column = transform.columns.get(name)
            if name in transform.numeric and column and column.type in ("double", "integer", "long"):
                fill = transform.numeric[name]
                missing = math.nan if fill is None else fill
                self._numbers.append((place, name, column.type != "double", missing))
            else:
                part = _only(transform, name)
                self._others.append(_Asked(place, tuple(part.columns), _finest(part), part, {}))

    def code(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
        """The features of some rows.

        Args:
            rows: Raw rows by column name, as JSON has their values.

        Returns:
            Shape (rows, features): codes as numbers, NaN for what is missing. None where a column is missing or a
            value is not of its column's own type: then a table has to be made, whose casts may know what it is. None
            too where much is new: then a table is faster.
        """
        import numpy as np

        found = np.empty((len(rows), len(self._transform.names)))
        asked = 0
        try:
            for index, row in enumerate(rows):
                if not self._code_numbers(row, found[index]):
                    return None
            for feature in self._others:
                new = _recall(feature, rows, found)
                asked += bool(new)
                if new and (asked > MOST_ASKED or not self._natural(feature, new)):
                    return None
                if new:
                    _ask(feature, new, found)
        except (KeyError, TypeError, OverflowError, ValueError, DataInvalid):
            return None  # a column that is not there; a list, which is no key; a number too large for Arrow
        return found

    def _code_numbers(self, row: Mapping[str, Any], into: NDArray[np.float64]) -> bool:
        for place, name, whole, missing in self._numbers:
            value = row[name]
            if value is None:
                into[place] = missing
            elif type(value) is float and not whole:
                into[place] = value if math.isfinite(value) else missing
            elif type(value) is int and -EXACT <= value <= EXACT:
                into[place] = value
            else:
                return False
        return True

    def _natural(self, feature: _Asked, new: _New) -> bool:
        kinds = [_NATURAL[self._transform.columns[column].type] for column in feature.columns]
        return all(value is None or type(value) in kind for key in new for value, kind in zip(key, kinds, strict=False))


def _only(transform: Transform, name: str) -> Transform:
    """The transformation of one feature."""
    derived = transform.derived.get(name)
    columns = derived.columns if derived else (name,)
    return transform.model_copy(
        update={
            "columns": {column: transform.columns[column] for column in columns},
            "derived": {name: derived} if derived else {},
            "categorical": {key: values for key, values in transform.categorical.items() if key == name},
            "numeric": {key: fill for key, fill in transform.numeric.items() if key == name},
            "names": (name,),
        }
    )


def _finest(part: Transform) -> str:
    if all(column.type != "timestamp" for column in part.columns.values()):
        return ""
    return "hour" if any(derived.hour for derived in part.derived.values()) else "day"


def _recall(feature: _Asked, rows: Sequence[Mapping[str, Any]], into: NDArray[np.float64]) -> _New:
    """Fill in what is remembered; the rest with its rows."""
    new: _New = {}
    for index, row in enumerate(rows):
        values = tuple([row[column] for column in feature.columns])
        if feature.finest and type(values[0]) is str and (time := _UTC.fullmatch(values[0])):
            values = (f"{time[1]}T{time[2] if feature.finest == 'hour' else '00'}:00Z",)
        # 1, 1.0 and True are equal, and not all of them fit: the type is part of what is remembered.
        key = (*values, *map(type, values))
        code = feature.remembered.get(key)
        if code is None:
            new.setdefault(key, []).append(index)
        else:
            into[index, feature.place] = code
    return new


def _ask(feature: _Asked, new: _New, into: NDArray[np.float64]) -> None:
    """Fill in what the transformation makes of new values, all of them at once, and remember it."""
    import pyarrow as pa

    table = pa.table({column: pa.array([key[at] for key in new]) for at, column in enumerate(feature.columns)})
    for (key, rows), code in zip(new.items(), feature.transform.apply(table).column(0).to_pylist(), strict=True):
        value = math.nan if code is None else float(code)
        into[rows, feature.place] = value
        if sum(len(part) for part in key if type(part) is str) > LONGEST:
            continue
        if len(feature.remembered) >= REMEMBERED:
            feature.remembered.clear()
        feature.remembered[key] = value
