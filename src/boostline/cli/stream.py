"""Scoring rows as they come: `stream`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from tenacity import RetryCallState, Retrying, retry_if_result, wait_exponential

from boostline.cli.app import DatasetName, app, err, find_dataset
from boostline.lake.job import EXIT_RETRY
from boostline.settings import Settings


@app.command(epilog="Example: boostline stream nyc_flights")
def stream(
    dataset: DatasetName,
    once: Annotated[bool, typer.Option(help="Score what is there, then end")] = False,
) -> None:
    """Score rows as they come, until Ctrl-C. It goes on where it was when it is started again, with nothing twice."""
    spec, settings = find_dataset(dataset), Settings()
    master = settings.spark_master
    conf = [part for key, value in spec.spark.properties.items() for part in ("--conf", f"{key}={value}")]
    submit = str(Path(sys.executable).with_name("spark-submit"))
    command = [
        submit,
        "--master",
        master,
        *conf,
        # Spark deletes no log of an application that still runs, and this one would write to its own for ever.
        "--conf",
        "spark.eventLog.enabled=false",
        str(settings.jobs / "score_stream.py"),
    ]
    command += ["--dataset", spec.name, *(["--once"] if once else [])]
    err.print(f"{spec.name}: scoring what comes, on {master}; Ctrl-C stops it")
    try:
        code = Retrying(
            retry=retry_if_result(lambda code: code == EXIT_RETRY),
            wait=wait_exponential(multiplier=2, max=60),
            before_sleep=_say_again,
        )(lambda: subprocess.run(command, env=_spark_env(), check=False).returncode)
    except KeyboardInterrupt:
        err.print("\nStopped. Start it again, and it goes on where it was.")
        raise typer.Exit(130) from None
    if code:
        err.print("[red]The stream ended[/]; the lines above say why")
        raise typer.Exit(1)


def _say_again(state: RetryCallState) -> None:
    seconds = state.next_action.sleep if state.next_action else 0
    err.print(f"[yellow]The stream ended with a fault that may pass; it starts again in {seconds:.0f} s[/]")


def _spark_env() -> dict[str, str]:
    """The embedded stack's environment where one is up, else this process's own."""
    from boostline.local.layout import spark_env
    from boostline.local.places import stack_home
    from boostline.local.stack import current_stack, is_running

    return spark_env(current_stack()) if is_running(stack_home()) else dict(os.environ)
