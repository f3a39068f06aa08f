"""Starting with a dataset: `check` and `init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from boostline.cli.app import app, out
from boostline.dataset import dataset_files, dataset_path, load_dataset
from boostline.errors import BoostlineError
from boostline.settings import Settings


@app.command(epilog="Example: boostline check nyc_flights")
def check(
    dataset: Annotated[str | None, typer.Argument(help="Only this dataset's file")] = None,
    offline: Annotated[bool, typer.Option(help="Only files, no connections")] = False,
) -> None:
    """Check dataset files, S3, MLflow and Airflow; says what is wrong and what to do."""
    from boostline.orchestration.check import connection_checks

    folder = Settings().datasets
    files = [dataset_path(folder, dataset)] if dataset else dataset_files(folder)
    checks: list[tuple[str, Any]] = [(f"dataset {path.stem}", lambda path=path: load_dataset(path)) for path in files]
    checks += [] if offline else connection_checks(Settings())
    failed = 0
    for name, probe in checks:
        try:
            probe()
            out.print(f"[green]ok[/]    {name}")
        except BoostlineError as error:
            failed += 1
            out.print(f"[red]wrong[/] {name}: {escape(str(error))}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@app.command(epilog="Example: boostline init houses.csv --label price")
def init(
    file: Annotated[Path, typer.Argument(help="A CSV file with a header")],
    label: Annotated[str, typer.Option(help="The column to predict")],
    name: Annotated[str | None, typer.Option(help="Name of the dataset; default: from the file")] = None,
    id_column: Annotated[list[str] | None, typer.Option("--id", help="Column(s) that identify a row")] = None,
) -> None:
    """Write a first dataset file from a sample of the data."""
    from boostline.dataset.draft import draft_dataset

    path = draft_dataset(file, label, Settings().datasets, name=name, id_columns=id_column or [])
    out.print(f"wrote {path}\nRead it, then: boostline land {path.stem} {file} --date YYYY-MM-DD")
