"""Real servers: S3, MLflow with promoted toy models, and `boostline serve` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pyarrow as pa
import pytest
import yaml

from boostline.lake.store import Store
from boostline.local.layout import BUCKET, Stack
from boostline.registry.promotion import promote_by_hand
from boostline.registry.versions import find_version, load_version
from boostline.scoring.model_file import Model
from boostline.settings import Settings
from boostline.tracking import tracking
from tests.model_lab import toy_dataset, toy_rows
from tests.pipeline_lab import Pipeline

TASKS = ("regression", "binary", "multiclass")


@dataclass
class World:
    """A lake and a registry with three promoted models; regression has a second version."""

    store: Store
    settings: Settings
    pipelines: dict[str, Pipeline]

    def model(self, task: str, version: str = "1") -> Model:
        """A version, loaded as every other path loads it."""
        return load_version(self.store, find_version(self.settings, task, version))

    def alias(self, task: str, alias: str, version: str) -> None:
        """Point an alias at a version, as a person does in MLflow."""
        with tracking(self.settings) as mlflow:
            mlflow.set_alias(task, alias, version)

    def promote(self, task: str, version: str) -> None:
        """What `boostline promote` does."""
        promote_by_hand(self.store, self.settings, task, version, reason="test", who="test")


@dataclass
class Server:
    """A running `boostline serve`."""

    process: subprocess.Popen[bytes]
    log: Path
    client: httpx.Client = field(init=False)
    url: str = ""

    def lines(self) -> list[dict[str, Any]]:
        """What it logged: every line is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def line(self, request: str) -> dict[str, Any]:
        """The one line of a request; it is written after the answer."""

        def lines() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line.get("request") == request and line["message"] == "request"]

        (found,) = wait_for(f"the line of {request}", lines, 10)
        return found

    def model(self, dataset: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/models/{dataset}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def predict(self, dataset: str, rows: pa.Table | list[dict[str, Any]], **kwargs: Any) -> httpx.Response:
        """Ask in JSON records."""
        records = rows if isinstance(rows, list) else json.loads(json.dumps(rows.to_pylist(), default=str))
        return self.client.post(f"/v1/models/{dataset}:predict", json={"records": records}, **kwargs)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture(scope="session")
def world(s3: Stack, mlflow_uri: str) -> World:
    store = Store(Settings(lake=f"s3://{BUCKET}/{token_hex(6)}", s3_endpoint=s3.s3_endpoint))
    settings = store.settings.model_copy(update={"mlflow_uri": mlflow_uri, "threads": 2})
    pipelines = {
        task: Pipeline(store, settings, toy_dataset(task, task, **{"gate.beat_champion": -0.9})) for task in TASKS
    }
    for task in TASKS:
        _, outcome = pipelines[task].run("2020-03-30")
        assert outcome["promoted"]
    features, model = pipelines["regression"].train("2020-03-31", seed=5)
    pipelines["regression"].judge("2020-03-31", features, model)
    return World(store, settings, pipelines)


def raw_rows(task: str, count: int = 1000, seed: int = 7) -> pa.Table:
    """Raw rows of a task with nulls, unseen categories and extreme values."""
    table = toy_rows(task, count, seed, new_city=True).drop_columns(["_label"])
    size = table.column("size").to_pylist()
    size[: min(4, count)] = [1e300, -1e300, 5e-324, 0.0][:count]
    return table.set_column(table.column_names.index("size"), "size", pa.array(size, pa.float64()))


@contextmanager
def serving(
    world: World, home: Path, *, datasets: tuple[str, ...] = TASKS, ready: bool = True, port: str = "0", **environ: str
) -> Iterator[Server]:
    """Run `boostline serve` on a free port; `environ` without the prefix BOOSTLINE_."""
    home.mkdir(parents=True, exist_ok=True)
    folder = home / "datasets"
    folder.mkdir(exist_ok=True)
    for name in datasets:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name}))
    values = {
        "HOME": str(home),
        "LAKE": world.settings.lake,
        "S3_ENDPOINT": str(world.settings.s3_endpoint),
        "MLFLOW_URI": world.settings.mlflow_uri,
        "DATASETS": str(folder),
        "SERVE_POLL_SECONDS": "0.3",
        "SERVE_REQUESTS_PER_SECOND": "100000",
        **environ,
    }
    log = home / "log"
    command = [str(Path(sys.executable).parent / "boostline"), "serve", "--port", port]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env={**os.environ, **{f"BOOSTLINE_{key}": value for key, value in values.items()}}, stderr=sink
        )
    server = Server(process, log)
    try:
        server.url = wait_for("the service", lambda: _address(server), 60)
        server.client = httpx.Client(base_url=server.url, timeout=30)
        if ready:
            wait_for("readiness", lambda: server.client.get("/health/ready").status_code == 200, 30)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(45)
        if server.url:
            server.client.close()


def _address(server: Server) -> str | None:
    assert server.process.poll() is None, server.log.read_text()
    text = server.log.read_text()
    if "Uvicorn running on " not in text:
        return None
    return text.split("Uvicorn running on ")[1].split(" ")[0]


def wait_for(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """What a condition gives once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


class Forwarder:
    """A way to MLflow that can be cut: what a service sees of a server that was killed."""

    def __init__(self, uri: str) -> None:
        host, _, port = uri.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self.port = 0
        self._open: list[socket.socket] = []
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        for item in (self._listener, *self._open):
            with suppress(OSError):  # not connected any more
                item.shutdown(socket.SHUT_RDWR)
            item.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                ours = listener.accept()[0]
            except OSError:
                return
            theirs = socket.create_connection(self._target)
            self._open += [ours, theirs]
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
