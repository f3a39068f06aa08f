"""What a stage has to do for a date, found out without a JVM."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from boostline.dataset import Dataset
from boostline.errors import DataInvalid, DataMissing, NothingToDo, Outdated
from boostline.lake import paths
from boostline.lake.job import STAGE_OF_JOB, Target
from boostline.lake.manifest import Manifest, Ref, Stage, fingerprint, read_current, ref_of
from boostline.lake.raw import raw_partitions
from boostline.lake.store import NotFound, Store, StoredObject


class WindowRefs(BaseModel):
    """The clean partitions that a run of one date learns from."""

    model_config = ConfigDict(frozen=True)

    date: str
    refs: list[Ref]
    missing: list[str] = []


@dataclass(frozen=True)
class IngestPlan:
    """Partitions that are up to date, those to write, and days of the window without raw files."""

    current: list[Ref]
    stale: list[Target]
    missing: list[str]


@dataclass(frozen=True)
class StagePlan:
    """What a stage of one date has to write; `current` is set where it is up to date already."""

    target: Target
    current: Ref | None


def window_days(dataset: Dataset, day: date) -> list[str]:
    """The days (D - window.days, D], oldest first."""
    return [(day - timedelta(days=back)).isoformat() for back in reversed(range(dataset.window.days))]


def plan_ingest(store: Store, dataset: Dataset, day: date) -> IngestPlan:
    """Find the window's partitions that ingest has to write.

    Raises:
        DataMissing: No raw file for the date, a hole that the dataset forbids, or too few days.
        NothingToDo: No raw file for the date, and the dataset says skip.
    """
    days = window_days(dataset, day)
    wanted = {name: days if table.daily else [paths.REFERENCE] for name, table in dataset.tables.items()}
    # The published ETags are read before the inputs: whoever publishes in between makes our own publish fail.
    published = _published(store, dataset, wanted)
    raw = {name: raw_partitions(store, dataset.name, name) for name in dataset.tables}
    missing = _check_window(store, dataset, day, days, raw[dataset.daily_table])
    current, stale = [], []
    for name, partitions in wanted.items():
        for partition in partitions:
            if partition in missing:
                continue
            files = raw[name].get(partition)
            if not files:
                where = store.uri(paths.raw_folder(dataset.name, name, partition))
                raise DataMissing(
                    f"table {name} has no raw file below {where}",
                    f"Land one: boostline land {dataset.name} FILE --table {name}",
                )
            inputs = {item.key: item.etag for item in files}
            print_ = fingerprint("clean", clean_sections(dataset, name), inputs)
            manifest, etag = published.get((name, partition), (None, None))
            if manifest and etag and manifest.fingerprint == print_:
                current.append(ref_of(manifest, etag))
            else:
                stale.append(
                    Target(table=name, partition=partition, fingerprint=print_, expected_etag=etag, inputs=inputs)
                )
    return IngestPlan(current, stale, missing)


def plan_stage(
    store: Store,
    stage: Stage,
    dataset: Dataset,
    day: date,
    reads: Mapping[str, Ref | str],
    *,
    table: str | None = None,
    publish: bool = True,
) -> StagePlan:
    """Find whether a stage of one date is up to date.

    Args:
        store: The lake.
        stage: Any stage but clean.
        dataset: With the run's overrides applied.
        day: The data date.
        reads: Everything that the stage reads, by name: what earlier stages handed on, or an identity.
        table: The version's folder, for predictions.
        publish: Whether what the stage writes is to be published.

    Raises:
        Outdated: What is published was made from newer inputs than these.
    """
    partition = day.isoformat()
    found = read_current(store, stage, dataset.name, table, partition)
    inputs = {name: read if isinstance(read, str) else read.identity for name, read in reads.items()}
    print_ = fingerprint(stage, stage_sections(stage, dataset), inputs)
    etag = found[1] if found else None
    target = Target(table=table, partition=partition, fingerprint=print_, expected_etag=etag, inputs=inputs)
    current = ref_of(*found) if found and found[0].fingerprint == print_ else None
    if found and publish and not current:
        _require_newest(store, found[0], reads)
    return StagePlan(target, current)


def _require_newest(store: Store, published: Manifest, reads: Mapping[str, Ref | str]) -> None:
    """Keep a run whose inputs were handed on before a newer run's from replacing what the newer one has published."""
    for name, read in reads.items():
        made_from = published.inputs.get(name)
        if isinstance(read, str) or made_from in (None, read.identity):
            continue
        now = read_current(store, read.stage, read.dataset, read.table, read.partition)
        if now and ref_of(*now).identity == made_from:
            raise Outdated(
                f"{store.uri(published.current_key)} was made from newer {read.stage} of {read.partition} (attempt "
                f"{now[0].attempt}) than this run was handed (attempt {read.attempt}), and stays as it is",
                f"Nothing is to be done; or run the date anew: boostline run {read.dataset} --date DATE",
            )


