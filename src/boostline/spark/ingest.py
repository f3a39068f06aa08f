"""Raw files to clean days: typed, cleaned, audited, and only then published."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, InputChanged
from boostline.lake import paths
from boostline.lake.features import DATA_DATE
from boostline.lake.job import JobRequest, Target
from boostline.lake.manifest import FileEntry, Manifest, Ref, attempt_files, publish_many
from boostline.lake.raw import raw_partitions
from boostline.lake.store import Store, StoredObject
from boostline.spark.contract import clean_types, identifying, is_bad, required_columns, typed_columns
from boostline.spark.names import schema_of
from boostline.spark.paths import read_parquet
from boostline.spark.quarantine import quarantine, require_unique_keys
from boostline.spark.raw import RawFile, ignored_columns, inspect_files, partition_of, read_raw
from boostline.spark.rowhash import as_text, hash_of, sum_of
from boostline.spark.steps import step

BYTES_PER_FILE = 256 * 1024**2
"""A day whose raw files are larger is written by several tasks, as several files."""


@dataclass(frozen=True)
class Counted:
    """One partition's rows by fate, and the hash of the good ones."""

    good: int
    bad: int
    duplicates: int
    row_hash: str


@dataclass(frozen=True)
class RawTable:
    """One table's raw files, and the bytes of its largest partition."""

    files: list[RawFile]
    largest: int


def run_ingest(spark: SparkSession, store: Store, request: JobRequest) -> list[Ref]:
    """Bring the partitions of a request up to date: one Spark write per table.

    Raises:
        DataInvalid: A file, a column, a key or too many rows break the contract; nothing is published then.
        InputChanged: A raw file was replaced while it was read.
    """
    by_table = {
        name: targets
        for name in request.dataset.tables
        if (targets := [item for item in request.targets if item.table == name])
    }
    with ThreadPoolExecutor(len(request.dataset.tables)) as pool:
        # Every file of every table is looked into before Spark reads the first.
        looks = [
            pool.submit(_inspect_table, store, request.dataset, name, targets) for name, targets in by_table.items()
        ]
        raw = [look.result() for look in looks]
        jobs = [
            pool.submit(_ingest_table, spark, store, request, name, targets, found)
            for (name, targets), found in zip(by_table.items(), raw, strict=True)
        ]
    manifests = [item for job in jobs for item in job.result()]
    with step("publish"):
        for name, targets in by_table.items():
            _require_unchanged(store, request.dataset, name, targets)
        expected = {(item.table, item.partition): item.expected_etag for item in request.targets}
        pairs = [(item, expected[item.table, item.partition]) for item in manifests]
        return publish_many(store, pairs, to_current=request.publish)


def classify_rows(raw: DataFrame, dataset: Dataset, name: str, tasks: int, files: int) -> DataFrame:
    """Raw rows to typed ones, each with its fate.

    Args:
        raw: As `read_raw` gives them.
        dataset: Holds the contract.
        name: The table.
        tasks: Number of Spark partitions of the result.
        files: In how many of them a date lies at most.

    Returns:
        The contract's columns; `data_date`; `_partition` (text); `_fate` (`good`; `duplicate`: of a row with the same
        content; `conflict`: its id has another content too; `bad`); `_hash` of the row; `_file`; `_problem`; `_raw`,
        null unless bad.
    """
    table, columns = dataset.tables[name], list(dataset.tables[name].columns)
    key = identifying(dataset, name)
    day = partition_of(F.col("_file"))
    typed = raw.select(*typed_columns(table), day.alias("_partition"), "_raw", "_file", "_problem").select(
        "*",
        is_bad(table, required_columns(dataset, name)).alias("_bad"),
        hash_of(columns).alias("_hash"),
    )
    bucket = F.pmod(F.xxhash64(*key), F.lit(files))
    # The window names the columns that the rows are dealt by, so that Spark does not shuffle them again for it.
    place = ["_partition", "_bucket"]
    same_key = Window.partitionBy(*place, *key, "_bad")
    compared = (
        typed.withColumns({"_raw": F.when(F.col("_bad"), F.col("_raw")), "_bucket": bucket})
        .repartition(tasks, *place)
        .select(
            "*",
            F.row_number().over(same_key.orderBy("_hash")).alias("_copy"),
            (F.min("_hash").over(same_key) != F.max("_hash").over(same_key)).alias("_differs"),
        )
    )
    fate = (
        F.when(F.col("_bad"), "bad")
        .when(F.col("_differs"), "conflict")
        .when(F.col("_copy") > 1, "duplicate")
        .otherwise("good")
    )
    data_date = F.when(F.col("_partition") != paths.REFERENCE, F.col("_partition")).cast("date")
    return compared.select(
        *columns, data_date.alias(DATA_DATE), "_partition", fate.alias("_fate"), "_hash", "_raw", "_file", "_problem"
    )


def _inspect_table(store: Store, dataset: Dataset, name: str, targets: list[Target]) -> RawTable:
    with step(f"{name}: headers"):
        objects = _require_unchanged(store, dataset, name, targets)
        files = inspect_files(store, dataset.tables[name], [key for target in targets for key in target.inputs])
        _require_rows(store, name, targets, files)
    return RawTable(files, max(sum(item.size for item in objects[target.partition]) for target in targets))


