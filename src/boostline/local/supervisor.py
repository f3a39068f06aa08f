"""The process that owns a running stack: starts its services, watches them, and ends everything below them.

It leads a session of its own. A guard, forked before anything else, ends that session when the supervisor is killed, and
both hold the lock of HOME: whoever finds it free knows that nothing is left.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from boostline.errors import BoostlineError, EnvironmentUnfit, ServiceUnavailable
from boostline.local.layout import Stack
from boostline.local.places import write_private
from boostline.local.processes import adopt_orphans, die_with_parent, end_session, reap_orphans, take_lock
from boostline.local.services import Service

log = logging.getLogger(__name__)

POLL = 0.2  # seconds between two looks while starting
WATCH = 1.0  # and later
READY_WITHIN = 240  # seconds for each service
PATIENCE = 8.0  # seconds that services get to end by themselves


class Supervisor:
    """State of one running stack, and its copy in `HOME/stack.json`."""

    def __init__(self, stack: Stack, services: list[Service]) -> None:
        self.stack = stack
        self.services = services
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.state: dict[str, Any] = {
            "pid": os.getpid(),
            "state": "starting",
            "ports": stack.ports._asdict(),
            "services": {},
        }
        self.began = time.monotonic()

    def run(self) -> BoostlineError | None:
        """Start everything, watch until told to stop, end everything.

        Returns:
            Why the start failed, or None.
        """
        lock = take_lock(lock_path(self.stack.home))
        if lock is None:
            raise EnvironmentUnfit(f"A stack already runs in {self.stack.home}", "Stop it with `make down`")
        guard = _fork_guard()
        adopt_orphans()
        self._listen()
        error: BoostlineError | None = None
        try:
            self._start()
            self._note(state="ready", seconds=round(time.monotonic() - self.began, 1))
            self._watch()
        except BoostlineError as failure:
            error = failure
        finally:
            self._note(state="stopping")
            left = end_session(os.getsid(0), {os.getpid(), guard}, PATIENCE)
            names = [f"{process.pid} {process.name()}" for process in left]
            self._note(state="failed" if error else "stopped", error=error.to_dict() if error else None, left=names)
        return error

    def _listen(self) -> None:
        """Take signals as bytes in a pipe that is never emptied.

        A handler that sets a `threading.Event` can stop for ever: it may come while the event's own lock is held.
        """
        self.signals, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def _told_to_stop(self, seconds: float) -> bool:
        return bool(select.select([self.signals], [], [], seconds)[0])

    def _start(self) -> None:
        ready: set[str] = set()
        self._note()
        while len(ready) < len(self.services):
            for service in self.services:
                if service.name in ready:
                    continue
                if service.name not in self.running:
                    if service.after is None or service.after in ready:
                        self._launch(service)
                elif self._look(service):
                    ready.add(service.name)
            if self._told_to_stop(POLL):
                return

    def _launch(self, service: Service) -> None:
        path = self.stack.home / "logs" / f"{service.name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        with path.open("wb") as file:
            self.running[service.name] = subprocess.Popen(
                service.argv,
                env=service.env,
                cwd=self.stack.home,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (no thread runs here)
            )
        self._note_service(service.name, pid=self.running[service.name].pid, log=str(path), ready=False)

    def _look(self, service: Service) -> bool:
        """Whether the service has become ready.

        Raises:
            ServiceUnavailable: It ended, or took too long.
        """
        seconds = time.monotonic() - self.began
        where = self.state["services"][service.name]["log"]
        if (code := self.running[service.name].poll()) is not None:
            raise ServiceUnavailable(f"{service.name} ended with exit code {code} while it started", f"See {where}")
        if _answers(service):
            log.info("%s is ready after %.1f s", service.name, seconds)
            self._note_service(service.name, ready=True, seconds=round(seconds, 1))
            return True
        if seconds > READY_WITHIN:
            raise ServiceUnavailable(f"{service.name} is not ready after {READY_WITHIN} s", f"See {where}")
        return False

    def _watch(self) -> None:
        own = {process.pid for process in self.running.values()}
        while not self._told_to_stop(WATCH):
            for name, process in self.running.items():
                code = process.poll()
                if code is not None and self.state["services"][name].get("exit") is None:
                    where = self.state["services"][name]["log"]
                    log.error("%s died with exit code %s, see %s", name, code, where)
                    self._note_service(name, ready=False, exit=code)
            reap_orphans(own)

    def _note_service(self, name: str, **values: Any) -> None:
        self.state["services"].setdefault(name, {}).update(values)
        self._note()

    def _note(self, **values: Any) -> None:
        self.state.update(values)
        write_private(state_path(self.stack.home), json.dumps(self.state, indent=1))


def lock_path(home: Path) -> Path:
    """The file that is locked while a stack of this HOME has processes."""
    return home / "stack.lock"


def state_path(home: Path) -> Path:
    """What the supervisor says of itself and its services."""
    return home / "stack.json"


def _answers(service: Service) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return service.ready()
    except (httpx.HTTPError, BotoCoreError, ClientError):
        return False


def _fork_guard() -> int:
    """Fork a process that waits for the supervisor to go, and then ends what it left behind.

    Returns:
        The guard's process id.
    """
    mine, supervisors = os.pipe()
    guard = os.fork()
    if guard:
        os.close(mine)
        return guard
    os.close(supervisors)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(mine, 1)  # returns when the last copy of the other end is closed, however the supervisor ended
    end_session(os.getsid(0), {os.getpid()}, PATIENCE)
    os._exit(0)
