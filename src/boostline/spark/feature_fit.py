"""What featurize learns from the train rows: counts, classes, category codes, stand-ins for missing numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any

from pyspark.ml import PipelineModel
from pyspark.ml.feature import Imputer, StringIndexer
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, DataMissing
from boostline.lake.features import DATA_DATE, ID_PREFIX, LABEL
from boostline.spark.feature_rows import LABEL_TEXT, NUMBER_PREFIX, TEXT_PREFIX
from boostline.transform import Transform, raw_contract

CODE_PREFIX = "_code_"
FILLED_PREFIX = "_filled_"
VALUES_PREFIX = "_values_"
MAX_CLASSES = 1000
MAX_CATEGORIES = 100_000
"""Of all categorical features together: the driver holds every value, and so do transform.json, the baseline and each
process that scores. With 100,000 texts of 36 characters the baseline took half of the default driver's heap."""
MAX_LABEL_VALUES = 5000
"""A label with more is no class. Of fewer all are known, so that an error can name them."""
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+(E-?[0-9]+)?)?")


@dataclass(frozen=True)
class Counts:
    """Rows by what they are, label values of the train rows and of all, and filled values by feature.

    `label_values` and `categories`, the different values of a categorical feature in the train rows, are rough: their
    standard error is 5%. `labels` and `train_labels` are complete where `label_values` is at most `MAX_LABEL_VALUES`.
    """

    rows: int
    no_label: int
    by_split: dict[str, int]
    train_labels: list[str]
    labels: list[str]
    label_values: int
    filled: dict[str, int]
    categories: dict[str, int]


def count_rows(rows: DataFrame, dataset: Dataset) -> Counts:
    """Everything that must be counted, in one pass over all rows with a split."""
    labelled, train = F.col(LABEL_TEXT).isNotNull(), F.col("split") == "train"
    classes = dataset.task != "regression"
    sources = _sources(dataset)
    label = F.col(LABEL_TEXT)
    texts = {"labels": _values_of(label), "train_labels": _values_of(F.when(train, label))}
    texts = texts if classes else dict.fromkeys(texts, F.array().cast("array<string>"))
    values = {name: F.when(labelled & train, F.col(TEXT_PREFIX + name)) for name in dataset.features.categorical}
    row = rows.agg(
        F.count(F.lit(1)).alias("rows"),
        *[F.count_if(labelled & (F.col("split") == split)).alias(split) for split in ("train", "valid", "test")],
        *[F.count_if(labelled & train & F.col(column).isNotNull()).alias(column) for column in sources.values()],
        *[F.approx_count_distinct(value).alias(VALUES_PREFIX + name) for name, value in values.items()],
        *[value.alias(name) for name, value in texts.items()],
        (F.approx_count_distinct(label) if classes else F.lit(0)).alias("label_values"),
    ).first()
    if row is None:
        raise RuntimeError("an aggregation without groups gives one row")
    by_split = {split: row[split] for split in ("train", "valid", "test")}
    return Counts(
        rows=row["rows"],
        no_label=row["rows"] - sum(by_split.values()),
        by_split=by_split,
        train_labels=row["train_labels"],
        labels=row["labels"],
        label_values=row["label_values"],
        filled={name: row[column] for name, column in sources.items()},
        categories={name: row[VALUES_PREFIX + name] for name in values},
    )


