"""What all commands share: the application, its two consoles, options that recur, and how values are read."""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Annotated, Any

import typer
from rich.console import Console

from boostline.dataset import Dataset, dataset_path, load_dataset
from boostline.errors import RunDateInvalid
from boostline.lake.day import parse_day
from boostline.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
out, err = Console(highlight=False), Console(stderr=True, highlight=False)

DatasetName = Annotated[str, typer.Argument(help="A dataset: the name of a file in conf/datasets, without .yaml")]
DayOption = Annotated[str | None, typer.Option("--date", help="Data date, YYYY-MM-DD")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A field of the trigger form, such as rounds=50; makes an experiment")
]


def find_dataset(name: str) -> Dataset:
    """The dataset of that name."""
    return load_dataset(dataset_path(Settings().datasets, name))


def open_store() -> Any:
    """The lake."""
    from boostline.lake.store import Store

    return Store(Settings())


def parse_range(first: str, last: str) -> tuple[date, date]:
    """The two ends of `--from` and `--to`."""
    start, end = parse_day(first, "--from"), parse_day(last, "--to")
    if end < start:
        raise RunDateInvalid(f"--to {end} lies before --from {start}", "Swap them")
    return start, end


def print_json(value: Any) -> None:
    """Write JSON to standard output, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
