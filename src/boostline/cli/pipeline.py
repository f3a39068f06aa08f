"""Data and runs: `land`, `run`, `backfill`, `runs`, `cancel`, `show`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from boostline.cli.app import (
    DatasetName,
    DayOption,
    JsonOption,
    SetOption,
    app,
    err,
    find_dataset,
    open_store,
    out,
    parse_range,
    print_json,
)
from boostline.errors import DataMissing, FailError, RunDateInvalid
from boostline.lake.day import parse_day
from boostline.settings import Settings


@app.command(epilog="Example: boostline land nyc_flights flights.csv --date 2013-03-31")
def land(
    dataset: DatasetName,
    files: Annotated[list[Path], typer.Argument(help="Local files; their names are kept")],
    day: Annotated[str | None, typer.Option("--date", help="Data date, YYYY-MM-DD; none for a reference table")] = None,
    table: Annotated[str | None, typer.Option(help="Table; default: the daily one")] = None,
) -> None:
    """Put raw files where ingest looks. Landing the same file twice changes nothing."""
    from boostline.lake.raw import land as land_files

    spec, when = find_dataset(dataset), parse_day(day, "--date") if day else None
    addresses = land_files(open_store(), spec, table or spec.daily_table, files, when)
    for address in addresses:
        out.print(f"landed {address}", soft_wrap=True)


@app.command(epilog="Example: boostline run nyc_flights --date 2013-03-31")
def run(
    dataset: DatasetName,
    day: Annotated[str, typer.Option("--date", help="Data date, YYYY-MM-DD")],
    changes: SetOption = None,
    publish: Annotated[bool, typer.Option(help="Publish an experiment")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train for one data date through Airflow, followed live. Exit code 1 if the run fails; a gate's no is no failure."""
    from boostline.orchestration.client import AirflowClient
    from boostline.orchestration.follow import follow_run
    from boostline.reporting.terminal import run_summary

    spec = find_dataset(dataset)
    when, conf = parse_day(day, "--date"), _conf(changes, publish)
    client, dag_id = AirflowClient(Settings()), f"{spec.name}_train"
    client.ready_dag(dag_id)
    run_id = client.trigger(dag_id, when, conf)
    err.print(f"{dag_id} {when}: {client.url}/dags/{dag_id}/runs/{run_id}", soft_wrap=True)
    try:
        follow_run(client, dag_id, run_id, err)
    except KeyboardInterrupt:
        err.print(f"\nThe run goes on. End it with: boostline cancel {run_id}")
        raise typer.Exit(130) from None
    result = _result_of_run(client, dag_id, run_id)
    if result is None:
        err.print(f"[yellow]{when} was skipped: no raw data, and the dataset says on_missing: skip[/]")
    if as_json:
        print_json(result)
    elif result is not None:
        out.print(run_summary(result))


@app.command(epilog="Example: boostline backfill nyc_flights --from 2013-03-25 --to 2013-03-31")
def backfill(
    dataset: DatasetName,
    first: Annotated[str, typer.Option("--from", help="First data date, YYYY-MM-DD")],
    last: Annotated[str, typer.Option("--to", help="Last data date, included")],
    changes: SetOption = None,
    publish: Annotated[bool, typer.Option(help="Publish an experiment")] = False,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at a time")] = 2,
) -> None:
    """Train for every date of a range, also those that ran before: what is up to date is not done again."""
    from boostline.orchestration.client import AirflowClient
    from boostline.orchestration.follow import follow_backfill

    spec = find_dataset(dataset)
    start, end = parse_range(first, last)
    if end > (today := datetime.now(UTC).date()):  # Airflow would keep its run queued until that day
        raise RunDateInvalid(f"--to {end} lies in the future: today is {today} (UTC)", f"Give --to {today} or earlier")
    conf = _conf(changes, publish)
    client, dag_id = AirflowClient(Settings()), f"{spec.name}_train"
    client.ready_dag(dag_id)
    started = client.backfill(dag_id, start, end, max_active=parallel, conf=conf)
    try:
        runs = follow_backfill(client, dag_id, start, end, out)
    except KeyboardInterrupt:
        client.cancel_backfill(started["id"])
        err.print("\nThe backfill is cancelled; runs that had started go on.")
        raise typer.Exit(130) from None
    failed = sorted(day for day, item in runs.items() if item["state"] != "success")
    if older := sorted(day for day, item in runs.items() if (item["queued_at"] or "") < started["created_at"]):
        told = f"under way already, so not started anew: {', '.join(older)}; start those again where that matters"
        err.print(f"[yellow]{told}[/]", soft_wrap=True)
    out.print(f"{len(runs) - len(failed)} of {len(runs)} dates succeeded")
    if failed:
        err.print(f"[red]failed: {', '.join(failed)}[/]; see `boostline runs {dataset}`")
        raise typer.Exit(1)


