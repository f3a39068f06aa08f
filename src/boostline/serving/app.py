"""The routes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from boostline.serving import openapi
from boostline.serving.describe import describe, listing
from boostline.serving.edge import Note, edge, refusal_response
from boostline.serving.metrics import Metrics
from boostline.serving.models import Models, Picture
from boostline.serving.openscoring.evaluator import Evaluator
from boostline.serving.openscoring.routes import add_openscoring
from boostline.serving.predict import no_model, predictor
from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings
from boostline.serving.split import Shadow
from boostline.serving.work import Workers


def create_app(models: Models, settings: ServeSettings, check: Callable[[str | None], str] | None) -> ASGIApp:
    """The service as an ASGI application.

    Args:
        models: Followed by the caller.
        settings: Limits, A/B, shadow.
        check: Tells the caller's name from the Authorization header; none where anybody may ask.
    """
    metrics = Metrics(lambda: models.current)
    workers = Workers(settings)
    shadow = Shadow(workers, metrics, settings)
    evaluator = Evaluator(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(shadow.run())
        gc.freeze()  # what is loaded by now stays, so no request has to wait while it is looked through for garbage
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await evaluator.close()
        workers.close()

    app = FastAPI(title="Boostline", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    app.add_api_route(
        "/v1/models/{dataset}:predict", predictor(models, settings, metrics, workers, shadow), methods=["POST"]
    )
    add_openscoring(app, evaluator, settings)
    _add_readings(app, models, metrics)
    for kind, handler in (
        (Refused, _refused),
        (HTTPException, _framework),
        (ClientDisconnect, _gone),
        (Exception, _failed),
    ):
        app.add_exception_handler(kind, handler)
    return edge(app, metrics, check, settings.requests_per_second)


def _add_readings(app: FastAPI, models: Models, metrics: Metrics) -> None:
    """The routes that only tell."""

    @app.get("/v1/models")
    async def list_models(request: Request) -> Response:
        request.scope["note"].route = "models"
        return JSONResponse({"models": listing(models.current)})

    @app.get("/v1/models/{dataset}")
    async def show_model(request: Request) -> Response:
        note: Note = request.scope["note"]
        note.route, name = "model", request.path_params["dataset"]
        served = models.current.champion(name)
        if served is None:
            raise no_model(models.current, name)
        note.dataset, note.version = served.dataset, served.version
        return JSONResponse(describe(served, models.current.challenger(name)))

    @app.get("/health/live")
    async def live(request: Request) -> Response:
        request.scope["note"].route = "live"
        return JSONResponse({"status": "live"})

    @app.get("/health/ready")
    async def ready(request: Request) -> Response:
        request.scope["note"].route = "ready"
        return _readiness(models.current)

    @app.get("/metrics")
    async def scrape(request: Request) -> Response:
        request.scope["note"].route = "metrics"
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json")
    async def description(request: Request) -> Response:
        request.scope["note"].route = "openapi"
        return JSONResponse(openapi.document(models.current))


def _readiness(picture: Picture) -> Response:
    """200 as long as there is something to answer with; what is wrong is said all the same."""
    well = picture.registry == "ok" and not picture.problems
    status = ("ready" if well else "degraded") if picture.served else "not ready"
    body = {
        "status": status,
        "registry": picture.registry,
        "registry_answered_seconds_ago": round(time.time() - picture.asked, 1) if picture.asked else None,
        "models": picture.models,
        "problems": dict(picture.problems),
    }
    return JSONResponse(body, 200 if picture.served else 503)


async def _refused(request: Request, error: Exception) -> Response:
    return refusal_response(cast("Refused", error), request.scope)


async def _framework(request: Request, error: Exception) -> Response:
    found = cast("HTTPException", error)
    remedy = "GET /openapi.json describes what there is"
    return await _refused(request, Refused(found.status_code, str(found.detail).lower(), remedy, found.headers))


async def _gone(request: Request, error: Exception) -> Response:
    return await _refused(request, Refused(400, "the caller left before the body was there"))


async def _failed(request: Request, error: Exception) -> Response:
    return await _refused(request, Refused(500, "the service failed on this request", "Its log has the reason"))
