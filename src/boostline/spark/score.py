"""One clean day to predictions of one model version, published like every stage.

predictions/DATASET/version=V/date=D    the id's columns, `data_date`, `model_version` and the columns of
                                        `boostline.scoring.model_file.Model.answer`
"""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boostline.errors import BoostlineError, DataInvalid
from boostline.lake.features import DATA_DATE
from boostline.lake.job import JobRequest
from boostline.lake.manifest import Ref, attempt_files, publish, read_ref, read_refs
from boostline.lake.store import Store
from boostline.scoring.model_file import load_published
from boostline.spark.clean import daily_rows, read_tables, require_one_match
from boostline.spark.feature_rows import join_references
from boostline.spark.rowhash import as_text, hash_of, sum_of
from boostline.spark.scoring import share, with_predictions
from boostline.spark.steps import step


def run_score(spark: SparkSession, store: Store, request: JobRequest) -> list[Ref]:
    """Score exactly the clean partitions of the request with exactly its model.

    Raises:
        ModelRefused: The model's files are gone, or do not match their SHA-256.
        DataInvalid: The rows lack a column that the model needs, or a join makes rows.
    """
    dataset, target, scorer = request.dataset, request.targets[0], request.scorer
    if scorer is None:
        raise BoostlineError("the request names no model to score with")
    with step("plan"):
        model = load_published(store, read_ref(store, scorer.model), scorer.sha256)
        manifests = read_refs(store, request.reads)
        tables, before = read_tables(spark, store, dataset, manifests), daily_rows(dataset, manifests)
        rows = join_references(tables[dataset.daily_table], tables, dataset)
        scored = with_predictions(rows, share(spark, model, scorer.version), [*dataset.id, DATA_DATE])
    with step("score and write"):
        scored.write.parquet(store.uri(f"{request.folder}rows", "s3a"))
    with step("audit"):
        written = spark.read.schema(scored.schema).parquet(store.uri(f"{request.folder}rows", "s3a"))
        count, total = written.agg(F.count(F.lit(1)), sum_of(hash_of(written.columns))).collect()[0]
        require_one_match(dataset, before, count)
        if count != before:
            raise DataInvalid(
                f"{store.uri(request.folder)} holds {count} predictions for {before} clean rows",
                "Run it again; where it repeats, check the store",
            )
    with step("publish"):
        manifest = target.manifest(
            "predictions",
            dataset.name,
            request.attempt,
            files=attempt_files(store, request.folder),
            rows={"rows": count},
            columns=dict(scored.dtypes),
            row_hash=as_text(total),
            details={"version": scorer.version, "sha256": scorer.sha256, "model_date": model.info.date},
        )
        return [publish(store, manifest, target.expected_etag, to_current=request.publish)]
