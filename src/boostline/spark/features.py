"""Clean days of a window to the features that a model learns from; `boostline.lake.features` says how they lie."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boostline.errors import DataInvalid
from boostline.lake.features import DATA_DATE, ID_PREFIX, LABEL
from boostline.lake.job import JobRequest
from boostline.lake.manifest import Ref, attempt_files, publish, read_refs
from boostline.lake.plan import require_same_rules, window_days
from boostline.lake.store import Store
from boostline.spark.clean import daily_rows, read_tables, require_one_match
from boostline.spark.feature_fit import (
    Counts,
    count_rows,
    find_classes,
    fit,
    flat_rows,
    require_enough,
    require_few_categories,
    with_class_index,
)
from boostline.spark.feature_rows import join_references, newest_by_id, with_features, with_label, with_split
from boostline.spark.rowhash import as_text, hash_of, sum_of
from boostline.spark.steps import step
from boostline.transform import Transform

ROWS_PER_FILE = 1_000_000


def run_featurize(spark: SparkSession, store: Store, request: JobRequest) -> list[Ref]:
    """Write and publish the features of one date from exactly the clean partitions of the request.

    Raises:
        DataMissing: Too few rows, or a split without rows.
        DataInvalid: Rows cleaned by other rules than the dataset file has now, no label, a feature without any value, labels
            that are none of the classes, or a split whose classes the train rows do not hold.
        DatasetInvalid: An expression or a type that Spark refuses.
    """
    dataset, target = request.dataset, request.targets[0]
    with step("plan"):
        manifests = read_refs(store, request.reads)
        require_same_rules(dataset, manifests)
        tables, before = read_tables(spark, store, dataset, manifests), daily_rows(dataset, manifests)
        newest = newest_by_id(tables[dataset.daily_table], list(dataset.id))
        joined = with_features(with_label(join_references(newest, tables, dataset), dataset), dataset).persist()
    try:
        with step("read and count"):
            rows = with_split(joined, dataset, request.date)
            counts = count_rows(rows, dataset)
            require_one_match(dataset, before, counts.rows)
            require_enough(dataset, request.date, counts)
            require_few_categories(request.date, counts)
            classes = find_classes(dataset, counts)
            usable = with_class_index(rows, classes).where(F.col(LABEL).isNotNull())
        with step("fit"):
            model, transform = fit(usable.where("split = 'train'"), dataset, request.date, classes)
        with step("write"), ThreadPoolExecutor(3) as pool:
            flat = flat_rows(usable, model, transform, dataset)
            jobs = [
                pool.submit(_write_rows, flat, store, request, sum(counts.by_split.values())),
                pool.submit(_write_test, usable, store, request, counts.by_split["test"]),
                pool.submit(lambda: model.write().save(store.uri(f"{request.folder}pipeline", "s3a"))),
            ]
            store.put(f"{request.folder}transform.json", transform.dumps())
        for job in jobs:
            job.result()
    finally:
        joined.unpersist()
    with step("audit"):
        by_split, row_hash = _audit(spark, store, request, flat, counts)
        _require_known_classes(request, counts, by_split)
    with step("publish"):
        manifest = target.manifest(
            "features",
            dataset.name,
            request.attempt,
            files=attempt_files(store, request.folder),
            rows={
                **by_split,
                "no_label": counts.no_label,
                "unseen_class": sum(counts.by_split.values()) - sum(by_split.values()),
                "duplicates": before - counts.rows,
                "window": before,
            },
            columns=dict(flat.drop("split").dtypes),
            row_hash=row_hash,
            details=_details(request, counts, transform),
        )
        return [publish(store, manifest, target.expected_etag, to_current=request.publish)]


def _write_rows(flat: DataFrame, store: Store, request: JobRequest, rows: int) -> None:
    order = ["split", DATA_DATE, *[ID_PREFIX + name for name in request.dataset.id]]
    _in_order(flat, rows, order).write.partitionBy("split").parquet(store.uri(f"{request.folder}rows", "s3a"))


def _write_test(usable: DataFrame, store: Store, request: JobRequest, rows: int) -> None:
    """The test rows as they were, so that models with other transformations can be scored on them."""
    test = usable.where("split = 'test'").select(*request.dataset.raw_columns, DATA_DATE, LABEL)
    order = [DATA_DATE, *request.dataset.id]
    _in_order(test, rows, order).write.parquet(store.uri(f"{request.folder}test_raw", "s3a"))


def _in_order(frame: DataFrame, rows: int, order: list[str]) -> DataFrame:
    """Rows in order within files, and files in order of their names."""
    files = 1 + rows // ROWS_PER_FILE
    spread = frame.repartition(1) if files == 1 else frame.repartitionByRange(files, *order)
    return spread.sortWithinPartitions(*order)


def _audit(
    spark: SparkSession, store: Store, request: JobRequest, flat: DataFrame, counts: Counts
) -> tuple[dict[str, int], str]:
    """Read back what was written: rows by split, and the hash of them and of the raw test rows.

    Raises:
        DataInvalid: What was written is not what was counted.
    """
    written = spark.read.schema(flat.schema).parquet(store.uri(f"{request.folder}rows", "s3a"))
    raw = spark.read.parquet(store.uri(f"{request.folder}test_raw", "s3a"))
    per_split = written.groupBy("split").agg(
        F.count(F.lit(1)).alias("rows"), sum_of(hash_of(written.columns)).alias("hash")
    )
    with ThreadPoolExecutor(2) as pool:
        raw_job = pool.submit(raw.agg(F.count(F.lit(1)), sum_of(hash_of(raw.columns))).first)
        found = {row["split"]: row for row in per_split.collect()}
    raw_rows, raw_hash = raw_job.result()
    by_split = {split: found[split]["rows"] if split in found else 0 for split in ("train", "valid", "test")}
    if by_split["train"] != counts.by_split["train"] or by_split["test"] != raw_rows:
        raise DataInvalid(
            f"{store.uri(request.folder)} holds {by_split} rows and {raw_rows} raw test rows; {counts.by_split} were counted",
            "Run it again; where it repeats, check the store",
        )
    return by_split, as_text(sum(row["hash"] for row in found.values()) + raw_hash)


def _require_known_classes(request: JobRequest, counts: Counts, by_split: dict[str, int]) -> None:
    """Refuse a split that lost all of its rows, since their classes are none of the train rows'.

    Raises:
        DataInvalid: Names the split and the classes.
    """
    if empty := [split for split, rows in counts.by_split.items() if rows and not by_split[split]]:
        unseen = sorted(set(counts.labels) - set(counts.train_labels))
        raise DataInvalid(
            f"the rows for {' and '.join(empty)} of {request.date} are all of classes that the train rows do not hold: "
            f"{', '.join(unseen[:5])}",
            "Widen the window, or change `split` in the dataset file, so that train holds every class",
        )


def _details(request: JobRequest, counts: Counts, transform: Transform) -> dict[str, Any]:
    dataset = request.dataset
    there = {ref.partition for ref in request.reads if ref.table == dataset.daily_table}
    train = counts.by_split["train"]
    return {
        "test_is_valid": dataset.split.test_is_valid,
        "classes": list(transform.classes),
        "missing_days": [day for day in window_days(dataset, date.fromisoformat(request.date)) if day not in there],
        "null_shares": {name: round(1 - filled / train, 6) for name, filled in counts.filled.items()},
        "categories": {name: len(values) for name, values in transform.categorical.items()},
    }
