"""A hash of rows that does not depend on their order, their files, or the attempt that wrote them."""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from boostline.spark.names import quoted


def hash_of(columns: list[str]) -> Column:
    """64 bits per row. A null flag goes in with each value, since xxhash64 skips nulls: (1, null) is not (null, 1)."""
    values = [F.col(quoted(name)) for name in columns]
    return F.xxhash64(*values, *[value.isNull() for value in values])


def sum_of(hashes: Column) -> Column:
    """The sum of row hashes: unlike an exclusive or, it notices a row that is there twice."""
    return F.coalesce(F.sum(hashes.cast("decimal(20,0)")), F.lit(0).cast("decimal(30,0)"))


def as_text(total: Any) -> str:
    """A sum of row hashes as 32 hexadecimal digits."""
    return f"{int(total) % 2**128:032x}"
