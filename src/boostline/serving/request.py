"""What a prediction request asks for, and its body within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from fastapi import Request
from starlette.requests import ClientDisconnect

from boostline.serving.bodies import ARROW, CSV, JSON
from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings

TYPES = (JSON, ARROW, CSV)


@dataclass(frozen=True)
class Wanted:
    """Media types of body and answer, and whether to explain."""

    body_type: str
    answer_type: str
    explain: bool


def wanted(request: Request, settings: ServeSettings) -> Wanted:
    """Read headers and query.

    Raises:
        Refused: 413 by Content-Length, 415 for another media type, 422 for another value of `explain`.
    """
    sent = body_type(request, settings, TYPES)
    explain = request.query_params.get("explain", "false")
    if explain not in ("true", "false"):
        raise Refused(422, f"explain is {explain[:80]!r}", "It is true or false")
    return Wanted(sent, _answer_type(request.headers.get("accept", "")), explain == "true")


def body_type(request: Request, settings: ServeSettings, types: Collection[str]) -> str:
    """The media type of a body that is about to be read.

    Raises:
        Refused: 413 by Content-Length, 415 where it is none of these types, or encoded.
    """
    sent = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if sent not in types:
        raise Refused(415, f"Content-Type is {sent[:80] or 'not set'}", f"Set it to one of {', '.join(types)}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "the body is encoded", "Send it without Content-Encoding")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > settings.max_body_bytes:
        raise _too_large(settings)
    return sent


def deadline_of(settings: ServeSettings) -> float:
    """When a request that begins now has to be answered, by the event loop's clock."""
    return asyncio.get_running_loop().time() + settings.timeout_seconds


async def read_body(
    request: Request, settings: ServeSettings, hold: Callable[[int], None], deadline: float
) -> bytearray:
    """All of the body; counted while it comes, so a false Content-Length or none gains nothing.

    Args:
        request: The request.
        settings: Largest size.
        hold: Told of each part's size; may refuse it.
        deadline: See `deadline_of`.

    Raises:
        Refused: 413 where it is too large, 408 where it does not end in time.
    """
    body = bytearray()  # at once in one piece: parts kept for a join are as many bytes again of fresh memory
    try:
        async with asyncio.timeout_at(deadline):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                hold(len(part))
                body += part
                if len(body) > settings.max_body_bytes:
                    raise _too_large(settings)
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refused(
            408,
            f"the body did not end within {settings.timeout_seconds:g} s",
            "Send it faster",
            {"Connection": "close"},
        ) from None
    return body


def _answer_type(accept: str) -> str:
    """The first of our media types that the caller accepts; JSON where it names none."""
    asked = (item.split(";")[0].strip().lower() for item in accept.split(","))
    return next((item for item in asked if item in TYPES), JSON)


def _too_large(settings: ServeSettings) -> Refused:
    return Refused(
        413,
        f"the body has more than {settings.max_body_bytes:,} bytes",
        "Send the rows in several requests",
        {"Connection": "close"},
    )
