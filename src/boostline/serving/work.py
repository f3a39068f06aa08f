"""Where the computing happens: a few threads beside the event loop, and no more requests than they can take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from boostline.scoring.model_file import UBJ, Model
from boostline.serving.models import MODEL_THREADS
from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings

SMALL_ROWS = 16
"""So few rows are scored at once on the event loop: handing them to a thread would take longer than scoring them."""
SMALL_BODY = 8 * 1024
"""The same for reading a body, in bytes."""
BODIES = 8
"""The bodies of all requests together may take as much memory as so many of the largest."""
PART_ROWS = 1_000
"""A batch is cut into parts of at least so many rows, one for each thread."""

EXPLAIN_BYTES = 32 * 1024**2
"""Rows of an explanation times bytes of the model that are done in one go: XGBoost cannot be stopped before the end of it,
and the time that SHAP takes grows with the rows and with the nodes of all trees."""


class Workers:
    """A pool of threads, and the count of requests that were let in.

    Args:
        settings: Threads, and how many requests may wait for one.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._threads = settings.threads
        self._limit = settings.threads + settings.max_waiting
        self._inside = 0
        self._bytes, self._most_bytes = 0, BODIES * settings.max_body_bytes
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="score")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Room for one request.

        Raises:
            Refused: 503, all threads are busy and enough requests wait already.
        """
        if self._inside >= self._limit:
            raise Refused(
                503,
                f"{self._inside} requests are being scored or wait",
                "Try again in a second, or run more replicas",
                {"Retry-After": "1"},
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """What counts a body's bytes while they are held in memory, those of all requests together.

        Raises:
            Refused: 503, other bodies fill what there is.
        """
        own = 0

        def hold(size: int) -> None:
            nonlocal own
            own += size
            self._bytes += size
            if self._bytes > self._most_bytes:
                raise Refused(503, "too many large bodies at one time", "Try again in a second", {"Retry-After": "1"})

        try:
            yield hold
        finally:
            self._bytes -= own

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in a thread. What is cancelled before it began is never called."""
        return await asyncio.wrap_future(self._pool.submit(function, *arguments))

    async def answer(self, model: Model, rows: Any) -> Any:
        """`Model.answer`: at once for a few rows, in parts beside each other for many."""
        import pyarrow as pa

        if rows.num_rows <= SMALL_ROWS:
            return model.answer(rows, MODEL_THREADS)
        parts = max(1, min(self._threads, rows.num_rows // PART_ROWS))
        size = -(-rows.num_rows // parts)
        cut = [rows.slice(start, size) for start in range(0, rows.num_rows, size)]
        return pa.concat_tables(await asyncio.gather(*[self.run(model.answer, part, MODEL_THREADS) for part in cut]))

    async def explain(self, model: Model, rows: Any) -> Any:
        """`Model.explain` in parts one after the other: a request that is given up stops with the part under way."""
        import pyarrow as pa

        size = max(1, EXPLAIN_BYTES // len(model.files[UBJ]))
        cut = [rows.slice(start, size) for start in range(0, max(1, rows.num_rows), size)]
        return pa.concat_tables([await self.run(model.explain, part, MODEL_THREADS) for part in cut]).combine_chunks()

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.shutdown(cancel_futures=True)
