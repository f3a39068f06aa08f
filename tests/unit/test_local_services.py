"""When a service counts as ready."""

from __future__ import annotations

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from boostline.local.layout import Stack
from boostline.local.ports import Ports
from boostline.local.services import SPARK_MASTER, services

STARTING = [(503, b""), (200, b""), (200, b"<html>Spark Master</html>")]


@pytest.mark.parametrize(("status", "body"), [*STARTING, (200, b'{"status": "ALIVE"}')])
def test_a_spark_master_is_ready_once_it_answers_in_json(status: int, body: bytes, tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    stack = Stack(tmp_path, Ports(), Path("/java"), tmp_path, tmp_path, tmp_path, tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shown = replace(stack, ports=Ports()._replace(spark_master_ui=server.server_port))
        (master,) = [service for service in services(shown) if service.name == SPARK_MASTER]
        assert master.ready() is ((status, body) not in STARTING)
        server.shutdown()
