"""`python -m boostline.local …`: the embedded stack on the command line; `make` calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from boostline.errors import BoostlineError
from boostline.local.layout import USER, Stack, keep_off_proxy, read_password
from boostline.local.places import stack_home
from boostline.local.setup import set_up
from boostline.local.stack import current_stack, is_running, make_stack, read_state, running_stack, start, stop
from boostline.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
out, err = Console(highlight=False), Console(stderr=True, highlight=False)


@app.command(epilog="Example: python -m boostline.local setup")
def setup() -> None:
    """Get Java, the S3 jars, the class-data archive and the databases; what is there is left alone."""
    began, worked = time.monotonic(), False
    with out.status("Setting up") as status:

        def say(name: str, needed: bool) -> None:
            nonlocal worked
            worked = worked or needed
            out.print(f"{'[cyan]makes[/]' if needed else '[green]has[/]  '} {escape(name)}")
            status.update(f"Setting up: {escape(name)}")

        set_up(say)
    if worked:
        out.print(f"Set up in {time.monotonic() - began:.0f} s")


@app.command(epilog="Example: python -m boostline.local up --detach")
def up(detach: Annotated[bool, typer.Option(help="Return when ready, rather than stay until Ctrl-C")] = False) -> None:
    """Start S3, Spark, MLflow and Airflow, and print where they are."""
    setup()
    home = stack_home()
    if is_running(home):
        out.print(f"The stack in {home} is up already")
        return _print_addresses(current_stack())
    if detach:
        stack = make_stack()
        with out.status("Starting") as status:
            start(stack, progress=lambda state: _progress(state, status))
        _print_addresses(stack)
        out.print("Stop it with: make down")
        return None
    signal.signal(signal.SIGHUP, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    with out.status("Starting") as status, running_stack(progress=lambda state: _progress(state, status)) as stack:
        status.stop()
        _print_addresses(stack)
        out.print("Stop it with Ctrl-C")
        _watch(stack.home)
    return None


@app.command(epilog="Example: python -m boostline.local down")
def down() -> None:
    """Stop the stack and everything that runs on it."""
    home = stack_home()
    with out.status("Stopping"):
        stopped = stop(home)
    out.print("Stopped, and no process is left" if stopped else f"No stack runs in {home}")


@app.command(epilog="Example: python -m boostline.local status")
def status() -> None:
    """Show the services with their memory (resident, in MiB, children included) and logs. Exit code 1 if one is down."""
    home = stack_home()
    if not is_running(home):
        out.print(f"No stack runs in {home}")
        raise typer.Exit(1)
    state = read_state(home)
    table = Table("service", "state", "pid", "MiB", "log", title=f"{state['state']}: {home}", title_justify="left")
    for name, service in state["services"].items():
        died = f"[red]died, exit code {service.get('exit')}[/]" if service.get("exit") is not None else "starting"
        said = "[green]ready[/]" if service["ready"] else died
        table.add_row(name, said, str(service["pid"]), _memory(service["pid"]), service["log"])
    out.print(table)
    _print_addresses(current_stack())
    if any(service.get("exit") is not None for service in state["services"].values()):
        raise typer.Exit(1)


@app.command(epilog="Example: python -m boostline.local demo")
def demo() -> None:
    """Start the stack, land 90 days of flights, train through Airflow, print the comparison, stop the stack."""
    from boostline.local.demo import run_demo

    setup()
    signal.signal(signal.SIGHUP, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    with out.status("Starting") as status, running_stack(progress=lambda state: _progress(state, status)) as stack:
        status.stop()
        path = run_demo(stack, out)
    out.print(f"The same as JSON: {path}")


@app.command(epilog="Example: python -m boostline.local demo-data")
def demo_data() -> None:
    """Land the demo's 90 days of flights, weather and aircraft in the lake that the environment names."""
    from boostline.local.demo import DATASET, DAY, DAYS, land_demo, make_files

    settings = Settings()
    with out.status(f"Landing {DAYS} days of flights"):
        land_demo(make_files(settings.home / "demo"))
    out.print(f"Landed {DAYS} days up to {DAY} below {settings.lake}/raw/{DATASET}")


def main() -> None:
    """Errors a person can mend are a message and exit code 1, never a stack trace."""
    keep_off_proxy(os.environ)
    try:
        app()
    except BoostlineError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except subprocess.TimeoutExpired as error:
        command = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd[:4]))
        err.print(f"[red]error:[/] {escape(command)} … took over {error.timeout:.0f} s")
        err.print("Check the network and what else this machine does, then try again")
        sys.exit(1)


def _print_addresses(stack: Stack) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("Airflow", f"{stack.airflow_url}   user {USER}, password {read_password(stack)}")
    table.add_row("MLflow", stack.mlflow_uri)
    table.add_row("S3", f"{stack.s3_endpoint}   keys in {stack.home / 'stack.env'}")
    table.add_row("Spark", f"{stack.spark_master}   http://127.0.0.1:{stack.ports.spark_master_ui}")
    table.add_row("Logs", str(stack.home / "logs"))
    out.print(table)


def _progress(state: dict[str, Any], status: Any) -> None:
    waiting = [name for name, service in state.get("services", {}).items() if not service["ready"]]
    status.update(f"Starting: waiting for {', '.join(waiting)}" if waiting else "Starting")
    if state.get("state") == "ready":
        out.print(f"Started in {state['seconds']:.0f} s")


def _watch(home: Path) -> None:
    """Stay until interrupted, or until the stack ends; say it when a service dies."""
    told: set[str] = set()
    try:
        while is_running(home):
            for name, service in read_state(home).get("services", {}).items():
                if service.get("exit") is not None and name not in told:
                    told.add(name)
                    err.print(f"[red]{name} died with exit code {service['exit']}[/], see {service['log']}")
            time.sleep(1)
    except KeyboardInterrupt:
        out.print("Stopping")


def _memory(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return f"{sum(member.memory_info().rss for member in family) / 2**20:.0f}"
    except psutil.NoSuchProcess:
        return ""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
