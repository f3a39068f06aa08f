"""Manifests: what one attempt wrote for one partition, and the references that stages hand on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from boostline.errors import ModelRefused, Superseded
from boostline.lake import paths
from boostline.lake.store import PARALLEL_REQUESTS, NotFound, PreconditionFailed, Store

Stage = paths.Stage

STAGE_VERSION: dict[Stage, int] = {"clean": 3, "features": 3, "baseline": 4, "model": 3, "report": 5, "predictions": 2}
"""Raise a stage's number when its output changes for the same input; a golden-hash test notices."""


class FileEntry(BaseModel):
    """One file of an attempt: key relative to the lake, size in bytes, ETag."""

    model_config = ConfigDict(frozen=True)

    key: str
    size: int
    etag: str


class Manifest(BaseModel):
    """What one attempt wrote for one partition of a stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    stage: Stage
    dataset: str
    table: str | None = None
    partition: str
    attempt: str
    fingerprint: str = Field(description="Of all that the stage read; equal means: no work to do")
    inputs: dict[str, str] = Field(description="What was read: raw key or upstream partition → ETag or fingerprint")
    files: list[FileEntry]
    rows: dict[str, int] = Field(description="Row counts by what they count: rows, quarantined, train, test …")
    columns: dict[str, str] = Field(description="Column → type, in order")
    row_hash: str = Field(description="Hash of the rows, independent of their order")
    details: dict[str, Any] = Field({}, description="What a stage wants to tell: metrics, warnings")

    def body(self) -> bytes:
        """The bytes that are stored."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @property
    def current_key(self) -> str:
        """Where it is published."""
        return paths.current_manifest(self.stage, self.dataset, self.table, self.partition)

    @property
    def own_key(self) -> str:
        """Its immutable copy within the attempt."""
        return paths.attempt_manifest(self.stage, self.dataset, self.attempt, self.table, self.partition)


class Ref(BaseModel):
    """A manifest as a task hands it on: the next task reads exactly this one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    dataset: str
    table: str | None = None
    partition: str
    attempt: str
    etag: str
    fingerprint: str
    row_hash: str

    @property
    def identity(self) -> str:
        """What a reader's fingerprint holds of it: the content, not which attempt wrote it."""
        return f"{self.fingerprint}:{self.row_hash}"


def ref_of(manifest: Manifest, etag: str) -> Ref:
    """The reference to a stored manifest."""
    fields = {"stage", "dataset", "table", "partition", "attempt", "fingerprint", "row_hash"}
    return Ref(**manifest.model_dump(include=fields), etag=etag)


def fingerprint(stage: Stage, sections: Any, inputs: dict[str, str]) -> str:
    """The hash of all that a stage's output depends on.

    Args:
        stage: Its version enters too.
        sections: The parts of the dataset file that the stage uses, JSON-able.
        inputs: What it reads, by name.
    """
    parts = {"stage": stage, "version": STAGE_VERSION[stage], "sections": sections, "inputs": inputs}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_current(
    store: Store, stage: Stage, dataset: str, table: str | None, partition: str
) -> tuple[Manifest, str] | None:
    """The published manifest of a partition and its ETag, or none."""
    try:
        body, etag = store.get(paths.current_manifest(stage, dataset, table, partition))
    except NotFound:
        return None
    return Manifest.model_validate_json(body), etag


def read_ref(store: Store, ref: Ref) -> Manifest:
    """Exactly the manifest that was handed on, whatever has been published since."""
    key = paths.attempt_manifest(ref.stage, ref.dataset, ref.attempt, ref.table, ref.partition)
    try:
        return Manifest.model_validate_json(store.get(key)[0])
    except NotFound as error:
        raise Superseded(
            f"{store.uri(key)} is gone: attempt {ref.attempt} was removed after its task had handed it on",
            "Clear the earlier tasks of this run, so that they write again",
        ) from error