def _ingest_table(
    spark: SparkSession, store: Store, request: JobRequest, name: str, targets: list[Target], raw: RawTable
) -> list[Manifest]:
    dataset, table = request.dataset, request.dataset.tables[name]
    buckets = 1 + raw.largest // BYTES_PER_FILE
    tasks = min(len(targets) * buckets, int(spark.conf.get("spark.sql.shuffle.partitions") or 1) * buckets)
    rows = classify_rows(read_raw(spark, store, table, raw.files), dataset, name, tasks, buckets).persist()
    try:
        with step(f"{name}: read and check"):
            counted = _count(rows)
            for target in targets:
                if target.partition not in counted:
                    raise DataInvalid(f"table {name} has no rows on {target.partition}", "Land a file with rows")
            require_unique_keys(rows, dataset, name, sum(item.bad for item in counted.values()))
            bad = {day: (item.bad, item.good + item.bad + item.duplicates) for day, item in counted.items() if item.bad}
            why = quarantine(rows, store, request, name, bad) if bad else {}
        with step(f"{name}: write"):
            _write(rows, store, request, name)
    finally:
        rows.unpersist()
    with step(f"{name}: audit"):
        written = _files_by_partition(store, request, name)
        _audit(spark, store, request, name, counted, written)
    ignored = ignored_columns(table, raw.files)
    return [
        target.manifest(
            "clean",
            dataset.name,
            request.attempt,
            files=written.get(target.partition, []),
            rows={"rows": item.good, "quarantined": item.bad, "duplicates": item.duplicates},
            columns=clean_types(table),
            row_hash=item.row_hash,
            details={"ignored_columns": ignored, "reasons": why.get(target.partition, {})},
        )
        for target in targets
        for item in [counted[target.partition]]
    ]


def _require_unchanged(
    store: Store, dataset: Dataset, name: str, targets: list[Target]
) -> dict[str, list[StoredObject]]:
    """The table's raw files as they lie there now, where they are still those of the request."""
    raw = raw_partitions(store, dataset.name, name)
    now = {item.key: item.etag for items in raw.values() for item in items}
    for target in targets:
        for key, etag in target.inputs.items():
            if now.get(key) != etag:
                what = "was replaced" if key in now else "was removed"
                raise InputChanged(f"{store.uri(key)} {what} while this run read it", "A retry reads it again")
    return raw


def _require_rows(store: Store, name: str, targets: list[Target], files: list[RawFile]) -> None:
    empty = {file.key for file in files if not file.has_rows}
    for target in targets:
        if empty.issuperset(target.inputs):
            named = ", ".join(store.uri(key) for key in target.inputs)
            raise DataInvalid(
                f"{named} holds a header and no rows, so table {name} has none on {target.partition}",
                "Land a file with rows, or remove this one so that the date counts as missing",
            )


def _count(rows: DataFrame) -> dict[str, Counted]:
    good = F.col("_fate") == "good"
    counts = rows.groupBy("_partition").agg(
        F.count_if(good).alias("good"),
        F.count_if(F.col("_fate").isin("bad", "conflict")).alias("bad"),
        F.count_if(F.col("_fate") == "duplicate").alias("duplicates"),
        sum_of(F.when(good, F.col("_hash"))).alias("hash"),
    )
    return {
        row["_partition"]: Counted(row["good"], row["bad"], row["duplicates"], as_text(row["hash"]))
        for row in counts.collect()
    }


def _write(rows: DataFrame, store: Store, request: JobRequest, name: str) -> None:
    dataset, table = request.dataset, request.dataset.tables[name]
    folder = store.uri(f"{request.folder}{name}", "s3a")
    good = rows.where(F.col("_fate") == "good")
    key = identifying(dataset, name)
    if table.daily:
        good = good.select(*clean_types(table), F.col("_partition").alias("date"))
        good.sortWithinPartitions("date", *key).write.partitionBy("date").parquet(folder)
    else:
        good.select(*clean_types(table)).sortWithinPartitions(*key).write.parquet(f"{folder}/{paths.REFERENCE}")


def _files_by_partition(store: Store, request: JobRequest, name: str) -> dict[str, list[FileEntry]]:
    """What lies in the attempt, by partition."""
    folder = f"{request.folder}{name}/"
    found: dict[str, list[FileEntry]] = {}
    for item in attempt_files(store, folder):
        partition = item.key[len(folder) :].split("/")[0].removeprefix("date=")
        found.setdefault(partition, []).append(item)
    return found


def _audit(
    spark: SparkSession,
    store: Store,
    request: JobRequest,
    name: str,
    meant: dict[str, Counted],
    written: dict[str, list[FileEntry]],
) -> None:
    """Read back what was written, and refuse what differs from what was meant."""
    table = request.dataset.tables[name]
    keys = [item.key for items in written.values() for item in items]
    found = {}
    if keys:
        day = F.col(DATA_DATE).cast("string") if table.daily else F.lit(paths.REFERENCE)
        back = read_parquet(spark, store, keys, schema_of(clean_types(table))).groupBy(day.alias("day"))
        counts = back.agg(F.count(F.lit(1)).alias("rows"), sum_of(hash_of(list(table.columns))).alias("hash")).collect()
        found = {row["day"]: (row["rows"], as_text(row["hash"])) for row in counts}
    for day_, item in meant.items():
        if (rows := found.get(day_, (0, as_text(0)))) != (item.good, item.row_hash):
            raise DataInvalid(
                f"{store.uri(request.folder)} holds {rows[0]} rows of {name} for {day_}, hash {rows[1]}; "
                f"{item.good} rows with hash {item.row_hash} were written",
                "Run it again; where it repeats, check the store",
            )
