"""Raw rows to predictions on the cluster's executors: DataFrame in, DataFrame out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boostline.dataset import Dataset
from boostline.errors import DataInvalid
from boostline.lake.store import Store
from boostline.scoring.contract import other_contract
from boostline.scoring.model_file import INFO, TRANSFORM, Model, load_model
from boostline.spark.clean import require_one_match
from boostline.spark.names import quoted, schema_of
from boostline.spark.rowhash import as_text, hash_of, sum_of

VERSION = "model_version"
ROWS_PER_BATCH = 65_536
"""Rows that Spark hands to Python at once; its own 10,000 cost a call into XGBoost more often."""

_MODELS: dict[str, Model] = {}
"""In a Python process of an executor: the last model that it scored with, by the hash of its files."""


@dataclass(frozen=True)
class Shared:
    """A model version and its files on the executors: each gets them once, each of its Python processes parses them once."""

    version: str
    model: Model
    files: Any
    """Spark's broadcast of `Model.files`. It takes disk until it is destroyed."""

    @property
    def details(self) -> dict[str, str]:
        """What a manifest of predictions says of their model."""
        return {"version": self.version, "sha256": self.model.info.sha256, "model_date": self.model.info.date}


def share(spark: SparkSession, model: Model, version: str) -> Shared:
    """Send a model to the executors; it has been checked already."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", ROWS_PER_BATCH)
    return Shared(version, model, spark.sparkContext.broadcast(dict(model.files)))


def require_same_contract(model: Model, version: str, dataset: Dataset) -> None:
    """Refuse a model that learnt from columns of other types, or cleaned by other rules, than the clean rows have.

    Args:
        model: The model. Columns that it does not read may have changed.
        version: Its version.
        dataset: The dataset file of today. Columns that it lacks are left to `with_predictions`.

    Raises:
        DataInvalid: Names the first such column, and how it was and is read.
    """
    if differs := other_contract(model, dataset):
        raise DataInvalid(
            f"model version {version} of {dataset.name} {differs}",
            f"Train a new version: boostline run {dataset.name} --date YYYY-MM-DD. Or mend the dataset file",
        )


def with_predictions(rows: DataFrame, shared: Shared, keep: list[str]) -> DataFrame:
    """Score rows where they lie.

    Args:
        rows: Clean rows: the contract's columns after the joins.
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
    schema = schema_of({name: types[name] for name in keep} | answer)
    scored = rows.select(*wanted).mapInArrow(_scorer(shared, keep), schema)
    return scored.select(*keep, F.lit(shared.version).alias(VERSION), *map(quoted, answer))


def audit(scored: DataFrame, store: Store, dataset: Dataset, folder: str, rows: int) -> str:
    """Read back the predictions that were written to an attempt's `rows`.

    Args:
        scored: As they were written.
        store: The lake.
        dataset: Names the joins.
        folder: The attempt's.
        rows: How many there have to be.

    Returns:
        The hash of the rows.

    Raises:
        DataInvalid: There are more, or fewer.
    """
    written = scored.sparkSession.read.schema(scored.schema).parquet(store.uri(f"{folder}rows", "s3a"))
    count, total = written.agg(F.count(F.lit(1)), sum_of(hash_of(written.columns))).collect()[0]
    require_one_match(dataset, rows, count)
    if count != rows:
        raise DataInvalid(
            f"{store.uri(folder)} holds {count} predictions for {rows} clean rows",
            "Run it again; where it repeats, check the store",
        )
    return as_text(total)


def _scorer(shared: Shared, keep: list[str]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    files = shared.files
    # Two versions may have the same trees and differ in their threshold; model.json holds the trees' SHA-256.
    digest = hashlib.sha256(shared.model.files[INFO] + shared.model.files[TRANSFORM]).hexdigest()

    def score(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            table = pa.Table.from_batches([batch])
            answer = _loaded(digest, files).answer(table)
            columns = [*table.select(keep).columns, *answer.columns]
            yield from pa.table(columns, names=[*keep, *answer.column_names]).combine_chunks().to_batches()

    return score


def _loaded(digest: str, files: Any) -> Model:
    """The model, parsed once per process, which lives as long as the executor."""
    if digest not in _MODELS:
        _MODELS.clear()
        # Rows of the lake are clean, by the model's own rules: see `require_same_contract`.
        _MODELS[digest] = load_model(files.value, "the model that the driver has shared").for_clean_rows()
    return _MODELS[digest]
