"""A few rows of plain Python values, coded without a kernel call for each column.

Arrow's kernels are made for columns: on one row, calling them costs several times what XGBoost takes to score it. Numbers
are what they are; for everything else (a text, a date, what is derived from them) `Transform.apply` says once what it
becomes, and that is remembered. So there is no second set of rules here, and a test compares the two ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from boostline.errors import DataInvalid
from boostline.transform import Transform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REMEMBERED = 20_000
"""Values by feature; beyond that all of the feature's are forgotten."""
LONGEST = 256
"""Characters of texts together that are remembered: longer ones would fill the memory, and hardly come again."""
EXACT = 2**53
"""Whole numbers up to here are the same as double."""
_NATURAL: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "double": (float, int),
    "boolean": (bool,),
    "date": (str,),
    "timestamp": (str,),
}


class FewRows:
    """Codes rows for one model. Not for several threads at once.

    Args:
        transform: The model's.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._numbers: list[tuple[int, str, bool, float]] = []
        """Place, column, whether it holds whole numbers, and what a missing one becomes."""
        self._others: list[tuple[int, str, tuple[str, ...], dict[tuple[Any, ...], float]]] = []
        """Place, feature, the columns that it is made of, and what is remembered."""
        for place, name in enumerate(transform.names):
            column = transform.columns.get(name)
            if name in transform.numeric and column and column.type in ("double", "integer", "long"):
                fill = transform.numeric[name]
                missing = math.nan if fill is None else fill
                self._numbers.append((place, name, column.type != "double", missing))
            else:
                derived = transform.derived.get(name)
                self._others.append((place, name, tuple(derived.columns) if derived else (name,), {}))

    def code(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
        """The features of some rows.

        Args:
            rows: Raw rows by column name, as JSON has their values.

        Returns:
            Shape (rows, features): codes as numbers, NaN for what is missing. None where a column is missing or a
            value is not of its column's own type: then a table has to be made, whose casts may know what it is.
        """
        import numpy as np

        found = np.empty((len(rows), len(self._transform.names)))
        for index, row in enumerate(rows):
            if not self._code_row(row, found[index]):
                return None
        return found

    def _code_row(self, row: Mapping[str, Any], into: NDArray[np.float64]) -> bool:
        try:
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
            for place, name, columns, remembered in self._others:
                values = tuple([row[column] for column in columns])
                # 1, 1.0 and True are equal, and not all of them fit: the type is part of what is remembered.
                key = (*values, *map(type, values))
                code = remembered.get(key)
                if code is None:
                    if not self._natural(columns, values):
                        return False
                    code = self._ask(name, columns, values)
                    self._remember(remembered, key, code)
                into[place] = code
        except (
            KeyError,
            TypeError,
            OverflowError,
            DataInvalid,
        ):  # a list is no key; a number may be too large for Arrow
            return False
        return True

    @staticmethod
    def _remember(remembered: dict[tuple[Any, ...], float], key: tuple[Any, ...], code: float) -> None:
        if sum(len(value) for value in key if type(value) is str) > LONGEST:
            return
        if len(remembered) >= REMEMBERED:
            remembered.clear()
        remembered[key] = code

    def _natural(self, columns: tuple[str, ...], values: tuple[Any, ...]) -> bool:
        kinds = self._transform.columns
        return all(
            value is None or type(value) in _NATURAL[kinds[column].type]
            for column, value in zip(columns, values, strict=True)
        )

    def _ask(self, name: str, columns: tuple[str, ...], values: tuple[Any, ...]) -> float:
        """What the transformation makes of these values."""
        import pyarrow as pa

        whole = self._transform
        part = whole.model_copy(
            update={
                "columns": {column: whole.columns[column] for column in columns},
                "derived": {name: whole.derived[name]} if name in whole.derived else {},
                "categorical": {name: whole.categorical[name]} if name in whole.categorical else {},
                "numeric": {name: whole.numeric[name]} if name in whole.numeric else {},
                "names": (name,),
            }
        )
        table = pa.table({column: pa.array([value]) for column, value in zip(columns, values, strict=True)})
        code = part.apply(table).column(0)[0].as_py()
        return math.nan if code is None else float(code)
