"""Score a day with a model that is there already.

**In:** the clean rows of one data date (its raw files are ingested where they are not yet) and a model version, the
champion where none is named.
**Out:** `predictions/DATASET/version=V/date=D` in the lake: for each row its id, the data date, the version and the
prediction.

**Start it** by training: the ingest of each `DATASET_train` run starts a run here for its data date, once this DAG is
unpaused. Or by *Trigger* with the data date in the form, or with `boostline score DATASET --date YYYY-MM-DD`.
A DAG that listens to partitions cannot be backfilled: `boostline score DATASET --from A --to B` starts the runs itself.

**When it fails:** the red task's log ends with what is wrong and what to do. Without any champion the run is skipped.
"""

from datetime import UTC, datetime

from airflow.sdk import DAG, PartitionedAssetTimetable

from boostline.dataset import Dataset
from boostline.orchestration.dag import clean_asset, dags_by_id, default_args, score_form
from boostline.orchestration.spark_job import spark_job
from boostline.settings import Settings

SETTINGS = Settings()


def score_dag(dataset: Dataset) -> DAG:
    """The scoring DAG of one dataset."""
    with DAG(
        f"{dataset.name}_score",
        description=f"Predictions of the champion. {dataset.description}",
        doc_md=__doc__,
        schedule=PartitionedAssetTimetable(assets=clean_asset(dataset, SETTINGS)),
        start_date=datetime(2013, 1, 1, tzinfo=UTC),
        catchup=False,
        auto_register=False,  # `dags_by_id` does, and not before it is whole
        max_active_runs=2,
        params=score_form(),
        default_args=default_args(SETTINGS),
        tags=["boostline", dataset.name, dataset.task],
    ) as dag:
        spark_job("ingest", dataset, window_days=1) >> spark_job("score", dataset)
    return dag


globals().update(dags_by_id("score", score_dag, SETTINGS))