def require_enough(dataset: Dataset, day: str, counts: Counts) -> None:
    """Refuse a window from which nothing can be learnt.

    Raises:
        DataInvalid: No row has a label, or a feature has no value in any train row.
        DataMissing: Too few rows, or a split without rows.
    """
    labelled = sum(counts.by_split.values())
    if counts.rows and not labelled:
        raise DataInvalid(
            f"none of the {counts.rows} rows in the window of {day} has a label ({dataset.label.name})",
            "See whether the raw files hold it, and what label.expression makes of it",
        )
    if labelled < dataset.window.min_rows:
        raise DataMissing(
            f"the window of {day} is too thin: {labelled} rows with a label, window.min_rows is {dataset.window.min_rows}",
            "Land more days, or lower window.min_rows in the dataset file",
        )
    needed = ["train", "test"] if dataset.split.test_is_valid else ["train", "valid", "test"]
    if empty := [split for split in needed if not counts.by_split[split]]:
        raise DataMissing(
            f"the window of {day} leaves no rows for {' and '.join(empty)}: {counts.by_split}",
            "Land more days, or change `split` in the dataset file",
        )
    if hollow := [name for name, filled in counts.filled.items() if not filled]:
        raise DataInvalid(
            f"feature(s) {', '.join(hollow)} have no value in any of the {counts.by_split['train']} train rows of {day}",
            "See whether the raw files still hold them; take them out of `features` where they do not",
        )


def require_few_categories(day: str, counts: Counts) -> None:
    """Refuse categorical features that nearly name single rows, before all of their values go to the driver.

    Raises:
        DataInvalid: Names the feature with the most values, and roughly how many it has.
    """
    total = sum(counts.categories.values())
    if total > MAX_CATEGORIES:
        worst = max(counts.categories, key=lambda name: counts.categories[name])
        raise DataInvalid(
            f"feature {worst} has about {counts.categories[worst]} different values in the train rows of {day}, and all "
            f"categorical features have about {total}; {MAX_CATEGORIES} can be learnt",
            f"Take {worst} out of `features`; or list it as numeric, if it is an amount; or make fewer values of it: of a "
            "text with `clean`, of a date with `derived`",
        )


def find_classes(dataset: Dataset, counts: Counts) -> tuple[str, ...]:
    """The class names in order; none for a regression and for a binary label that is 0 or 1 already.

    Where the dataset file does not name them, they are those of the train rows, sorted: as numbers where all are.

    Raises:
        DataInvalid: A label that is none of the named classes, a binary label that is neither 0 nor 1, a train
            split with one class only, or far too many values for classes.
    """
    if dataset.task == "regression":
        return ()
    if counts.label_values > MAX_LABEL_VALUES:
        raise DataInvalid(
            f"label {dataset.label.name}: the rows hold about {counts.label_values} different values; "
            f"2 to {MAX_CLASSES} classes can be learnt",
            "Write task: regression where the label is an amount, or see what label.expression makes of the data",
        )
    if dataset.label.classes:
        allowed = dataset.label.classes
    elif dataset.task == "binary":
        allowed = ("0.0", "1.0")
    else:
        numbers = all(_NUMBER.fullmatch(text) for text in counts.train_labels)
        allowed = tuple(sorted(counts.train_labels, key=lambda text: (Decimal(text if numbers else 0), text)))
    named = bool(dataset.label.classes) or dataset.task == "binary"
    if named and (foreign := sorted(set(counts.labels) - set(allowed))):
        raise DataInvalid(
            f"label {dataset.label.name}: {', '.join(map(repr, foreign[:5]))} is none of {', '.join(allowed)}",
            "Mend the data, or label.classes in the dataset file",
        )
    if len(counts.train_labels) < 2 or len(allowed) > MAX_CLASSES:
        raise DataInvalid(
            f"label {dataset.label.name}: the train rows hold {len(counts.train_labels)} class(es): "
            f"{', '.join(counts.train_labels[:5])}; 2 to {MAX_CLASSES} can be learnt",
            "Widen the window, or see what label.expression makes of the data",
        )
    return () if allowed == ("0.0", "1.0") and not dataset.label.classes else allowed


def with_class_index(rows: DataFrame, classes: tuple[str, ...]) -> DataFrame:
    """`_label` as class index; null for a class that the train rows do not hold, so that its rows drop out."""
    if not classes:
        return rows
    index = F.array_position(F.array(*[F.lit(name) for name in classes]), F.col(LABEL_TEXT)) - 1
    return rows.withColumn(LABEL, F.when(index >= 0, index.cast("double")))


