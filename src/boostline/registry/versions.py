"""Versions of a dataset's model, and the alias `champion`, which is the one truth about which of them serves.

The alias `challenger` names a version that serving may try beside it: a share of the answers, or in the shadow.

A version's tags, all with the prefix `boostline.`: `date`, `sha256`, `fingerprint`, `data_fingerprint` and `attempt` (set
when it is registered), `verdict` (the gate's, JSON), `promotion` (the outcome, JSON), `approval` (what was
asked and answered, JSON, see `boostline.registry.approval`), `move.N` (each move of an alias
to it or away from it, JSON: when by MLflow's clock, which alias, from, to, why, who) and `rolled_back` (why it stays blocked).
"""

from __future__ import annotations

import json
from typing import Any

from boostline.errors import FailError, ModelRefused
from boostline.lake import paths
from boostline.lake.manifest import Manifest, Ref, read_ref
from boostline.lake.store import NotFound, Store
from boostline.scoring.model_file import Model, load_published
from boostline.settings import Settings
from boostline.tracking import TAG, Tracking, Version, tracking

CHAMPION, CHALLENGER = "champion", "challenger"
ROLLED_BACK = TAG + "rolled_back"
MOVE = TAG + "move."
APPROVAL, ASKED, LAPSED = TAG + "approval", "asked", "lapsed"


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


def is_registered(store: Store, settings: Settings, model: Ref) -> bool:
    """Whether MLflow still has the version of a published model.

    The fingerprint decides: where the whole registered model was deleted, another date's version may bear the number.
    """
    number = version_number(store, model)
    with tracking(settings) as mlflow:
        found = mlflow.version(model.dataset, number) if number else None
    return found is not None and found.tags.get(TAG + "fingerprint") == model.fingerprint


def promoted_before(version: Version) -> bool:
    """Whether the pipeline has made it champion at some time."""
    return TAG + "promotion" in version.tags


def outcome_of(version: Version) -> dict[str, Any]:
    """What was recorded when the pipeline made it champion: `{"promoted", "reason"}`."""
    found: dict[str, Any] = json.loads(version.tags[TAG + "promotion"])
    return found


def verdict_of(version: Version) -> dict[str, Any] | None:
    """What the gate recorded, or none."""
    text = version.tags.get(TAG + "verdict")
    return json.loads(text) if text else None


def approvals_of(version: Version) -> list[dict[str, Any]]:
    """What was asked and answered about a version, the oldest first; see `boostline.registry.approval`."""
    found: list[dict[str, Any]] = json.loads(version.tags.get(APPROVAL, "[]"))
    return found


def add_approval(mlflow: Tracking, version: Version, record: dict[str, Any]) -> None:
    """Record what was asked or answered about a version; `record` needs a decision and a reason."""
    found = mlflow.version(version.dataset, version.version) or version
    record = {"who": "", "when": mlflow.answered.isoformat(), "why": "", "promoted": False} | record
    mlflow.tag_version(version.dataset, version.version, {APPROVAL: json.dumps([*approvals_of(found), record])})


def order_of(version: Version) -> tuple[str, int]:
    """What makes a version newer than another: a later data date, or the same and a later number."""
    return date_of(version), int(version.version)


def date_of(version: Version) -> str:
    """The data date that a version learnt up to; empty for one that the pipeline did not register."""
    return version.tags.get(TAG + "date", "")


def version_manifest(store: Store, version: Version) -> tuple[Manifest, str]:
    """The manifest of the attempt that a version names, and its ETag.

    Raises:
        ModelRefused: The version was not registered by the pipeline, or its files are gone.
    """
    name = f"version {version.version} of {version.dataset}"
    if TAG + "attempt" not in version.tags:
        raise ModelRefused(f"{name} was not registered by this pipeline", "Choose another: boostline models DATASET")
    key = paths.attempt_manifest("model", version.dataset, version.tags[TAG + "attempt"], None, date_of(version))
    try:
        body, etag = store.get(key)
    except NotFound as error:
        raise ModelRefused(
            f"{name} is gone from the lake: {store.uri(key)}",
            "Run its date again, which writes it anew, or roll back to another version",
        ) from error
    return Manifest.model_validate_json(body), etag


def load_version(store: Store, version: Version) -> Model:
    """Load the model of a version from its attempt in the lake.

    Raises:
        ModelRefused: See `version_manifest` and `load_published`; or its SHA-256 is not the one that MLflow holds of it.
    """
    return load_published(store, version_manifest(store, version)[0], version.tags[TAG + "sha256"])


def find_version(settings: Settings, dataset: str, name: str) -> Version:
    """A version by its number, or by an alias.

    Raises:
        FailError: There is none of that name.
    """
    with tracking(settings) as mlflow:
        found = mlflow.version(dataset, name) if name.isdigit() else mlflow.aliased(dataset, name)
    if found is None:
        what = f"version {name}" if name.isdigit() else name
        raise FailError(f"{dataset} has no {what}", f"`boostline models {dataset}` lists its versions")
    return found
