"""Removing old attempts that nothing refers to.

Only the maintenance DAG does this, never a run that lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from boostline.lake import paths
from boostline.lake.manifest import Manifest
from boostline.lake.store import Store, StoredObject


@dataclass(frozen=True)
class Removed:
    """What a clean-up removed: attempts by stage, and bytes in all, quarantine included."""

    attempts: dict[str, list[str]]
    size: int


def remove_old_attempts(
    store: Store, dataset: str, now: datetime, keep_days: int, keep: frozenset[str] = frozenset()
) -> Removed:
    """Remove attempts older than `keep_days` that no published manifest names.

    An attempt also stays as long as a partition that it wrote was published anew within `keep_days`: a run that started
    before that may still read it. Old quarantine goes where nothing else is left of its attempt. Windows handed on by
    ingest go by age alone.

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
    stay = set(keep)
    for stage in paths.STAGES:
        attempts, needless = _attempts(store, stage, dataset, before)
        doomed = sorted(needless - keep)
        stay |= attempts.keys() - set(doomed)
        for attempt in doomed:
            store.delete(item.key for item in attempts[attempt])
            size += sum(item.size for item in attempts[attempt])
        if doomed:
            removed[stage] = doomed
    # It is written before the good rows, so a stream's attempt that was killed may have left nothing else.
    quarantine = _by_attempt(store.list(folder := paths.quarantine_folder(dataset, "")[:-1]), folder)
    old = [item for name, items in quarantine.items() if name not in stay and _newest(items) < before for item in items]
    store.delete(item.key for item in old)
    size += sum(item.size for item in old)
    return Removed(removed, size + _remove_windows(store, paths.windows_folder(dataset), before))


def _remove_windows(store: Store, folder: str, before: datetime) -> int:
    """Remove windows older than that; bytes in all."""
    size = 0
    for key in [item.key for item in store.list(folder) if item.modified < before]:
        # It is named by its content, so a run may have written it again since it was listed.
        for item in store.list(key):
            if item.modified < before:
                store.delete([key])
                size += item.size
    return size


def _attempts(
    store: Store, stage: str, dataset: str, before: datetime
) -> tuple[dict[str, list[StoredObject]], set[str]]:
    """A stage's attempts with their objects, and the old ones that no current or lately replaced partition needs."""
    root, folder = paths.current_folder(stage, dataset, None), paths.attempt_folder(stage, dataset, "")[:-1]
    found = list(store.list(root))
    attempts = _by_attempt(found, folder)
    published = {
        item.key: item for item in found if item.key.endswith("/current.json") and not item.key.startswith(folder)
    }
    partitions = {key: key[len(root) :].removesuffix("/current.json") for key in published}
    writers = Counter(_partition(item.key) for objects in attempts.values() for item in objects)
    # A stream's batch is never replaced, so where one attempt has a manifest of it, that one stays. Months make hundreds
    # of thousands of batches.
    unread = {key for key, name in partitions.items() if "/stream=" in key and writers[name] == 1}
    read = store.get_many(published.keys() - unread)
    named = {Manifest.model_validate_json(body).attempt for body, _ in read.values()}
    # What is another one by now, or gone, was replaced after it was listed: just now.
    fresh = {
        partitions[key]
        for key, item in published.items()
        if item.modified >= before or key not in read or read[key][1] != item.etag
    }
    needless = {
        attempt
        for attempt, objects in attempts.items()
        if attempt not in named
        and _newest(objects) < before
        and not any(_partition(item.key) in fresh for item in objects)
    }
    return attempts, needless


def _by_attempt(objects: Iterable[StoredObject], folder: str) -> dict[str, list[StoredObject]]:
    """Those below a folder of attempts, by the attempt's name."""
    found: dict[str, list[StoredObject]] = defaultdict(list)
    for item in objects:
        if item.key.startswith(folder):
            found[item.key[len(folder) :].split("/", 1)[0]].append(item)
    return dict(found)


def _newest(objects: list[StoredObject]) -> datetime:
    return max(item.modified for item in objects)


def _partition(key: str) -> str | None:
    """`TABLE/date=D` of an attempt's own manifest, none for any other file."""
    _, found, rest = key.partition("/manifests/")
    return rest.removesuffix(".json") if found else None
