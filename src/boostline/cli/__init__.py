"""`boostline …`: land data, start runs, follow them, see what came out, and use the model."""

from __future__ import annotations

import os
import sys

from rich.markup import escape

from boostline.cli import export, models, notebook, pipeline, score, serve, start, stream  # noqa: F401 (each adds its commands)
from boostline.cli.app import app, err
from boostline.errors import BoostlineError


def main() -> None:
    """The console script: errors a person can mend are a message and exit code 1, never a stack trace."""
    from boostline.local.layout import keep_off_proxy, load_stack_env
    from boostline.local.places import stack_home

    keep_off_proxy(os.environ)
    try:
        load_stack_env(stack_home())
        app()
    except BoostlineError as error:
        err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
