"""Reading raw files as text columns: which columns they have, then the rows.

A row is a line. CSV fields with line breaks inside quotes are therefore not read as one row: both halves go to
quarantine as broken quotes. The other way round, one stray quote would swallow the rest of a file unseen.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from boostline.dataset.tables import Table
from boostline.errors import DataInvalid, DataMissing, InputChanged, Superseded
from boostline.lake.arrow import ParquetDataset
from boostline.lake.paths import REFERENCE
from boostline.lake.store import PARALLEL_REQUESTS, Store
from boostline.spark.names import quoted
from boostline.spark.paths import read_files, read_parquet
from boostline.transform import BLANKS

HEADER_BYTES = 64 * 1024


@dataclass(frozen=True)
class RawFile:
    """One raw file: its key, its columns in order, the header line as it stands there (CSV), whether rows follow, the
    types of the contract's columns (Parquet)."""

    key: str
    columns: tuple[str, ...]
    header: str = ""
    has_rows: bool = True
    types: tuple[str, ...] = ()


def inspect_files(store: Store, table: Table, keys: list[str]) -> list[RawFile]:
    """Look into the files' headers, without Spark.

    Raises:
        DataInvalid: A file is empty, is no gzip, or lacks a column of the contract; names the file and both sides.
    """
    look = {"csv": _inspect_csv, "json": _inspect_json, "parquet": _inspect_parquet}[table.source.format]
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        return list(pool.map(lambda key: look(store, table, key), keys))


def ignored_columns(table: Table, files: list[RawFile]) -> list[str]:
    """Columns of the files that the contract does not name."""
    return sorted({name for file in files for name in file.columns} - set(sources(table)))


def sources(table: Table) -> dict[str, str]:
    """Contract columns by their name in the file."""
    return {name if column.source is None else column.source: name for name, column in table.columns.items()}


def read_raw(spark: SparkSession, store: Store, table: Table, files: list[RawFile]) -> DataFrame:
    """All rows as text: `_raw`, a struct of the contract's columns; `_file`; `_problem`, where the line is broken.

    A text of `null_values`, blanks around it aside, is null already.
    """
    groups: dict[tuple[tuple[str, ...], str, tuple[str, ...]], list[str]] = defaultdict(list)
    for file in files:
        groups[(file.columns, file.header, file.types)].append(file.key)
    read = {"csv": _read_csv, "json": _read_json, "parquet": _read_parquet}[table.source.format]
    frames = [read(spark, store, table, columns, header, keys) for (columns, header, _), keys in sorted(groups.items())]
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame)
    return whole


def _inspect_csv(store: Store, table: Table, key: str) -> RawFile:
    start, complete = _start(store, key)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataInvalid(f"{store.uri(key)} is UTF-16", "Convert it to UTF-8")
    text = re.sub(r"\r\n?", "\n", start.decode("utf-8-sig", errors="replace").lstrip("\r\n"))
    header, end, rest = text.partition("\n")
    if not end and not complete:
        raise DataInvalid(f"the header of {store.uri(key)} is longer than {HEADER_BYTES} bytes", "Land a file of lines")
    columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=table.source.delimiter), []))
    _require_columns(store.uri(key), table, columns)
    return RawFile(key, columns, header, has_rows=not complete or bool(rest.strip()))


def _inspect_json(store: Store, table: Table, key: str) -> RawFile:
    """JSON lines name their columns row by row, so only unreadable files are refused here."""
    _start(store, key)
    return RawFile(key, tuple(sources(table)))


