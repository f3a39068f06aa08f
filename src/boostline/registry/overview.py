"""What the registry tells: the champions, and a dataset's versions with every move of its aliases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from boostline.registry.moves import moves_of
from boostline.registry.versions import CHAMPION, ROLLED_BACK, approvals_of, date_of, verdict_of
from boostline.settings import Settings
from boostline.tracking import TAG, tracking


def champions(settings: Settings, datasets: Iterable[str]) -> dict[str, dict[str, str]]:
    """The champions of those datasets that have one: `{"version", "date", "since", "who", "reason"}`.

    The last three are empty where somebody set the alias in MLflow itself.
    """
    found = {}
    with tracking(settings) as mlflow:
        for name in datasets:
            if version := mlflow.aliased(name, CHAMPION):
                moves = [move for move in moves_of([version]) if move["alias"] == CHAMPION]
                last = moves[-1] if moves else {"time": "", "who": "", "reason": ""}
                told = {"since": last["time"], "who": last["who"], "reason": last["reason"]}
                found[name] = {"version": version.version, "date": date_of(version), **told}
    return found


def overview(settings: Settings, dataset: str) -> list[dict[str, Any]]:
    """All versions, the newest first.

    Returns:
        `{"version", "date", "aliases", "metrics", "passed", "fingerprint", "sha256", "rolled_back", "approvals", "moves"}`;
        metrics are the gate's, on the version's own test rows; `passed` is none where nobody has judged; `approvals` as
        `approvals_of` has them; `moves` as `moves_of` has them, of an alias to this version, or from it to none.
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
                "moves": moves_of([item]),
            }
        )
    return found
