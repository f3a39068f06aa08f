"""Which logs maintenance removes, from folders and from a real S3 server."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from boostline.lake.store import Store
from boostline.orchestration.logs import remove_old_logs

TASK, APP, ROLLED = "dag_id=a/run_id=r/task_id=t/{}.log", "app-2013-{}", "eventlog_v2_app-2013-{}/events_1_app.zstd"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_old_logs_go_from_folders_with_what_they_leave_empty(store: Store, tmp_path: Path) -> None:
    now = datetime(2013, 4, 1, tzinfo=UTC)
    tasks, events = tmp_path / "tasks", tmp_path / "events"
    files = {
        tasks / TASK.format("old"): 15,
        tasks / TASK.format("new"): 13,
        tasks / "dag_id=b/run_id=r/task_id=t/attempt=1.log": 15,
        tasks / "mine.log": 15,
        events / APP.format("old"): 15,
        events / ROLLED.format("old"): 15,
        events / APP.format("new"): 13,
        events / "mine/app-old": 15,
    }
    for path, days in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"log")
        written = (now - timedelta(days=days)).timestamp()
        os.utime(path, (written, written))
    settings = store.settings.model_copy(update={"logs": str(tasks), "event_log": str(events)})
    assert remove_old_logs(settings, now) == [3, 3, 3, 3]
    kept = {"dag_id=a", "dag_id=a/run_id=r", "dag_id=a/run_id=r/task_id=t", TASK.format("new"), "mine.log"}
    assert names(tasks) == kept
    assert names(events) == {APP.format("new"), "mine", "mine/app-old"}
    assert remove_old_logs(settings.model_copy(update={"keep_days": 12, "event_log": None}), now) == [3]
    assert names(tasks) == {"mine.log"}
    assert names(events) == {APP.format("new"), "mine", "mine/app-old"}


def test_old_logs_go_from_s3_and_the_lake_beside_them_stays(store: Store) -> None:
    beside = {"clean/x", "logs/mine.log", "logs/events/mine"}
    old = {f"logs/{TASK.format('old')}", f"logs/events/{APP.format('old')}", f"logs/events/{ROLLED.format('old')}"}
    for key in beside | old:
        store.put(key, b"log")
    time.sleep(1.1)  # S3 tells when it got an object by the second
    store.put(f"logs/{TASK.format('new')}", b"log")
    (last,) = (item for item in store.list("logs/dag_id=") if "new" in item.key)
    lake = store.settings.lake
    places = {"logs": f"{lake}/logs", "event_log": f"{lake.replace('s3://', 's3a://')}/logs/events/"}
    settings = store.settings.model_copy(update=places)
    assert remove_old_logs(settings, last.modified + timedelta(days=14)) == [3, 3, 3]
    assert {item.key for item in store.list("")} == beside | {last.key}
