"""Real servers for the tests: started, waited for, and ended with all that they started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from boostline.local.places import stack_home


@contextmanager
def http_server(command: list[str], environ: Mapping[str, str], probe: str, log: Path) -> Iterator[None]:
    """A server in a process group of its own, from the moment that `probe` answers."""
    with log.open("wb") as sink:
        server = subprocess.Popen(command, env=environ, stdout=sink, stderr=sink, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        with httpx.Client(timeout=2) as client:
            while not _answers(client, probe):
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-8000:]
                time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, 15)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
            server.wait(10)


@contextmanager
def mlflow_server(folder: Path, port: int, *options: str, **environ: str) -> Iterator[str]:
    """Address of an MLflow server with a database and artifacts in a folder."""
    put_database("mlflow.db", folder)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), *options]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **environ}
    uri = f"http://127.0.0.1:{port}"
    with http_server(command, env, f"{uri}/health", folder / "log"):
        yield uri


def put_database(name: str, folder: Path) -> None:
    """Copy an empty database that set-up has made: a server takes many seconds to make its own."""
    fresh = stack_home() / "fresh" / name
    if fresh.exists():
        shutil.copy2(fresh, folder)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False
