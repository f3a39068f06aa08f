"""Approval by a person: what was asked and answered about a version, and what followed. Nothing of it is overwritten.

The version's tag `boostline.approval` is a list of `{"decision", "who", "when", "why", "promoted", "reason"}`. A decision
is `asked`, `approved`, `rejected`, `timed out`, `lapsed` (a newer model is champion, or its run holds another version) or
`refused` (the pipeline's own rules say no at the moment of the approval); `why` is the person's text, `reason` the whole in a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from boostline.dataset import Dataset
from boostline.errors import FailError
from boostline.lake.manifest import Ref
from boostline.lake.store import Store
from boostline.registry.compare import judge
from boostline.registry.moves import is_settled
from boostline.registry.promotion import promote_candidate
from boostline.registry.versions import (
    ASKED,
    LAPSED,
    add_approval,
    approvals_of,
    champion_of,
    date_of,
    find_version,
    order_of,
    verdict_of,
    version_number,
)
from boostline.settings import Settings
from boostline.tracking import Version, tracking

LONGEST_REASON = 500
"""Characters of a person's text."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        yes: Whether it is an approval.
        who: The person; none where nobody answered in time, and the dataset's own choice stands for the answer.
        when: ISO 8601, UTC. The same moment is the same answer.
        why: The person's text, as typed.
    """

    yes: bool
    who: str | None
    when: str
    why: str


def record_question(settings: Settings, dataset: str, version: str, where: str) -> None:
    """Note with the version that somebody is asked; a repeat notes nothing.

    Args:
        settings: MLflow's address.
        dataset: The registered model's name.
        version: Its number.
        where: In Airflow.
    """
    found = find_version(settings, dataset, version)
    records = approvals_of(found)
    if not records or records[-1]["decision"] != ASKED:
        with tracking(settings) as mlflow:
            add_approval(mlflow, found, {"decision": ASKED, "reason": f"waits for approval: {where}"})


def record_lapse(settings: Settings, dataset: str, version: str, answer: Answer, since: str) -> str:
    """Note with a version that its answer came too late to be carried out; a repeat notes nothing.

    Args:
        settings: MLflow's address.
        dataset: The registered model's name.
        version: The one that was asked about.
        answer: What came back.
        since: What has become of its run.

    Returns:
        The sentence that is recorded.

    Raises:
        FailError: The version is gone.
    """
    found = find_version(settings, dataset, version)
    reason = f"version {version} lapsed, since {since}; it was {_told(answer)}"
    if _answered(found, answer) is None:
        _record(settings, found, answer, LAPSED, reason)
    return reason


def carry_out(
    store: Store,
    settings: Settings,
    dataset: Dataset,
    day: date,
    *,
    model: Ref,
    baseline: Ref,
    features: Ref,
    answer: Answer,
) -> dict[str, Any]:
    """Do what the answer says, and record it with the version.

    An approval asks the gate once more, against the champion of now. It lapses where the champion is newer: of a later
    data date, or of the same date and a later version. The caller carries out one answer of a dataset at a time.

    Args:
        store: The lake.
        settings: MLflow's address, threads.
        dataset: Gives the gate's rules.
        day: The data date.
        model: The candidate's manifest.
        baseline: The baseline's, on the same features.
        features: Of the same date.
        answer: The person's, or what stands for it.

    Returns:
        `{"promoted", "reason", "verdict"}`; the verdict is the gate's last one.

    Raises:
        FailError: The version is gone, or the model has none.
        ModelRefused: See `judge` and `promote_candidate`.
        RetryError: Another version became champion meanwhile.
        ServiceUnavailable: MLflow does not answer.
    """
    number = version_number(store, model)
    if number is None:
        raise FailError("an experiment has no version to approve", "Publish it, or run the date without changes")
    candidate = find_version(settings, dataset.name, number)
    record = _answered(candidate, answer)
    if record is None:
        decision, reason, promoted = _outcome(
            store, settings, dataset, day, candidate, answer, model=model, baseline=baseline, features=features
        )
        record = _record(settings, candidate, answer, decision, reason, promoted=promoted)
    judged = verdict_of(find_version(settings, dataset.name, number)) or {"verdict": {}}
    return {"promoted": record["promoted"], "reason": record["reason"], "verdict": judged["verdict"]}


def plain(text: str) -> str:
    """A person's text on one line, without control characters, at most `LONGEST_REASON` long."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return " ".join(words)[:LONGEST_REASON]


def _outcome(
    store: Store,
    settings: Settings,
    dataset: Dataset,
    day: date,
    candidate: Version,
    answer: Answer,
    *,
    model: Ref,
    baseline: Ref,
    features: Ref,
) -> tuple[str, str, bool]:
    """Decision, sentence, and whether the version was promoted."""
    told, name = _told(answer), f"version {candidate.version}"
    if answer.who and not answer.yes:
        return "rejected", f"{name} was {told}", False
    champion = champion_of(settings, dataset.name)
    if champion and order_of(champion) > order_of(candidate):
        newer = f"version {champion.version} of {date_of(champion)} is champion and newer"
        return LAPSED, f"{name} lapsed, since {newer}; it was {told}", False
    if not answer.yes:
        return "timed out", f"{name} was {told}", False
    if not is_settled(candidate, champion):
        verdict = judge(store, settings, dataset, day, model=model, baseline=baseline, features=features)
        if not verdict["passed"]:
            reasons = "; ".join(verdict["reasons"])
            return "refused", f"{name} was {told}; the gate, asked again, said no: {reasons}", False
    outcome = promote_candidate(
        store, settings, dataset, model=model, is_backfill=False, who=answer.who or "nobody", approval=told
    )
    return ("approved" if outcome["promoted"] else "refused"), outcome["reason"], outcome["promoted"]


def _answered(version: Version, answer: Answer) -> dict[str, Any] | None:
    """What is recorded of this answer, or none."""
    return next((item for item in approvals_of(version) if item["when"] == answer.when), None)


def _record(
    settings: Settings, version: Version, answer: Answer, decision: str, reason: str, *, promoted: bool = False
) -> dict[str, Any]:
    record: dict[str, Any] = {"decision": decision, "who": answer.who or "nobody", "when": answer.when}
    record |= {"why": plain(answer.why), "promoted": promoted, "reason": reason}
    with tracking(settings) as mlflow:
        add_approval(mlflow, version, record)
    return record


def _told(answer: Answer) -> str:
    done = "approved" if answer.yes else "rejected"
    if not answer.who:
        return f"{done} because nobody answered in time"
    why = plain(answer.why)
    return f"{done} by {answer.who}" + (f": {why}" if why else "")