def fit(train: DataFrame, dataset: Dataset, day: str, classes: tuple[str, ...]) -> tuple[PipelineModel, Transform]:
    """Fit Spark ML's stages on the train rows, and write down what they learnt.

    Equal frequencies are ordered alphabetically, so the codes are the same each time.
    """
    features = dataset.features
    order = "frequencyDesc" if features.category_order == "frequency" else "alphabetAsc"
    stages: list[Any] = []
    categories: dict[str, tuple[str, ...]] = {}
    if features.categorical:
        indexer = StringIndexer(
            inputCols=[TEXT_PREFIX + name for name in features.categorical],
            outputCols=[CODE_PREFIX + name for name in features.categorical],
            stringOrderType=order,
            handleInvalid="keep",
        ).fit(train)
        stages.append(indexer)
        categories = dict(zip(features.categorical, (tuple(values) for values in indexer.labelsArray), strict=True))
    fill: dict[str, float | None] = dict.fromkeys(features.numeric)
    for strategy in ("mean", "median"):
        names = [name for name, impute in features.impute.items() if impute.strategy == strategy]
        if names:
            imputer = Imputer(
                strategy=strategy,
                inputCols=[NUMBER_PREFIX + name for name in names],
                outputCols=[FILLED_PREFIX + name for name in names],
                relativeError=0.0,  # the median itself: one that is nearly it would depend on how the rows are dealt
            ).fit(train)
            stages.append(imputer)
            row = imputer.surrogateDF.first()
            fill |= {name: _stand_in(name, strategy, float(row[NUMBER_PREFIX + name])) for name in names}
    fill |= {name: impute.value for name, impute in features.impute.items() if impute.strategy == "constant"}
    transform = Transform(
        format=1,
        dataset=dataset.name,
        task=dataset.task,
        date=day,
        columns=raw_contract(dataset),
        derived=features.derived,
        categorical=categories,
        numeric=fill,
        names=features.names,
        label=dataset.label.name,
        classes=classes,
    )
    return PipelineModel(stages), transform


def flat_rows(rows: DataFrame, model: PipelineModel, transform: Transform, dataset: Dataset) -> DataFrame:
    """The columns that featurize writes: ids, date, label, features, split."""
    imputed = {name for name, impute in dataset.features.impute.items() if impute.strategy != "constant"}

    def feature(name: str) -> Column:
        if name in transform.categorical:
            code = F.col(CODE_PREFIX + name)
            return F.when(code < len(transform.categorical[name]), code.cast("int"))
        if name in imputed:
            return F.col(FILLED_PREFIX + name)
        fill = transform.numeric[name]
        number = F.col(NUMBER_PREFIX + name)
        return number if fill is None else F.coalesce(number, F.lit(fill))

    return model.transform(rows).select(
        *[F.col(f"`{name}`").alias(ID_PREFIX + name) for name in dataset.id],
        DATA_DATE,
        LABEL,
        *[feature(name).alias(name) for name in transform.names],
        "split",
    )


def _values_of(text: Column) -> Column:
    """The different texts, all where they are few: `collect_set` would keep however many there are. Where there are more
    than the sketch has room for, it forgets some; its room is twice `MAX_LABEL_VALUES`, since that is compared roughly."""
    found = F.call_function("approx_top_k", text, F.lit(2 * MAX_LABEL_VALUES), F.lit(2 * MAX_LABEL_VALUES))
    return F.array_compact(F.transform(found, lambda entry: entry["item"]))


def _stand_in(name: str, strategy: str, value: float) -> float:
    if not isfinite(value):
        raise DataInvalid(
            f"feature {name}: the {strategy} of its train values is {value}: they are too large to be added up",
            f"Give column {name} a min and a max in the dataset file, so that such values go to quarantine",
        )
    return value


def _sources(dataset: Dataset) -> dict[str, str]:
    texts = {name: TEXT_PREFIX + name for name in dataset.features.categorical}
    return texts | {name: NUMBER_PREFIX + name for name in dataset.features.numeric}
