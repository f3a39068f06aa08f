"""Settings of one process, from the environment (`BOOSTLINE_*`).

S3 keys are not settings: boto3, PyArrow and S3A read `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` from the
environment themselves, so no code of this project ever holds them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from boostline.errors import EnvironmentUnfit


class Environment(BaseSettings):
    """Base of settings: values do not change, and a variable that is set to nothing is as one that is not set.

    Raises:
        EnvironmentUnfit: Names the variable whose value is refused, and why.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    def __init__(self, **values: Any) -> None:
        prefix = self.model_config["env_prefix"]
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name, *within = map(str, first["loc"])
            name, message = (prefix + name).upper(), ": ".join([*within, first["msg"].removeprefix("Value error, ")])
            message = message if name in message else f"{name}: {message}"
            raise EnvironmentUnfit(message, "Mend it, or leave it out") from error
        except SettingsError as error:
            name = (prefix + str(error).split('"')[1]).upper()
            raise EnvironmentUnfit(f"{name} is not JSON: {error.__cause__}", "Mend it, or leave it out") from error


class Settings(Environment):
    """What differs between a laptop, the compose stack and a cluster. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="BOOSTLINE_")

    lake: str = Field("s3://lake/boostline", description="Where everything between stages lies")
    s3_endpoint: str | None = Field(None, description="An S3-compatible server's address; none means AWS")
    s3_region: str = Field("us-east-1", description="The S3 server's region")
    datasets: Path = Field(Path("conf/datasets"), description="Folder of dataset files")
    jobs: Path = Field(Path("jobs"), description="Folder of the spark-submit entry points")
    home: Path = Field(Path(".boostline"), description="Jars, logs, data and generated secrets of the embedded stack")
    spark_jars: Path | None = Field(None, description="Folder of the S3A jars; default HOME/jars")
    spark_cds: Path | None = Field(None, description="Folder of class-data archives; default HOME/cds")
    spark_scratch: Path | None = Field(
        None, description="Scratch folder of Spark, and of rows that training keeps on disk; default the system's"
    )
    mlflow_uri: str = Field("http://127.0.0.1:5000", description="MLflow tracking server and registry")
    mlflow_link: str | None = Field(None, description="The same as browsers reach it, for links; default mlflow_uri")
    spark_master: str = Field(
        "local[*]", description="Of `boostline stream` and notebooks; Airflow's tasks take their connection's"
    )
    spark_history: str | None = Field(
        None, description="Spark's History Server, for the pages in Airflow; none: no link"
    )
    spark_history_command: str | None = Field(None, description="Starts it where none answers")
    kafka: str | None = Field(None, description="Kafka's brokers, host:port and more after commas, for streams")
    airflow_url: str = Field("http://127.0.0.1:8080", description="Airflow's API server")
    airflow_user: str = Field("admin", description="Who the command line signs in as")
    airflow_password_file: Path | None = Field(None, description="JSON file, user → password, mode 0600")
    airflow_password: SecretStr | None = Field(None, description="Instead of the file, where a process gets secrets so")
    threads: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, description="Threads of a training task"
    )
    external_memory_bytes: int = Field(2 * 1024**3, ge=0, description="Arrow input above this trains out of core")
    retries: int = Field(2, ge=0, description="Further tries of a task whose failure may pass")
    retry_seconds: float = Field(20, ge=0, description="Before the first retry; doubles with each")
    keep_days: int = Field(14, ge=1, description="Days that unpublished attempts and old logs are kept")
    logs: str | None = Field(
        None, description="Folder or s3:// address of Airflow's task logs, for maintenance; none: they are left alone"
    )
    event_log: str | None = Field(None, description="The same of Spark's event logs")

    @field_validator("lake")
    @classmethod
    def _lake_is_s3(cls, value: str) -> str:
        bucket, _, prefix = value.removeprefix("s3://").partition("/")
        if not value.startswith("s3://") or not bucket or ".." in prefix.split("/"):
            raise ValueError(f"BOOSTLINE_LAKE must look like s3://bucket/prefix, not {value!r}")
        return value.rstrip("/")

    @property
    def bucket(self) -> str:
        """The lake's bucket."""
        return self.lake.removeprefix("s3://").split("/")[0]

    @property
    def prefix(self) -> str:
        """The lake's key prefix, without slashes at its ends; may be empty."""
        return self.lake.removeprefix("s3://").partition("/")[2]

    @property
    def mlflow_address(self) -> str:
        """MLflow's address for messages: without user and password."""
        return _without_user(self.mlflow_uri)

    @property
    def mlflow_page(self) -> str:
        """MLflow's address for a person's browser, without user and password."""
        return _without_user(self.mlflow_link or self.mlflow_uri).rstrip("/")


def _without_user(address: str) -> str:
    return re.sub(r"//[^/?#]*@", "//", address, count=1)
