"""Moving the aliases: the champion by the pipeline, by hand, and back; the challenger by hand. Every move is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from boostline.dataset import Dataset
from boostline.errors import FailError, ModelRefused, RetryError
from boostline.lake.manifest import Ref
from boostline.lake.store import Store
from boostline.registry.versions import (
    ASKED,
    CHALLENGER,
    CHAMPION,
    LAPSED,
    MOVE,
    ROLLED_BACK,
    add_approval,
    approvals_of,
    date_of,
    find_version,
    load_version,
    order_of,
    promoted_before,
    verdict_of,
    version_number,
)
from boostline.settings import Settings
from boostline.tracking import TAG, Tracking, Version, tracking


def promote_candidate(
    store: Store,
    settings: Settings,
    dataset: Dataset,
    *,
    model: Ref,
    is_backfill: bool,
    who: str = "the pipeline",
    approval: str | None = None,
) -> dict[str, Any]:
    """Move the alias to a candidate where its verdict, its date, the dataset and, where it asks for one, a person allow it.

    The caller runs one promotion of a dataset at a time. A candidate that was promoted before changes nothing: its
    recorded outcome is returned.

    Args:
        store: The lake; the model is loaded and checked before the alias moves.
        settings: MLflow's address.
        dataset: Says whether backfills promote.
        model: The candidate's manifest.
        is_backfill: Whether the run is part of a backfill.
        who: Recorded with the move.
        approval: Who approved it and why; none where nobody has been asked yet.

    Returns:
        `{"promoted", "reason"}`; for a candidate that waits for a person, `waits` too: the version.

    Raises:
        ModelRefused: The version is not in MLflow any more, or its files are gone or are not those that were published.
        RetryError: Another version became champion meanwhile.
    """
    number = version_number(store, model)
    if number is None:
        return _outcome(False, "an experiment has no version to promote")
    with tracking(settings) as mlflow:
        candidate = mlflow.version(dataset.name, number)
        if candidate is None:
            raise ModelRefused(
                f"version {number} of {dataset.name} is not in MLflow any more",
                "Clear the train task, so that it registers",
            )
        champion = mlflow.aliased(dataset.name, CHAMPION)
        if promoted_before(candidate) and ROLLED_BACK not in candidate.tags:
            outcome: dict[str, Any] = json.loads(candidate.tags[TAG + "promotion"])
            return outcome
        if champion and champion.version == candidate.version:
            outcome = _outcome(True, f"version {candidate.version} is the champion")
            mlflow.tag_version(dataset.name, candidate.version, {TAG + "promotion": json.dumps(outcome)})
            return outcome
        if reason := _obstacle(candidate, champion, is_backfill=is_backfill and not dataset.promotion.in_backfill):
            return _outcome(False, reason)
        if dataset.promotion.approval == "required" and approval is None:
            return _unapproved(candidate)
        before = f"in place of version {champion.version} of {date_of(champion)}" if champion else "the first champion"
        outcome = _outcome(True, f"version {candidate.version} of {date_of(candidate)} passed the gate, {before}")
        if approval:
            outcome["reason"] += f"; {approval}"
        load_version(store, candidate)
        now = mlflow.aliased(dataset.name, CHAMPION)
        if (now and now.version) != (champion and champion.version):  # loading takes a second: a person was faster
            raise RetryError(f"the champion of {dataset.name} changed meanwhile", "A retry asks the gate again")
        _crown(mlflow, candidate, champion, reason=outcome["reason"], who=who)
        mlflow.tag_version(dataset.name, candidate.version, {TAG + "promotion": json.dumps(outcome)})
        return outcome


def promote_by_hand(
    store: Store, settings: Settings, dataset: str, version: str, *, reason: str, who: str
) -> tuple[Version | None, Version]:
    """Make a version the champion because a person says so, whatever gate and dates say.

    A version that was rolled back is no longer blocked after this. Making the champion champion changes nothing.

    Args:
        store: The lake; the model is loaded and checked before the alias moves.
        settings: MLflow's address.
        dataset: The registered model's name.
        version: Its number.
        reason: Why, for the record.
        who: Recorded with the move.

    Returns:
        The champion before, if any, and the champion now.

    Raises:
        FailError: There is no such version.
        ModelRefused: Its files are gone, or do not match their SHA-256.
    """
    target = find_version(settings, dataset, version)
    load_version(store, target)
    with tracking(settings) as mlflow:
        champion = mlflow.aliased(dataset, CHAMPION)
        if champion is None or champion.version != target.version:
            _crown(mlflow, target, champion, reason=reason, who=who)
        if ROLLED_BACK in target.tags:
            mlflow.untag_version(dataset, target.version, ROLLED_BACK)
    return champion, target


def rollback(store: Store, settings: Settings, dataset: str, *, reason: str, who: str) -> tuple[Version, Version]:
    """Take the alias from the champion back to the one before it, and block the champion for good.

    Args:
        store: The lake; the model is loaded and checked before the alias moves.
        settings: MLflow's address.
        dataset: The registered model's name.
        reason: Why, for the record.
        who: Recorded with the move.

    Returns:
        The version that was rolled back, and the champion now.

    Raises:
        FailError: There is no champion, or none before it, or another one came meanwhile.
        ModelRefused: The files of the one before are gone, or do not match their SHA-256.
    """
    with tracking(settings) as mlflow:
        champion = mlflow.aliased(dataset, CHAMPION)
        if champion is None:
            raise FailError(f"{dataset} has no champion", "Train and promote one first")
        versions = {item.version: item for item in mlflow.versions(dataset)}
        moves = [move for move in _moves(list(versions.values())) if move["alias"] == CHAMPION]
        earlier = [move["to"] for move in moves if move["to"] != champion.version]
        usable = [name for name in earlier if name in versions and ROLLED_BACK not in versions[name].tags]
        if not usable:
            raise FailError(
                f"{dataset} had no champion before version {champion.version}",
                f"Name one: boostline promote {dataset} VERSION --reason …",
            )
        target = versions[usable[-1]]
        load_version(store, target)
        now = mlflow.aliased(dataset, CHAMPION)
        if now is None or now.version != champion.version:  # loading takes a second, and a pipeline may promote in it
            raise FailError(
                f"the champion of {dataset} changed from version {champion.version} meanwhile",
                f"Look again: boostline models {dataset}",
            )
        mlflow.tag_version(dataset, champion.version, {ROLLED_BACK: reason})
        _crown(mlflow, target, champion, reason=reason, who=who)
        return champion, target


def challenge(
    store: Store, settings: Settings, dataset: str, version: str | None, *, reason: str, who: str
) -> Version | None:
    """Make a version the challenger, which serving may try beside the champion; or have none any more.

    Args:
        store: The lake; the model is loaded and checked before the alias moves.
        settings: MLflow's address.
        dataset: The registered model's name.
        version: Its number; none: no challenger any more.
        reason: Why, for the record.
        who: Recorded with the move.

    Returns:
        The challenger before, if any.

    Raises:
        FailError: There is no such version, or it is the champion.
        ModelRefused: Its files are gone, or do not match their SHA-256.
    """
    target = find_version(settings, dataset, version) if version else None
    if target:
        load_version(store, target)
    with tracking(settings) as mlflow:
        before = mlflow.aliased(dataset, CHALLENGER)
        if target and mlflow.aliases(dataset).get(CHAMPION) == target.version:
            raise FailError(f"version {target.version} of {dataset} is the champion", "Challenge it with another one")
        if target and (before is None or before.version != target.version):
            _move(mlflow, CHALLENGER, target, before, reason=reason, who=who)
        elif before and target is None:
            _withdraw(mlflow, before, reason=reason, who=who)
    return before


def history(settings: Settings, dataset: str) -> list[dict[str, str]]:
    """All moves of the aliases, the oldest first: `{"time", "alias", "from", "to", "reason", "who"}`."""
    with tracking(settings) as mlflow:
        return _moves(mlflow.versions(dataset))


def champions(settings: Settings, datasets: Iterable[str]) -> dict[str, dict[str, str]]:
    """The champions of those datasets that have one: `{"version", "date", "since", "who", "reason"}`.

    The last three are empty where somebody set the alias in MLflow itself.
    """
    found = {}
    with tracking(settings) as mlflow:
        for name in datasets:
            if version := mlflow.aliased(name, CHAMPION):
                moves = [move for move in _moves([version]) if move["alias"] == CHAMPION]
                last = moves[-1] if moves else {"time": "", "who": "", "reason": ""}
                told = {"since": last["time"], "who": last["who"], "reason": last["reason"]}
                found[name] = {"version": version.version, "date": date_of(version), **told}
    return found


def overview(settings: Settings, dataset: str) -> list[dict[str, Any]]:
    """All versions, the newest first.

    Returns:
        `{"version", "date", "aliases", "metrics", "passed", "fingerprint", "sha256", "rolled_back", "approvals", "moves"}`;
        metrics are the gate's, on the version's own test rows; `passed` is none where nobody has judged; `approvals` as
        `approvals_of` has them; `moves` as `history` has them, of an alias to this version, or from it to none.
    """
    with tracking(settings) as mlflow:
        versions, aliases = mlflow.versions(dataset), mlflow.aliases(dataset)
    found = []
    for item in versions:
        verdict = (verdict_of(item) or {}).get("verdict")
        found.append(
            {
                "version": item.version,
                "date": date_of(item),
                "aliases": sorted(alias for alias, version in aliases.items() if version == item.version),
                "metrics": verdict["candidate"]["metrics"] if verdict else {},
                "passed": verdict["passed"] if verdict else None,
                "fingerprint": item.tags.get(TAG + "fingerprint", ""),
                "sha256": item.tags.get(TAG + "sha256", ""),
                "rolled_back": item.tags.get(ROLLED_BACK),
                "approvals": approvals_of(item),
                "moves": _moves([item]),
            }
        )
    return found


def _obstacle(candidate: Version, champion: Version | None, *, is_backfill: bool) -> str | None:
    """What forbids the promotion, or none."""
    verdict = verdict_of(candidate)
    if ROLLED_BACK in candidate.tags:
        return f"version {candidate.version} was rolled back ({candidate.tags[ROLLED_BACK]}) and stays blocked"
    if not (verdict and verdict["verdict"]["passed"]):
        return f"the gate has not passed version {candidate.version}"
    if champion and date_of(candidate) < date_of(champion):
        return f"its data date {date_of(candidate)} is before the champion's, {date_of(champion)}"
    if is_backfill:
        return "the run is part of a backfill, and the dataset says promotion.in_backfill: false"
    return None


def _unapproved(candidate: Version) -> dict[str, Any]:
    """The outcome of a candidate that only a person keeps from the promotion: the last answer, or that it waits for one."""
    records = approvals_of(candidate)
    if records and records[-1]["decision"] != ASKED:
        return _outcome(False, records[-1]["reason"])
    return _outcome(False, f"version {candidate.version} waits for approval") | {"waits": candidate.version}


def _crown(mlflow: Tracking, to: Version, champion: Version | None, *, reason: str, who: str) -> None:
    """Make a version the champion.

    One that was the challenger has nobody to challenge any more, and older ones wait for a person no more.
    """
    _move(mlflow, CHAMPION, to, champion, reason=reason, who=who)
    for item in mlflow.versions(to.dataset):
        records = approvals_of(item)
        if records and records[-1]["decision"] == ASKED and order_of(item) < order_of(to):
            why = f"version {item.version} lapsed, since version {to.version} of {date_of(to)} is champion and newer"
            add_approval(mlflow, item, {"decision": LAPSED, "reason": why})
    challenger = mlflow.aliased(to.dataset, CHALLENGER)
    if challenger and challenger.version == to.version:
        _withdraw(mlflow, challenger, reason="it is the champion now", who=who)


def _move(mlflow: Tracking, alias: str, to: Version, before: Version | None, *, reason: str, who: str) -> None:
    """Record a move, then make it: what is tried again after a crash in between stands there twice, nothing is lost."""
    move = {"alias": alias, "from": before.version if before else "", "to": to.version, "reason": reason, "who": who}
    _record(mlflow, to, before, move)
    mlflow.set_alias(to.dataset, alias, to.version)


def _withdraw(mlflow: Tracking, challenger: Version, *, reason: str, who: str) -> None:
    move = {"alias": CHALLENGER, "from": challenger.version, "to": "", "reason": reason, "who": who}
    _record(mlflow, challenger, None, move)
    mlflow.delete_alias(challenger.dataset, CHALLENGER)


def _record(mlflow: Tracking, holder: Version, before: Version | None, move: dict[str, str]) -> None:
    # Numbered on from both, since the server's time counts whole seconds, and a record must never take another's place.
    number = max([*_numbers(holder), *(_numbers(before) if before else [])], default=0) + 1
    text = json.dumps({"time": mlflow.answered.isoformat()} | move)
    mlflow.tag_version(holder.dataset, holder.version, {f"{MOVE}{number}": text})


def _moves(versions: list[Version]) -> list[dict[str, str]]:
    """What the versions' tags tell; a record without an alias is of the champion."""
    found = [
        ({"alias": CHAMPION} | json.loads(item.tags[f"{MOVE}{number}"]), number)
        for item in versions
        for number in _numbers(item)
    ]
    return [move for move, _ in sorted(found, key=lambda item: (item[0]["time"], item[1]))]


def _numbers(version: Version) -> list[int]:
    return [int(key.removeprefix(MOVE)) for key in version.tags if key.startswith(MOVE)]


def _outcome(promoted: bool, reason: str) -> dict[str, Any]:
    return {"promoted": promoted, "reason": reason}
