"""A real S3 server (SeaweedFS) and a real MLflow server for every tier, and a lake of its own for each test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from copy import copy
from secrets import token_hex
from typing import Any
from unittest import mock

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from boostline.lake.store import Store
from boostline.local.layout import BUCKET, S3_KEYS, Stack
from boostline.local.ports import free_ports
from boostline.local.services import S3
from boostline.local.stack import running_stack
from boostline.settings import Settings
from tests.servers import mlflow_server

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


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test leaves in the environment ends with it: the command line takes over that of a stack set up in this checkout."""
    with mock.patch.dict(os.environ):
        yield


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
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), free_ports().mlflow) as uri:
        yield uri


@pytest.fixture
def settings(store: Store, mlflow_uri: str) -> Settings:
    """Settings of the fresh lake and the MLflow server."""
    return store.settings.model_copy(update={"mlflow_uri": mlflow_uri, "threads": 2})
