"""Ending a session leaves nothing behind, however stubborn or orphaned."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from boostline.errors import EnvironmentUnfit
from boostline.local.processes import end_session, is_locked, run_logged, session_members, take_lock

STUBBORN = textwrap.dedent("""
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if len(sys.argv) > 1:
        subprocess.Popen([sys.executable, __file__], process_group=0)
        os._exit(0)
    time.sleep(60)
    """)


def wait_for(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def others() -> set[int]:
    """What this test process has started before: servers of other tests."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_a_program_that_fails_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs/greet.log"
    run_logged("Greeting", ["echo", "hello"], {}, log)
    with pytest.raises(EnvironmentUnfit, match=r"Greeting ended with exit code 3\.\nSee .*/logs/greet.log"):
        run_logged("Greeting", ["sh", "-c", "echo again; exit 3"], {}, log)
    assert log.read_text() == "hello\nagain\n"


def test_a_deaf_orphan_of_the_session_is_killed(tmp_path: Path) -> None:
    keep = others()
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    with subprocess.Popen([sys.executable, str(script), "fork"], start_new_session=True) as parent:
        parent.wait(timeout=20)
    wait_for(lambda: session_members(parent.pid, keep))
    [orphan] = session_members(parent.pid, keep)
    assert orphan.ppid() != parent.pid
    time.sleep(0.5)  # until it ignores SIGTERM
    assert end_session(parent.pid, keep, patience=0.5) == []
    wait_for(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


def test_processes_to_keep_are_kept() -> None:
    keep = others()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as process:
        assert end_session(process.pid, {*keep, process.pid}, patience=0.2) == []
        assert process.poll() is None
        process.kill()


def test_a_lock_is_held_until_its_last_holder_ends(tmp_path: Path) -> None:
    path = tmp_path / "stack.lock"
    assert not is_locked(path)
    lock = take_lock(path)
    assert lock is not None
    assert take_lock(path) is None
    child = os.fork()
    if not child:
        time.sleep(1)
        os._exit(0)
    os.close(lock)
    assert is_locked(path)
    os.waitpid(child, 0)
    assert not is_locked(path)
