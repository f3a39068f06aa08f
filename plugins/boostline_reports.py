"""Puts the page *Models* into Airflow's navigation. `boostline.orchestration.pages` says who may see what."""

from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages, made at the first request: every process of Airflow loads the plugin, and one of them serves pages."""
    from boostline.orchestration.pages import application

    await application()(scope, receive, send)


class BoostlineReports(AirflowPlugin):
    """What Airflow is told."""

    name = "boostline_reports"
    fastapi_apps: ClassVar = [{"name": "Boostline", "app": pages, "url_prefix": "/boostline"}]
    external_views: ClassVar = [
        {
            "name": "Models",
            "href": urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + "/boostline/",
            "destination": "nav",
        }
    ]
