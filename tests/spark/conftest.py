"""One Spark session for all tests, configured as the embedded stack configures its applications."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from boostline.local.layout import Stack
from boostline.spark.session import spark_session
from tests.spark.lab import Lab


@pytest.fixture(scope="session")
def spark(s3: Stack) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(s3.spark_conf))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("JAVA_HOME", str(s3.java_home))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[2] --driver-memory 2g pyspark-shell")
        patch.delenv("SPARK_HOME", raising=False)
        with spark_session("tests") as session:
            yield session
    assert "PYSPARK_SUBMIT_ARGS" not in os.environ


@pytest.fixture
def lab(spark: SparkSession, store) -> Lab:
    return Lab(spark, store)
