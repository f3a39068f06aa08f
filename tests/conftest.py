"""A real S3 server (SeaweedFS) and a real MLflow server for every tier, and a lake of its own for each test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import copy
from secrets import token_hex
from typing import Any

import httpx
import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from boostline.lake.store import Store
from boostline.local.layout import BUCKET, S3_KEYS, Stack
from boostline.local.ports import free_ports
from boostline.local.services import S3
from boostline.local.stack import running_stack
from boostline.settings import Settings

SHARED = ("tests/plugins", "tests/serving")

# A slow moment of the machine is no failure.
hypothesis.settings.register_profile("boostline", deadline=None)
hypothesis.settings.load_profile("boostline")

# Whoever starts the tests in the background has Ctrl-C ignored, by them and by all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


class SharedServers(LoadFileScheduling):  # type: ignore[misc]
    """Files go to whichever worker is free; those whose tests share slow servers, to one of them."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.partition("::")[0].rpartition("/")[0]
        return folder if folder in SHARED else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What `--dist loadfile` uses; the other ways to distribute are left as they are."""
    return SharedServers(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The S3 server of an embedded stack; its keys are in the environment."""
    with (
        running_stack(tmp_path_factory.mktemp("s3"), free_ports(), services=(S3,)) as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in S3_KEYS:
            patch.setenv(name, stack.env[name])
        yield stack


@pytest.fixture(scope="session")
def first_store(s3: Stack) -> Store:
    return Store(Settings(lake=f"s3://{BUCKET}/first", s3_endpoint=s3.s3_endpoint))


@pytest.fixture
def store(first_store: Store) -> Store:
    """A fresh lake; its clients are everybody's, since making them takes longer than many a test."""
    fresh = copy(first_store)
    fresh.settings = first_store.settings.model_copy(update={"lake": f"s3://{BUCKET}/{token_hex(6)}"})
    return fresh


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
