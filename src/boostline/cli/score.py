"""Scoring days that lie in the lake: `score`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import typer

from boostline.cli.app import (
    DatasetName,
    DayOption,
    JsonOption,
    app,
    err,
    find_dataset,
    open_store,
    out,
    parse_range,
    print_json,
)
from boostline.lake.day import parse_day
from boostline.settings import Settings


@app.command(epilog="Example: boostline score nyc_flights --from 2013-03-25 --to 2013-03-31")
def score(
    dataset: DatasetName,
    day: DayOption = None,
    first: Annotated[str | None, typer.Option("--from", help="First data date, instead of --date")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last data date, included")] = None,
    version: Annotated[str | None, typer.Option(help="Model version or alias; default: the champion")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score one day, or each day of a range, through Airflow. Days that are up to date cost no Spark job."""
    from boostline.orchestration.client import AirflowClient
    from boostline.orchestration.follow import follow_days, follow_run

    spec = find_dataset(dataset)
    days = _days(day, first, last)
    client, dag_id = AirflowClient(Settings()), f"{spec.name}_score"
    client.ready_dag(dag_id)
    conf = {"version": version} if version else {}
    run_ids = {item: client.trigger(dag_id, date.fromisoformat(item), conf) for item in days}
    try:
        if len(days) == 1:
            follow_run(client, dag_id, run_ids[days[0]], err)
            failed = []
        else:
            ended = follow_days(client, dag_id, run_ids, err)
            failed = [item for item in days if ended[item]["state"] != "success"]
    except KeyboardInterrupt:
        err.print(f"\nThe runs go on. End one with: boostline cancel RUN; list: {client.url}/dags/{dag_id}")
        raise typer.Exit(130) from None
    _tell({item: client.xcom(dag_id, run_ids[item], "score") for item in days if item not in failed}, as_json)
    if failed:
        err.print(f"[red]failed: {', '.join(failed)}[/]; see {client.url}/dags/{dag_id}", soft_wrap=True)
        raise typer.Exit(1)


def _days(day: str | None, first: str | None, last: str | None) -> list[str]:
    from boostline.orchestration.client import days_between

    if day and not (first or last):
        return [parse_day(day, "--date").isoformat()]
    if not day and first and last:
        return days_between(*parse_range(first, last))
    raise typer.BadParameter("give --date, or both --from and --to")


def _tell(handed: dict[str, Any], as_json: bool) -> None:
    """What was scored, by date; a skipped run handed nothing on."""
    from boostline.lake.manifest import Ref, read_ref

    store, told = open_store(), []
    for day, result in handed.items():
        if result is None:
            err.print(f"[yellow]{day} was skipped: no raw data, or no champion yet[/]")
            continue
        manifest = read_ref(store, Ref.model_validate(result["refs"][0]))
        told.append(
            {
                "date": day,
                "version": manifest.details["version"],
                "rows": manifest.rows["rows"],
                "ran": result["ran"],
                "manifest": store.uri(manifest.current_key),
            }
        )
    if as_json:
        return print_json(told)
    for item in told:
        again = "" if item["ran"] else ", up to date"
        out.print(
            f"{item['date']}: {item['rows']:,} rows, version {item['version']}{again}: {item['manifest']}",
            soft_wrap=True,
        )
    return None
