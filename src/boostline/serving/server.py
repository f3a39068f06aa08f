"""One service process: settings, models, application, and a server that ends well."""

from __future__ import annotations

import logging
import signal
import sys
from time import gmtime, strftime

import uvicorn
from pydantic_core import to_json

from boostline.errors import EnvironmentUnfit
from boostline.serving.app import create_app
from boostline.serving.auth import check_exposure, token_check
from boostline.serving.models import Models
from boostline.serving.settings import ServeSettings
from boostline.settings import Settings


class JsonLines(logging.Formatter):
    """One JSON object a line, so that no text from outside can look like a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """A record with its `fields`."""
        when = f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(record.created))}.{int(record.msecs):03d}Z"
        line = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return to_json(line | getattr(record, "fields", {})).decode()


def serve(settings: Settings, serve_settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished.

    Raises:
        EnvironmentUnfit: The address is open to others and there is no tokens file; or it is taken.
    """
    check_exposure(serve_settings)
    check = token_check(serve_settings.tokens_file) if serve_settings.tokens_file else None
    _log_to_stderr()
    models = Models(settings, serve_settings)
    config = uvicorn.Config(
        create_app(models, serve_settings, check),
        host=serve_settings.host,
        port=serve_settings.port,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=serve_settings.shutdown_seconds,
    )
    server = uvicorn.Server(config)
    with models.following():
        # uvicorn raises the signal anew once it has stopped: ending as asked is a success, exit code 0.
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: None)
        try:
            server.run()
        except SystemExit as error:  # uvicorn's way to say that it cannot listen
            raise EnvironmentUnfit(
                f"the service cannot listen at {serve_settings.host}:{serve_settings.port}",
                "Choose another: boostline serve --port PORT",
            ) from error


def _log_to_stderr() -> None:
    # Nobody reads where in the code a line was logged, by which thread: finding that out took as long as the rest of it.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("boostline").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
