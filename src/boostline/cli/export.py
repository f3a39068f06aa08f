"""The registry's models as files for others: `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from boostline.cli.app import DatasetName, app, err, find_dataset, open_store, out
from boostline.settings import Settings


@app.command(epilog="Example: boostline export nyc_flights --format pmml --out nyc_flights.pmml")
def export(
    dataset: DatasetName,
    form: Annotated[
        Literal["pmml", "ubj", "json"],
        typer.Option("--format", help="pmml: one PMML 4.4 file. ubj, json: a folder with XGBoost's own file beside "
                                      "model.json and transform.json, which says what to do with raw columns"),
    ],
    path: Annotated[Path, typer.Option("--out", help="File or folder to write; what is there is never overwritten")],
    version: Annotated[str | None, typer.Option(help="A version's number; default: the champion")] = None,
    model: Annotated[
        Literal["xgboost", "baseline"], typer.Option(help="baseline: the one of the version's data date; no ubj")
    ] = "xgboost",
) -> None:  # fmt: skip
    """Write a model for use elsewhere, raw columns in, the same predictions out. Its SHA-256 is checked first."""
    from boostline.export.files import export_baseline, export_model

    if model == "baseline" and form == "ubj":
        raise typer.BadParameter("the baseline is no XGBoost model; write pmml or json", param_hint="--format")
    name, write = find_dataset(dataset).name, export_model if model == "xgboost" else export_baseline
    number = write(open_store(), Settings(), name, version, form, path)
    out.print(f"version {number} of {name}: {model} written to {path}", soft_wrap=True, markup=False)
    if form == "pmml":
        err.print("Any PMML 4.4 engine reads it. JPMML's, which it is tested with, is AGPL-3.0 and no part of Boostline: "
                  "pip install jpmml-evaluator", soft_wrap=True)  # fmt: skip
