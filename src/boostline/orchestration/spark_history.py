"""Finished Spark jobs in Airflow: Spark's History Server behind Airflow's sign-in, one application at a time.

    /boostline/spark/history/APP/…                  the pages of an application
    /boostline/spark/api/v1/applications/APP/…      the data that their tables ask for
    /boostline/spark/static/…                       scripts and styles

The History Server knows neither users nor DAGs. An application belongs to the dataset in its name, and its pages ask for
the right to read that dataset's training DAG.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import urlsplit

import httpx
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from boostline.settings import Settings

log = logging.getLogger(__name__)

App = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,100}$")]
KEPT = ("content-type", "content-disposition", "cache-control")


class HistoryServer:
    """The way to the History Server, which is started at the first look where the settings name a command."""

    def __init__(self, settings: Settings) -> None:
        self._command = settings.spark_history_command
        self._client = httpx.AsyncClient(base_url=settings.spark_history or "", timeout=30)
        self._process: subprocess.Popen[bytes] | None = None
        self._datasets: dict[str, str] = {}
        self._starting = asyncio.Lock()

    async def dataset_of(self, app: str) -> str:
        """The dataset that an application worked for.

        Raises:
            HTTPException: 404 where the server knows no such application of a dataset, 503 where none answers.
        """
        if app not in self._datasets:
            answer = await self.get(f"/api/v1/applications/{app}", "", "")
            await answer.aread()
            # `boostline JOB DATASET ATTEMPT`, see boostline.spark.job
            words = answer.json()["name"].split() if answer.is_success else []
            if len(words) != 4 or words[0] != "boostline":
                raise HTTPException(
                    404, f"There is no finished Spark job {app}. A new one is listed some 10 seconds after its end."
                )
            self._datasets[app] = words[2]
        return self._datasets[app]

    async def get(self, path: str, query: str, root: str) -> httpx.Response:
        """Ask for a page; none of the reader's headers go along, for they hold Airflow's cookie.

        Raises:
            HTTPException: 503 where no server answers.
        """
        # Spark writes its links below the address that this header names.
        headers = {"X-Forwarded-Context": root}
        request = self._client.build_request("GET", f"{path}?{query}" if query else path, headers=headers)
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            async with self._starting:
                said = self._start()
            raise HTTPException(503, said, headers={"Refresh": "3"}) from error

    def _start(self) -> str:
        """Start the server unless it is starting already, and say what the reader can expect."""
        if not self._command:
            return (
                "No History Server of Spark answers. Start it (on the compose stack: docker compose --profile history up "
                "--detach --wait spark-history), or set BOOSTLINE_SPARK_HISTORY to its address."
            )
        if self._process is None or self._process.poll() is not None:
            log.info("starting Spark's History Server: %s", self._command)
            # It stays in this server's session, so it ends with the stack.
            self._process = subprocess.Popen(shlex.split(self._command), stdin=subprocess.DEVNULL)
        return "Spark's History Server is starting. This page tries again by itself."


def history_routes(settings: Settings) -> APIRouter:
    """The routes below `/spark` of Airflow's pages."""
    router, server = APIRouter(prefix="/spark"), HistoryServer(settings)

    async def application(request: Request, app: str, path: str, user: GetUserDep) -> Response:
        dag = DagDetails(id=f"{await server.dataset_of(app)}_train")
        if not get_auth_manager().is_authorized_dag(method="GET", details=dag, user=user):
            raise HTTPException(403, "This Spark job belongs to a DAG that you may not read.")
        return await _relay(server, request, path)

    @router.get("/")
    async def front(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/")  # the list of all applications is nobody's

    @router.get("/history/{app}/{path:path}")
    async def page(request: Request, app: App, path: str, user: GetUserDep) -> Response:
        return await application(request, app, f"/history/{app}/{_plain(path)}", user)

    @router.get("/api/v1/applications/{app}/{path:path}")
    async def data(request: Request, app: App, path: str, user: GetUserDep) -> Response:
        return await application(request, app, f"/api/v1/applications/{app}/{_plain(path)}", user)

    @router.get("/static/{path:path}")
    async def static(request: Request, path: str) -> Response:
        return await _relay(server, request, f"/static/{_plain(path)}")

    return router


def _plain(path: str) -> str:
    """A path that cannot climb to another application."""
    if not re.fullmatch(r"[A-Za-z0-9_./-]*", path) or ".." in path.split("/"):
        raise HTTPException(404, "There is no such page.")
    return path


async def _relay(server: HistoryServer, request: Request, path: str) -> Response:
    root = f"{request.scope['root_path'].rstrip('/')}/spark"
    answer = await server.get(path, request.url.query, root)
    if "location" in answer.headers:
        await answer.aclose()
        to = urlsplit(answer.headers["location"])
        return RedirectResponse(root + to.path.removeprefix(root) + (f"?{to.query}" if to.query else ""))
    own = f"{request.url.scheme}://{request.url.netloc}{root}/"
    headers = {name: answer.headers[name] for name in KEPT if name in answer.headers}
    # Whatever a script in these pages did, it could ask for nothing but these pages.
    headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'unsafe-inline' {own}; style-src 'unsafe-inline' {own}; img-src data: {own}; "
        f"font-src {own}; connect-src {own}; base-uri 'none'; form-action {own}; frame-ancestors 'none'"
    )
    return StreamingResponse(_body(answer), answer.status_code, headers, background=BackgroundTask(answer.aclose))


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in answer.aiter_bytes():
        yield chunk
