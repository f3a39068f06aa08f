"""Where things lie, as keys relative to the lake's root. Pure functions, the only place that spells a layout."""

from __future__ import annotations

from typing import Literal, get_args

Stage = Literal["clean", "features", "baseline", "model", "report", "predictions"]
STAGES: tuple[Stage, ...] = get_args(Stage)

REFERENCE = "reference"
"""The partition name of a table without dates."""


def version_folder(version: str) -> str:
    """What stands for the table among predictions: `version=3`."""
    return f"version={version}"


def stream_folder(stream: str) -> str:
    """What stands for the table among the predictions of a stream: `stream=ID`."""
    return f"stream={stream}"


def checkpoint_folder(dataset: str) -> str:
    """Where a stream remembers what it has read."""
    return f"streams/{dataset}/checkpoint/"


def partition_folder(partition: str) -> str:
    """`date=2013-03-31`, or `reference`, or the batch of a stream: `batch=000000012`."""
    return partition if partition == REFERENCE or partition.startswith("batch=") else f"date={partition}"


def raw_folder(dataset: str, table: str, partition: str) -> str:
    """Where the raw files of one table and date are landed."""
    return f"raw/{dataset}/{table}/{partition_folder(partition)}/"


def raw_table(dataset: str, table: str) -> str:
    """Where all raw files of a table lie."""
    return f"raw/{dataset}/{table}/"


def attempt_folder(stage: str, dataset: str, attempt: str) -> str:
    """The folder that one attempt of a stage writes, and no other attempt."""
    return f"{stage}/{dataset}/attempts/{attempt}/"


def attempt_manifest(stage: str, dataset: str, attempt: str, table: str | None, partition: str) -> str:
    """The attempt's own, immutable copy of a manifest."""
    inner = f"{table}/" if table else ""
    return f"{attempt_folder(stage, dataset, attempt)}manifests/{inner}{partition_folder(partition)}.json"


def current_manifest(stage: str, dataset: str, table: str | None, partition: str) -> str:
    """The published manifest of a partition: the one object that readers trust."""
    inner = f"{table}/" if table else ""
    return f"{stage}/{dataset}/{inner}{partition_folder(partition)}/current.json"


def current_folder(stage: str, dataset: str, table: str | None) -> str:
    """The folder below which the published manifests of a stage (and table) lie."""
    return f"{stage}/{dataset}/{table}/" if table else f"{stage}/{dataset}/"


def windows_folder(dataset: str) -> str:
    """Where the windows lie that ingest handed on, by date."""
    return f"clean/{dataset}/windows/"


def window_file(dataset: str, date: str, digest: str) -> str:
    """One window, under the hash of its content."""
    return f"{windows_folder(dataset)}{partition_folder(date)}/{digest}.json"


def quarantine_folder(dataset: str, attempt: str) -> str:
    """Rows that broke the contract, with the reasons, of one ingest attempt."""
    return f"quarantine/{dataset}/attempts/{attempt}/"


def quarantine_table(dataset: str, attempt: str, table: str) -> str:
    """Those of one table."""
    return f"{quarantine_folder(dataset, attempt)}{table}/"


def is_hidden(key: str) -> bool:
    """Whether a file, by its key or name, is no data.

    Markers and temporary files start with _ or a dot, and so do the folders in which Spark and others write before they
    move their files into place. No name above a partition's folder starts so.
    """
    return any(part.startswith(("_", ".")) for part in key.split("/"))
