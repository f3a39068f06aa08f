"""Puts *Models* and *MLflow* into Airflow's navigation, and makes the DAGs' timetable known.

`boostline.orchestration.pages` says who may see what.
"""

from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from boostline.orchestration.timetable import PartitionsUntilNow
from boostline.settings import Settings


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages, made at the first request: every process of Airflow loads the plugin, and one of them serves pages."""
    from boostline.orchestration.pages import application

    await application()(scope, receive, send)


def _path() -> str:
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


class BoostlineReports(AirflowPlugin):
    """What Airflow is told."""

    name = "boostline_reports"
    timetables: ClassVar = [PartitionsUntilNow]
    fastapi_apps: ClassVar = [{"name": "Boostline", "app": pages, "url_prefix": "/boostline"}]
    # Two of them: Airflow 3.3 shows those in its menu *Plugins*, and draws a single one as a button that opens nothing.
    external_views: ClassVar = [
        {"name": "Models", "href": f"{_path()}/boostline/", "destination": "nav"},
        {"name": "MLflow", "href": Settings().mlflow_page, "destination": "nav"},
    ]
