"""The OpenAPI document, made from the models that are loaded: their columns, and a row that each of them takes."""

from __future__ import annotations

from typing import Any

from boostline import __version__
from boostline.serving.answers import write_answer
from boostline.serving.bodies import ARROW, CSV, JSON
from boostline.serving.examples import example_row, example_values
from boostline.serving.models import MODEL_THREADS, Picture, Served
from boostline.serving.openscoring.describe import openscoring_paths

_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": ["string", "integer", "null"]},
    "integer": {"type": ["integer", "string", "null"]},
    "long": {"type": ["integer", "string", "null"]},
    "double": {"type": ["number", "string", "null"]},
    "boolean": {"type": ["boolean", "string", "null"]},
    "date": {"type": ["string", "null"], "format": "date"},
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
}
_ERROR = {"$ref": "#/components/schemas/Error"}
_REFUSALS = {
    "400": "The body is not what its Content-Type says",
    "401": "No token, or none that is valid",
    "404": "No such dataset",
    "408": "The body did not end in time",
    "413": "Too many bytes or rows",
    "415": "Not JSON, Arrow or CSV",
    "422": "A column is missing or a value does not fit; the text names row and column",
    "429": "Too many requests; Retry-After says when to go on",
    "503": "No model yet, or too busy",
}


def document(picture: Picture) -> dict[str, Any]:
    """The document for what is loaded now."""
    champions = {name: served for name in picture.datasets if (served := picture.champion(name))}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Boostline", "version": __version__, "description": "Predictions of the promoted models"},
        "components": {
            "schemas": {"Error": _object({"error": {"type": "string"}, "remedy": {"type": "string"}})},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
        "paths": {
            "/v1/models": {"get": _get("The models", ("401", "429"))},
            "/v1/models/{dataset}": {
                "get": _get("One model: version, columns, metrics", ("401", "404", "429", "503")),
                "parameters": [_dataset(champions)],
            },
            "/v1/models/{dataset}:predict": {"post": _predict(champions), "parameters": [_dataset(champions)]},
            **openscoring_paths(),
            "/health/live": {"get": _get("Whether the process runs", ())},
            "/health/ready": {"get": _get("Whether it can answer, and what is wrong", ("503",), error=False)},
            "/metrics": {"get": _get("Metrics for Prometheus", (), media="text/plain")},
        },
    }


def _predict(champions: dict[str, Served]) -> dict[str, Any]:
    bodies: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    for media in (JSON, ARROW, CSV):
        bodies[media], answers[media] = {"schema": {"type": "string"}}, {"schema": {"type": "string"}}
    bodies[ARROW]["schema"]["format"] = answers[ARROW]["schema"]["format"] = "binary"
    bodies[JSON] = {
        "schema": {
            "anyOf": [shape for served in champions.values() for shape in _shapes(served)] or [{"type": "object"}]
        },
        "examples": {name: {"value": _json_example(served)} for name, served in champions.items()},
    }
    bodies[CSV]["examples"] = {name: {"value": _csv_example(served)} for name, served in champions.items()}
    answers[JSON] = {
        "schema": _object(
            {
                "dataset": {"type": "string"},
                "version": {"type": "string"},
                "date": {"type": "string", "format": "date"},
                "predictions": {"type": "array", "items": {"type": "object"}},
            }
        ),
        "examples": {name: {"value": _answer_example(served)} for name, served in champions.items()},
    }
    return {
        "summary": "Predictions for raw rows",
        "operationId": "predict",
        "parameters": [
            _parameter(
                "explain", "query", {"type": "boolean"}, "Add what each feature contributed (SHAP), and the bias"
            ),
            _parameter("key", "query", {"type": "string"}, "One key is always answered by one model (A/B)"),
            _parameter("X-Boostline-Key", "header", {"type": "string"}, "The same as a header, which goes first"),
            _parameter("X-Request-ID", "header", {"type": "string"}, "Comes back and is logged"),
        ],
        "requestBody": {"required": True, "content": bodies},
        "responses": {"200": {"description": "Predictions", "content": answers}, **_refusals(tuple(_REFUSALS))},
    }


def _shapes(served: Served) -> list[dict[str, Any]]:
    """The two ways in which JSON rows are written."""
    columns = served.model.transform.columns
    row = _object({name: _TYPES[column.type] for name, column in columns.items()})
    lists = _object({name: {"type": "array", "items": _TYPES[column.type]} for name, column in columns.items()})
    return [_object({"records": {"type": "array", "items": row}}), _object({"columns": lists})]


def _json_example(served: Served) -> dict[str, Any]:
    return {"records": [example_values(served.model.transform)]}


def _csv_example(served: Served) -> str:
    return write_answer(CSV, example_row(served.model), {}).decode()


def _answer_example(served: Served) -> dict[str, Any]:
    row = served.model.answer(example_row(served.model), MODEL_THREADS)
    return {**served.head, "predictions": row.to_pylist()}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _dataset(champions: dict[str, Served]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} | ({"enum": list(champions)} if champions else {})
    return _parameter("dataset", "path", schema, "A dataset's name") | {"required": True}


def _parameter(name: str, where: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": schema, "description": text}


def _get(summary: str, refusals: tuple[str, ...], *, media: str = JSON, error: bool = True) -> dict[str, Any]:
    schema = {"type": "object" if media == JSON else "string"}
    answer = {"description": summary, "content": {media: {"schema": schema}}}
    found = _refusals(refusals) if error else dict.fromkeys(refusals, answer)
    return {"summary": summary, "responses": {"200": answer, **found}}


def _refusals(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"description": _REFUSALS[name], "content": {JSON: {"schema": _ERROR}}} for name in names}
