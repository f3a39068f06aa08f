"""Whether the services that a run needs are there and fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from boostline.errors import ServiceUnavailable
from boostline.lake.store import Store
from boostline.orchestration.client import AirflowClient
from boostline.settings import Settings


def connection_checks(settings: Settings) -> list[tuple[str, Callable[[], Any]]]:
    """Named probes; each raises a BoostlineError that says what to do."""
    return [
        (f"S3 {settings.lake} at {settings.s3_endpoint or 'AWS'}", lambda: Store(settings).probe()),
        (f"MLflow at {settings.mlflow_address}", lambda: _mlflow(settings)),
        (f"Airflow at {settings.airflow_url}", lambda: _airflow(settings)),
    ]


def _mlflow(settings: Settings) -> None:
    try:
        httpx.get(f"{settings.mlflow_uri}/health", timeout=5).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        told = str(error).replace(settings.mlflow_uri, settings.mlflow_address)  # without a password
        raise ServiceUnavailable(
            f"MLflow at {settings.mlflow_address} does not answer: {told}",
            "Start it: make up, or set BOOSTLINE_MLFLOW_URI",
        ) from error


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
