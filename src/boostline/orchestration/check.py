"""Whether the services that a run needs are there and fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boostline.errors import ServiceUnavailable
from boostline.lake.store import Store
from boostline.orchestration.client import AirflowClient
from boostline.settings import Settings
from boostline.tracking import tracking


def connection_checks(settings: Settings) -> list[tuple[str, Callable[[], Any]]]:
    """Named probes; each raises a BoostlineError that says what to do."""
    return [
        (f"S3 {settings.lake} at {settings.s3_endpoint or 'AWS'}", lambda: Store(settings).probe()),
        (f"MLflow at {settings.mlflow_address}", lambda: _mlflow(settings)),
        (f"Airflow at {settings.airflow_url}", lambda: _airflow(settings)),
    ]


def _mlflow(settings: Settings) -> None:
    with tracking(settings) as mlflow:
        mlflow.versions("any")  # MLflow's own /health asks for no login


def _airflow(settings: Settings) -> None:
    health = AirflowClient(settings).health()
    bad = [
        name
        for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
        if _status(health, name) != "healthy"
    ]
    if bad:
        raise ServiceUnavailable(f"Airflow's {', '.join(bad)} is not healthy", "See its log")


def _status(health: dict[str, Any], name: str) -> Any:
    return (health.get(name) or {}).get("status")
