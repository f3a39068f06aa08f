"""Bounds of the work itself: how much at once, for how long, and how often."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from boostline.scoring.few_rows import FewRows
from boostline.scoring.model_file import UBJ
from boostline.serving import work
from boostline.serving.answers import write_answer
from boostline.serving.app import create_app
from boostline.serving.bodies import JSON
from boostline.serving.metrics import Metrics
from boostline.serving.models import Picture, Served
from boostline.serving.rate import CALLERS, rate_limit
from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings
from boostline.serving.split import Seen, Shadow
from boostline.serving.work import Workers
from tests.serving.conftest import TASKS, raw_rows


@pytest.fixture(scope="module")
def served(world):
    model = world.model("binary")
    return Served("binary", "champion", "1", model.info.sha256, model, FewRows(model.transform))


def answers(served, settings, count):
    """Several large requests at the same time, to the application itself."""
    picture = Picture(("binary",), {("binary", "champion"): served}, registry="ok")
    app = create_app(SimpleNamespace(current=picture), settings, None)
    body = json.dumps({"columns": raw_rows("binary", 20_000).to_pydict()}, default=str).encode()

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            headers = {"Content-Type": "application/json"}
            calls = [client.post("/v1/models/binary:predict", content=body, headers=headers) for _ in range(count)]
            return await asyncio.gather(*calls)

    return asyncio.run(ask())


def test_more_requests_than_may_wait_are_told_to_come_again(served):
    found = answers(served, ServeSettings(threads=1, max_waiting=1), 5)
    assert sorted(answer.status_code for answer in found) == [200, 200, 503, 503, 503]
    refused = [answer for answer in found if answer.status_code == 503]
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert "2 requests are being scored or wait" in refused[0].json()["error"]


def test_bodies_that_fill_the_memory_are_told_to_come_again():
    workers = Workers(ServeSettings(max_body_bytes=1024))
    with workers.holding() as hold:
        for _ in range(8):
            hold(1024)
        with pytest.raises(Refused) as caught, workers.holding() as another:
            another(1)
        assert caught.value.status == 503 and caught.value.headers == {"Retry-After": "1"}
    with workers.holding() as hold:
        hold(8 * 1024)
    workers.close()


def test_scoring_that_takes_too_long_is_given_up(served):
    (answer,) = answers(served, ServeSettings(timeout_seconds=0.001), 1)
    assert answer.status_code == 503 and "took longer than 0.001 s" in answer.json()["error"]


def test_a_slow_body_leaves_less_time_for_the_scoring(served):
    """0.6 of one second for the body, and as much for the scoring."""
    slow = replace(served, model=SimpleNamespace(**vars(served.model), answer=lambda *_: time.sleep(0.6)))
    picture = Picture(("binary",), {("binary", "champion"): slow}, registry="ok")
    app = create_app(SimpleNamespace(current=picture), ServeSettings(timeout_seconds=1), None)

    async def body():
        await asyncio.sleep(0.6)
        yield json.dumps({"columns": raw_rows("binary", 20).to_pydict()}, default=str).encode()

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            headers = {"Content-Type": "application/json"}
            return await client.post("/v1/models/binary:predict", content=body(), headers=headers)

    answer = asyncio.run(ask())
    assert answer.status_code == 503 and "took longer than 1 s" in answer.json()["error"]


def test_a_failure_is_told_without_its_reason_and_the_next_request_is_served(served):
    broken = replace(served, model=replace(served.model, booster=None))
    (answer,) = answers(broken, ServeSettings(), 1)
    assert answer.status_code == 500 and answer.json()["error"] == "the service failed on this request"
    assert len(answer.headers["x-request-id"]) == 32
    assert answers(served, ServeSettings(), 1)[0].status_code == 200


def test_parts_of_a_batch_are_the_batch(served):
    rows = raw_rows("binary", 4_321)

    async def score(threads):
        workers = Workers(ServeSettings(threads=threads))
        try:
            return await workers.answer(served.model, rows)
        finally:
            workers.close()

    assert asyncio.run(score(4)).equals(served.model.answer(rows))


@pytest.mark.parametrize("task", TASKS)
def test_parts_of_an_explanation_are_the_explanation(world, monkeypatch, task):
    model, rows = world.model(task), raw_rows(task, 25)
    monkeypatch.setattr(work, "EXPLAIN_BYTES", 4 * len(model.files[UBJ]))

    async def explain(rows):
        workers = Workers(ServeSettings(threads=2))
        try:
            return await workers.explain(model, rows)
        finally:
            workers.close()

    assert asyncio.run(explain(rows)).equals(model.explain(rows))
    assert asyncio.run(explain(rows[:0])).equals(model.explain(rows[:0]))


def test_an_explanation_that_was_given_up_ends_with_the_part_under_way(served, monkeypatch):
    monkeypatch.setattr(work, "EXPLAIN_BYTES", 4 * len(served.model.files[UBJ]))
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def explain(rows, threads):
        seen.append(rows.num_rows)
        begun.set()
        go_on.wait()
        return served.model.explain(rows, threads)

    slow = replace(served, model=SimpleNamespace(**vars(served.model), answer=served.model.answer, explain=explain))
    picture = Picture(("binary",), {("binary", "champion"): slow}, registry="ok")
    app = create_app(SimpleNamespace(current=picture), ServeSettings(threads=1), None)

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            body = {"columns": json.loads(json.dumps(raw_rows("binary", 10).to_pydict(), default=str))}
            path = "/v1/models/binary:predict"
            given_up = asyncio.create_task(client.post(path, json=body, params={"explain": "true"}))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            go_on.set()
            # There is one thread, so what this request asks for comes after whatever the other one left behind.
            return await client.post(path, json={"columns": {k: v * 2_000 for k, v in body["columns"].items()}})

    assert asyncio.run(ask()).status_code == 200
    assert seen == [4]


def test_what_was_given_up_before_it_began_is_never_done():
    done = []

    async def give_up():
        workers = Workers(ServeSettings(threads=1))
        first = asyncio.create_task(workers.run(time.sleep, 0.2))
        second = asyncio.create_task(workers.run(done.append, 1))
        await asyncio.sleep(0)
        second.cancel()
        await first
        workers.close()

    asyncio.run(give_up())
    assert not done


@pytest.mark.parametrize("count", [0, 1, 5_000, 5_001, 100_000])
def test_a_json_answer_takes_little_more_memory_than_its_bytes(count):
    rows = {"prediction": ["yes"] * count, "probability": np.arange(count) % 7 / 7, "why": [{"size": 0.5}] * count}
    table, head = pa.table(rows), {"dataset": "a", "version": "1", "date": "2020-01-01"}
    expected = msgspec.json.encode({**head, "predictions": table.to_pylist()})
    tracemalloc.start()
    found = write_answer(JSON, table, head)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == expected
    if count == 100_000:
        assert peak < 3 * len(found)


@pytest.mark.parametrize("classes", [2, 20, 200])
def test_answers_that_wait_for_the_shadow_are_counted(served, classes):
    row = {"prediction": "yes", **dict.fromkeys([f"probability_{number}" for number in range(classes)], 0.5)}
    held = sys.getsizeof(row) + sum(map(sys.getsizeof, row.values()))
    few, many = [row] * 16, pa.table({name: [value] * 10_000 for name, value in row.items()})
    assert 16 * held < Seen(served, JSON, bytearray(), few, "r").size < 20 * 16 * held
    seen = Seen(served, JSON, bytearray(), many, "r")
    assert many.nbytes < seen.size < 2 * many.nbytes
    metrics, workers = Metrics(lambda: None), Workers(ServeSettings())
    shadow = Shadow(workers, metrics, ServeSettings(max_body_bytes=2 * seen.size))
    for _ in range(3):
        shadow.add(seen)
    assert metrics.shadow_dropped.labels("binary")._value.get() == 1
    workers.close()


def test_a_limit_lets_one_seconds_requests_through_and_fills_up_again():
    now = [0.0]
    wait = rate_limit(5, clock=lambda: now[0])
    assert [wait("ann") for _ in range(7)] == [0, 0, 0, 0, 0, 1, 1]
    assert wait("bob") == 0
    now[0] = 0.41
    assert [wait("ann") for _ in range(3)] == [0, 0, 1]
    now[0] = 100
    assert [wait("ann") for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_a_limit_forgets_those_who_asked_long_ago():
    wait = rate_limit(1, clock=lambda: 0.0)
    assert [wait("first"), wait("first")] == [0, 1]
    assert not any(wait(str(number)) for number in range(CALLERS))
    assert wait("first") == 0
