"""What crosses the border between a task and its Spark job: a request in, a result or an error out, as objects in S3.

Only the request's address stands on the command line, so neither settings nor secrets do.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from boostline.dataset import Dataset
from boostline.errors import BoostlineError
from boostline.lake import paths
from boostline.lake.manifest import Manifest, Ref, Stage
from boostline.lake.store import NotFound, Store

JobName = Literal["ingest", "featurize", "baseline", "score"]
STAGE_OF_JOB: dict[JobName, Stage] = {
    "ingest": "clean",
    "featurize": "features",
    "baseline": "baseline",
    "score": "predictions",
}

EXIT_FAIL = 65
EXIT_RETRY = 75


class Target(BaseModel):
    """One partition that an attempt shall write."""

    model_config = ConfigDict(frozen=True)

    table: str | None = None
    partition: str
    fingerprint: str
    expected_etag: str | None = Field(description="Of current.json, read before the inputs; none where there is none")
    inputs: dict[str, str] = Field(description="Raw key → ETag, or upstream partition → identity")

    def manifest(self, stage: Stage, dataset: str, attempt: str, **written: Any) -> Manifest:
        """The manifest of an attempt at this target.

        Args:
            stage: The stage.
            dataset: Its name.
            attempt: The attempt's name.
            written: What it wrote: `files`, `rows`, `columns`, `row_hash` and `details`, as `Manifest` has them.
        """
        return Manifest(
            stage=stage,
            dataset=dataset,
            table=self.table,
            partition=self.partition,
            attempt=attempt,
            fingerprint=self.fingerprint,
            inputs=self.inputs,
            **written,
        )


class Scorer(BaseModel):
    """The model version that a job scores with."""

    model_config = ConfigDict(frozen=True)

    version: str
    model: Ref
    sha256: str = Field(description="Of model.ubj, as the registry has it")


class JobRequest(BaseModel):
    """All that a Spark job needs to know."""

    model_config = ConfigDict(frozen=True)

    job: JobName
    dataset: Dataset
    date: str
    attempt: str
    publish: bool = Field(description="False: an experiment, read by reference only")
    targets: list[Target]
    reads: list[Ref] = Field([], description="The manifests that the job reads, exactly these")
    scorer: Scorer | None = Field(None, description="For the job score")

    @property
    def folder(self) -> str:
        """The attempt's own folder."""
        return paths.attempt_folder(STAGE_OF_JOB[self.job], self.dataset.name, self.attempt)


class JobResult(BaseModel):
    """What a job published, and what Spark really gave it."""

    refs: list[Ref]
    spark: dict[str, str] = Field({}, description="Memory, cores and master as Spark applied them")
    seconds: dict[str, float] = Field({}, description="Wall seconds by step")


def save_request(store: Store, request: JobRequest) -> str:
    """Store a request in its attempt's folder and return its address."""
    key = request.folder + "request.json"
    store.put(key, request.model_dump_json(by_alias=True, exclude_unset=True).encode())
    return store.uri(key)


def load_request(store: Store, uri: str) -> JobRequest:
    """Read the request that a task stored."""
    key = uri.removeprefix(store.uri(""))
    return JobRequest.model_validate_json(store.get(key)[0])


def save_result(store: Store, request: JobRequest, result: JobResult) -> None:
    """Leave the result where the task looks for it."""
    store.put(request.folder + "result.json", result.model_dump_json().encode())


def save_error(store: Store, request: JobRequest, error: BoostlineError) -> None:
    """Leave the error where the task looks for it; the operator itself only sees an exit code."""
    import json

    store.put(request.folder + "error.json", json.dumps(error.to_dict()).encode())


def load_result(store: Store, stage: Stage, dataset: str, attempt: str) -> JobResult | None:
    """The result of an attempt's job, or none where it did not get so far."""
    key = paths.attempt_folder(stage, dataset, attempt) + "result.json"
    try:
        return JobResult.model_validate_json(store.get(key)[0])
    except NotFound:
        return None


def load_error(store: Store, request: JobRequest) -> BoostlineError | None:
    """The job's error, or none where it could not say any."""
    import json

    try:
        data: dict[str, Any] = json.loads(store.get(request.folder + "error.json")[0])
    except NotFound:
        return None
    return BoostlineError.from_dict(data)
