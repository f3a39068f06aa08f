"""Removing old logs: what Airflow keeps of its tasks, and Spark of its applications. Neither does it by itself.

Spark's History Server removes old event logs, but only while it runs.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from boostline.lake.store import Store
from boostline.settings import Settings

TASKS = ("dag_id=",)
APPLICATIONS = ("app-", "local-", "eventlog_v2_")
"""How the names of task logs, and of event logs, begin; whatever else lies beside them stays."""


def remove_old_logs(settings: Settings, now: datetime) -> list[int]:
    """Remove logs older than `keep_days` from the places that the settings name.

    Args:
        settings: A place that they do not name is left alone.
        now: The present, with a time zone.

    Returns:
        The sizes of the files that went, in bytes.

    Raises:
        BoostlineError: S3 does not answer, or refuses.
    """
    before = now - timedelta(days=settings.keep_days)
    sizes = []
    for place, starts in ((settings.logs, TASKS), (settings.event_log, APPLICATIONS)):
        for start in starts:
            if place:
                sizes += _remove(settings, place, start, before)
    return sizes


def _remove(settings: Settings, place: str, start: str, before: datetime) -> list[int]:
    if "://" not in place:
        return _from_folder(place, start, before)
    store = Store(settings.model_copy(update={"lake": place.replace("s3a://", "s3://", 1).rstrip("/")}))
    old = [item for item in store.list(start) if item.modified < before]
    store.delete(item.key for item in old)
    return [item.size for item in old]


def _from_folder(place: str, start: str, before: datetime) -> list[int]:
    tops = list(Path(place).glob(f"{start}*"))
    files = [path for top in tops for path in (top, *top.rglob("*")) if path.is_file()]
    found = [(path, path.stat()) for path in files]
    old = {path: stat.st_size for path, stat in found if stat.st_mtime < before.timestamp()}
    for path in old:
        path.unlink(missing_ok=True)  # the History Server may have been quicker
    emptied = {folder for path in old for folder in path.parents if folder.is_relative_to(place)} - {Path(place)}
    for folder in sorted(emptied, reverse=True):  # what is within a folder comes before it
        with suppress(OSError):  # it holds newer logs
            folder.rmdir()
    return list(old.values())
