"""A real MLflow server for the tests of training and registry."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from boostline.lake.store import Store
from boostline.settings import Settings


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with a database and artifacts of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    argv += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(argv, env=environ, stdout=log, stderr=log, start_new_session=True)
    try:
        uri, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while not _healthy(uri):
            assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


@pytest.fixture
def settings(store: Store, mlflow_uri: str) -> Settings:
    """Settings of the fresh lake and the MLflow server."""
    return store.settings.model_copy(update={"mlflow_uri": mlflow_uri, "threads": 2})


def _healthy(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", timeout=1).is_success
    except httpx.TransportError:
        return False