def read_refs(store: Store, refs: list[Ref]) -> list[Manifest]:
    """Many of them, fetched in parallel, in the given order."""
    keys = [paths.attempt_manifest(ref.stage, ref.dataset, ref.attempt, ref.table, ref.partition) for ref in refs]
    found = store.get_many(keys)
    return [
        Manifest.model_validate_json(found[key][0]) if key in found else read_ref(store, ref)
        for key, ref in zip(keys, refs, strict=True)
    ]


def publish(store: Store, manifest: Manifest, expected_etag: str | None, *, to_current: bool = True) -> Ref:
    """Make an attempt's partition the published one, if nobody was faster.

    Args:
        store: The lake.
        manifest: What the attempt wrote.
        expected_etag: ETag of `current.json` read before the inputs were; none where there was none.
        to_current: False keeps the attempt unpublished (an experiment); later tasks still read it by reference.

    Returns:
        The reference to hand on: ours, or the winner's where it was made from the same inputs.

    Raises:
        Superseded: Another attempt published first, from other inputs. Nothing of it is touched.
    """
    body = manifest.body()
    etag = store.put(manifest.own_key, body)
    if not to_current:
        return ref_of(manifest, etag)
    try:
        return ref_of(manifest, store.put_if(manifest.current_key, body, expected_etag))
    except PreconditionFailed:
        # Either we lost, or an earlier answer to this very request was lost and boto3 sent it again.
        found = read_current(store, manifest.stage, manifest.dataset, manifest.table, manifest.partition)
        if found and (found[0].attempt == manifest.attempt or found[0].fingerprint == manifest.fingerprint):
            return ref_of(*found)
        winner = f"attempt {found[0].attempt}" if found else "another run, which then removed it,"
        raise Superseded(
            f"{store.uri(manifest.current_key)}: {winner} published first, from other inputs; "
            f"attempt {manifest.attempt} is superseded and stays unpublished",
            "A retry looks at what is published now",
        ) from None


def attempt_files(store: Store, folder: str) -> list[FileEntry]:
    """The data files that an attempt wrote below a folder of its own; requests and committer's markers left out."""
    return [
        FileEntry(key=item.key, size=item.size, etag=item.etag)
        for item in store.list(folder)
        if not paths.is_hidden(item.key) and not item.key.endswith("/request.json")
    ]


def require_published(store: Store, listed: FileEntry, body: bytes, etag: str) -> None:
    """Refuse a file that is not the one that its manifest lists.

    Args:
        store: The lake.
        listed: The manifest's entry.
        body: What the lake holds now.
        etag: Of that.

    Raises:
        ModelRefused: Names the key.
    """
    # A lake that was copied elsewhere may have other ETags. What was written in one part has its MD5 for one, but not
    # where the store encrypts with keys of its own: there only the ETag that it gave remains.
    if len(body) == listed.size and listed.etag in (etag, hashlib.md5(body, usedforsecurity=False).hexdigest()):
        return
    raise ModelRefused(
        f"{store.uri(listed.key)} is not the file that was published",
        "Do not use it; run its date again, or choose another version",
    )


def put_files(store: Store, folder: str, files: Mapping[str, bytes]) -> list[FileEntry]:
    """Store an attempt's files, by name below a folder of its own, in parallel."""
    etags = store.put_many((folder + name, body) for name, body in files.items())
    return [
        FileEntry(key=folder + name, size=len(body), etag=etag)
        for (name, body), etag in zip(files.items(), etags, strict=True)
    ]


def publish_many(store: Store, manifests: list[tuple[Manifest, str | None]], *, to_current: bool = True) -> list[Ref]:
    """Publish several partitions of one attempt in parallel; see `publish`.

    Args:
        store: The lake.
        manifests: Each with the ETag that its `current.json` is expected to have.
        to_current: As in `publish`.
    """
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        return list(pool.map(lambda item: publish(store, *item, to_current=to_current), manifests))