def _inspect_parquet(store: Store, table: Table, key: str) -> RawFile:
    import pyarrow as pa

    try:
        schema = ParquetDataset(store, [key]).schema
    except Superseded as error:
        raise InputChanged(
            f"{store.uri(key)} went away while it was read", "A retry looks for the files anew"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise DataInvalid(f"{store.uri(key)} is not a Parquet file: {error}", "Land a whole copy of it") from error
    _require_columns(store.uri(key), table, tuple(schema.names))
    types = {name: schema.field(name).type for name in sources(table)}
    for name, kind in types.items():
        if pa.types.is_nested(kind) or (pa.types.is_timestamp(kind) and kind.unit == "ns"):
            raise DataInvalid(
                f"{store.uri(key)}: column {name} is {kind}, which cannot be read",
                "Write flat columns, and timestamps in microseconds",
            )
    return RawFile(key, tuple(schema.names), types=tuple(map(str, types.values())))


def _start(store: Store, key: str) -> tuple[bytes, bool]:
    """The decompressed start of a text file, and whether that is all of it."""
    try:
        start = store.get_start(key, HEADER_BYTES)
    except DataMissing:
        start = b""
    complete = len(start) < HEADER_BYTES
    if key.endswith(".gz") and start:
        try:
            start, ended = _unpacked(start)
        except zlib.error as error:
            raise DataInvalid(f"{store.uri(key)} is not a gzip file: {error}", "Land a whole copy of it") from error
        unpacked = len(start) < HEADER_BYTES
        if complete and unpacked and not ended:
            raise DataInvalid(f"{store.uri(key)} is a truncated gzip file", "Land a whole copy of it")
        complete = complete and unpacked
    elif start[:2] == b"\x1f\x8b":
        raise DataInvalid(f"{store.uri(key)} is gzip, and its name does not say so", "Let its name end in .gz")
    if not start.strip():
        raise DataInvalid(f"{store.uri(key)} is empty", "Land a file with a header and rows")
    return start, complete


def _unpacked(packed: bytes) -> tuple[bytes, bool]:
    """The first `HEADER_BYTES` of a gzip's members, one after the other, and whether the last one read has its end."""
    text, member = b"", zlib.decompressobj(wbits=31)
    while packed and len(text) < HEADER_BYTES:
        if member.eof:
            member = zlib.decompressobj(wbits=31)
        text += member.decompress(packed, HEADER_BYTES - len(text))
        packed = member.unused_data if member.eof else member.unconsumed_tail
    return text, member.eof


def _require_columns(uri: str, table: Table, found: tuple[str, ...]) -> None:
    wanted = sources(table)
    lacking = [name for name in wanted if name not in found]
    doubled = sorted({name for name in found if found.count(name) > 1} & set(wanted))
    if not lacking and not doubled:
        return
    what = f"has the column(s) {', '.join(doubled)} twice" if doubled else f"lacks the column(s) {', '.join(lacking)}"
    if len(lacking) == len(wanted):
        what = "has no header, or a wrong one"
    raise DataInvalid(
        f"{uri} {what}: expected {', '.join(wanted)}; found {_few(found)}",
        "Land a file with these columns, in any order, or mend the table's columns in the dataset file",
    )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(name[:40] for name in names[:60]) + (" …" if len(names) > 60 else "")


def _read_csv(
    spark: SparkSession, store: Store, table: Table, columns: tuple[str, ...], header: str, keys: list[str]
) -> DataFrame:
    delimiter = table.source.delimiter
    schema = ", ".join([f"c{number} STRING" for number in range(len(columns))] + ["_corrupt STRING"])
    # RFC 4180: a quote is escaped by another one; Spark's default is a backslash.
    options = {"sep": delimiter, "escape": '"', "columnNameOfCorruptRecord": "_corrupt", "mode": "PERMISSIVE"}
    parsed = _lines(spark, store, keys).where(~F.col("value").isin(header, "\ufeff" + header))
    parsed = parsed.select("value", "_file", F.from_csv("value", schema, options).alias("row"))
    quotes = F.length("value") - F.length(F.replace(F.col("value"), F.lit('"'), F.lit("")))
    outside = F.regexp_replace("value", r'"[^"]*"', "")
    fields = F.size(F.split(outside, re.escape(delimiter)))
    ragged = F.concat(F.lit("ragged row: "), fields.cast("string"), F.lit(f" of {len(columns)} fields"))
    problem = (
        _line_problem()
        .when(quotes % 2 == 1, F.lit("broken quotes"))
        .when(F.col("row._corrupt").isNotNull(), F.when(fields != len(columns), ragged).otherwise("broken quotes"))
    )
    where = {name: f"row.c{columns.index(name)}" for name in sources(table)}
    return parsed.select(_raw_struct(table, where), "_file", problem.alias("_problem"))


def _read_json(
    spark: SparkSession, store: Store, table: Table, _columns: tuple[str, ...], _header: str, keys: list[str]
) -> DataFrame:
    return parse_json(table, _lines(spark, store, keys))


def parse_json(table: Table, lines: DataFrame) -> DataFrame:
    """JSON objects to what `read_raw` gives.

    Args:
        table: The contract.
        lines: `value`, an object as text, and `_file`, where it comes from.
    """
    fields = ", ".join(f"{quoted(name)} STRING" for name in sources(table))
    # Of several objects in a line, from_json reads the first and says nothing of the others. In an array they all
    # count, and its own last element, null, is only read where the text before it does not end the array.
    objects = F.from_json(F.concat(F.lit("["), "value", F.lit(",null]")), f"ARRAY<STRUCT<{fields}>>")
    parsed = lines.select("value", "_file", objects.alias("objects"))
    first, last = F.get("objects", F.lit(0)), F.get("objects", F.lit(1))
    single = (F.size("objects") == 2) & first.isNotNull() & last.isNull()
    corrupt = F.from_json("value", "_corrupt STRING", {"columnNameOfCorruptRecord": "_corrupt"})["_corrupt"]
    several = F.when(corrupt.isNull(), "more than one JSON object in a line").otherwise("not a JSON object")
    row = F.when(single, first).otherwise(F.from_json("value", fields))
    # Only a message can be blank, or nothing at all: such lines of files are left out already.
    blank = F.coalesce(F.btrim("value", F.lit(BLANKS)), F.lit("")) == ""
    problem = _line_problem().when(blank, "no value").when(~single, several)
    parsed = parsed.select("_file", row.alias("row"), problem.alias("_problem"))
    where = {name: f"row.{quoted(name)}" for name in sources(table)}
    return parsed.select(_raw_struct(table, where), "_file", "_problem")


def _read_parquet(
    spark: SparkSession, store: Store, table: Table, _columns: tuple[str, ...], _header: str, keys: list[str]
) -> DataFrame:
    where = {name: quoted(name) for name in sources(table)}
    # Spark refuses a file for nanoseconds in any column; those of the contract's columns are refused already.
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", True)
    # One file's schema is that of all; without it Spark may ask a file that lies beside these, and that nobody can read.
    schema = read_files(spark.read.parquet, store, keys[:1]).schema
    frame = read_parquet(spark, store, keys, schema)
    return frame.select(
        _raw_struct(table, where),
        F.col("_metadata.file_path").alias("_file"),
        F.lit(None).cast("string").alias("_problem"),
    )


def _lines(spark: SparkSession, store: Store, keys: list[str]) -> DataFrame:
    reader = spark.read.option("recursiveFileLookup", True)
    lines = read_files(lambda *paths: reader.text(list(paths)), store, keys).select(
        "value", F.col("_metadata.file_path").alias("_file")
    )
    return lines.where(F.btrim("value", F.lit(BLANKS)) != "")


def _line_problem() -> Column:
    """What spoils a whole line, whatever its format; add more with `.when`."""
    return F.when(~F.is_valid_utf8("value"), F.lit("invalid UTF-8")).when(
        F.instr("value", "\x00") > 0, F.lit("NUL byte")
    )


def _raw_struct(table: Table, where: dict[str, str]) -> Column:
    """The contract's columns under their own names, with null for the texts that mean it."""
    nulls = list(table.source.null_values)

    def text(path: str) -> Column:
        value = F.col(path).cast("string")
        return F.when(F.btrim(value, F.lit(BLANKS)).isin(nulls), None).otherwise(value) if nulls else value

    return F.struct(*[text(where[source]).alias(name) for source, name in sources(table).items()]).alias("_raw")


def partition_of(file: Column) -> Column:
    """The partition that a raw file's address belongs to."""
    day = F.regexp_extract(file, r"/date=(\d{4}-\d{2}-\d{2})/", 1)
    return F.when(day == "", REFERENCE).otherwise(day)
