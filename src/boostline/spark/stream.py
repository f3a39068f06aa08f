"""Scoring rows as they come, batch by batch, each published exactly once.

    predictions/DATASET/stream=ID/batch=N/current.json

The checkpoint says what a batch holds, so a batch that is repeated after a crash has the same number and the same
input. Its manifest is created by a conditional write: the first attempt publishes, a repeat finds it and leaves it. The
manifest pins the model version. ID is the checkpoint's own: where the checkpoint is deleted, another stream begins.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from secrets import token_hex
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from boostline.dataset import Dataset, dataset_path, load_dataset
from boostline.errors import BoostlineError, DataInvalid, DataMissing, DatasetInvalid, InputChanged, ServiceUnavailable
from boostline.lake import paths
from boostline.lake.features import DATA_DATE
from boostline.lake.job import Target
from boostline.lake.manifest import Manifest, attempt_files, fingerprint, publish, read_current, read_ref
from boostline.lake.plan import stage_sections
from boostline.lake.store import Store
from boostline.registry.versions import champion_of, load_version
from boostline.settings import Settings
from boostline.spark.clean import read_tables
from boostline.spark.contract import clean_types
from boostline.spark.failures import explain
from boostline.spark.feature_rows import join_references
from boostline.spark.ingest import classify_rows
from boostline.spark.names import schema_of
from boostline.spark.paths import read_parquet
from boostline.spark.quarantine import with_reasons
from boostline.spark.rowhash import as_text
from boostline.spark.scoring import Shared, audit, require_same_contract, share, with_predictions
from boostline.spark.stream_source import Batch, brokers, open_source, read_batch, require_unchanged

log = logging.getLogger(__name__)

CHECKPOINTS = "org.apache.spark.internal.io.cloud.AbortableStreamBasedCheckpointFileManager"
"""Writes a checkpoint's files to S3 whole or not at all; Spark's own manager renames, which S3 cannot."""

BYTES_PER_TASK = 1024**2
"""A batch of fewer bytes is one task's and so one file: small ones, many in a day, would slow down whoever reads them."""


@dataclass
class Stream:
    """One dataset's stream, and the model that it has in hand."""

    spark: SparkSession
    store: Store
    settings: Settings
    dataset: Dataset
    held: Shared | None = None


def start_stream(stream: Stream, *, once: bool) -> StreamingQuery:
    """Start scoring what comes.

    Args:
        stream: What to score, and where.
        once: End when all that is there has been scored, rather than wait for more.
    """
    stream.spark.conf.set("spark.sql.streaming.checkpointFileManagerClass", CHECKPOINTS)
    rows = open_source(stream.spark, stream.store, stream.settings, stream.dataset)
    writer = rows.writeStream.foreachBatch(lambda batch, number: _score_batch(stream, batch, number))
    writer = writer.option(
        "checkpointLocation", stream.store.uri(paths.checkpoint_folder(stream.dataset.name), "s3a")
    ).queryName(f"{stream.dataset.name} stream")
    seconds = f"{stream.dataset.stream.trigger_seconds} seconds"
    return (writer.trigger(availableNow=True) if once else writer.trigger(processingTime=seconds)).start()


def _score_batch(stream: Stream, frame: DataFrame, number: int) -> None:
    dataset, store = stream.dataset, stream.store
    name, partition = paths.stream_folder(_stream_id(store, dataset)), f"batch={number:09d}"
    found = read_current(store, "predictions", dataset.name, name, partition)
    if found:
        manifest = found[0]
        log.info("%s of %s is published already", partition, name)
    else:
        _require_same_file(stream)
        batch = read_batch(frame, store, dataset)
        shared = _champion(stream)
        sections = {"dataset": stage_sections("predictions", dataset), "model": shared.model.info.sha256}
        print_ = fingerprint("predictions", sections, batch.inputs)
        target = Target(table=name, partition=partition, fingerprint=print_, expected_etag=None, inputs=batch.inputs)
        manifest = _publish_readable(stream, frame, batch, target, shared)
        told = f"{manifest.rows['rows']} rows, {manifest.rows['quarantined']} to quarantine"
        log.info("%s: %s, version %s", partition, told, shared.version)
    if dataset.stream.answers:
        _send(stream, manifest)


def _require_same_file(stream: Stream) -> None:
    """End where the dataset file changed: reference tables of today follow its new rules, and this stream the old ones.

    Raises:
        InputChanged: The file says something else than at the start.
    """
    path = dataset_path(stream.settings.datasets, stream.dataset.name)
    try:
        changed = load_dataset(path) != stream.dataset
    except DatasetInvalid as error:  # half written, or on its way
        log.warning("%s; going on with the file of before", error.message)
        return
    if changed:
        raise InputChanged(f"{path} changed since the stream began", "It starts again with the file of now")


def _publish_readable(stream: Stream, frame: DataFrame, batch: Batch, target: Target, shared: Shared) -> Manifest:
    """Score one batch and publish it, without the files of it that Spark cannot read to their end."""
    while True:
        try:
            return _publish(stream, batch, target, shared)
        except Exception as error:
            known = explain(error)
            broken = _broken_file(stream.store, batch, known)
            if known is None or broken is None:
                raise
            require_unchanged(stream.store, stream.dataset, batch)
            log.warning("%s; the batch goes on without it", known.message)
            batch = read_batch(frame, stream.store, stream.dataset, {**batch.refused, broken: str(known)})


