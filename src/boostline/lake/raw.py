"""Raw files: landing them, and finding what is there."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import date
from pathlib import Path

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, DataMissing, DatasetInvalid
from boostline.lake import paths
from boostline.lake.store import Store, StoredObject

_PARTITION = re.compile(r"^(?:date=(\d{4}-\d{2}-\d{2})|(reference))/")


def land(store: Store, dataset: Dataset, table: str, files: list[Path], day: date | None) -> list[str]:
    """Put files where ingest looks. Landing the same file again changes nothing.

    Args:
        store: The lake.
        dataset: Says whether the table is daily.
        table: A table of the dataset.
        files: Local files; their names are kept.
        day: The data date; none for a reference table.

    Returns:
        The addresses written, in that order: the completeness marker last, for it lets waiting runs go on.

    Raises:
        DatasetInvalid: The dataset has no such table.
        DataMissing: A file is not there or cannot be read, or the date does not suit the table.
        DataInvalid: Two files of one name, or a name that ingest leaves out.
    """
    if table not in dataset.tables:
        raise DatasetInvalid(f"dataset {dataset.name} has no table {table!r}", f"Tables: {', '.join(dataset.tables)}")
    daily = dataset.tables[table].daily
    if daily and day is None:
        raise DataMissing(f"table {table} is daily and no date was given", "Add --date YYYY-MM-DD")
    if not daily and day is not None:
        raise DataMissing(f"table {table} holds reference rows without a date", "Leave --date out")
    _check_readable(files)
    _check_names(dataset, files)
    folder = paths.raw_folder(dataset.name, table, day.isoformat() if day else paths.REFERENCE)
    ordered = sorted(files, key=lambda path: path.name == dataset.wait.marker)
    for path in ordered:
        store.upload(folder + path.name, path)
    return [store.uri(folder + path.name) for path in ordered]


def raw_partitions(store: Store, dataset: str, table: str) -> dict[str, list[StoredObject]]:
    """All raw files of a table by partition (`YYYY-MM-DD` or `reference`); hidden files and markers left out."""
    folder = paths.raw_table(dataset, table)
    found: dict[str, list[StoredObject]] = defaultdict(list)
    for item in store.list(folder):
        match = _PARTITION.match(item.key[len(folder) :])
        if match and not paths.is_hidden(item.key):
            found[match[1] or match[2]].append(item)
    return dict(found)


def _check_readable(files: list[Path]) -> None:
    for path in files:
        try:
            if not path.is_file():
                raise DataMissing(f"no such file: {path}", "Check the path")
            path.open("rb").close()
        except OSError as error:
            raise DataMissing(f"{path}: cannot be read: {error.strerror}", "Check the rights to it") from error


def _check_names(dataset: Dataset, files: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in files:
        if paths.is_hidden(path.name) and path.name != dataset.wait.marker:
            raise DataInvalid(f"{path}: ingest leaves out files whose names start with _ or .", "Rename it")
        if path.name in seen:
            raise DataInvalid(
                f"{seen[path.name]} and {path} would be one file in the lake, which keeps only their name",
                "Rename one of them",
            )
        seen[path.name] = path
