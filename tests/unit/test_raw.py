"""Which files below a table's folder count as raw data, on a real S3 server."""

from __future__ import annotations

from boostline.lake.raw import raw_partitions
from boostline.lake.store import Store

FOLDER = "raw/meters/readings/date=2024-05-10/"


def test_what_a_job_still_writes_is_no_data(store: Store) -> None:
    names = ["part.csv", "by_site/a_1.csv", "_SUCCESS", ".part.csv.crc"]
    names += ["_temporary/0/task_1/part.csv", "__magic_job-1/__base/part.csv", "by_site/.tmp/part.csv"]
    for name in names:
        store.put(FOLDER + name, b"id\n1\n")
    found = raw_partitions(store, "meters", "readings")
    assert [item.key for item in found["2024-05-10"]] == [FOLDER + "by_site/a_1.csv", FOLDER + "part.csv"]
