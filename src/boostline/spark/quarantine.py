"""Rows that break the contract: kept with the reason, and the end of the run where they are too many."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid
from boostline.lake import paths
from boostline.lake.job import JobRequest
from boostline.lake.store import Store
from boostline.spark.contract import identifying, reasons, required_columns, typed_columns

CONFLICT = "duplicate id with different content"


def quarantine(
    rows: DataFrame, store: Store, request: JobRequest, name: str, bad: dict[str, tuple[int, int]]
) -> dict[str, dict[str, int]]:
    """Write the bad rows of a table, as they came, with their file and the reasons.

    Args:
        rows: As `classify_rows` gives them.
        store: The lake.
        request: Names the attempt.
        name: The table.
        bad: Number of bad rows and of all rows, by partition with bad rows.

    Returns:
        Number of rows by reason, values left out, by partition.

    Raises:
        DataInvalid: A partition's share of bad rows is above the table's `max_bad_share`.
    """
    dataset, table = request.dataset, request.dataset.tables[name]
    told = with_reasons(rows, dataset, name)
    folder = paths.quarantine_table(dataset.name, request.attempt, name)
    address = store.uri(folder, "s3a")
    if table.daily:
        told.withColumnRenamed("_partition", "date").write.partitionBy("date").parquet(address)
    else:
        told.drop("_partition").write.parquet(address + paths.REFERENCE)
    kind = F.explode(F.transform("reasons", lambda reason: F.regexp_replace(reason, r"(?s)'.*' ", "")))
    counts = told.select("_partition", kind.alias("kind")).groupBy("_partition", "kind").count().collect()
    why: dict[str, dict[str, int]] = {}
    for row in sorted(counts, key=lambda row: (-row["count"], row["kind"])):
        why.setdefault(row["_partition"], {})[row["kind"]] = row["count"]
    for partition, (broken, total) in sorted(bad.items()):
        if broken > table.max_bad_share * total:
            common = ", ".join(f"{kind} ({count})" for kind, count in list(why[partition].items())[:5])
            raise DataInvalid(
                f"table {name} on {partition}: {broken} of {total} rows ({broken / total:.2%}) break the contract, "
                f"max_bad_share is {table.max_bad_share:.2%}: {common}",
                f"See the rows and their reasons in {store.uri(folder)}, then mend the files or the dataset file",
            )
    return why


def require_unique_keys(rows: DataFrame, dataset: Dataset, name: str, bad: int) -> None:
    """Refuse a reference table in which a key stands for two different rows.

    Args:
        rows: As `classify_rows` gives them.
        dataset: Holds the contract.
        name: The table.
        bad: How many rows are no good; where none is, there is nothing to look for.

    Raises:
        DataInvalid: Names the table, the key and an example.
    """
    table = dataset.tables[name]
    if table.daily or not bad:
        return
    key = identifying(dataset, name)
    example = rows.where(F.col("_fate") == "conflict").select(*key).orderBy(*key).first()
    if example is not None:
        values = ", ".join(f"{column} = {value}" for column, value in zip(key, example, strict=True))
        raise DataInvalid(
            f"table {name}: the key [{', '.join(key)}] is not unique: {values} stands in rows with different content",
            "Mend the file, or add the column that tells these rows apart to the table's key",
        )


def with_reasons(rows: DataFrame, dataset: Dataset, name: str) -> DataFrame:
    """The bad rows: their columns as text, `file`, `reasons`, `_partition`."""
    table = dataset.tables[name]
    as_text = F.struct(*[F.col(f"`{column}`").cast("string").alias(column) for column in table.columns])
    bad = rows.where(F.col("_fate").isin("bad", "conflict"))
    bad = bad.select(F.coalesce("_raw", as_text).alias("_raw"), "_file", "_problem", "_fate", "_partition")
    bad = bad.select("*", *typed_columns(table))
    why = F.when(F.col("_fate") == "conflict", F.array(F.lit(CONFLICT)))
    why = why.otherwise(reasons(table, required_columns(dataset, name)))
    return bad.select("_raw.*", F.col("_file").alias("file"), why.alias("reasons"), "_partition")
