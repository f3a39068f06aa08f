"""Which files below a table's folder count as raw data, on a real S3 server."""

from __future__ import annotations

from pathlib import Path

from boostline.dataset import load_dataset
from boostline.dataset.draft import draft_dataset
from boostline.lake.raw import raw_partitions
from boostline.lake.store import Store
from boostline.spark.raw import inspect_files

FOLDER = "raw/meters/readings/date=2024-05-10/"


def test_what_a_job_still_writes_is_no_data(store: Store) -> None:
    names = ["part.csv", "by_site/a_1.csv", "_SUCCESS", ".part.csv.crc"]
    names += ["_temporary/0/task_1/part.csv", "__magic_job-1/__base/part.csv", "by_site/.tmp/part.csv"]
    for name in names:
        store.put(FOLDER + name, b"id\n1\n")
    found = raw_partitions(store, "meters", "readings")
    assert [item.key for item in found["2024-05-10"]] == [FOLDER + "by_site/a_1.csv", FOLDER + "part.csv"]


def test_ingest_finds_the_columns_that_init_found(store: Store, tmp_path: Path) -> None:
    """The first one of pandas' `to_csv()` has no name."""
    source = tmp_path / "houses.csv"
    source.write_text(",price,area\n" + "".join(f"{row},{row * 1.5},{row % 7}\n" for row in range(30)))
    dataset = load_dataset(draft_dataset(source, "price", tmp_path, name=None, id_columns=[]))
    assert (dataset.id, dataset.raw_columns["column"].source) == (("column",), "")
    store.upload(FOLDER + source.name, source)
    (found,) = inspect_files(store, dataset.tables["rows"], [FOLDER + source.name])
    assert found.columns == ("", "price", "area")
