"""The pages *Models* in Airflow: their addresses, and who may see them. `boostline.reporting.pages` makes what they show.

    /boostline/                                 the datasets that the person may see
    /boostline/DAG_ID                           one of them: its champion, its runs
    /boostline/DAG_ID/reports/ATTEMPT           a run's report in a frame, with the way to the run
    /boostline/DAG_ID/reports/ATTEMPT/page      the report itself, sandboxed
    /boostline/DAG_ID/runs/RUN_ID               to the report of a run, where it has one
    /boostline/spark/…                          finished Spark jobs, see `boostline.orchestration.spark_history`

A dataset's pages ask for the right to read its training DAG.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag, requires_access_view
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from boostline.errors import BoostlineError
from boostline.orchestration.spark_history import history_routes
from boostline.reporting.pages import Pages, Place
from boostline.settings import Settings

PREFIX, TRAIN = "/boostline", "_train"
SHELL = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; frame-src 'self'; frame-ancestors 'self'"
# Without an origin of its own, whatever a report's text turned out to be could not act for who reads it.
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)

DagId = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,62}_train$")]
_Body = TypeVar("_Body", str, bytes)
Attempt = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,120}$")]


@functools.cache
def application() -> FastAPI:
    """The pages of this process."""
    settings = Settings()
    pages = Pages(settings)
    app = FastAPI(dependencies=[Depends(requires_access_view(AccessView.PLUGINS))], openapi_url=None)
    app.include_router(history_routes(settings))
    readable = [Depends(requires_access_dag("GET"))]

    @app.get("/")
    def models(request: Request, user: GetUserDep) -> Response:
        allowed = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
        names = sorted(dag_id.removesuffix(TRAIN) for dag_id in allowed if dag_id.endswith(TRAIN))
        return _page(pages.models(_place(request), [name for name in names if pages.knows(name)]))

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in pages.files:
            raise HTTPException(404, "There is no such file.")
        media_type, text = pages.files[name]
        return Response(text, media_type=media_type, headers={"Cache-Control": "max-age=86400"})

    @app.get("/{dag_id}", dependencies=readable)
    def dataset(request: Request, dag_id: DagId, all: bool = False) -> Response:
        return _page(pages.dataset(_place(request), _known(pages, dag_id), everything=all))

    @app.get("/{dag_id}/reports/{attempt}", dependencies=readable)
    def report(request: Request, dag_id: DagId, attempt: Attempt) -> Response:
        return _page(_there(pages.report(_place(request), _known(pages, dag_id), attempt)))

    @app.get("/{dag_id}/reports/{attempt}/page", dependencies=readable)
    def sandboxed(dag_id: DagId, attempt: Attempt) -> Response:
        body = _there(pages.report_body(_known(pages, dag_id), attempt))
        return HTMLResponse(body, headers={"Content-Security-Policy": SANDBOX})

    @app.get("/{dag_id}/runs/{run_id}", dependencies=readable)
    def run(request: Request, dag_id: DagId, run_id: str) -> Response:
        # What was published last: after an approval another task has written the run's report anew.
        attempt = pages.attempt_of(_known(pages, dag_id), run_id) or _attempt_of(dag_id, run_id)
        if attempt is None:
            raise HTTPException(404, "This run has no report yet: its task `report` writes it.")
        return RedirectResponse(f"{_place(request).root}/{dag_id}/reports/{attempt}")

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> Response:
        place, sign_in = _place(request), None
        if error.status_code == 401:
            sign_in = f"{place.airflow}auth/login?{urlencode({'next': str(request.url)})}"
        title = {401: "Sign in first", 403: "Not allowed", 503: "Not available"}.get(error.status_code, "Not found")
        return _page(pages.message(place, title, str(error.detail), sign_in), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return _page(pages.message(_place(request), "Not found", "There is no such page."), 404)

    @app.exception_handler(BoostlineError)
    async def failed(request: Request, error: BoostlineError) -> Response:
        return _page(pages.message(_place(request), "Not available", str(error)), 503)

    return app


def _attempt_of(dag_id: str, run_id: str) -> str | None:
    """The report that a run handed on, its own or an earlier one that was up to date."""
    with create_session() as session:
        query = XComModel.get_many(run_id=run_id, key="return_value", task_ids="report", dag_ids=dag_id, limit=1)
        found = session.scalars(query).first()
        handed: Any = XComModel.deserialize_value(found) if found else None
    return str(handed["refs"][0]["attempt"]) if handed else None


def _known(pages: Pages, dag_id: str) -> str:
    name = dag_id.removesuffix(TRAIN)
    if not pages.knows(name):
        raise HTTPException(404, f"There is no dataset {name}.")
    return name


def _there(found: _Body | None) -> _Body:
    if found is None:
        raise HTTPException(404, "There is no such report. Those of experiments are removed after some days.")
    return found


def _place(request: Request) -> Place:
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return Place(root, root.removesuffix(PREFIX) + "/")


def _page(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    own = {"Content-Security-Policy": SHELL, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
    return HTMLResponse(body, status, own | dict(headers or {}))
