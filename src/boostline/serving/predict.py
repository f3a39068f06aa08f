"""The one route that computes: from a request to predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from boostline.serving.answers import write_answer, write_few
from boostline.serving.bodies import JSON, few_records, read_rows
from boostline.serving.edge import Note
from boostline.serving.fit import Limits
from boostline.serving.metrics import Metrics
from boostline.serving.models import MODEL_THREADS, Models, Picture, Served
from boostline.serving.refusal import Refused
from boostline.serving.request import Wanted, deadline_of, read_body, wanted
from boostline.serving.settings import ServeSettings
from boostline.serving.split import Seen, Shadow, choose
from boostline.serving.work import SMALL_BODY, SMALL_ROWS, Workers

PLAIN = Wanted(JSON, JSON, False)


def predictor(
    models: Models, settings: ServeSettings, metrics: Metrics, workers: Workers, shadow: Shadow
) -> Callable[[Request], Awaitable[Response]]:
    """The handler of `POST /v1/models/{dataset}:predict`."""

    async def predict(request: Request) -> Response:
        note: Note = request.scope["note"]
        note.route, name, picture = "predict", request.path_params["dataset"], models.current
        share = settings.challenger_share.get(name, 0.0)
        served = choose(picture, name, share, _key(request) or note.request)
        if served is None:
            raise no_model(picture, name)
        _note(note, served)
        ask, deadline = wanted(request, settings), deadline_of(settings)
        with workers.holding() as hold:
            body = await read_body(request, settings, hold, deadline)
            try:
                scored = await _in_time(workers, served, ask, body, settings, deadline)
            except Refused as error:
                champion = picture.champion(name)
                if error.status != 422 or champion is None or champion is served:
                    raise
                # The challenger may need other columns than the champion's, which are those that callers are told of.
                served = champion
                _note(note, served)
                scored = await _in_time(workers, served, ask, body, settings, deadline)
        note.rows = len(scored.answer)
        metrics.scored(served, scored.answer, "answered")
        challenger = picture.challenger(name) if name in settings.shadow else None
        if challenger and challenger is not served:
            shadow.add(Seen(challenger, ask.body_type, body, scored.answer, note.request))
        headers = {f"X-Boostline-{key.title()}": value for key, value in served.head.items()}
        return Response(scored.content, 200, headers, ask.answer_type)

    return predict


def _note(note: Note, served: Served) -> None:
    note.dataset, note.version, note.alias = served.dataset, served.version, served.alias
    note.date = served.model.info.date


def no_model(picture: Picture, name: str) -> Refused:
    """Why nothing answers for a dataset: 404 where there is none of that name, else 503."""
    if name not in picture.datasets and picture.registry == "ok":
        return Refused(404, "there is no such dataset", f"Known are: {', '.join(picture.datasets) or 'none'}")
    if picture.registry != "ok":
        why = f"the registry: {picture.registry}"
    elif problem := picture.problems.get(f"{name}@champion"):
        why = f"its champion cannot be used: {problem}"
    else:
        why = "no version has been promoted"
    shown = name if name in picture.datasets else "the dataset"
    return Refused(503, f"{shown} has no model yet: {why}", "Train and promote one; it is served within seconds")


@dataclass(frozen=True)
class _Scored:
    """Predictions, and the answer's body."""

    answer: Any
    content: bytes


def _score_few(served: Served, ask: Wanted, body: bytearray, limit: int) -> _Scored | None:
    """A few plain JSON rows at once, on the event loop; none where they are more, or ask for more."""
    if len(body) > SMALL_BODY or ask != PLAIN:
        return None
    records = few_records(body, min(SMALL_ROWS, limit))
    coded = served.coder.code(records) if records else None
    if coded is None:
        return None
    answer = served.model.answer_coded(coded, MODEL_THREADS)
    return _Scored(answer, write_few(answer, served.head))


async def _in_time(
    workers: Workers, served: Served, ask: Wanted, body: bytearray, settings: ServeSettings, deadline: float
) -> _Scored:
    """Score a request, at once where it is a plain one of a few rows, else in its turn and until its deadline."""
    limits = Limits(settings.max_explain_rows if ask.explain else settings.max_rows, settings.max_decoded_bytes)
    if scored := _score_few(served, ask, body, limits.rows):
        return scored
    try:
        async with asyncio.timeout_at(deadline):
            with workers.admitted():
                return await _score(workers, served, ask, body, limits)
    except TimeoutError:
        text = f"the request took longer than {settings.timeout_seconds:g} s"
        raise Refused(503, text, "Send fewer rows in a request") from None


async def _score(workers: Workers, served: Served, ask: Wanted, body: bytearray, limits: Limits) -> _Scored:
    model, small = served.model, len(body) <= SMALL_BODY
    arguments = (ask.body_type, body, model.transform.columns, limits)
    rows = read_rows(*arguments) if small else await workers.run(read_rows, *arguments)
    answer = full = await workers.answer(model, rows)
    if ask.explain:
        reasons = await workers.explain(model, rows)
        for name in reasons.column_names:
            full = full.append_column(name, reasons.column(name))
    written = (ask.answer_type, full, served.head)
    few = len(full) <= SMALL_ROWS
    return _Scored(answer, write_answer(*written) if few else await workers.run(write_answer, *written))


def _key(request: Request) -> str | None:
    """What an A/B answer sticks to."""
    return request.headers.get("x-boostline-key") or request.query_params.get("key")
