"""What maintenance leaves of quarantine and of what a run needs, on a real S3 server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest

from boostline.lake import paths
from boostline.lake.cleanup import remove_old_attempts
from boostline.lake.manifest import Manifest, Stage, publish, read_current
from boostline.lake.store import Store, StoredObject


def put_published(store: Store, stage: Stage, table: str, partition: str, attempt: str) -> None:
    found = read_current(store, stage, "meters", table, partition)
    manifest = Manifest(
        stage=stage,
        dataset="meters",
        table=table,
        partition=partition,
        attempt=attempt,
        fingerprint=attempt,
        inputs={},
        files=[],
        rows={},
        columns={},
        row_hash="0",
    )
    publish(store, manifest, found[1] if found else None)


def quarantined(store: Store) -> set[str]:
    return {item.key.split("/")[3] for item in store.list("quarantine/meters/")}


def test_quarantine_goes_where_nothing_else_is_left_of_its_attempt(store: Store) -> None:
    put_published(store, "clean", "readings", "2024-05-09", "ingest-stands")
    put_published(store, "clean", "readings", "2024-05-10", "ingest-replaced")
    put_published(store, "predictions", "stream=1", "batch=000000000", "stream-0-stands")
    store.put("clean/meters/attempts/ingest-lost/request.json", b"{}")
    store.put("predictions/meters/attempts/stream-1-lost/rows/part.parquet", b"rows")
    stay = {"ingest-stands", "ingest-replaced", "stream-0-stands", "kept"}
    for attempt in [*stay, "ingest-lost", "stream-1-lost", "stream-1-killed"]:
        store.put(f"quarantine/meters/attempts/{attempt}/readings/part.parquet", b"bad rows")
    time.sleep(1.1)  # S3 tells when it got an object by the second
    put_published(store, "clean", "readings", "2024-05-10", "ingest-newer")
    store.put("quarantine/meters/attempts/stream-2-runs/readings/part.parquet", b"bad rows")
    (last,) = store.list("clean/meters/readings/date=2024-05-10/")
    removed = remove_old_attempts(store, "meters", last.modified + timedelta(days=14), 14, frozenset({"kept"}))
    assert removed.attempts == {"clean": ["ingest-lost"], "predictions": ["stream-1-lost"]}
    assert removed.size == len(b"{}" + b"rows" + 3 * b"bad rows")
    assert quarantined(store) == stay | {"stream-2-runs"}
    # Days later no run can read what was replaced any more, and what ran then was killed.
    remove_old_attempts(store, "meters", last.modified + timedelta(days=15), 14)
    assert quarantined(store) == {"ingest-stands", "stream-0-stands"}


def test_what_a_run_replaces_or_writes_again_meanwhile_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    partitions, windows = ("2024-05-09", "2024-05-10"), paths.windows_folder("meters")
    for partition in partitions:
        put_published(store, "clean", "readings", partition, f"old-{partition}")
        own = paths.attempt_manifest("clean", "meters", f"old-{partition}", "readings", partition)
        store.put(own, b"a run was handed this")
    for name in ("needed", "needless"):
        store.put(f"{windows}date=2024-05-10/{name}.json", b"[]")
    *_, last = store.list(windows)
    time.sleep(1.1)
    get_many, list_ = store.get_many, store.list

    def publish_first(keys: Iterable[str]) -> dict[str, tuple[bytes, str]]:
        if any("/readings/date=" in key for key in keys):
            put_published(store, "clean", "readings", partitions[0], "newer")
            store.delete([paths.current_manifest("clean", "meters", "readings", partitions[1])])
        return get_many(keys)

    def write_again(folder: str) -> Iterator[StoredObject]:
        yield from list_(folder)
        if folder == windows:
            store.put(f"{windows}date=2024-05-10/needed.json", b"[]")

    monkeypatch.setattr(store, "get_many", publish_first)
    monkeypatch.setattr(store, "list", write_again)
    removed = remove_old_attempts(store, "meters", last.modified + timedelta(days=14, seconds=1), 14)
    assert (removed.attempts, removed.size) == ({}, len(b"[]"))
    assert [item.key for item in list_(windows)] == [f"{windows}date=2024-05-10/needed.json"]


def test_of_a_stream_only_batches_that_several_attempts_wrote_are_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put_published(store, "predictions", "stream=1", f"batch={number:09d}", f"stream-{number}-stands")
    # It ended between its own manifest and the published one, and the batch was repeated.
    lost = paths.attempt_manifest("predictions", "meters", "stream-2-lost", "stream=1", "batch=000000002")
    store.put(lost, b"{}")
    put_published(store, "predictions", "version=1", "2024-05-10", "score-stands")
    read: list[str] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda key: (read.append(key), get(key))[1])
    (*_, last) = store.list("predictions/meters/")
    removed = remove_old_attempts(store, "meters", last.modified + timedelta(days=15), 14)
    assert removed.attempts == {"predictions": ["stream-2-lost"]}
    assert sorted(read) == [
        paths.current_manifest("predictions", "meters", "stream=1", "batch=000000002"),
        paths.current_manifest("predictions", "meters", "version=1", "2024-05-10"),
    ]
