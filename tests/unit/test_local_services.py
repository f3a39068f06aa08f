"""When a service counts as ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from boostline.local.layout import Stack
from boostline.local.ports import Ports
from boostline.local.services import SPARK_MASTER, services

STARTING = [(503, b""), (200, b""), (200, b"<html>Spark Master</html>")]


@contextmanager
def answering(answers: dict[str, tuple[int, bytes]]) -> Iterator[int]:
    """A server that answers so by path, 404 elsewhere; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def is_ready(name: str, folder: Path, ports: Ports) -> bool:
    stack = Stack(folder, ports, Path("/java"), folder, folder, folder, folder)
    (found,) = [service for service in services(stack) if service.name == name]
    return found.ready()


@pytest.mark.parametrize(("status", "body"), [*STARTING, (200, b'{"status": "ALIVE"}')])
def test_a_spark_master_is_ready_once_it_answers_in_json(status: int, body: bytes, tmp_path: Path) -> None:
    with answering({"/json/": (status, body)}) as port:
        ready = is_ready(SPARK_MASTER, tmp_path, Ports()._replace(spark_master_ui=port))
    assert ready is ((status, body) not in STARTING)


@pytest.mark.parametrize("status", [503, 200])
def test_airflows_server_is_ready_once_it_answers_tasks_too(status: int, tmp_path: Path) -> None:
    """That part is made when it is first asked, which takes seconds; its pages are there long before."""
    people = {"/api/v2/monitor/health": (200, b"{}"), "/api/v2/version": (200, b"{}")}
    with answering(people | {"/execution/health": (status, b"{}")}) as port:
        assert is_ready("airflow-api", tmp_path, Ports()._replace(airflow=port)) is (status == 200)
