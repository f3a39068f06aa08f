"""Reading the clean partitions that a task named."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from boostline.dataset import Dataset
from boostline.errors import DataInvalid
from boostline.lake.manifest import Manifest
from boostline.lake.store import Store
from boostline.spark.contract import clean_types
from boostline.spark.names import schema_of
from boostline.spark.paths import read_parquet


def read_tables(spark: SparkSession, store: Store, dataset: Dataset, manifests: list[Manifest]) -> dict[str, DataFrame]:
    """The clean tables of these partitions by name."""
    frames = {}
    for name in {item.table for item in manifests if item.table}:
        keys = [entry.key for item in manifests if item.table == name for entry in item.files]
        frames[name] = read_parquet(spark, store, keys, schema_of(clean_types(dataset.tables[name])))
    return frames


def daily_rows(dataset: Dataset, manifests: list[Manifest]) -> int:
    """How many rows the partitions of the daily table hold."""
    return sum(item.rows["rows"] for item in manifests if item.table == dataset.daily_table)


def require_one_match(dataset: Dataset, before: int, after: int) -> None:
    """Refuse joins that made rows.

    Raises:
        DataInvalid: There are more rows after the joins than before.
    """
    if after > before:
        raise DataInvalid(
            f"{before} rows became {after} through the joins {', '.join(dataset.joins)}: a key is not unique",
            "Ingest the reference tables again",
        )
