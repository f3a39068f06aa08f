"""One Spark session for all tests, configured as the embedded stack configures its applications."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from boostline.lake.store import Store
from boostline.local.layout import BUCKET, Stack
from boostline.settings import Settings
from boostline.spark.session import spark_session
from tests.spark.lab import Lab, dataset_of

PLAIN_PLANS = [
    "codegen.wholeStage=false",
    "codegen.factoryMode=NO_CODEGEN",
    "adaptive.enabled=false",
    "shuffle.partitions=2",
]


@pytest.fixture(scope="session")
def spark(s3: Stack) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(s3.spark_conf))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("JAVA_HOME", str(s3.java_home))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        # For a handful of rows, plans that are compiled and adapted cost more than they gain; test_job runs with them.
        plain = " ".join(f"--conf spark.sql.{setting}" for setting in PLAIN_PLANS)
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"--master local[2] --driver-memory 2g {plain} pyspark-shell")
        patch.delenv("SPARK_HOME", raising=False)
        with spark_session("tests") as session:
            yield session
    assert "PYSPARK_SUBMIT_ARGS" not in os.environ


@pytest.fixture(scope="session")
def good(spark: SparkSession, s3: Stack) -> Lab:
    """A lake with good rows, ingested; tests that only featurize share it."""
    lab = Lab(spark, Store(Settings(lake=f"s3://{BUCKET}/good", s3_endpoint=s3.s3_endpoint)))
    lab.land_all()
    lab.ingest(dataset_of())
    return lab


@pytest.fixture
def lab(spark: SparkSession, store: Store) -> Lab:
    return Lab(spark, store)
