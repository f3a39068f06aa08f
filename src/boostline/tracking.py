"""MLflow over its REST API: the few calls that training and the registry make.

MLflow's own client costs 3.6 s of processor time and 150 MiB to import, in each of three short tasks of a run; these
calls are plain documented HTTP (https://mlflow.org/docs/latest/rest-api.html). Whoever loads a model uses MLflow itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from boostline.errors import EnvironmentUnfit, FailError
from boostline.mlflow_http import Connection, Exists, Missing, connect
from boostline.settings import Settings

METRICS_PER_REQUEST = 800
"""MLflow's own limit of one request is 1,000 metrics, parameters and tags together, of the latter two 100 each."""

TAG = "boostline."
"""Prefix of every tag that the project sets on a version."""

PARENT = "mlflow.parentRunId"
"""MLflow's own tag of a nested run."""


@dataclass(frozen=True)
class Run:
    """An MLflow run and where its files go."""

    run_id: str
    artifact_uri: str
    experiment_id: str


@dataclass(frozen=True)
class Version:
    """A registered model version and its tags."""

    dataset: str
    version: str
    run_id: str
    tags: Mapping[str, str]


class Tracking:
    """The calls, over one connection; see `tracking`."""

    def __init__(self, settings: Settings, mlflow: Connection) -> None:
        self._uri, self._mlflow = settings.mlflow_uri, mlflow

    @property
    def answered(self) -> datetime:
        """By MLflow's clock, when it answered last."""
        return self._mlflow.answered

    def start_run(self, experiment: str, name: str, tags: Mapping[str, str], parent: Run | None = None) -> Run:
        """Open a run in an experiment, which is made where there is none; below another run where one is given."""
        nested = {PARENT: parent.run_id} if parent else {}
        body = {
            "experiment_id": self._experiment_id(experiment),
            "run_name": name,
            "start_time": _now(),
            "tags": _pairs({**tags, **nested}),
        }
        return _run(self._mlflow.post("runs/create", body))

    def nested_runs(self, parent: Run) -> dict[str, Run]:
        """The runs directly below a run, by name."""
        wanted = {"experiment_ids": [parent.experiment_id], "filter": f"tags.`{PARENT}` = '{parent.run_id}'"}
        found = self._mlflow.post("runs/search", wanted | {"max_results": 100}).get("runs", [])
        return {item["info"]["run_name"]: _run({"run": item}) for item in found}

    def log_inputs(self, run: Run, datasets: list[dict[str, Any]]) -> None:
        """Log what a run read, as MLflow's `DatasetInput`s."""
        self._mlflow.post("runs/log-inputs", {"run_id": run.run_id, "datasets": datasets})

    def log(
        self,
        run: Run,
        metrics: list[tuple[str, float, int]],
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics as (name, value, step), parameters and tags, in as few requests as MLflow allows.

        Raises:
            FailError: MLflow refuses them, such as more than 100 parameters.
        """
        now = _now()
        points = [{"key": key, "value": value, "timestamp": now, "step": step} for key, value, step in metrics]
        for start in range(0, max(len(points), 1), METRICS_PER_REQUEST):
            body = {"run_id": run.run_id, "metrics": points[start : start + METRICS_PER_REQUEST]}
            if start == 0:
                body |= {"params": _pairs(params or {}), "tags": _pairs(tags or {})}
            self._mlflow.post("runs/log-batch", body)

    def upload(self, run: Run, folder: Path) -> None:
        """Put all files below a local folder into the run's artifacts."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        if not run.artifact_uri.startswith("mlflow-artifacts:"):
            # The server hands out a store of its own (s3://, gs://, a shared disk): MLflow knows how to write there.
            from mlflow.tracking import MlflowClient

            MlflowClient(self._uri).log_artifacts(run.run_id, str(folder))
            return
        root = run.artifact_uri.removeprefix("mlflow-artifacts:").lstrip("/")

        def put(path: Path) -> None:
            where = quote(f"{root}/{path.relative_to(folder).as_posix()}")
            self._mlflow.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{where}", content=path.read_bytes())

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, files))

    def run(self, run_id: str) -> Run:
        """A run that was opened before.

        Raises:
            FailError: MLflow has none of that id any more.
        """
        try:
            return _run(self._mlflow.get("runs/get", {"run_id": run_id}))
        except Missing as error:
            raise FailError(
                f"MLflow at {self._mlflow.address} has no run {run_id} any more",
                "Delete its model version in MLflow too, and run the date again, which trains anew",
            ) from error

    def end_run(self, run: Run, status: str = "FINISHED") -> None:
        """Close a run, as finished or as `FAILED`."""
        self._mlflow.post("runs/update", {"run_id": run.run_id, "status": status, "end_time": _now()})

    def tag_run(self, run_id: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        self._mlflow.post("runs/set-tag", {"run_id": run_id, "key": key, "value": value})

    def register(self, dataset: str, run: Run, path: str, tags: Mapping[str, str]) -> Version:
        """Register a run's model folder as the next version of the dataset's model."""
        source = f"{run.artifact_uri}/{path}"
        body = {"name": dataset, "source": source, "run_id": run.run_id, "tags": _pairs(tags)}
        # First the model itself: with MLflow's login on, a version of a model that is not there is "forbidden".
        with suppress(Exists):
            self._mlflow.post("registered-models/create", {"name": dataset})
        answer = self._mlflow.post("model-versions/create", body)
        return _version(answer["model_version"])

    def versions(self, dataset: str, tags: Mapping[str, str] | None = None) -> list[Version]:
        """The dataset's versions that carry these tags, the newest first."""
        parts = [f"name = '{dataset}'", *(f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items())]
        query = {"filter": " AND ".join(parts), "max_results": "1000"}
        found: list[Version] = []
        while True:
            answer = self._mlflow.get("model-versions/search", query)
            found += [_version(item) for item in answer.get("model_versions", [])]
            if not answer.get("next_page_token"):
                return sorted(found, key=lambda item: -int(item.version))
            query["page_token"] = answer["next_page_token"]

    def version(self, dataset: str, version: str) -> Version | None:
        """One version, or none."""
        return self._version_at("model-versions/get", dataset, version=version)

    def aliased(self, dataset: str, alias: str) -> Version | None:
        """The version that an alias names, or none."""
        return self._version_at("registered-models/alias", dataset, alias=alias)

    def _version_at(self, path: str, dataset: str, **asked: str) -> Version | None:
        try:
            return _version(self._mlflow.get(path, {"name": dataset, **asked})["model_version"])
        except Missing:
            return None
        except EnvironmentUnfit:
            # With a login, MLflow forbids what is not registered, too. What this user may read is found; a wrong login fails.
            if self._mlflow.get("registered-models/search", {"filter": f"name = '{dataset}'"}).get("registered_models"):
                raise
            return None

    def aliases(self, dataset: str) -> dict[str, str]:
        """Alias → version; empty where nothing is registered."""
        try:
            found = self._mlflow.get("registered-models/get", {"name": dataset})["registered_model"]
        except Missing:
            return {}
        return {item["alias"]: str(item["version"]) for item in found.get("aliases", [])}

    def set_alias(self, dataset: str, alias: str, version: str) -> None:
        """Let an alias name a version."""
        self._mlflow.post("registered-models/alias", {"name": dataset, "alias": alias, "version": version})

    def delete_alias(self, dataset: str, alias: str) -> None:
        """Let an alias name nothing."""
        self._mlflow.request(
            "DELETE", "/api/2.0/mlflow/registered-models/alias", json={"name": dataset, "alias": alias}
        )

    def tag_version(self, dataset: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._mlflow.post(
                "model-versions/set-tag", {"name": dataset, "version": version, "key": key, "value": value}
            )

    def untag_version(self, dataset: str, version: str, key: str) -> None:
        """Remove a tag of a version."""
        body = {"name": dataset, "version": version, "key": key}
        self._mlflow.request("DELETE", "/api/2.0/mlflow/model-versions/delete-tag", json=body)

    def _experiment_id(self, name: str) -> str:
        try:
            found = self._mlflow.get("experiments/get-by-name", {"experiment_name": name})
        except Missing:
            try:
                return str(self._mlflow.post("experiments/create", {"name": name})["experiment_id"])
            except Exists:
                found = self._mlflow.get("experiments/get-by-name", {"experiment_name": name})
        return str(found["experiment"]["experiment_id"])


@contextmanager
def tracking(settings: Settings) -> Iterator[Tracking]:
    """MLflow's calls, on the server that the settings name.

    Raises:
        EnvironmentUnfit: The address is not one of a server.
    """
    with connect(settings) as mlflow:
        yield Tracking(settings, mlflow)


def _run(data: Mapping[str, Any]) -> Run:
    info = data["run"]["info"]
    return Run(info["run_id"], info["artifact_uri"], str(info["experiment_id"]))


def _version(data: Mapping[str, Any]) -> Version:
    tags = {item["key"]: item.get("value", "") for item in data.get("tags", [])}
    return Version(data["name"], str(data["version"]), data.get("run_id", ""), tags)


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _now() -> int:
    return int(time.time() * 1000)
