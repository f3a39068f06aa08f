"""When a candidate is good enough: a pure decision over metrics of the same test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boostline.dataset.learning import Gate
from boostline.metrics import improvement


@dataclass(frozen=True)
class Decision:
    """Whether the candidate passed, and why, as sentences for people."""

    passed: bool
    reasons: list[str]


def decide(
    candidate: Mapping[str, Any],
    baseline: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    policy: Gate,
    rows: int,
) -> Decision:
    """Compare a candidate with the baseline and, where there is one, with the champion.

    Args:
        candidate: Metrics on the test rows, by name.
        baseline: Those of the baseline on the same rows.
        champion: Those of the champion on the same rows; none where there is none to compare with.
        policy: The metric, and the relative margins asked for.
        rows: How many test rows.

    Returns:
        Passed where the candidate is better than each of them by its margin or more. A metric that the rows do not
        define blocks: nothing was shown.
    """
    rivals = [("baseline", baseline, policy.beat_baseline)]
    if champion is not None:
        rivals.append(("champion", champion, policy.beat_champion))
    judged = [_beats(policy.metric, candidate, name, rival, margin, rows) for name, rival, margin in rivals]
    return Decision(all(passed for passed, _ in judged), [reason for _, reason in judged])


def _beats(
    metric: str, candidate: Mapping[str, Any], name: str, rival: Mapping[str, Any], margin: float, rows: int
) -> tuple[bool, str]:
    ours, theirs = candidate.get(metric), rival.get(metric)
    if ours is None or theirs is None:
        return False, f"{metric} is not defined on these {rows:,} test rows, so the {name} cannot be compared"
    gain = improvement(metric, ours, theirs)
    relation = "equals" if ours == theirs else _distance(ours, theirs)
    asked = f"{margin:.1%} better was asked" if margin >= 0 else f"up to {-margin:.1%} worse is allowed"
    reason = f"{metric} {ours:.4f} {relation} the {name}'s {theirs:.4f} on {rows:,} test rows; {asked}"
    return gain >= margin, reason


def _distance(ours: float, theirs: float) -> str:
    side = "below" if ours < theirs else "above"
    return f"is {abs(ours - theirs) / abs(theirs):.1%} {side}" if theirs else f"is {side}"
