"""Raw rows to predictions on the cluster's executors: DataFrame in, DataFrame out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boostline.errors import DataInvalid
from boostline.scoring.model_file import Model, load_model
from boostline.spark.names import quoted

VERSION = "model_version"
ROWS_PER_BATCH = 65_536
"""Rows that Spark hands to Python at once; its own 10,000 cost a call into XGBoost more often."""

_MODELS: dict[str, Model] = {}
"""In a Python process of an executor: the last model that it scored with, by SHA-256."""


@dataclass(frozen=True)
class Shared:
    """A model version and its files on the executors: each gets them once, each of its Python processes parses them once."""

    version: str
    model: Model
    files: Any
    """Spark's broadcast of `Model.files`. It takes disk until it is destroyed."""


def share(spark: SparkSession, model: Model, version: str) -> Shared:
    """Send a model to the executors; it has been checked already."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", ROWS_PER_BATCH)
    return Shared(version, model, spark.sparkContext.broadcast(dict(model.files)))


def with_predictions(rows: DataFrame, shared: Shared, keep: list[str]) -> DataFrame:
    """Score rows where they lie.

    Args:
        rows: The contract's columns after the joins.
        shared: The model.
        keep: Columns to keep, such as the id.

    Returns:
        `keep`, `model_version`, and the columns of `Model.answer`.

    Raises:
        DataInvalid: The rows lack a column that the model needs.
    """
    model = shared.model
    if lacking := [name for name in model.transform.columns if name not in rows.columns]:
        raise DataInvalid(
            f"model version {shared.version} of {model.info.dataset} needs the column(s) {', '.join(lacking)}, "
            "which the dataset file does not have any more",
            "Train a model with the dataset file of today, or score with another version",
        )
    wanted = list(dict.fromkeys([*keep, *model.transform.columns]))
    types, answer = dict(rows.dtypes), model.info.answer_columns
    columns = [*[(name, types[name]) for name in keep], *answer.items()]
    schema = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns)
    scored = rows.select(*wanted).mapInArrow(_scorer(shared.files, model.info.sha256, keep), schema)
    return scored.select(*keep, F.lit(shared.version).alias(VERSION), *map(quoted, answer))


def _scorer(files: Any, sha256: str, keep: list[str]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def score(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            table = pa.Table.from_batches([batch])
            answer = _loaded(sha256, files).answer(table)
            columns = [*table.select(keep).columns, *answer.columns]
            yield from pa.table(columns, names=[*keep, *answer.column_names]).combine_chunks().to_batches()

    return score


def _loaded(sha256: str, files: Any) -> Model:
    """The model, parsed once per process, which lives as long as the executor."""
    if sha256 not in _MODELS:
        _MODELS.clear()
        _MODELS[sha256] = load_model(files.value, f"the model with SHA-256 {sha256}")
    return _MODELS[sha256]
