"""However the stack ends, nothing of it is left. Real services, in a HOME and on ports of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from boostline.errors import EnvironmentUnfit, ServiceUnavailable
from boostline.local import services as service_list
from boostline.local.places import stack_home
from boostline.local.ports import HOST, free_ports
from boostline.local.stack import is_running, make_stack, read_state, running_stack, stop
from tests.e2e.conftest import wait_for

# Of the checkout, and not of the stack that other tests of the session put into the environment.
SHARED = stack_home()
SMALL = ("s3", "spark-master", "spark-worker")
HOLD = f"""
import sys, time
from pathlib import Path
from boostline.local.stack import running_stack
with running_stack(Path(sys.argv[1]), services={SMALL}):
    time.sleep(300)
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of a HOME and ports of one's own, with the checkout's jars and archive."""
    for name in [name for name in os.environ if name.startswith(("BOOSTLINE_", "AWS_"))]:
        monkeypatch.delenv(name)
    values = {
        **free_ports().to_env(),
        "BOOSTLINE_HOME": str(tmp_path / "home"),
        "BOOSTLINE_SPARK_JARS": str(SHARED / "jars"),
        "BOOSTLINE_SPARK_CDS": str(SHARED / "cds"),
        "COLUMNS": "200",  # no message is broken by the length of its path
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    yield dict(os.environ)
    stop(tmp_path / "home")


@pytest.fixture
def held(tmp_path: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a small stack, ready."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "home")], env=env, text=True) as process:

        def is_ready() -> bool:
            assert process.poll() is None, "the stack ended while it started"
            return bool(read_state(tmp_path / "home").get("state") == "ready")

        wait_for("a ready stack", is_ready, 120)
        yield process
        process.kill()


def session_of(home: Path) -> int:
    return int(read_state(home)["pid"])


def members(session: int) -> list[str]:
    """What still runs in a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_a_stack_outlives_a_service_refuses_a_second_one_and_ends_when_it_is_interrupted(
    held: subprocess.Popen[str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    os.kill(read_state(home)["services"]["spark-worker"]["pid"], signal.SIGKILL)
    wait_for("the exit code", lambda: read_state(home)["services"]["spark-worker"].get("exit") == -signal.SIGKILL, 10)
    assert read_state(home)["services"]["s3"].get("exit") is None
    assert "spark-worker died" in (home / "logs/supervisor.log").read_text()
    with (
        pytest.raises(EnvironmentUnfit, match="already runs in"),
        running_stack(home, free_ports(), services=("s3",)),
    ):
        pass
    assert is_running(home)
    ends_with(held, home, signal.SIGINT)


def test_a_stack_ends_with_the_process_that_holds_it(held: subprocess.Popen[str], tmp_path: Path) -> None:
    assert len(members(session_of(tmp_path / "home"))) >= 5  # supervisor, guard and three services
    ends_with(held, tmp_path / "home", signal.SIGKILL)


def ends_with(holder: subprocess.Popen[str], home: Path, number: signal.Signals) -> None:
    """The signal to the stack's holder ends all of the stack."""
    session = session_of(home)
    holder.send_signal(number)
    wait_for("the end of the stack", lambda: not is_running(home), 30)
    wait_for("no member of the session", lambda: not members(session), 5)


def test_a_killed_supervisor_takes_its_stack_along(held: subprocess.Popen[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    session = session_of(home)
    os.kill(session, signal.SIGKILL)
    wait_for("the end of the stack", lambda: not is_running(home), 30)
    assert members(session) == []
    assert stop(home) is False  # a state file that nobody stands behind is harmless
    held.kill()
    with running_stack(home, services=("s3",)) as stack:
        assert httpx.get(stack.s3_endpoint).status_code == 403


def test_a_taken_port_is_named_and_nothing_starts(tmp_path: Path, env: dict[str, str]) -> None:
    port = int(env["BOOSTLINE_PORT_MLFLOW"])
    with socket.socket() as sock:
        sock.bind((HOST, port))
        sock.listen()
        with pytest.raises(EnvironmentUnfit, match=f"port {port} for mlflow is in use"), running_stack(services=SMALL):
            pass
    assert not is_running(tmp_path / "home")


def test_a_service_that_cannot_start_is_named_with_its_log(tmp_path: Path, env: dict[str, str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "spark-work").write_text("a file where the worker wants a folder")
    with pytest.raises(ServiceUnavailable, match="(?s)spark-worker ended with exit code.*spark-worker.log"):
        running_stack(home, services=SMALL).__enter__()
    assert not is_running(home)


def test_missing_jars_say_to_set_up(env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOOSTLINE_SPARK_JARS", str(tmp_path / "none"))
    with pytest.raises(EnvironmentUnfit, match="(?s)not set up.*make setup"), running_stack(services=SMALL):
        pass


@contextmanager
def killing(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process whose block failed; `Popen` alone would wait for it."""
    try:
        yield
    finally:
        process.kill()


def test_up_shows_where_everything_is_and_ctrl_c_ends_all(tmp_path: Path, env: dict[str, str]) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "boostline.local"]
    with subprocess.Popen([*command, "up"], env=env, stdout=subprocess.PIPE, text=True) as process, killing(process):
        wait_for("a ready stack", lambda: read_state(home).get("state") == "ready", 240)
        session, stack = session_of(home), make_stack()
        assert httpx.get(f"{stack.mlflow_uri}/health").is_success
        again = subprocess.run([*command, "up"], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (again.returncode, "is up already" in again.stdout) == (0, True)
        elsewhere = {key: value for key, value in env.items() if not key.startswith("BOOSTLINE_PORT_")}
        shown = subprocess.run(
            [*command, "status"], env=elsewhere, capture_output=True, text=True, timeout=60, check=False
        )
        assert shown.returncode == 0
        assert stack.airflow_url in shown.stdout
        for name in service_list.ALL:
            assert name in shown.stdout
        listening = {
            connection.laddr.ip
            for pid in {int(line.split()[0]) for line in members(session)}
            for connection in psutil.Process(pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    password = json.loads(stack.passwords.read_text())["admin"]
    assert stack.airflow_url in printed
    assert f"password {password}" in printed
    assert process.returncode == 0
    assert not is_running(home)
    assert members(session) == []
    for log in (home / "logs").rglob("*.log"):
        for secret in (password, stack.env["AWS_SECRET_ACCESS_KEY"]):
            assert secret not in log.read_text(errors="replace"), log


def test_down_ends_a_detached_stack_from_another_terminal_twice(tmp_path: Path, env: dict[str, str]) -> None:
    home, command = tmp_path / "home", [sys.executable, "-m", "boostline.local"]
    subprocess.run([*command, "up", "--detach"], env=env, check=True, timeout=300, stdout=subprocess.DEVNULL)
    session = session_of(home)
    assert len(members(session)) >= 10
    for said in ("Stopped, and no process is left", "No stack runs in"):
        down = subprocess.run([*command, "down"], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (down.returncode, said in down.stdout) == (0, True)
        assert members(session) == []
