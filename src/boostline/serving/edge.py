"""The outermost layer: who may ask, how often, and one log line and one count for every request."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from boostline.serving.metrics import Metrics
from boostline.serving.rate import rate_limit
from boostline.serving.refusal import Refused

log = logging.getLogger("boostline.serving")

OPEN = ("/health/live", "/health/ready", "/metrics")
"""Answered without a token and without a limit; /metrics tells of the answers, in sum: see docs/deploy.md."""
OPENSCORING = "/openscoring/"
"""Below it answers look as Openscoring's clients expect them."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Note:
    """What is logged of one request; the handler fills it in. Nothing of the rows, no token."""

    request: str
    caller: str = ""
    route: str = "other"
    dataset: str = ""
    version: str = ""
    date: str = ""
    alias: str = ""
    model: str = ""
    rows: int = 0
    error: str = ""


def refusal_response(error: Refused, scope: Scope) -> Response:
    """The answer to a refused request; its text is noted unless it may quote a row.

    It is `{"error", "remedy"}`, and `{"message"}` to a client of Openscoring.
    """
    scope["note"].error = error.message if error.status not in (400, 422) else ""
    body = {"error": error.message, "remedy": error.remedy}
    if scope["path"].startswith(OPENSCORING):
        body = {"message": ". ".join(filter(None, body.values()))}
    return Response(json.dumps(body), error.status, error.headers, "application/json")


def edge(
    app: ASGIApp, metrics: Metrics, check: Callable[[str | None], str] | None, requests_per_second: int
) -> ASGIApp:
    """Put an application behind login and limit.

    Args:
        app: The application; it finds the request's `Note` in the scope, as `note`.
        metrics: Counts.
        check: Tells the caller's name from the Authorization header; none where anybody may ask.
        requests_per_second: Of one caller, or of one address: where anybody may ask, and without a valid token.
    """
    limit = rate_limit(requests_per_second)

    def admit(scope: Scope, note: Note) -> None:
        address = (scope.get("client") or ("",))[0]
        try:
            note.caller = check(Headers(scope=scope).get("authorization")) if check else ""
        except Refused:
            count(address)
            raise
        count(note.caller or address)

    def count(who: str) -> None:
        if wait := limit(who):
            raise Refused(
                429,
                f"more than {requests_per_second} requests in a second",
                "Send fewer, or many rows in one request",
                {"Retry-After": str(wait)},
            )

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 499  # nginx's number for a caller who left before the answer
        note = scope["note"] = Note(_request_id(scope))

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_header(message, "x-request-id", note.request)
                if scope["path"].startswith(OPENSCORING):
                    _add_header(message, "x-application", "Openscoring/2.2")
            await send(message)

        try:
            if scope["path"] not in OPEN:
                admit(scope, note)
            await app(scope, receive, tell)
        except Refused as error:
            await refusal_response(error, scope)(scope, receive, tell)
        except Exception as error:  # the framework has answered 500 already
            note.error = type(error).__name__
            log.exception("request %s failed", note.request)
        finally:
            seconds = time.perf_counter() - begun
            metrics.request(note.route, note.dataset, status, seconds)
            if scope["path"] not in OPEN:
                _log(note, scope["method"], status, seconds)

    return wrapped


def _log(note: Note, method: str, status: int, seconds: float) -> None:
    fields = {key: value for key, value in vars(note).items() if value}
    log.info("request", extra={"fields": {"method": method, "status": status, "ms": round(seconds * 1000, 2)} | fields})


def _request_id(scope: Scope) -> str:
    """The caller's own where it is harmless, else a new one."""
    sent = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"x-request-id"), "")
    return sent if REQUEST_ID.fullmatch(sent) else token_hex(16)


def _add_header(message: MutableMapping[str, Any], name: str, value: str) -> None:
    message["headers"] = [*message.get("headers", []), (name.encode(), value.encode())]
