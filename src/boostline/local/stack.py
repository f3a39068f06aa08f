"""Start, stop and look at the embedded stack, from the command line, from tests and from the demo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boostline.errors import BoostlineError, EnvironmentUnfit, ServiceUnavailable
from boostline.local.java import find_java
from boostline.local.layout import Stack, keep_off_proxy, read_password, read_secrets, write_stack_env
from boostline.local.places import absolute, stack_home
from boostline.local.ports import Ports, check_free, ports_from_env
from boostline.local.processes import die_with_parent, is_locked
from boostline.local.services import ALL
from boostline.local.spark_conf import write_spark_conf
from boostline.local.supervisor import lock_path, state_path
from boostline.settings import Settings

STOP_WITHIN = 40.0
Progress = Callable[[dict[str, Any]], None]


def make_stack(home: Path | None = None, ports: Ports | None = None, datasets: Path | None = None) -> Stack:
    """The stack of this HOME; jars and archives come from the checkout's own HOME, whichever this one is.

    Args:
        home: Default `.boostline` in the checkout, or `BOOSTLINE_HOME`.
        ports: Default those of `ports_from_env`.
        datasets: Folder of dataset files; default that of the settings.
    """
    settings, own = Settings(), stack_home()
    where = absolute(home) if home else own
    return Stack(
        home=where,
        ports=ports or ports_from_env(),
        java_home=find_java().home,
        jars=absolute(settings.spark_jars) if settings.spark_jars else own / "jars",
        cds=absolute(settings.spark_cds) if settings.spark_cds else own / "cds",
        scratch=absolute(settings.spark_scratch) if settings.spark_scratch else where / "scratch",
        datasets=absolute(datasets or settings.datasets),
    )


@contextmanager
def running_stack(
    home: Path | None = None,
    ports: Ports | None = None,
    datasets: Path | None = None,
    services: Collection[str] = ALL,
    progress: Progress | None = None,
) -> Iterator[Stack]:
    """A stack for the time of a `with` block; set up before, and gone without a trace of a process after.

    It also stops when this process is killed.

    Raises:
        EnvironmentUnfit: A port is taken, something is missing, or a stack already runs in this HOME.
        ServiceUnavailable: A service does not start; names its log.
    """
    stack = make_stack(home, ports, datasets)
    _refuse_second(stack.home)
    start(stack, services, tied=True, progress=progress)
    try:
        yield stack
    finally:
        stop(stack.home)


def start(stack: Stack, services: Collection[str] = ALL, tied: bool = False, progress: Progress | None = None) -> None:
    """Start a stack's supervisor and wait until all services are ready.

    Args:
        stack: The stack.
        services: Which of `ALL`.
        tied: Stop when this process ends, in whatever way.
        progress: Called with the state whenever it changed.

    Raises:
        EnvironmentUnfit: A port is taken, set-up has not been run, or another stack of this HOME was quicker.
        ServiceUnavailable: A service does not start; names its log.
    """
    from boostline.local.databases import ensure_databases

    if not stack.jars.is_dir():
        raise EnvironmentUnfit(f"{stack.jars} is missing: the stack is not set up", "Run `make setup`")
    check_free(stack.ports)
    for folder in (stack.home / "logs", stack.home / "s3", stack.airflow_home, stack.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    read_secrets(stack)
    read_password(stack)
    if set(services) - {"s3", "spark-master", "spark-worker"}:
        ensure_databases(stack)
    write_spark_conf(stack)
    write_stack_env(stack)
    _refuse_second(stack.home)  # looked at again here: what follows would take a quicker one's state and log away
    state_path(stack.home).unlink(missing_ok=True)
    path = stack.home / "logs/supervisor.log"
    path.write_bytes(b"")
    with path.open("ab") as log:  # appended to, so that two which start together write over nothing of each other's
        process = subprocess.Popen(
            [sys.executable, "-m", "boostline.local.supervise", *services],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_supervisor_env(stack),
            start_new_session=True,
            preexec_fn=die_with_parent if tied else None,  # noqa: PLW1509 (it only makes a system call)
        )
    try:
        _wait_until_ready(stack, process, progress)
    except BaseException:  # Ctrl-C too: nothing that was started may stay
        if read_state(stack.home).get("pid") == process.pid:
            stop(stack.home)
        else:  # it has not begun, or another stack of this HOME was quicker, and is not ours to stop
            process.terminate()
            process.wait()
        raise


def stop(home: Path) -> bool:
    """Stop the stack of this HOME and wait until none of its processes is left.

    Returns:
        Whether there was one to stop.

    Raises:
        ServiceUnavailable: Processes are still there after 40 s.
    """
    if not is_running(home):
        return False
    deadline, told = time.monotonic() + STOP_WITHIN, 0
    while is_running(home):
        # The lock is held, so this is the supervisor, or it is dead and its guard is at work. A supervisor that has just
        # started may not have written its id yet.
        pid = int(read_state(home).get("pid", 0))
        if pid and pid != told:
            told = pid
            _signal(pid, signal.SIGTERM)
        if time.monotonic() > deadline:
            raise ServiceUnavailable(
                f"The stack in {home} has not stopped after {STOP_WITHIN:.0f} s", f"See {home / 'logs/supervisor.log'}"
            )
        time.sleep(0.1)
    if left := read_state(home).get("left"):
        raise ServiceUnavailable(f"These processes would not end: {', '.join(left)}", "End them by hand")
    return True


def current_stack() -> Stack:
    """The stack that runs in HOME, on the ports that it was started with."""
    found = read_state(stack_home()).get("ports")
    return make_stack(ports=Ports(**found) if found else None)


def is_running(home: Path) -> bool:
    """Whether the stack of this HOME has processes, starting or stopping included."""
    return home.is_dir() and is_locked(lock_path(home))


def read_state(home: Path) -> dict[str, Any]:
    """What the supervisor last wrote of itself and its services; empty if none ever ran here."""
    try:
        state: dict[str, Any] = json.loads(state_path(home).read_text())
    except FileNotFoundError:
        return {}
    return state


def _refuse_second(home: Path) -> None:
    if is_running(home):
        raise EnvironmentUnfit(f"A stack already runs in {home}", "Stop it with `make down`")


def _wait_until_ready(stack: Stack, process: subprocess.Popen[bytes], progress: Progress | None) -> None:
    seen: dict[str, Any] = {}
    while True:
        ended = process.poll() is not None
        state = read_state(stack.home)
        if state.get("pid") != process.pid:  # none yet, or that of another stack
            state = {}
        if progress and state != seen:
            progress(state)
        seen = state
        if state.get("state") == "ready":
            return
        if ended and state.get("error"):
            raise BoostlineError.from_dict(state["error"])
        if ended:
            _refuse_second(stack.home)
            raise ServiceUnavailable("The stack stopped while it started", f"See {stack.home / 'logs/supervisor.log'}")
        time.sleep(0.1)


def _supervisor_env(stack: Stack) -> dict[str, str]:
    """This process's environment, and what makes the same `Stack` of it; secrets are read from their file."""
    env = {
        **os.environ,
        **stack.ports.to_env(),
        "BOOSTLINE_HOME": str(stack.home),
        "BOOSTLINE_DATASETS": str(stack.datasets),
        "BOOSTLINE_SPARK_JARS": str(stack.jars),
        "BOOSTLINE_SPARK_CDS": str(stack.cds),
        "BOOSTLINE_SPARK_SCRATCH": str(stack.scratch),
        "JAVA_HOME": str(stack.java_home),
    }
    keep_off_proxy(env)
    return env


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
