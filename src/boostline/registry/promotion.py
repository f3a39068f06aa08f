"""Moving the aliases: the champion by the pipeline, by hand, and back; the challenger by hand. Every move is recorded."""

from __future__ import annotations

import json
from typing import Any

from boostline.dataset import Dataset
from boostline.errors import FailError, ModelRefused, RetryError
from boostline.lake.manifest import Ref
from boostline.lake.store import Store
from boostline.registry.moves import crown, is_settled, move_alias, moves_of, withdraw_challenger
from boostline.registry.versions import (
    ASKED,
    CHALLENGER,
    CHAMPION,
    ROLLED_BACK,
    approvals_of,
    date_of,
    find_version,
    load_version,
    outcome_of,
    verdict_of,
    version_number,
)
from boostline.settings import Settings
from boostline.tracking import TAG, Version, tracking


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
    recorded outcome is returned, unless the pipeline has put another of its date in its place: see `is_settled`.

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
        if is_settled(candidate, champion) and ROLLED_BACK not in candidate.tags:
            return outcome_of(candidate)
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
        crown(mlflow, candidate, champion, reason=outcome["reason"], who=who)
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
            crown(mlflow, target, champion, reason=reason, who=who)
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
        moves = [move for move in moves_of(list(versions.values())) if move["alias"] == CHAMPION]
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
        crown(mlflow, target, champion, reason=reason, who=who)
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
            move_alias(mlflow, CHALLENGER, target, before, reason=reason, who=who)
        elif before and target is None:
            withdraw_challenger(mlflow, before, reason=reason, who=who)
    return before


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
    if records and records[-1]["promoted"]:
        why = f"version {candidate.version} was approved before, and another of its date has taken its place since"
        return _outcome(False, f"{why}: boostline promote brings it back")
    if records and records[-1]["decision"] != ASKED:
        return _outcome(False, records[-1]["reason"])
    return _outcome(False, f"version {candidate.version} waits for approval") | {"waits": candidate.version}


def _outcome(promoted: bool, reason: str) -> dict[str, Any]:
    return {"promoted": promoted, "reason": reason}
