"""Where a stream's rows come from: files that land in the lake, or messages in Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, DataMissing, EnvironmentUnfit, InputChanged
from boostline.lake import paths
from boostline.lake.raw import raw_partitions
from boostline.lake.store import Store, StoredObject
from boostline.settings import Settings
from boostline.spark.raw import RawFile, inspect_files, parse_json, read_raw

_FILE_ROW = "path string, modificationTime timestamp, length bigint, content binary"
"""The columns of Spark's binaryFile source, which a stream has to be told."""


@dataclass(frozen=True)
class Batch:
    """What one micro-batch read."""

    rows: DataFrame | None
    """As `boostline.spark.raw.read_raw` gives them; none where no file could be read."""
    inputs: dict[str, str]
    """File → ETag, or topic and partition → first and last offset."""
    size: int
    """Bytes of these files, as they lie there, or of the messages."""
    refused: dict[str, str] = field(default_factory=dict)
    """File → why it was left out as a whole."""


def open_source(spark: SparkSession, store: Store, settings: Settings, dataset: Dataset) -> DataFrame:
    """The unbounded frame that the dataset's stream reads.

    Raises:
        DataMissing: The folder of raw files is not there yet.
        EnvironmentUnfit: No Kafka broker is named.
    """
    stream = dataset.stream
    if stream.source == "kafka":
        reader = spark.readStream.format("kafka").option("subscribe", stream.topic or "")
        reader = reader.option("kafka.bootstrap.servers", brokers(settings)).option("startingOffsets", "earliest")
        # Kafka's own default also gives the messages of a transaction that its sender took back.
        reader = reader.option("kafka.isolation.level", "read_committed")
        return reader.option("maxOffsetsPerTrigger", stream.max_messages).load()
    folder = paths.raw_table(dataset.name, dataset.daily_table)
    if not raw_partitions(store, dataset.name, dataset.daily_table):
        raise DataMissing(
            f"there is no raw file below {store.uri(folder)} yet",
            f"Land one: boostline land {dataset.name} FILE --date YYYY-MM-DD",
        )
    # A row per file. The content is never asked for, so Spark does not read it: contract and header need whole files.
    reader = spark.readStream.format("binaryFile").schema(_FILE_ROW).option("recursiveFileLookup", True)
    # After 7 days Spark would forget a file, and score it again when it is landed again; an older one it would leave out.
    reader = reader.option("maxFileAge", "36500d")
    return reader.option("maxFilesPerTrigger", stream.max_files).load(store.uri(folder, "s3a")).select("path")


def read_batch(batch: DataFrame, store: Store, dataset: Dataset, refused: Mapping[str, str] | None = None) -> Batch:
    """The rows of a micro-batch of `open_source`, as text.

    Args:
        batch: The micro-batch.
        store: The lake.
        dataset: Names the source, and holds the contract.
        refused: Files that are to be left out, and why.
    """
    return _messages(batch, dataset) if dataset.stream.source == "kafka" else _files(batch, store, dataset, refused)


def require_unchanged(store: Store, dataset: Dataset, batch: Batch) -> None:
    """Notice a file that was replaced while it was read.

    Raises:
        InputChanged: The stream starts again and reads the new one.
    """
    if dataset.stream.source == "kafka":
        return
    now = _objects(store, dataset)
    for key, etag in batch.inputs.items():
        if key not in now or now[key].etag != etag:
            raise InputChanged(f"{store.uri(key)} was replaced or removed while the stream read it", "It is read again")


def brokers(settings: Settings) -> str:
    """Kafka's address.

    Raises:
        EnvironmentUnfit: None is set.
    """
    if not settings.kafka:
        raise EnvironmentUnfit("no Kafka broker is named", "Set BOOSTLINE_KAFKA=host:9092")
    return settings.kafka


def _files(batch: DataFrame, store: Store, dataset: Dataset, known: Mapping[str, str] | None) -> Batch:
    table, root = dataset.tables[dataset.daily_table], store.uri("", "s3a")
    now, since = _objects(store, dataset), str(dataset.stream.since or "")
    keys = sorted(row["path"].removeprefix(root) for row in batch.collect())
    keys = [key for key in keys if key in now and _date(key) >= since]
    good: list[RawFile] = []
    refused = dict(known or {})
    for key in [key for key in keys if key not in refused]:
        try:
            good += inspect_files(store, table, [key])
        except DataInvalid as error:
            refused[key] = str(error)
    rows = read_raw(batch.sparkSession, store, table, good) if good else None
    size = sum(now[file.key].size for file in good)
    return Batch(rows, {key: now[key].etag for key in keys}, size, refused)


def _messages(batch: DataFrame, dataset: Dataset) -> Batch:
    first, last = F.min("offset").alias("first"), F.max("offset").alias("last")
    size = F.sum(F.coalesce(F.octet_length("value"), F.lit(0))).alias("size")
    read = batch.groupBy("topic", "partition").agg(first, last, size).collect()
    inputs = {f"{row['topic']}/{row['partition']}": f"{row['first']}-{row['last']}" for row in read}
    # A message belongs to the date that it was sent on; a file's name has it in the same place.
    place = [
        "kafka:",
        F.col("topic"),
        F.date_format("timestamp", "'date='yyyy-MM-dd"),
        F.col("partition").cast("string"),
    ]
    parts = [F.lit(part) if isinstance(part, str) else part for part in [*place, F.col("offset").cast("string")]]
    lines = batch.select(F.col("value").cast("string").alias("value"), F.concat_ws("/", *parts).alias("_file"))
    rows = parse_json(dataset.tables[dataset.daily_table], lines)
    return Batch(rows, inputs, sum(row["size"] for row in read))


def _objects(store: Store, dataset: Dataset) -> dict[str, StoredObject]:
    """The daily table's files as they lie there now, by key."""
    found = raw_partitions(store, dataset.name, dataset.daily_table)
    return {item.key: item for items in found.values() for item in items}


def _date(key: str) -> str:
    return key.rpartition("/date=")[2][:10]