@app.command(epilog="Example: boostline runs nyc_flights")
def runs(
    dataset: DatasetName,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest runs with their state."""
    from boostline.orchestration.client import AirflowClient

    spec = find_dataset(dataset)
    found = AirflowClient(Settings()).runs(f"{spec.name}_train", limit=limit)
    keys = ("partition_key", "state", "run_type", "start_date", "duration", "dag_run_id")
    rows = [{key: item[key] for key in keys} | {"date": _run_date(item)} for item in found]
    if as_json:
        return print_json(rows)
    table = Table("date", "state", "kind", "started", "seconds")
    table.add_column("run", overflow="fold")
    for row in rows:
        seconds = f"{row['duration']:.0f}" if row["duration"] else ""
        cells = (row["date"], row["state"], row["run_type"], (row["start_date"] or "")[:19], seconds, row["dag_run_id"])
        table.add_row(*(str(cell or "") for cell in cells))
    out.print(table if rows else f"{spec.name}_train has no runs yet")
    return None


@app.command(epilog="Example: boostline cancel manual__2026-03-31T07:43:01.184055+00:00__i0jFT7Rc")
def cancel(
    run_id: Annotated[str, typer.Argument(help="A run's id, as `boostline runs` lists it")],
    dataset: Annotated[str | None, typer.Option(help="Its dataset; default: looked for in all")] = None,
) -> None:
    """End a run; its Spark driver and executors end with it."""
    from boostline.orchestration.client import TERMINAL, AirflowClient

    client = AirflowClient(Settings())
    # The dataset is all before the last underscore: `meters` has no part in the DAG meters_daily_train.
    dags = [dag for dag in client.dag_ids() if dataset in (None, dag.rpartition("_")[0])]
    found = [(dag, item) for dag in dags if (item := client.find_run(dag, run_id))]
    if not found:
        raise DataMissing(f"no run has the id {run_id!r}", "`boostline runs DATASET` lists them")
    if len(found) > 1:  # an id is unique within a DAG only
        raise FailError(
            f"several DAGs have a run {run_id}: {', '.join(dag for dag, _ in found)}",
            f"Name the dataset: --dataset NAME; or end it in Airflow: {client.url}",
        )
    dag_id, item = found[0]
    if item["state"] in TERMINAL:
        out.print(f"{run_id} has ended already: {item['state']}")
        return
    client.cancel(dag_id, run_id)
    out.print(f"{run_id} is cancelled")


@app.command(epilog="Example: boostline show nyc_flights --date 2013-03-31 --json")
def show(dataset: DatasetName, day: DayOption = None, as_json: JsonOption = False) -> None:
    """Show what a finished run came to: baseline, candidate, champion, gate. Default: the newest date."""
    from boostline.lake.manifest import read_current, ref_of
    from boostline.lake.paths import current_folder
    from boostline.reporting.report import load_result
    from boostline.reporting.terminal import run_summary

    spec, store = find_dataset(dataset), open_store()
    if day:
        dates = [parse_day(day, "--date").isoformat()]
    else:
        folder = current_folder("report", spec.name, None) + "date="
        dates = [item.key[len(folder) :][:10] for item in store.list(folder) if item.key.endswith("/current.json")][-1:]
    found = read_current(store, "report", spec.name, None, dates[0]) if dates else None
    if found is None:
        what = f"{spec.name} has no finished run" + (f" for {dates[0]}" if dates else "")
        raise DataMissing(what, f"Start one: boostline run {spec.name} --date YYYY-MM-DD")
    result = load_result(store, ref_of(*found))
    print_json(result) if as_json else out.print(run_summary(result))


def _run_date(run: dict[str, Any]) -> str | None:
    """The data date of a run: its partition key, or what the trigger form said."""
    return run["partition_key"] or (run["conf"] or {}).get("date")


def _conf(changes: list[str] | None, publish: bool) -> dict[str, Any]:
    """The trigger form's fields from `--set name=value`; values are read as JSON where they can be."""
    from boostline.orchestration.run import FORM_PATHS

    conf: dict[str, Any] = {"publish": True} if publish else {}
    for item in changes or []:
        name, equals, value = item.partition("=")
        if not equals or name not in FORM_PATHS:
            raise typer.BadParameter(f"--set {item}: write NAME=VALUE with one of {', '.join(FORM_PATHS)}")
        try:
            conf[name] = json.loads(value)
            json.dumps(conf[name], allow_nan=False)
        except json.JSONDecodeError:
            conf[name] = value
        except ValueError:  # NaN, Infinity, or more digits than Python reads
            raise typer.BadParameter(f"--set {item}: no number that a run can be given") from None
    return conf


def _result_of_run(client: Any, dag_id: str, run_id: str) -> dict[str, Any] | None:
    from boostline.lake.manifest import Ref
    from boostline.reporting.report import load_result

    handed = client.xcom(dag_id, run_id, "report")
    return load_result(open_store(), Ref.model_validate(handed["refs"][0])) if handed else None
