"""Removing old attempts that nothing refers to. Only the maintenance DAG does this, never a run that lost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from boostline.lake import paths
from boostline.lake.manifest import Manifest
from boostline.lake.store import Store, StoredObject


@dataclass(frozen=True)
class Removed:
    """What a clean-up removed: attempts by stage, and bytes in all."""

    attempts: dict[str, list[str]]
    size: int


def remove_old_attempts(
    store: Store, dataset: str, now: datetime, keep_days: int, keep: frozenset[str] = frozenset()
) -> Removed:
    """Remove attempts older than `keep_days` that no published manifest names.

    An attempt also stays as long as a partition that it wrote was published anew within `keep_days`: a run that started
    before that may still read it. Windows handed on by ingest go by age alone.

    Args:
        store: The lake.
        dataset: Its name.
        now: The present, with a time zone.
        keep_days: At least one.
        keep: Attempts that stay whatever their age: those that model versions name.
    """
    before = now - timedelta(days=keep_days)
    removed: dict[str, list[str]] = {}
    size = 0
    for stage in paths.STAGES:
        doomed = {name: found for name, found in _doomed(store, stage, dataset, before).items() if name not in keep}
        for attempt, objects in sorted(doomed.items()):
            quarantine = list(store.list(paths.quarantine_folder(dataset, attempt))) if stage == "clean" else []
            store.delete(item.key for item in [*objects, *quarantine])
            size += sum(item.size for item in [*objects, *quarantine])
        if doomed:
            removed[stage] = sorted(doomed)
    old_windows = [item for item in store.list(paths.windows_folder(dataset)) if item.modified < before]
    store.delete(item.key for item in old_windows)
    return Removed(removed, size + sum(item.size for item in old_windows))


def _doomed(store: Store, stage: str, dataset: str, before: datetime) -> dict[str, list[StoredObject]]:
    """Old attempts that no current or lately replaced partition needs, with their objects."""
    attempts: dict[str, list[StoredObject]] = defaultdict(list)
    published: dict[str, StoredObject] = {}
    root, folder = paths.current_folder(stage, dataset, None), paths.attempt_folder(stage, dataset, "")[:-1]
    for item in store.list(root):
        if item.key.startswith(folder):
            attempts[item.key[len(folder) :].split("/", 1)[0]].append(item)
        elif item.key.endswith("/current.json"):
            published[item.key] = item
    named = {Manifest.model_validate_json(body).attempt for body, _ in store.get_many(published).values()}
    fresh = {
        key[len(root) :].removesuffix("/current.json") for key, item in published.items() if item.modified >= before
    }
    return {
        attempt: objects
        for attempt, objects in attempts.items()
        if attempt not in named
        and max(item.modified for item in objects) < before
        and not any(_partition(item.key) in fresh for item in objects)
    }


def _partition(key: str) -> str | None:
    """`TABLE/date=D` of an attempt's own manifest, none for any other file."""
    _, found, rest = key.partition("/manifests/")
    return rest.removesuffix(".json") if found else None
