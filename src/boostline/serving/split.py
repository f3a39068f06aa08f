"""Champion or challenger: A/B by a sticky key, and the challenger in the shadow."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from typing import Any

from boostline.errors import BoostlineError
from boostline.serving.bodies import read_rows
from boostline.serving.fit import Limits
from boostline.serving.metrics import Metrics
from boostline.serving.models import Picture, Served
from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings
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


@dataclass(frozen=True)
class Seen:
    """A request that was answered, for the challenger to score."""

    challenger: Served
    media_type: str
    body: bytearray
    answer: Any
    """`Model.answer` or `Model.answer_coded` of the model that answered."""
    request: str

    @property
    def size(self) -> int:
        """In memory, about, in bytes."""
        few = self.answer if isinstance(self.answer, list) else None  # of plain values: a dictionary for each row
        answer = self.answer.nbytes if few is None else sum(200 + 100 * len(row) for row in few)
        return 2 * len(self.body) + 1024 + int(answer)


class Shadow:
    """Scores what was answered with the challenger as well, later, and answers nobody.

    Bodies are kept, not rows: the challenger may need columns that the champion does not.

    Args:
        workers: Scored there, one request at a time.
        metrics: Gets the predictions, and how far they are from the answers.
        settings: Most rows of a request; and bodies and answers of `max_body_bytes` together may wait, more are
            dropped and counted.
    """

    def __init__(self, workers: Workers, metrics: Metrics, settings: ServeSettings) -> None:
        self._workers = workers
        self._metrics = metrics
        self._settings = settings
        self._bytes = 0
        self._queue: asyncio.Queue[Seen] = asyncio.Queue()

    def add(self, seen: Seen) -> None:
        """Have a request scored that was answered just now."""
        if self._bytes + seen.size > self._settings.max_body_bytes:
            self._metrics.shadow_dropped.labels(seen.challenger.dataset).inc()
            return
        self._bytes += seen.size
        self._queue.put_nowait(seen)

    async def run(self) -> None:
        """Score what comes, until cancelled."""
        while True:
            seen = await self._queue.get()
            model = seen.challenger.model
            try:
                limits = Limits(self._settings.max_rows, self._settings.max_decoded_bytes)
                arguments = (seen.media_type, seen.body, model.transform.columns, limits)
                rows = await self._workers.run(read_rows, *arguments)
                self._record(seen, await self._workers.answer(model, rows))
            except (Refused, BoostlineError) as error:
                # Not its text, which may quote a row.
                log.warning("shadow of request %s failed: %s", seen.request, type(error).__name__)
            except Exception:  # a challenger that fails must not end the shadow of the others
                log.exception("shadow of request %s failed", seen.request)
            finally:
                self._bytes -= seen.size

    def _record(self, seen: Seen, found: Any) -> None:
        challenger, distance = seen.challenger, _distance(found, seen.answer)
        self._metrics.scored(challenger, found, "shadow")
        self._metrics.shadow_rows.labels(challenger.dataset).inc(found.num_rows)
        self._metrics.shadow_difference.labels(challenger.dataset).inc(distance)
        fields = {
            "request": seen.request,
            "dataset": challenger.dataset,
            "version": challenger.version,
            "date": challenger.model.info.date,
            "rows": found.num_rows,
            "mean_difference": round(distance / max(1, found.num_rows), 6),
        }
        log.info("shadow", extra={"fields": fields})


def _distance(found: Any, answer: Any) -> float:
    """Sum over the rows of how far two answers are from each other."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    answer = pa.Table.from_pylist(answer) if isinstance(answer, list) else answer
    for name in ("probability", "prediction"):
        if name in found.column_names and name in answer.column_names:
            ours, theirs = found.column(name), answer.column(name)
            if name == "probability" or found.column_names == ["prediction"]:
                return float(np.abs(ours.to_numpy() - theirs.to_numpy()).sum())
            return float(pc.sum(pc.not_equal(ours, theirs).cast("int64")).as_py() or 0)
    return float(found.num_rows)
