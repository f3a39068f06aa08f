"""Data dates: YYYY-MM-DD, as the lake's partitions are named, and no other form that Python would read."""

from __future__ import annotations

import re
from datetime import date

from boostline.errors import RunDateInvalid


def parse_day(text: str, what: str) -> date:
    """A data date from its text.

    Args:
        text: What a person or a program gave.
        what: Where it stands, for the error.

    Raises:
        RunDateInvalid: It has another form, or there is no such day.
    """
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError("not YYYY-MM-DD")
        return date.fromisoformat(text)
    except ValueError as error:
        raise RunDateInvalid(f"{what} is no date: {text!r}", "Write it as YYYY-MM-DD, such as 2013-03-31") from error
