"""Versions and the alias `champion`, which is the one truth about which model serves.

A version's tags, all with the prefix `boostline.`: `date`, `sha256`, `fingerprint`, `data_fingerprint` and `attempt` (set
when it is registered), `verdict` (the gate's, JSON), `promotion` (the outcome, JSON), `move.N` (each move of the alias
to it, JSON: when by MLflow's clock, from, to, why, who) and `rolled_back` (why it stays blocked).
"""

from __future__ import annotations

import json
from typing import Any

from boostline.dataset import Dataset
from boostline.errors import FailError, ModelRefused
from boostline.lake.manifest import Ref, read_ref
from boostline.lake.store import Store
from boostline.settings import Settings
from boostline.tracking import Tracking, Version, tracking
from boostline.training.track import TAG

CHAMPION = "champion"
MOVE = TAG + "move."


def promote_candidate(
    store: Store, settings: Settings, dataset: Dataset, *, model: Ref, is_backfill: bool, who: str = "the pipeline"
) -> dict[str, Any]:
    """Move the alias to a candidate where its verdict, its date and the dataset allow it.

    The caller runs one promotion of a dataset at a time. A candidate that was promoted before changes nothing: its
    recorded outcome is returned.

    Args:
        store: The lake.
        settings: MLflow's address.
        dataset: Says whether backfills promote.
        model: The candidate's manifest.
        is_backfill: Whether the run is part of a backfill.
        who: Recorded with the move.

    Returns:
        `{"promoted", "reason"}`.
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
        if promoted_before(candidate) and TAG + "rolled_back" not in candidate.tags:
            outcome: dict[str, Any] = json.loads(candidate.tags[TAG + "promotion"])
            return outcome
        if champion and champion.version == candidate.version:
            outcome = _outcome(True, f"version {candidate.version} is the champion")
            mlflow.tag_version(dataset.name, candidate.version, {TAG + "promotion": json.dumps(outcome)})
            return outcome
        if reason := _obstacle(candidate, champion, is_backfill=is_backfill and not dataset.promotion.in_backfill):
            return _outcome(False, reason)
        before = f"in place of version {champion.version} of {_date(champion)}" if champion else "the first champion"
        outcome = _outcome(True, f"version {candidate.version} of {_date(candidate)} passed the gate, {before}")
        _move(mlflow, candidate, champion, reason=outcome["reason"], who=who)
        mlflow.tag_version(dataset.name, candidate.version, {TAG + "promotion": json.dumps(outcome)})
        return outcome


def rollback(settings: Settings, dataset: str, *, reason: str, who: str) -> tuple[Version, Version]:
    """Take the alias from the champion back to the one before it, and block the champion for good.

    Args:
        settings: MLflow's address.
        dataset: The registered model's name.
        reason: Why, for the record.
        who: Recorded with the move.

    Returns:
        The version that was rolled back, and the champion now.

    Raises:
        FailError: There is no champion, or none before it.
    """
    with tracking(settings) as mlflow:
        champion = mlflow.aliased(dataset, CHAMPION)
        if champion is None:
            raise FailError(f"{dataset} has no champion", "Train and promote one first")
        versions = {item.version: item for item in mlflow.versions(dataset)}
        earlier = [move["to"] for move in _moves(list(versions.values())) if move["to"] != champion.version]
        usable = [name for name in earlier if name in versions and TAG + "rolled_back" not in versions[name].tags]
        if not usable:
            raise FailError(f"{dataset} had no champion before version {champion.version}", "Train a better one")
        target = versions[usable[-1]]
        mlflow.tag_version(dataset, champion.version, {TAG + "rolled_back": reason})
        _move(mlflow, target, champion, reason=reason, who=who)
        return champion, target


def history(settings: Settings, dataset: str) -> list[dict[str, str]]:
    """All moves of the alias, the oldest first: `{"time", "from", "to", "reason", "who"}`."""
    with tracking(settings) as mlflow:
        return _moves(mlflow.versions(dataset))


def champion_of(settings: Settings, dataset: str) -> Version | None:
    """The version that serves now, or none."""
    with tracking(settings) as mlflow:
        return mlflow.aliased(dataset, CHAMPION)


def named_attempts(settings: Settings, dataset: str) -> frozenset[str]:
    """The attempts in the lake that versions name; their files have to stay."""
    with tracking(settings) as mlflow:
        return frozenset(
            item.tags[TAG + "attempt"] for item in mlflow.versions(dataset) if TAG + "attempt" in item.tags
        )


def version_number(store: Store, model: Ref) -> str | None:
    """The registered version of a published model; none for an experiment."""
    number = read_ref(store, model).details["mlflow"]["version"]
    return str(number) if number else None


def promoted_before(version: Version) -> bool:
    """Whether the pipeline has made it champion at some time."""
    return TAG + "promotion" in version.tags


def verdict_of(version: Version) -> dict[str, Any] | None:
    """What the gate recorded, or none."""
    text = version.tags.get(TAG + "verdict")
    return json.loads(text) if text else None


def _obstacle(candidate: Version, champion: Version | None, *, is_backfill: bool) -> str | None:
    """What forbids the promotion, or none."""
    verdict = verdict_of(candidate)
    if TAG + "rolled_back" in candidate.tags:
        return f"version {candidate.version} was rolled back ({candidate.tags[TAG + 'rolled_back']}) and stays blocked"
    if not (verdict and verdict["verdict"]["passed"]):
        return f"the gate has not passed version {candidate.version}"
    if champion and _date(candidate) < _date(champion):
        return f"its data date {_date(candidate)} is before the champion's, {_date(champion)}"
    if is_backfill:
        return "the run is part of a backfill, and the dataset says promotion.in_backfill: false"
    return None


def _move(mlflow: Tracking, to: Version, champion: Version | None, *, reason: str, who: str) -> None:
    when = mlflow.set_alias(to.dataset, CHAMPION, to.version)
    move = {
        "time": when.isoformat(),
        "from": champion.version if champion else "",
        "to": to.version,
        "reason": reason,
        "who": who,
    }
    # Numbered on from the move that made the last champion, since the server's time counts whole seconds.
    number = max(_numbers(champion), default=0) + 1 if champion else 1
    mlflow.tag_version(to.dataset, to.version, {f"{MOVE}{number}": json.dumps(move)})


def _moves(versions: list[Version]) -> list[dict[str, str]]:
    found = [(json.loads(item.tags[f"{MOVE}{number}"]), number) for item in versions for number in _numbers(item)]
    return [move for move, _ in sorted(found, key=lambda item: (item[0]["time"], item[1]))]


def _numbers(version: Version) -> list[int]:
    return [int(key.removeprefix(MOVE)) for key in version.tags if key.startswith(MOVE)]


def _date(version: Version) -> str:
    return version.tags.get(TAG + "date", "")


def _outcome(promoted: bool, reason: str) -> dict[str, Any]:
    return {"promoted": promoted, "reason": reason}