def clean_sections(dataset: Dataset, table: str) -> dict[str, Any]:
    """The parts of the dataset file that a table's clean rows depend on."""
    spec = dataset.tables[table]
    return {"table": spec.model_dump(mode="json"), "id": list(dataset.id) if spec.daily else []}


def stage_sections(stage: Stage, dataset: Dataset) -> dict[str, Any]:
    """The parts of the dataset file that a stage's output depends on."""
    includes: dict[Stage, Any] = {
        "features": {
            "name": True,
            "task": True,
            "label": {"name", "expression", "classes"},
            "id": True,
            "joins": True,
            "split": True,
            "window": True,
            "features": True,
        },
        "baseline": {"task": True, "baseline": True, "model": {"threshold"}},
        "model": {"name": True, "task": True, "model": True},
        "report": {"name": True, "description": True, "label": {"unit"}},
        "predictions": {"name": True, "id": True, "joins": True},
    }
    sections = dataset.model_dump(mode="json", include=includes[stage])
    if stage == "features":
        sections["columns"] = {name: column.model_dump(mode="json") for name, column in dataset.raw_columns.items()}
    return sections


def require_same_rules(dataset: Dataset, made: Iterable[Manifest]) -> None:
    """Refuse what an earlier task handed on by other rules than those of now: the dataset file is read anew by each task.

    Raises:
        DataInvalid: Names the first, and the task to clear.
    """
    for item in made:
        try:
            sections = clean_sections(dataset, item.table) if item.table else stage_sections(item.stage, dataset)
        except KeyError:  # the dataset file has no such table any more
            sections = {}
        if fingerprint(item.stage, sections, item.inputs) != item.fingerprint:
            task = next(job for job, stage in STAGE_OF_JOB.items() if stage == item.stage)
            raise DataInvalid(
                f"{item.stage} {item.table or dataset.name} of {item.partition} (attempt {item.attempt}) was made by other "
                "rules than the dataset file has now",
                f"Clear {task} of the run with all that follows it, or start the run again",
            )


def save_window(store: Store, dataset: str, window: WindowRefs) -> str:
    """Store a window's references under the hash of their content and return the key: the same window, the same key."""
    body = window.model_dump_json().encode()
    key = paths.window_file(dataset, window.date, hashlib.sha256(body).hexdigest()[:32])
    store.put(key, body)
    return key


def load_window(store: Store, key: str) -> WindowRefs:
    """The window that ingest handed on.

    Raises:
        DataMissing: Maintenance has removed it, as it does with old ones.
    """
    try:
        return WindowRefs.model_validate_json(store.get(key)[0])
    except NotFound as error:
        raise DataMissing(
            f"{store.uri(key)} is gone: the window was removed after ingest had handed it on",
            "Clear the ingest task of the training run, so that it hands on its window anew",
        ) from error


def _published(
    store: Store, dataset: Dataset, wanted: dict[str, list[str]]
) -> dict[tuple[str, str], tuple[Manifest, str]]:
    keys = {
        paths.current_manifest("clean", dataset.name, name, partition): (name, partition)
        for name, partitions in wanted.items()
        for partition in partitions
    }
    found = store.get_many(keys)
    return {keys[key]: (Manifest.model_validate_json(body), etag) for key, (body, etag) in found.items()}


def _check_window(
    store: Store, dataset: Dataset, day: date, days: list[str], raw: dict[str, list[StoredObject]]
) -> list[str]:
    """The days without raw files, where the dataset can live with that."""
    table = dataset.daily_table
    missing = [partition for partition in days if partition not in raw]
    remedy = f"Land it: boostline land {dataset.name} FILE --date {day}"
    if day.isoformat() in missing:
        where = store.uri(paths.raw_folder(dataset.name, table, day.isoformat()))
        message = f"there is no raw file of {dataset.name}/{table} for {day}: {where} is empty"
        raise NothingToDo(message, remedy) if dataset.on_missing == "skip" else DataMissing(message, remedy)
    holes = [partition for partition in missing if partition > min(raw)]
    if holes and dataset.on_missing == "fail":
        raise DataMissing(
            f"{dataset.name}/{table} has no raw file for {_few(holes)} within the window of {day}",
            "Land the missing days, or set on_missing: skip in the dataset file",
        )
    present = len(days) - len(missing)
    if present < dataset.window.min_days:
        raise DataMissing(
            f"the window of {day} is too thin: {present} of {len(days)} days have raw files, "
            f"window.min_days is {dataset.window.min_days}; missing: {_few(missing)}",
            "Land more days, or lower window.min_days in the dataset file",
        )
    return missing


def _few(items: list[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
