"""A real S3 server (SeaweedFS) for every tier, and a lake of its own for each test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from secrets import token_hex

import pytest

from boostline.lake.store import Store
from boostline.local.layout import BUCKET, S3_KEYS, Stack
from boostline.local.ports import free_ports
from boostline.local.services import S3
from boostline.local.stack import running_stack
from boostline.settings import Settings

# Whoever starts the tests in the background has Ctrl-C ignored, by them and by all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def store(s3: Stack) -> Store:
    """A fresh lake."""
    return Store(Settings(lake=f"s3://{BUCKET}/{token_hex(6)}", s3_endpoint=s3.s3_endpoint))
