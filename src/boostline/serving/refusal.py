"""A request that is refused: its status, and a text that says what to do."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """The answer to a request that cannot be served.

    Args:
        status: Of HTTP.
        message: What is wrong; names the row and the column where there are any.
        remedy: What the caller does next.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, message: str, remedy: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.remedy = remedy
        self.headers = dict(headers or {})
