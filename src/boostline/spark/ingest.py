"""Raw files to clean days: typed, cleaned, audited, and only then published."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, InputChanged
from boostline.lake import paths
from boostline.lake.features import DATA_DATE
from boostline.lake.job import JobRequest, Target
from boostline.lake.manifest import FileEntry, Manifest, Ref, attempt_files, publish_many
from boostline.lake.raw import raw_partitions
from boostline.lake.store import Store
from boostline.spark.contract import SPARK_TYPES, is_bad, reasons, typed_columns
from boostline.spark.quarantine import quarantine
from boostline.spark.raw import RawFile, ignored_columns, inspect_files, partition_of, read_raw
from boostline.spark.rowhash import as_text, hash_of, sum_of
from boostline.spark.steps import step

log = logging.getLogger(__name__)

BYTES_PER_FILE = 256 * 1024**2
"""A day whose raw files are larger is written by several tasks, as several files."""


@dataclass(frozen=True)
class Counted:
    """What was found in one partition: rows by fate, the hash of the good ones, and reasons of the bad ones."""

    good: int
    bad: int
    duplicates: int
    row_hash: str


def run_ingest(spark: SparkSession, store: Store, request: JobRequest) -> list[Ref]:
    """Bring the partitions of a request up to date: one Spark write per table.

    Raises:
        DataInvalid: A file, a column, a key or too many rows break the contract; nothing is published then.
        InputChanged: A raw file was replaced while it was read.
    """
    by_table = {name: [item for item in request.targets if item.table == name] for name in request.dataset.tables}
    with ThreadPoolExecutor(len(by_table)) as pool, step("tables"):
        jobs = [
            pool.submit(_ingest_table, spark, store, request, name, targets)
            for name, targets in by_table.items()
            if targets
        ]
    manifests = [item for job in jobs for item in job.result()]
    with step("publish"):
        _require_unchanged(store, request)
        expected = {(item.table, item.partition): item.expected_etag for item in request.targets}
        pairs = [(item, expected[item.table, item.partition]) for item in manifests]
        return publish_many(store, pairs, to_current=request.publish)


def _ingest_table(
    spark: SparkSession, store: Store, request: JobRequest, name: str, targets: list[Target]
) -> list[Manifest]:
    table = request.dataset.tables[name]
    with step(f"{name}: headers"):
        keys = {key: target.partition for target in targets for key in target.inputs}
        files = inspect_files(store, table, list(keys))
        _require_rows(store, name, keys, files)
    size = max(sum(item.size for item in items) for items in _raw_of(store, request.dataset, name, targets).values())
    rows = sorted_rows(
        read_raw(spark, store, table, files), request.dataset, name, len(targets), 1 + size // BYTES_PER_FILE
    )
    rows = rows.persist()
    try:
        with step(f"{name}: read and check"):
            found = _count(rows)
        for target in targets:
            if target.partition not in found:
                raise DataInvalid(f"{name} has no rows on {target.partition}", "Land a file with rows for it")
        bad = {partition: (item.bad, item.good + item.bad) for partition, item in found.items() if item.bad}
        why = quarantine(rows, store, request, name, bad) if bad else {}
        with step(f"{name}: write"):
            _write(rows, store, request, name)
    finally:
        rows.unpersist()
    with step(f"{name}: audit"):
        files_of = _files_by_partition(store, request, name)
        _audit(spark, store, name, {key: found[key] for key in found}, files_of, _schema(request.dataset, name))
    ignored = ignored_columns(table, files)
    return [
        Manifest(
            stage="clean",
            dataset=request.dataset.name,
            table=name,
            partition=target.partition,
            attempt=request.attempt,
            fingerprint=target.fingerprint,
            inputs=target.inputs,
            files=files_of.get(target.partition, []),
            rows={
                "rows": found[target.partition].good,
                "quarantined": found[target.partition].bad,
                "duplicates": found[target.partition].duplicates,
            },
            columns=_schema(request.dataset, name),
            row_hash=found[target.partition].row_hash,
            details={"ignored_columns": ignored, "reasons": why.get(target.partition, {})},
        )
        for target in targets
    ]


def sorted_rows(raw: DataFrame, dataset: Dataset, name: str, partitions: int, files: int) -> DataFrame:
    """Raw rows to typed ones, each with its fate, sorted by date and id.

    Args:
        raw: As `read_raw` gives them.
        dataset: Holds the contract.
        name: The table.
        partitions: How many dates there are.
        files: How many files the largest date shall become.

    Returns:
        The contract's columns; `data_date`; `_partition` (text); `_fate` (`good`, `duplicate` or `bad`); `_hash` of the
        row; `_raw`, `_file` and `_problem` as they came.
    """
    table = dataset.tables[name]
    key = list(dataset.id if table.daily else table.key)
    columns = list(table.columns)
    partition = F.when(partition_of(F.col("_file")) == "", paths.REFERENCE).otherwise(partition_of(F.col("_file")))
    typed = raw.select(*typed_columns(table), partition.alias("_partition"), "_raw", "_file", "_problem")
    typed = typed.select("*", is_bad(table, {*key, *(c for c in columns if table.columns[c].required)}).alias("_bad"),
                         hash_of(columns).alias("_hash"))  # fmt: skip
    spread = [F.col("_partition")] + ([F.pmod(F.xxhash64(*key), F.lit(files))] if files > 1 and key else [])
    tasks = min(partitions * files, int(raw.sparkSession.conf.get("spark.sql.shuffle.partitions") or 4))
    spread_rows = typed.repartition(tasks, *spread)
    same_key = Window.partitionBy("_partition", *(key or columns), "_bad")
    copies = spread_rows.select(
        "*",
        F.row_number().over(same_key.orderBy("_hash")).alias("_copy"),
        (F.min("_hash").over(same_key) != F.max("_hash").over(same_key)).alias("_differs"),
    )
    fate = F.when(F.col("_bad") | F.col("_differs"), "bad").when(F.col("_copy") > 1, "duplicate").otherwise("good")
    return copies.select(
        *columns,
        F.to_date(F.when(F.col("_partition") != paths.REFERENCE, F.col("_partition"))).alias(DATA_DATE),
        "_partition",
        fate.alias("_fate"),
        "_hash",
        "_raw",
        "_file",
        "_problem",
    )


def _count(rows: DataFrame) -> dict[str, Counted]:
    good = F.col("_fate") == "good"
    found = rows.groupBy("_partition").agg(
        F.count_if(good).alias("good"),
        F.count_if(F.col("_fate") == "bad").alias("bad"),
        F.count_if(F.col("_fate") == "duplicate").alias("duplicates"),
        sum_of(F.when(good, F.col("_hash"))).alias("hash"),
    )
    return {
        row["_partition"]: Counted(row["good"], row["bad"], row["duplicates"], as_text(row["hash"]))
        for row in found.collect()
    }
