"""What the REST service costs, beside a bare FastAPI handler that calls the same booster and one that returns a constant.

    python benchmarks/serving.py nyc_flights

Needs a registry with a champion (make up, and a run), or BOOSTLINE_LAKE and its like in the environment. All three
handlers run in uvicorn with the same options, in two processes; they take turns, so that what else the machine does is
shared. The bare handler gets features that are coded already and calls XGBoost in place: no contract, no
transformation, no login, no metrics. Rows are generated from the model's own contract; of single rows each request has
another one, so nothing of it is known to the service from before but the categories.
The client uses the same processors. CPU seconds are the server process's own.
The last line is JSON with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic_core import from_json, to_json
from rich.console import Console
from rich.table import Table

from boostline.lake.store import Store
from boostline.local.layout import load_stack_env
from boostline.local.places import stack_home
from boostline.registry.versions import CHAMPION, find_version, load_version
from boostline.scoring.engine import allowed_threads
from boostline.scoring.model_file import Model
from boostline.serving.answers import write_answer
from boostline.serving.bodies import ARROW, CSV, JSON
from boostline.settings import Settings

ROUNDS, BLOCK = 20, 200
SINGLE_ROWS = (ROUNDS + 1) * BLOCK
BATCH_ROWS, BATCH_ROUNDS = 10_000, 7
CONNECTIONS, RATE_SECONDS = 4, 5
console = Console(width=130)


@dataclass
class Target:
    """A handler: where it listens, and the requests that it gets, each of another row."""

    name: str
    process: psutil.Process
    port: int
    requests: list[bytes]

    def cpu(self) -> float:
        used = self.process.cpu_times()
        return float(used.user + used.system)


def generated_rows(model: Model, count: int, seed: int = 1) -> pa.Table:
    """Raw rows: known categories, numbers at random, one in twenty values missing."""
    rng, transform = np.random.default_rng(seed), model.transform

    def column(name: str, kind: str) -> Any:
        missing = rng.random(count) < 0.05
        if name in transform.categorical:
            return pa.array(rng.choice(transform.categorical[name], count), mask=missing)
        if kind == "timestamp":
            times = np.datetime64(transform.date, "us") - rng.integers(0, 90 * 86_400 * 10**6, count).astype(
                "timedelta64[us]"
            )
            return pa.array(times, pa.timestamp("us", tz="UTC"), mask=missing)
        numbers = rng.gamma(2, 40, count)
        return pa.array(numbers, mask=missing) if kind == "double" else pa.array(numbers.astype(int), mask=missing)

    return pa.table({name: column(name, spec.type) for name, spec in transform.columns.items()})


def records(rows: pa.Table) -> bytes:
    """The rows as a JSON body."""
    return to_json({"records": rows.to_pylist()})


def http(path: str, body: bytes, kind: str = JSON, accept: str = JSON) -> bytes:
    """A request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nAccept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ask(connection: socket.socket, request: bytes) -> bytes:
    """Send a request, and read all of its answer; it must be 200."""
    connection.sendall(request)
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += connection.recv(65536)
    head = bytes(data[:end]).lower()
    assert head.startswith(b"http/1.1 200"), bytes(data[:500])
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    while len(data) < end + 4 + length:
        data += connection.recv(1 << 20)
    return bytes(data[end + 4 :])


