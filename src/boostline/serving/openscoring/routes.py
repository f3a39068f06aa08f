"""The routes below /openscoring, with the paths, status codes and bodies of Openscoring 2.

https://github.com/openscoring/openscoring#rest-api
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json

from boostline.serving.bodies import JSON
from boostline.serving.fit import check_rows
from boostline.serving.openscoring.bodies import (
    BatchEvaluationRequest,
    EvaluationRequest,
    check_document,
    read_csv,
    read_json,
    write_csv,
)
from boostline.serving.openscoring.evaluator import Evaluator, Row
from boostline.serving.refusal import Refused
from boostline.serving.request import body_type, deadline_of, read_body
from boostline.serving.settings import ServeSettings

XML_TYPES = ("application/xml", "text/xml")
CSV_TYPES = ("text/plain", "text/csv", "application/csv")
MODEL_ID = re.compile("[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}")


Bodies = Callable[[Request, Collection[str]], AbstractAsyncContextManager[bytes]]


def add_openscoring(app: FastAPI, evaluator: Evaluator, settings: ServeSettings) -> None:
    """Add the routes to the service.

    Args:
        app: The service.
        evaluator: Has the documents.
        settings: Limits.
    """

    @asynccontextmanager
    async def body_of(request: Request, types: Collection[str]) -> AsyncIterator[bytes]:
        """The body, while there is room for it and for one more request."""
        body_type(request, settings, types)
        with evaluator.workers.holding() as hold:
            body = await read_body(request, settings, hold, deadline_of(settings))
            with evaluator.workers.admitted():
                yield bytes(body)

    _add_models(app, evaluator, body_of)
    _add_evaluations(app, evaluator, body_of, settings.max_rows)


def _add_models(app: FastAPI, evaluator: Evaluator, body_of: Bodies) -> None:
    """What is deployed: list, show, deploy, undeploy."""

    @app.get("/openscoring/model")
    async def list_models(request: Request) -> Response:
        _begin(request, evaluator, "list")
        found = [_about(evaluator, name) for name in sorted(evaluator.models, key=str.lower)]
        for item in found:
            del item["schema"]
        return _json({"responses": found})

    @app.get("/openscoring/model/{id}")
    async def show_model(request: Request) -> Response:
        return _json(_about(evaluator, _begin(request, evaluator, "show")))

    @app.put("/openscoring/model/{id}")
    async def deploy(request: Request) -> Response:
        name = _begin(request, evaluator, "deploy")
        async with body_of(request, XML_TYPES) as body:
            await evaluator.workers.run(check_document, body)
            deployed, new = await evaluator.deploy(name, body)
        answer = _json({"id": name, **deployed.about}, 201 if new else 200)
        answer.headers["Location"] = f"/openscoring/model/{name}"
        return answer

    @app.delete("/openscoring/model/{id}")
    async def undeploy(request: Request) -> Response:
        evaluator.undeploy(_begin(request, evaluator, "undeploy"))
        return _json({})


def _add_evaluations(app: FastAPI, evaluator: Evaluator, body_of: Bodies, max_rows: int) -> None:
    """Rows in, results out: one as JSON, many as JSON, many as CSV."""

    @app.post("/openscoring/model/{id}")
    async def evaluate_row(request: Request) -> Response:
        name = _begin(request, evaluator, "evaluate")
        evaluator.find(name)
        async with body_of(request, [JSON]) as body:
            asked = await evaluator.workers.run(read_json, EvaluationRequest, body)
            request.scope["note"].rows = 1
            found = await evaluator.evaluate(name, [asked.arguments])
        return _json(_drop_none({"id": asked.id, "results": _all_or_nothing(found)[0]}))

    @app.post("/openscoring/model/{id}/batch")
    async def evaluate_batch(request: Request) -> Response:
        name = _begin(request, evaluator, "batch")
        evaluator.find(name)
        async with body_of(request, [JSON]) as body:
            asked = await evaluator.workers.run(read_json, BatchEvaluationRequest, body)
            request.scope["note"].rows = len(asked.requests)
            check_rows(len(asked.requests), max_rows)
            found = await evaluator.evaluate(name, [item.arguments for item in asked.requests])
            responses = [
                _drop_none({"id": item.id, "results": results, "message": message})
                for item, (results, message) in zip(asked.requests, found, strict=True)
            ]
            content = await evaluator.workers.run(to_json, _drop_none({"id": asked.id, "responses": responses}))
        return Response(content, media_type=JSON)

    @app.post("/openscoring/model/{id}/csv")
    async def evaluate_csv(request: Request) -> Response:
        name, query = _begin(request, evaluator, "csv"), request.query_params
        schema = evaluator.find(name).about["schema"]
        fields = [field["id"] for kind in ("targetFields", "outputFields") for field in schema[kind]]
        async with body_of(request, CSV_TYPES) as body:
            dialect = query.get("delimiterChar"), query.get("quoteChar")
            table = await evaluator.workers.run(read_csv, body, *dialect, max_rows)
            request.scope["note"].rows = len(table.rows)
            results = _all_or_nothing(await evaluator.evaluate(name, table.rows))
            content = await evaluator.workers.run(write_csv, table, fields, results)
        return Response(content, media_type="text/plain")


def _begin(request: Request, evaluator: Evaluator, what: str) -> str:
    """Note what the request wants of which model; the model's name.

    Raises:
        Refused: 404 for what cannot be a name, 501 where nothing can be evaluated.
    """
    note = request.scope["note"]
    note.route = f"openscoring {what}"
    evaluator.check()
    name = str(request.path_params.get("id", ""))
    if name and not MODEL_ID.fullmatch(name):
        raise Refused(404, "Invalid identifier", "Use up to 128 letters, digits, - and _, a letter or digit first")
    note.model = name
    return name


def _about(evaluator: Evaluator, name: str) -> dict[str, Any]:
    return {"id": name, **evaluator.find(name).about}


def _all_or_nothing(rows: list[Row]) -> list[dict[str, Any]]:
    """The results.

    Raises:
        Refused: 400 where a row has none; says which, where there are several.
    """
    for number, (_, message) in enumerate(rows, 1):
        if message is not None:
            raise Refused(400, message if len(rows) == 1 else f"row {number}: {message}")
    return [results for results, _ in rows if results is not None]


def _drop_none(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def _json(found: dict[str, Any], status: int = 200) -> Response:
    return Response(to_json(found), status, media_type=JSON)
