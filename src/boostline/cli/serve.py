"""Answering over HTTP: `serve`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from boostline.cli.app import app
from boostline.settings import Settings


@app.command(epilog="Example: boostline serve --port 8000")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen at; default 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one; default 8000")] = None,
) -> None:
    """Serve predictions over HTTP, and follow the registry: whatever is promoted answers within seconds.

    Everything else is set by BOOSTLINE_SERVE_*: tokens, limits, A/B, shadow.
    """
    from boostline.serving.server import serve as run
    from boostline.serving.settings import ServeSettings

    given: dict[str, Any] = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    run(Settings(), ServeSettings(**given))
