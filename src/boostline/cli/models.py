"""The registry: `models`, `promote`, `rollback`."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from boostline.cli.app import DatasetName, JsonOption, app, find_dataset, open_store, out, print_json
from boostline.settings import Settings


@app.command(epilog="Example: boostline models nyc_flights")
def models(dataset: DatasetName, as_json: JsonOption = False) -> None:
    """List the versions of a dataset's model, the newest first: data date, metric, aliases, who promoted it and why."""
    from boostline.registry.overview import overview

    spec = find_dataset(dataset)
    versions = overview(Settings(), spec.name)
    if as_json:
        return print_json(versions)
    if not versions:
        out.print(f"{spec.name} has no model yet. Train one: boostline run {spec.name} --date YYYY-MM-DD")
        return None
    table = Table("version", "data date", f"{spec.gate.metric} on test", "alias", "fingerprint")
    table.add_column("what became of it", overflow="fold")
    for item in versions:
        metric = item["metrics"].get(spec.gate.metric)
        shown = "" if metric is None else f"{metric:.4f}"
        aliases = ", ".join(item["aliases"])
        table.add_row(item["version"], item["date"], shown, aliases, item["fingerprint"][:12], escape(_fate(item)))
    out.print(table)
    return None


@app.command(epilog='Example: boostline promote nyc_flights 3 --reason "better on the weekend"')
def promote(
    dataset: DatasetName,
    version: Annotated[str, typer.Argument(help="A version's number, as `boostline models` lists it")],
    reason: Annotated[str, typer.Option(help="Why; kept with the version")],
    challenger: Annotated[
        bool, typer.Option("--challenger", help="The challenger instead: tried beside the champion (docs/use.md)")
    ] = False,
) -> None:
    """Make a version the champion, whatever the gate said. Nothing is trained; serving follows within seconds."""
    from boostline.registry.promotion import challenge, promote_by_hand

    name, who = find_dataset(dataset).name, getpass.getuser()
    if challenger:
        alias, before = "challenger", challenge(open_store(), Settings(), name, version, reason=reason, who=who)
    else:
        alias, (before, _) = (
            "champion",
            promote_by_hand(open_store(), Settings(), name, version, reason=reason, who=who),
        )
    if before and before.version == version:
        out.print(f"version {version} of {name} is the {alias} already", soft_wrap=True)
    else:
        instead = f", in place of version {before.version}" if before else ""
        out.print(f"version {version} of {name} is the {alias}{instead}", soft_wrap=True)


@app.command(epilog='Example: boostline rollback nyc_flights --reason "late flights are missed"')
def rollback(
    dataset: DatasetName,
    reason: Annotated[str, typer.Option(help="Why; kept with the version")] = "no reason given",
    challenger: Annotated[bool, typer.Option("--challenger", help="Take the challenger away instead")] = False,
) -> None:
    """Make the champion before this one the champion again, and keep the pipeline from promoting this one anew."""
    from boostline.registry.promotion import challenge
    from boostline.registry.promotion import rollback as roll_back

    name = find_dataset(dataset).name
    if challenger:
        before = challenge(open_store(), Settings(), name, None, reason=reason, who=getpass.getuser())
        told = (
            f"version {before.version} of {name} is the challenger no more" if before else f"{name} has no challenger"
        )
        return out.print(told, soft_wrap=True)
    gone, now = roll_back(open_store(), Settings(), name, reason=reason, who=getpass.getuser())
    out.print(
        f"version {now.version} of {name} is the champion again; version {gone.version} is blocked", soft_wrap=True
    )
    return None


def _fate(item: dict[str, Any]) -> str:
    """What became of a version."""
    if item["rolled_back"]:
        return f"rolled back: {item['rolled_back']}"
    if item["moves"]:
        move = item["moves"][-1]
        alias = move["alias"]
        if not move["to"]:
            word = f"{alias} until"
        else:
            word = f"{alias} since" if alias in item["aliases"] else f"was {alias} from"
        return f"{word} {_minute(move['time'])}, by {move['who']}: {move['reason']}"
    if item["approvals"]:
        record = item["approvals"][-1]
        return f"{record['reason']} ({_minute(record['when'])})"
    return {None: "not judged", True: "passed the gate, not promoted", False: "the gate said no"}[item["passed"]]


def _minute(time: str) -> str:
    return f"{time[:16].replace('T', ' ')} UTC"
