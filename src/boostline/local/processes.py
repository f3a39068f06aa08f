"""Processes: running one into a log, dying with a parent, and ending all of a session."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil

from boostline.errors import EnvironmentUnfit

RUN_WITHIN = 900
"""Seconds; on two idle cores the longest program, which fills the class-data archive, takes about 30."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def run_logged(what: str, command: list[str], env: dict[str, str], log: Path) -> None:
    """Run a program to its end, and add what it says to a log.

    Args:
        what: Its name in an error.
        command: Runs in the log's folder, so that Python imports nothing from where the person stands.
        env: Its environment.
        log: The file.

    Raises:
        EnvironmentUnfit: It failed, or took over `RUN_WITHIN`; names the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as file:
            done = subprocess.run(
                command, env=env, cwd=log.parent, stdout=file, stderr=file, timeout=RUN_WITHIN, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentUnfit(f"{what} took over {RUN_WITHIN} s", f"See {log}") from error
    if done.returncode:
        raise EnvironmentUnfit(f"{what} ended with exit code {done.returncode}", f"See {log}")


def die_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent dies (Linux)."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies (Linux)."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def take_lock(path: Path) -> int | None:
    """Lock a file for as long as this process, or one that it forks without exec, lives.

    Returns:
        The open descriptor, or None if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock."""
    descriptor = take_lock(path)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def session_members(session: int, keep: set[int]) -> list[psutil.Process]:
    """Processes of the session, and descendants of this process that left it; zombies and those to keep excluded."""
    found = {process.pid: process for process in psutil.Process().children(recursive=True)}
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session:
                found.setdefault(pid, psutil.Process(pid))
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return [process for pid, process in found.items() if pid not in keep and _is_alive(process)]


def end_session(session: int, keep: set[int], patience: float) -> list[psutil.Process]:
    """End every process of the session: SIGTERM, then SIGKILL after `patience` seconds.

    Returns:
        Processes that are still there 5 s after SIGKILL; empty unless the kernel holds them.
    """
    _signal_until_gone(session, keep, signal.SIGTERM, patience, again=patience)
    return _signal_until_gone(session, keep, signal.SIGKILL, 5, again=0.5)


def reap_orphans(own: set[int]) -> None:
    """Clear adopted processes that have ended; those in `own` are left to their Popen."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, 0)


def _signal_until_gone(
    session: int, keep: set[int], number: int, patience: float, again: float
) -> list[psutil.Process]:
    deadline, signalled = time.monotonic() + patience, -again
    while members := session_members(session, keep):
        now = time.monotonic()
        if now >= deadline:
            break
        if now - signalled >= again:
            signalled = now
            for process in members:
                try:
                    process.send_signal(number)
                except psutil.NoSuchProcess:
                    continue
        reap_orphans(set())
        time.sleep(0.1)
    return members


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
