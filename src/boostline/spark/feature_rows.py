"""Clean rows to rows with a label, a split and the columns that features are made of. DataFrame in, DataFrame out."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.dataset.sections import Derived, FirstRowsSplit, HashSplit
from boostline.errors import DatasetInvalid
from boostline.lake.features import DATA_DATE, LABEL

TEXT_PREFIX = "_text_"
NUMBER_PREFIX = "_number_"
LABEL_TEXT = "_label_text"


def newest_by_id(rows: DataFrame, id_columns: list[str]) -> DataFrame:
    """One row per id: of an id that several days hold, the latest day's. Ids are unique within a day already."""
    newest_first = Window.partitionBy(*id_columns).orderBy(F.col(DATA_DATE).desc())
    return rows.withColumn("_copy", F.row_number().over(newest_first)).where("_copy = 1").drop("_copy")


def join_references(rows: DataFrame, references: dict[str, DataFrame], dataset: Dataset) -> DataFrame:
    """Left joins by each table's key, in the dataset's order; Spark broadcasts a small table by itself."""
    for name in dataset.joins:
        rows = rows.join(references[name], on=list(dataset.tables[name].key), how="left")
    return rows.select(*dataset.raw_columns, DATA_DATE)


def with_label(rows: DataFrame, dataset: Dataset) -> DataFrame:
    """Add the label: `_label` as float64, or `_label_text` for class names. Null where there is none.

    Raises:
        DatasetInvalid: The label's expression is no Spark SQL over these columns.
    """
    expression = dataset.label.expression or f"`{dataset.label.name}`"
    try:
        labelled = rows.withColumn(LABEL_TEXT, F.expr(expression))
        kind = dict(labelled.dtypes)[LABEL_TEXT]
    except (AnalysisException, ParseException) as error:
        raise DatasetInvalid(
            f"dataset {dataset.name}: label.expression {expression!r}: {str(error).splitlines()[0]}",
            f"Write Spark SQL over the columns {', '.join(dataset.raw_columns)}",
        ) from error
    value = F.col(LABEL_TEXT)
    if dataset.task == "multiclass" or dataset.label.classes:
        text = _class_name(value) if kind == "double" else value.cast("string")
        return labelled.withColumn(LABEL_TEXT, text).withColumn(LABEL, F.lit(None).cast("double"))
    number = finite(value.cast("double"))
    return labelled.withColumn(LABEL, number).withColumn(LABEL_TEXT, number.cast("string"))


def with_features(rows: DataFrame, dataset: Dataset) -> DataFrame:
    """Add `_text_<name>` for each categorical feature and `_number_<name>` for each numeric one."""
    features = dataset.features
    source = {name: F.col(f"`{name}`") for name in dataset.raw_columns}
    for name, derived in features.derived.items():
        source[name] = _derive(derived, source)
    return rows.select(
        "*",
        *[source[name].cast("string").alias(TEXT_PREFIX + name) for name in features.categorical],
        *[finite(source[name].cast("double")).alias(NUMBER_PREFIX + name) for name in features.numeric],
    )


def with_split(rows: DataFrame, dataset: Dataset, day: str) -> DataFrame:
    """Add `split`: train, valid or test.

    By time the last calendar days of the window test, and the days before them validate. By hash, the first 32 bits of
    MD5 over the id's texts, joined by |, divided by 2^32, decide: below `test_share` tests, below that plus
    `valid_share` validates; so a row stays on its side for ever. By first rows, the order is that of date and id.
    """
    split = dataset.split
    if isinstance(split, FirstRowsSplit):
        return _first_rows(rows, split, [DATA_DATE, *dataset.id])
    if isinstance(split, HashSplit):
        text = F.concat_ws("|", *[F.col(f"`{name}`").cast("string") for name in dataset.id])
        share = F.conv(F.substring(F.md5(text.cast("binary")), 1, 8), 16, 10).cast("double") / 2**32
        test, valid = share < split.test_share, share < split.test_share + split.valid_share
    else:
        last = date.fromisoformat(day)
        test_from = last - timedelta(days=split.test_days - 1)
        test = F.col(DATA_DATE) >= F.lit(test_from)
        valid = F.col(DATA_DATE) >= F.lit(test_from - timedelta(days=split.valid_days))
    return rows.withColumn("split", F.when(test, "test").when(valid, "valid").otherwise("train"))


def finite(number: Column) -> Column:
    """A number, or null for NaN and the infinities."""
    return F.when(~F.isnan(number) & (F.abs(number) != float("inf")), number)


def _class_name(number: Column) -> Column:
    """A number as text, 1 and not 1.0 where it is whole: so a class keeps its name where integers become doubles."""
    whole = number == F.floor(number)
    return F.when(whole, number.cast("bigint").cast("string")).otherwise(finite(number).cast("string"))


def _first_rows(rows: DataFrame, split: FirstRowsSplit, order: list[str]) -> DataFrame:
    """The last row of each side marks its border, so that no task has to see all rows in order."""
    ordered = rows.where(F.col(LABEL_TEXT).isNotNull()).select(F.struct(*order).alias("place")).orderBy("place")
    sizes = {"test": split.test_rows, "valid": split.test_rows + split.valid_rows}
    borders = [
        ordered.limit(size).agg(F.lit(side).alias("side"), F.max("place").alias("last")) for side, size in sizes.items()
    ]
    last = {row["side"]: row["last"] for row in borders[0].union(borders[1]).collect()}
    types = dict(rows.dtypes)

    def within(side: str) -> Column:
        if last[side] is None:  # no row has a label
            return F.lit(False)
        border = [F.lit(value).cast(types[name]).alias(name) for name, value in zip(order, last[side], strict=True)]
        return F.struct(*order) <= F.struct(*border)

    return rows.withColumn("split", F.when(within("test"), "test").when(within("valid"), "valid").otherwise("train"))


def _derive(derived: Derived, source: dict[str, Column]) -> Column:
    columns = [source[name] for name in derived.columns]
    match derived.operation:
        case "hour":
            return F.hour(columns[0])
        case "weekday":
            return F.weekday(columns[0]) + 1
        case "month":
            return F.month(columns[0])
        case "difference":
            return finite(finite(columns[0].cast("double")) - finite(columns[1].cast("double")))
        case "ratio":
            return finite(F.try_divide(finite(columns[0].cast("double")), finite(columns[1].cast("double"))))
        case _:
            texts = [part for column in columns for part in (F.lit("|"), column.cast("string"))]
            return F.concat(*texts[1:])
