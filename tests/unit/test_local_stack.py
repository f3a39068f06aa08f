"""Two stacks that are started in one HOME at the same moment: one runs, and the other says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import httpx
import pytest

from boostline.errors import EnvironmentUnfit
from boostline.local.layout import Stack
from boostline.local.ports import Ports, free_ports
from boostline.local.services import S3
from boostline.local.stack import is_running, make_stack, read_state, start, stop

START = """
import sys
from boostline.errors import EnvironmentUnfit
from boostline.local.stack import make_stack, start
stack = make_stack()
print("prepared", flush=True)
sys.stdin.readline()
try:
    start(stack, ("s3",))
except EnvironmentUnfit as error:
    sys.exit(str(error))
"""


def starter(home: Path, ports: Ports) -> subprocess.Popen[str]:
    """A process that starts a stack as soon as it is given a line."""
    shared = make_stack(home)
    env = {**os.environ, **ports.to_env(), "BOOSTLINE_HOME": str(home), "BOOSTLINE_SPARK_JARS": str(shared.jars)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", START], env=env, text=True, **pipes)
    assert process.stdout and process.stdout.readline() == "prepared\n"
    return process


def test_the_slower_of_two_that_start_together_leaves_the_other_alone(tmp_path: Path) -> None:
    home, ports = tmp_path / "home", [free_ports(), free_ports()]
    both = [starter(home, own) for own in ports]
    try:
        for process in both:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        told = [process.communicate(timeout=120)[1] for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 1], told
        assert "already runs in" in told[codes.index(1)] and "make down" in told[codes.index(1)]
        running = ports[codes.index(0)]
        assert is_running(home)
        assert (read_state(home)["state"], read_state(home)["ports"]) == ("ready", running._asdict())
        assert httpx.get(f"http://127.0.0.1:{running.s3}").status_code == 403
    finally:
        stop(home)


def test_one_that_runs_keeps_its_state_and_log_when_another_is_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    try:
        start(make_stack(home, free_ports()), (S3,))
        state, log = read_state(home), (home / "logs/supervisor.log").read_text()
        with pytest.raises(EnvironmentUnfit, match="already runs in"):
            start(make_stack(home, free_ports()), (S3,))
        assert state["state"] == "ready" and log
        assert (read_state(home), (home / "logs/supervisor.log").read_text()) == (state, log)
    finally:
        stop(home)


def test_a_stack_starts_behind_a_proxy(tmp_path: Path) -> None:
    home, proxy = tmp_path / "home", "http://127.0.0.1:9"
    with mock.patch.dict(os.environ, http_proxy=proxy, https_proxy=proxy, no_proxy="", NO_PROXY=""):
        try:
            start(make_stack(home, free_ports()), (S3,))
            assert read_state(home)["state"] == "ready"
        finally:
            stop(home)


def test_a_start_that_is_called_off_at_once_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupt(stack: Stack, process: subprocess.Popen[bytes], progress: object) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr("boostline.local.stack._wait_until_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(make_stack(tmp_path / "home", free_ports()), (S3,))
    assert [process.poll() for process in started] == [-signal.SIGTERM]
    assert not is_running(tmp_path / "home")
