"""One clean day to predictions of one model version, published like every stage.

predictions/DATASET/version=V/date=D    the id's columns, `data_date`, `model_version` and the columns of
                                        `boostline.scoring.model_file.Model.answer`
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from boostline.errors import BoostlineError
from boostline.lake.features import DATA_DATE
from boostline.lake.job import JobRequest
from boostline.lake.manifest import Ref, attempt_files, publish, read_ref, read_refs
from boostline.lake.plan import require_same_rules
from boostline.lake.store import Store
from boostline.scoring.model_file import load_published
from boostline.spark.clean import daily_rows, read_tables
from boostline.spark.feature_rows import join_references
from boostline.spark.scoring import audit, require_same_contract, share, with_predictions
from boostline.spark.steps import step


def run_score(spark: SparkSession, store: Store, request: JobRequest) -> list[Ref]:
    """Score exactly the clean partitions of the request with exactly its model.

    Raises:
        ModelRefused: The model's files are gone, or do not match their SHA-256.
        DataInvalid: The rows were cleaned by other rules than the dataset file has now, lack a column that the model needs, or
            have it otherwise; or a join makes rows.
    """
    dataset, target, scorer = request.dataset, request.targets[0], request.scorer
    if scorer is None:
        raise BoostlineError("the request names no model to score with")
    with step("plan"):
        model = load_published(store, read_ref(store, scorer.model), scorer.sha256)
        require_same_contract(model, scorer.version, dataset)
        manifests = read_refs(store, request.reads)
        require_same_rules(dataset, manifests)
        tables, before = read_tables(spark, store, dataset, manifests), daily_rows(dataset, manifests)
        rows = join_references(tables[dataset.daily_table], tables, dataset)
        shared = share(spark, model, scorer.version)
        scored = with_predictions(rows, shared, [*dataset.id, DATA_DATE])
    with step("score and write"):
        scored.write.parquet(store.uri(f"{request.folder}rows", "s3a"))
    with step("audit"):
        row_hash = audit(scored, store, dataset, request.folder, before)
    with step("publish"):
        manifest = target.manifest(
            "predictions",
            dataset.name,
            request.attempt,
            files=attempt_files(store, request.folder),
            rows={"rows": before},
            columns=dict(scored.dtypes),
            row_hash=row_hash,
            details=shared.details,
        )
        return [publish(store, manifest, target.expected_etag, to_current=request.publish)]