def _broken_file(store: Store, batch: Batch, error: BoostlineError | None) -> str | None:
    """The file of the batch that an error calls invalid, if it does so of one that was read."""
    if not isinstance(error, DataInvalid):
        return None
    read = batch.inputs.keys() - batch.refused.keys()
    named = [key for key in read if store.uri(key) in unquote(error.message)]
    return max(named, key=len, default=None)  # part.csv.gz rather than a part.csv beside it


def _publish(stream: Stream, batch: Batch, target: Target, shared: Shared) -> Manifest:
    """Score one batch and publish it."""
    dataset, store = stream.dataset, stream.store
    attempt = f"stream-{target.partition.removeprefix('batch=')}-{token_hex(6)}"
    folder = paths.attempt_folder("predictions", dataset.name, attempt)
    counted = {"rows": 0, "quarantined": 0, "duplicates": 0}
    columns: dict[str, str] = {}
    row_hash = as_text(0)
    if batch.rows is not None:
        most = int(stream.spark.conf.get("spark.sql.shuffle.partitions") or 1)
        # Most batches hold one date, so a date's rows go to all of these tasks. Each task writes a file.
        tasks = min(most, 1 + batch.size // BYTES_PER_TASK)
        rows = classify_rows(batch.rows, dataset, dataset.daily_table, tasks, files=tasks).persist()
        try:
            counted = _count(rows)
            if counted["quarantined"]:
                address = store.uri(paths.quarantine_table(dataset.name, attempt, dataset.daily_table), "s3a")
                with_reasons(rows, dataset, dataset.daily_table).drop("_partition").write.parquet(address)
            scored = _scored(stream, rows, shared)
            scored.write.parquet(store.uri(f"{folder}rows", "s3a"))
        finally:
            rows.unpersist()
        columns, row_hash = dict(scored.dtypes), audit(scored, store, dataset, folder, counted["rows"])
    require_unchanged(store, dataset, batch)
    manifest = target.manifest(
        "predictions",
        dataset.name,
        attempt,
        files=attempt_files(store, folder),
        rows=counted,
        columns=columns,
        row_hash=row_hash,
        details={**shared.details, "refused": batch.refused},
    )
    return read_ref(store, publish(store, manifest, None))


def _scored(stream: Stream, rows: DataFrame, shared: Shared) -> DataFrame:
    dataset = stream.dataset
    good = rows.where(F.col("_fate") == "good").select(*clean_types(dataset.tables[dataset.daily_table]))
    manifests = []
    for name in dataset.joins:
        found = read_current(stream.store, "clean", dataset.name, name, paths.REFERENCE)
        if found is None:
            raise DataMissing(
                f"reference table {name} of {dataset.name} was never ingested",
                f"Train or score a day first: boostline run {dataset.name} --date YYYY-MM-DD",
            )
        manifests.append(found[0])
    tables = read_tables(stream.spark, stream.store, dataset, manifests)
    joined = join_references(good, tables, dataset)
    return with_predictions(joined, shared, [*dataset.id, DATA_DATE])


def _count(rows: DataFrame) -> dict[str, int]:
    found = {row["_fate"]: row["count"] for row in rows.groupBy("_fate").count().collect()}
    return {
        "rows": found.get("good", 0),
        "quarantined": found.get("bad", 0) + found.get("conflict", 0),
        "duplicates": found.get("duplicate", 0),
    }


def _champion(stream: Stream) -> Shared:
    """The champion now, or the last one where the registry does not answer.

    Raises:
        ServiceUnavailable: There is none yet.
        DataInvalid: It reads a column otherwise than the dataset file says now.
    """
    held, name = stream.held, stream.dataset.name
    try:
        version = champion_of(stream.settings, name)
    except ServiceUnavailable as error:
        if held is None:
            raise
        log.warning("%s; going on with version %s", error.message, held.version)
        return held
    if version is None:
        raise ServiceUnavailable(f"{name} has no champion yet", f"Train one: boostline run {name} --date YYYY-MM-DD")
    if held and held.version == version.version:
        return held
    model = load_version(stream.store, version)
    require_same_contract(model, version.version, stream.dataset)
    stream.held = newer = share(stream.spark, model, version.version)
    log.info("scoring with version %s from now on", version.version)
    if held:
        held.files.destroy()
    return newer


def _stream_id(store: Store, dataset: Dataset) -> str:
    """The id that Spark gave the query when it made the checkpoint."""
    return str(json.loads(store.get(paths.checkpoint_folder(dataset.name) + "metadata")[0])["id"])


def messages(rows: DataFrame, dataset: Dataset, batch: str) -> DataFrame:
    """Predictions as Kafka's messages: `key`, the id's columns, and `value`, all columns and `batch`; both JSON."""
    options = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}  # Spark's own would leave out the microseconds
    value = F.struct("*", F.lit(batch).alias("batch"))
    return rows.select(F.to_json(F.struct(*dataset.id), options).alias("key"), F.to_json(value, options).alias("value"))


def _send(stream: Stream, manifest: Manifest) -> None:
    """Send a published batch to Kafka. After a crash it is sent again: `batch` and the key tell a repeat."""
    if not manifest.files:
        return
    keys = [item.key for item in manifest.files]
    rows = read_parquet(stream.spark, stream.store, keys, schema_of(manifest.columns))
    sent = messages(rows, stream.dataset, f"{manifest.table}/{manifest.partition}")
    writer = sent.write.format("kafka").option("kafka.bootstrap.servers", brokers(stream.settings))
    writer.option("topic", stream.dataset.stream.answers or "").save()
