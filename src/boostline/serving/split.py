"""Champion or challenger: A/B by a sticky key, and the challenger in the shadow."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any

from boostline.errors import BoostlineError
from boostline.serving.metrics import Metrics
from boostline.serving.models import Picture, Served
from boostline.serving.work import Workers

log = logging.getLogger("boostline.serving")


def choose(picture: Picture, dataset: str, share: float, key: str) -> Served | None:
    """The model that answers a key: the challenger for that share of all keys, always the same for one key."""
    challenger = picture.challenger(dataset) if share > 0 else None
    if challenger and _place(dataset, key) < share:
        return challenger
    return picture.champion(dataset)


def _place(dataset: str, key: str) -> float:
    """Where a key lies in [0, 1); another place for another dataset."""
    digest = hashlib.sha256(f"{dataset}:{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


class Shadow:
    """Scores what the champion has answered with the challenger as well, later, and answers nobody.

    Args:
        workers: Scored there, one request at a time.
        metrics: Gets the predictions, and how far they are from the champion's.
        max_rows: Rows that may wait; a request beyond that is dropped and counted.
    """

    def __init__(self, workers: Workers, metrics: Metrics, max_rows: int) -> None:
        self._workers = workers
        self._metrics = metrics
        self._max_rows = max_rows
        self._rows = 0
        self._queue: asyncio.Queue[tuple[Served, Any, Any, str]] = asyncio.Queue()

    def add(self, challenger: Served, rows: Any, answer: Any, request: str) -> None:
        """Have a request scored that was answered just now."""
        if self._rows + rows.num_rows > self._max_rows:
            self._metrics.shadow_dropped.labels(challenger.dataset).inc()
            return
        self._rows += rows.num_rows
        self._queue.put_nowait((challenger, rows, answer, request))

    async def run(self) -> None:
        """Score what comes, until cancelled."""
        while True:
            challenger, rows, answer, request = await self._queue.get()
            try:
                found = await self._workers.answer(challenger.model, rows)
                self._record(challenger, found, answer, request)
            except BoostlineError as error:
                # Not its text, which may quote a row: the challenger's contract can differ from the champion's.
                log.warning("shadow of request %s failed: %s", request, type(error).__name__)
            except Exception:  # a challenger that fails must not end the shadow of the others
                log.exception("shadow of request %s failed", request)
            finally:
                self._rows -= rows.num_rows

    def _record(self, challenger: Served, found: Any, answer: Any, request: str) -> None:
        distance = _distance(found, answer)
        self._metrics.scored(challenger, found, "shadow")
        self._metrics.shadow_rows.labels(challenger.dataset).inc(found.num_rows)
        self._metrics.shadow_difference.labels(challenger.dataset).inc(distance)
        log.info(
            "shadow",
            extra={
                "fields": {
                    "request": request,
                    "dataset": challenger.dataset,
                    "version": challenger.version,
                    "rows": found.num_rows,
                    "mean_difference": round(distance / max(1, found.num_rows), 6),
                }
            },
        )


def _distance(found: Any, answer: Any) -> float:
    """Sum over the rows of how far two answers are from each other."""
    import numpy as np
    import pyarrow.compute as pc

    for name in ("probability", "prediction"):
        if name in found.column_names and name in answer.column_names:
            ours, theirs = found.column(name), answer.column(name)
            if name == "probability" or found.column_names == ["prediction"]:
                return float(np.abs(ours.to_numpy() - theirs.to_numpy()).sum())
            return float(pc.sum(pc.not_equal(ours, theirs).cast("int64")).as_py() or 0)
    return float(found.num_rows)
