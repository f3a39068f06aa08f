"""Telling Spark exactly which objects to read, in as few requests as can be."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from boostline.lake.store import Store

Read = Callable[..., DataFrame]


def read_files(read: Read, store: Store, keys: list[str]) -> DataFrame:
    """A frame of exactly these objects.

    Spark asks S3 three times for each path that it is given, and once for a whole folder. So where the folder that the
    objects have in common holds nothing else, Spark is given the folder.

    Args:
        read: Takes addresses; must not take columns from folders' names (option `recursiveFileLookup`).
        store: The lake.
        keys: One or more.
    """
    addresses = [store.uri(key, "s3a") for key in keys]
    if len(keys) > 1:
        folder = os.path.commonprefix(addresses).rpartition("/")[0]  # noqa: RUF071 (cut at the slash)
        frame = read(_escape_glob(folder))
        if {unquote(found) for found in frame.inputFiles()} == set(addresses):
            return frame
    return read(*map(_escape_glob, addresses))


def read_parquet(spark: SparkSession, store: Store, keys: list[str], schema: str | StructType) -> DataFrame:
    """A frame of exactly these Parquet files; see `read_files`."""
    return read_files(spark.read.schema(schema).option("recursiveFileLookup", True).parquet, store, keys)


def _escape_glob(path: str) -> str:
    """Spark would read `[`, `*` and the like in a file's name as a pattern."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", path)
