"""Exploring and learning: `notebook`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from boostline.cli.app import app, err
from boostline.errors import EnvironmentUnfit

if TYPE_CHECKING:
    from boostline.local.layout import Stack

PORT = 8890


@app.command(epilog="Example: boostline notebook --no-browser")
def notebook(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1")] = PORT,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is one")] = True,
) -> None:
    """Open Jupyter in notebooks/ with the environment of the running stack, until Ctrl-C. It prints its address."""
    from boostline.local.places import ROOT, stack_home
    from boostline.local.ports import HOST, is_free
    from boostline.local.stack import current_stack, is_running

    if find_spec("jupyterlab") is None:
        raise EnvironmentUnfit("Jupyter is not installed here", "Run `make setup`, or: pip install jupyterlab")
    if not is_running(stack_home()):
        raise EnvironmentUnfit(f"No stack runs in {stack_home()}", "Start it with `make up`")
    if not is_free(port):
        raise EnvironmentUnfit(f"Port {port} is in use", "End the program that uses it, or give another one: --port")
    stack = current_stack()
    err.print(f"Jupyter on the cluster {stack.spark_master}; Ctrl-C ends it and its sessions")
    options = [
        f"--ServerApp.root_dir={ROOT / 'notebooks'}",
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.open_browser={browser}",
        "--ServerApp.answer_yes=True",  # Ctrl-C ends it without a question
        "--ServerApp.allow_root=True",  # as the rest of the stack
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", "jupyterlab", *options], notebook_env(stack))  # noqa: S606


def notebook_env(stack: Stack) -> dict[str, str]:
    """The environment of a notebook's kernel: the stack's, with the addresses of its cluster and of its MLflow."""
    from boostline.local.layout import spark_env

    env = spark_env(stack)
    return {"BOOSTLINE_SPARK_MASTER": stack.spark_master, **env, "MLFLOW_TRACKING_URI": stack.mlflow_uri}
