"""Moves of the aliases, each recorded as a tag of a version before it is made."""

from __future__ import annotations

import json

from boostline.registry.versions import (
    ASKED,
    CHALLENGER,
    CHAMPION,
    LAPSED,
    MOVE,
    add_approval,
    approvals_of,
    date_of,
    order_of,
    outcome_of,
    promoted_before,
)
from boostline.tracking import Tracking, Version


def crown(mlflow: Tracking, to: Version, champion: Version | None, *, reason: str, who: str) -> None:
    """Make a version the champion.

    One that was the challenger has nobody to challenge any more, and older ones wait for a person no more.
    """
    move_alias(mlflow, CHAMPION, to, champion, reason=reason, who=who)
    for item in mlflow.versions(to.dataset):
        records = approvals_of(item)
        if records and records[-1]["decision"] == ASKED and order_of(item) < order_of(to):
            why = f"version {item.version} lapsed, since version {to.version} of {date_of(to)} is champion and newer"
            add_approval(mlflow, item, {"decision": LAPSED, "reason": why})
    challenger = mlflow.aliased(to.dataset, CHALLENGER)
    if challenger and challenger.version == to.version:
        withdraw_challenger(mlflow, challenger, reason="it is the champion now", who=who)


def move_alias(mlflow: Tracking, alias: str, to: Version, before: Version | None, *, reason: str, who: str) -> None:
    """Record a move, then make it: what is tried again after a crash in between stands there twice, nothing is lost."""
    move = {"alias": alias, "from": before.version if before else "", "to": to.version, "reason": reason, "who": who}
    _record(mlflow, to, before, move)
    mlflow.set_alias(to.dataset, alias, to.version)


def withdraw_challenger(mlflow: Tracking, challenger: Version, *, reason: str, who: str) -> None:
    """Record that the challenger challenges no more, then take its alias away."""
    move = {"alias": CHALLENGER, "from": challenger.version, "to": "", "reason": reason, "who": who}
    _record(mlflow, challenger, None, move)
    mlflow.delete_alias(challenger.dataset, CHALLENGER)


def _record(mlflow: Tracking, holder: Version, before: Version | None, move: dict[str, str]) -> None:
    # Numbered on from both, since the server's time counts whole seconds, and a record must never take another's place.
    number = max([*_numbers(holder), *(_numbers(before) if before else [])], default=0) + 1
    text = json.dumps({"time": mlflow.answered.isoformat()} | move)
    mlflow.tag_version(holder.dataset, holder.version, {f"{MOVE}{number}": text})


def moves_of(versions: list[Version]) -> list[dict[str, str]]:
    """All moves of the aliases, the oldest first: `{"time", "alias", "from", "to", "reason", "who"}`.

    A record without an alias is of the champion.
    """
    found = [
        ({"alias": CHAMPION} | json.loads(item.tags[f"{MOVE}{number}"]), number)
        for item in versions
        for number in _numbers(item)
    ]
    return [move for move, _ in sorted(found, key=lambda item: (item[0]["time"], item[1]))]


def is_settled(version: Version, champion: Version | None) -> bool:
    """Whether a version's recorded verdict and outcome hold for a repeat of its run.

    They do from its promotion on, until the pipeline makes another version of the same data date champion: settings or
    data that are as they were before have to win their place back. One that a person has put there stays.
    """
    if not promoted_before(version):
        return False
    if champion is None or champion.version == version.version or date_of(champion) != date_of(version):
        return True
    moves = [move for move in moves_of([champion]) if move["alias"] == CHAMPION]
    return not (moves and promoted_before(champion) and moves[-1]["reason"] == outcome_of(champion)["reason"])


def _numbers(version: Version) -> list[int]:
    return [int(key.removeprefix(MOVE)) for key in version.tags if key.startswith(MOVE)]
