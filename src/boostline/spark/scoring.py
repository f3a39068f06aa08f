"""Raw rows to predictions on the cluster's executors: DataFrame in, DataFrame out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from boostline.errors import DataInvalid
from boostline.scoring.model_file import Model, load_model

VERSION = "model_version"
ROWS_PER_BATCH = 65_536
"""Rows that Spark hands to Python at once; its own 10,000 cost a call into XGBoost more often."""

_MODELS: dict[str, Model] = {}
"""In a Python process of an executor: the last model that it scored with, by SHA-256."""


def with_predictions(rows: DataFrame, model: Model, version: str, keep: list[str]) -> DataFrame:
    """Score rows where they lie. Each executor gets the model once; each of its Python processes parses it once.

    Args:
        rows: The contract's columns after the joins.
        model: Checked already; its files are what travels.
        version: Stands in each row.
        keep: Columns to keep, such as the id.

    Returns:
        `keep`, `model_version`, and the columns of `Model.answer`.

    Raises:
        DataInvalid: The rows lack a column that the model needs.
    """
    if lacking := [name for name in model.transform.columns if name not in rows.columns]:
        raise DataInvalid(
            f"model version {version} of {model.info.dataset} needs the column(s) {', '.join(lacking)}, "
            "which the dataset file does not have any more",
            "Train a model with the dataset file of today, or score with another version",
        )
    spark = rows.sparkSession
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", ROWS_PER_BATCH)
    wanted = list(dict.fromkeys([*keep, *model.transform.columns]))
    types = dict(rows.dtypes)
    schema = [f"`{name}` {types[name]}" for name in keep]
    schema += [f"`{name}` {kind}" for name, kind in model.info.answer_columns.items()]
    shared = spark.sparkContext.broadcast(dict(model.files))
    scored = rows.select(*wanted).mapInArrow(_scorer(shared, model.info.sha256, keep), ", ".join(schema))
    return scored.select(*keep, F.lit(version).alias(VERSION), *model.info.answer_columns)


def _scorer(shared: Any, sha256: str, keep: list[str]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def score(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            table = pa.Table.from_batches([batch])
            answer = _loaded(sha256, shared).answer(table)
            columns = [*table.select(keep).columns, *answer.columns]
            yield from pa.table(columns, names=[*keep, *answer.column_names]).combine_chunks().to_batches()

    return score


def _loaded(sha256: str, shared: Any) -> Model:
    """The model, parsed once per process, which lives as long as the executor."""
    if sha256 not in _MODELS:
        _MODELS.clear()
        _MODELS[sha256] = load_model(shared.value, f"the model with SHA-256 {sha256}")
    return _MODELS[sha256]
