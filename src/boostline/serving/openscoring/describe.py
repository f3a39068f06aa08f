"""The routes below /openscoring in the OpenAPI document."""

from __future__ import annotations

from typing import Any

PMML = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/><DataDictionary>
<DataField name="x" optype="continuous" dataType="double"/><DataField name="y" optype="continuous" dataType="double"/>
</DataDictionary><RegressionModel functionName="regression"><MiningSchema><MiningField name="x"/>
<MiningField name="y" usageType="target"/></MiningSchema><RegressionTable intercept="1">
<NumericPredictor name="x" coefficient="2"/></RegressionTable></RegressionModel></PMML>"""
_REFUSALS = {
    "400": "The document or a row does not fit",
    "401": "No token, or none that is valid",
    "404": "No such model",
    "408": "The body did not end in time",
    "413": "Too many bytes or rows",
    "415": "Another Content-Type",
    "429": "Too many requests; Retry-After says when to go on",
    "501": "There is no Java or no jpmml-evaluator; the text says what to install",
    "503": "The evaluator is busy, was late or crashed; Retry-After says when to try again",
}
_READ = ("401", "429", "501")
_SENT = tuple(_REFUSALS)
_TEXT: dict[str, Any] = {"type": "string"}
_ROW: dict[str, Any] = {
    "type": "object",
    "properties": {"id": {"type": ["string", "null"]}, "arguments": {"type": "object"}},
    "required": ["arguments"],
}
_ANSWER = {"type": "object", "properties": {"id": _TEXT, "results": {"type": "object"}, "message": _TEXT}}


def openscoring_paths() -> dict[str, Any]:
    """Path → operations."""
    model = _list({"type": "object", "properties": {"id": _TEXT}, "required": ["id"]}, "responses")
    name = {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}$", "example": "model"}
    by_id = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": name}]}
    batch = _list(_ROW, "requests")
    example = {"id": "1", "arguments": {"x": 1}}
    return {
        "/openscoring/model": {"get": _operation("The deployed PMML models", model, _READ)},
        "/openscoring/model/{id}": {
            **by_id,
            "put": {
                **_operation("Deploy a PMML document", model["properties"]["responses"]["items"], _SENT, new=True),
                "requestBody": _body(dict.fromkeys(("application/xml", "text/xml"), (_TEXT, PMML))),
            },
            "get": _operation("One model: its fields", model["properties"]["responses"]["items"], (*_READ, "404")),
            "delete": _operation("Undeploy it", {"type": "object"}, (*_READ, "404")),
            "post": {
                **_operation("Evaluate one row", _ANSWER, _SENT),
                "requestBody": _body({"application/json": (_ROW, example)}),
            },
        },
        "/openscoring/model/{id}/batch": {
            **by_id,
            "post": {
                **_operation("Evaluate rows; one that does not fit has a message", _list(_ANSWER, "responses"), _SENT),
                "requestBody": _body({"application/json": (batch, {"requests": [example]})}),
            },
        },
        "/openscoring/model/{id}/csv": {
            **by_id,
            "post": {
                **_operation("Evaluate rows, all or none", _TEXT, _SENT, media="text/plain"),
                "parameters": [
                    {"name": what, "in": "query", "schema": {"type": "string"}}
                    for what in ("delimiterChar", "quoteChar")
                ],
                "requestBody": _body(dict.fromkeys(("text/plain", "text/csv"), (_TEXT, "Id,x\n1,1\n"))),
            },
        },
    }


def _list(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "array", "items": item}}, "required": [name]}


def _body(kinds: dict[str, tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    content = {kind: {"schema": schema, "example": example} for kind, (schema, example) in kinds.items()}
    return {"required": True, "content": content}


def _operation(
    summary: str,
    schema: dict[str, Any],
    refusals: tuple[str, ...],
    *,
    media: str = "application/json",
    new: bool = False,
) -> dict[str, Any]:
    answer = {"description": summary, "content": {media: {"schema": schema}}}
    message = {"type": "object", "properties": {"message": _TEXT}, "required": ["message"]}
    refused = {
        status: {"description": _REFUSALS[status], "content": {"application/json": {"schema": message}}}
        for status in refusals
    }
    return {"summary": summary, "responses": {"200": answer, **({"201": answer} if new else {}), **refused}}