def connect(target: Target) -> socket.socket:
    """A connection that is kept."""
    connection = socket.create_connection(("127.0.0.1", target.port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def single_rows(targets: list[Target]) -> dict[str, Any]:
    """One caller, one row after the other; the handlers take turns in blocks."""
    taken: dict[str, list[float]] = {target.name: [] for target in targets}
    ratios: dict[str, list[float]] = {target.name: [] for target in targets}
    used = dict.fromkeys(taken, 0.0)
    connections = {target.name: connect(target) for target in targets}
    for turn in range(-1, ROUNDS):
        middle = {}
        for target in targets:
            block, before = [], target.cpu()
            for number in range(BLOCK):
                request = target.requests[(turn * BLOCK + number) % len(target.requests)]
                begun = time.perf_counter()
                ask(connections[target.name], request)
                block.append(time.perf_counter() - begun)
            middle[target.name] = float(np.median(block))
            if turn >= 0:  # the first turn warms up
                taken[target.name] += block
                used[target.name] += target.cpu() - before
        if turn >= 0:
            for name, value in middle.items():
                ratios[name].append(value / middle["bare"])
    return {
        name: {
            "p50_ms": float(np.percentile(values, 50)) * 1000,
            "p99_ms": float(np.percentile(values, 99)) * 1000,
            "cpu_ms": used[name] / len(values) * 1000,
            "p50_ratio_to_bare": float(np.median(ratios[name])),
            "p50_ratio_quartiles": [float(np.percentile(ratios[name], q)) for q in (25, 75)],
        }
        for name, values in taken.items()
    }


def highest_rate(target: Target) -> float:
    """Requests a second of callers who never wait."""
    stop = time.perf_counter() + RATE_SECONDS

    def caller(_: int) -> int:
        connection, count = connect(target), 0
        while time.perf_counter() < stop:
            ask(connection, target.requests[count % len(target.requests)])
            count += 1
        return count

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(caller, range(CONNECTIONS))) / RATE_SECONDS


def at_rate(target: Target, rate: float) -> dict[str, float]:
    """Latency from the moment at which a request was due, whether or not the one before it was answered by then."""
    count = int(rate * RATE_SECONDS)
    begun, before = time.perf_counter() + 0.1, target.cpu()

    def caller(first: int) -> list[float]:
        connection, found = connect(target), []
        for number in range(first, count, CONNECTIONS):
            due = begun + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            ask(connection, target.requests[number % len(target.requests)])
            found.append(time.perf_counter() - due)
        return found

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        values = [value for part in pool.map(caller, range(CONNECTIONS)) for value in part]
    return {
        "rate": rate,
        "p50_ms": float(np.percentile(values, 50)) * 1000,
        "p99_ms": float(np.percentile(values, 99)) * 1000,
        "cpu_share": (target.cpu() - before) / (time.perf_counter() - begun),
    }


def batches(target: Target, model: Model, threads: int) -> dict[str, Any]:
    """Batches over HTTP in each format, beside the same rows scored in this process; they take turns."""
    rows = generated_rows(model, BATCH_ROWS)
    path, connection = f"/v1/models/{model.info.dataset}:predict", connect(target)
    requests = {
        "arrow": http(path, write_answer(ARROW, rows, {}), ARROW, ARROW),
        "csv": http(path, write_answer(CSV, rows, {}), CSV, CSV),
        "json records": http(path, records(rows)),
        "json columns": http(path, to_json({"columns": rows.to_pydict()})),
    }
    features = model.transform.apply(rows)
    matrix = np.column_stack([features.column(name).to_numpy() for name in model.info.features]).astype(np.float32)
    inside = model.booster.copy()

    def booster() -> Any:
        inside.set_param({"nthread": threads})
        return inside.inplace_predict(matrix)

    ways: dict[str, Callable[[], Any]] = {
        "in process": lambda: model.predict(rows, threads),
        "booster alone": booster,
        **{name: lambda request=request: ask(connection, request) for name, request in requests.items()},
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, BATCH_ROUNDS):
        for name, way in ways.items():
            begun, cpu = time.perf_counter(), target.cpu() + time.process_time()
            way()
            if turn >= 0:
                taken[name].append(time.perf_counter() - begun)
                used[name].append(target.cpu() + time.process_time() - cpu)
    return {
        name: {
            "ms": float(np.median(values)) * 1000,
            "cpu_ms": float(np.median(used[name])) * 1000,
            "rows_per_second": BATCH_ROWS / float(np.median(values)),
            "speed_to_in_process": float(np.median(np.array(taken["in process"]) / np.array(values))),
        }
        for name, values in taken.items()
    }


def champion(dataset: str) -> Model:
    """The champion, from the registry."""
    settings = Settings()
    return load_version(Store(settings), find_version(settings, dataset, CHAMPION))


def serve_bare(dataset: str, port: int) -> None:
    """The two handlers to compare with."""
    booster, app = champion(dataset).booster, FastAPI()
    booster.set_param({"nthread": 1})

    @app.post("/bare")
    async def bare(request: Request) -> Response:
        values = from_json(await request.body())["features"]
        found = booster.inplace_predict(np.array([values], np.float32))
        return Response(to_json({"predictions": found.tolist()}), media_type=JSON)

    @app.post("/constant")
    async def constant(request: Request) -> Response:
        await request.body()
        return Response(b'{"predictions":[0.5]}', media_type=JSON)

    uvicorn.run(app, port=port, access_log=False, log_level="warning", server_header=False, date_header=False)


@contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[psutil.Process]:
    """A server process, from when it listens."""
    with subprocess.Popen(command, env={**os.environ, **environ}, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while not listens(port):
                assert process.poll() is None and time.monotonic() < deadline, command
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def listens(port: int) -> bool:
    """Whether somebody does."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def show(result: dict[str, Any]) -> None:
    """The figures as tables."""
    table = Table("one row", "p50 ms", "p99 ms", "CPU ms", "p50 / bare's (quartiles)")
    for name, item in result["single"].items():
        low, high = item["p50_ratio_quartiles"]
        ratio = f"{item['p50_ratio_to_bare']:.2f} ({low:.2f} to {high:.2f})"
        table.add_row(name, *(f"{item[key]:.3f}" for key in ("p50_ms", "p99_ms", "cpu_ms")), ratio)
    console.print(table)
    console.print(f"highest rate on {CONNECTIONS} connections: {result['highest_rate']:.0f} requests/s; at half of it:")
    for name, key in (("boostline serve", "half_rate"), ("bare", "half_rate_bare")):
        half = result[key]
        console.print(
            f"  {name}: p50 {half['p50_ms']:.2f} ms, p99 {half['p99_ms']:.2f} ms, {half['cpu_share']:.2f} processors"
        )
    table = Table(f"{BATCH_ROWS:,} rows", "ms", "CPU ms (both processes)", "rows/s", "speed / in process")
    for name, item in result["batch"].items():
        cells = f"{item['ms']:.0f}", f"{item['cpu_ms']:.0f}", f"{item['rows_per_second']:,.0f}"
        table.add_row(name, *cells, f"{item['speed_to_in_process']:.2f}")
    console.print(table)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    load_stack_env(stack_home())
    if args.bare:
        serve_bare(args.dataset, args.bare)
        return
    model, threads = champion(args.dataset), allowed_threads(2**16)
    rows = generated_rows(model, SINGLE_ROWS)
    path, one = f"/v1/models/{args.dataset}:predict", [rows.slice(number, 1) for number in range(SINGLE_ROWS)]
    coded = [json.dumps({"features": list(row.values())}).encode() for row in model.transform.apply(rows).to_pylist()]
    ports = free_port(), free_port()
    serve = [str(Path(sys.executable).parent / "boostline"), "serve", "--port", str(ports[0])]
    with (
        running(serve, ports[0], BOOSTLINE_SERVE_REQUESTS_PER_SECOND="1000000") as service,
        running([sys.executable, __file__, args.dataset, "--bare", str(ports[1])], ports[1]) as bare,
    ):
        targets = [
            Target("boostline serve", service, ports[0], [http(path, records(row)) for row in one]),
            Target("bare", bare, ports[1], [http("/bare", body) for body in coded]),
            Target("constant", bare, ports[1], [http("/constant", body) for body in coded]),
        ]
        single = single_rows(targets)  # first: it has warmed both when the highest rate is measured
        rate = highest_rate(targets[0])
        result = {
            "features": len(model.info.features),
            "trees": model.info.rounds,
            "processors": threads,
            "single": single,
            "highest_rate": rate,
            "highest_rate_bare": highest_rate(targets[1]),
            "half_rate": at_rate(targets[0], rate / 2),
            "half_rate_bare": at_rate(targets[1], rate / 2),
            "batch": batches(targets[0], model, threads),
        }
    show(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
