"""Wall seconds of a job's steps, for its log and its result."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_taken: dict[str, float] = {}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Log a step and remember how long it took; steps of one name add up."""
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - start
        _taken[name] = _taken.get(name, 0.0) + seconds
        log.info("%s: %.1f s", name, seconds)


def seconds_by_step() -> dict[str, float]:
    """Wall seconds of this process's steps so far; steps that ran side by side overlap."""
    return {name: round(seconds, 2) for name, seconds in _taken.items()}
