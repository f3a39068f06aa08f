"""MLflow over its REST API: the few calls that training and the registry make.

MLflow's own client costs 3.6 s of processor time and 150 MiB to import, in each of three short tasks of a run; these
calls are plain documented HTTP (https://mlflow.org/docs/latest/rest-api.html). Whoever loads a model uses MLflow itself.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from boostline.errors import EnvironmentUnfit, FailError, ServiceUnavailable
from boostline.settings import Settings

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS, ANSWER_SECONDS = 5, 30
METRICS_PER_REQUEST, PARAMS_PER_REQUEST = 1000, 100
"""MLflow's own limits of one request."""

TAG = "boostline."
"""Prefix of every tag that the project sets on a version."""

PARENT = "mlflow.parentRunId"
"""MLflow's own tag of a nested run."""


class Missing(Exception):
    """MLflow has no experiment, model, version or alias of that name."""


class Exists(Exception):
    """MLflow has one of that name already."""


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
    """A connection to one MLflow server. Every call ends in bounded time.

    User and password, or a token, come from `MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD` and
    `MLFLOW_TRACKING_TOKEN` in the environment, as MLflow's own client reads them.
    """

    def __init__(self, settings: Settings, client: httpx.Client) -> None:
        self._uri, self._address = settings.mlflow_uri, settings.mlflow_address
        self._client = client
        self.answered = datetime.fromtimestamp(0, UTC)
        """By MLflow's clock, when it answered last."""

    def start_run(self, experiment: str, name: str, tags: Mapping[str, str], parent: Run | None = None) -> Run:
        """Open a run in an experiment, which is made where there is none; below another run where one is given."""
        nested = {PARENT: parent.run_id} if parent else {}
        body = {
            "experiment_id": self._experiment_id(experiment),
            "run_name": name,
            "start_time": _now(),
            "tags": _pairs({**tags, **nested}),
        }
        return _run(self._post("runs/create", body))

    def nested_runs(self, parent: Run) -> dict[str, Run]:
        """The runs directly below a run, by name."""
        wanted = {"experiment_ids": [parent.experiment_id], "filter": f"tags.`{PARENT}` = '{parent.run_id}'"}
        found = self._post("runs/search", wanted | {"max_results": 100}).get("runs", [])
        return {item["info"]["run_name"]: _run({"run": item}) for item in found}

    def log_inputs(self, run: Run, datasets: list[dict[str, Any]]) -> None:
        """Log what a run read, as MLflow's `DatasetInput`s."""
        self._post("runs/log-inputs", {"run_id": run.run_id, "datasets": datasets})

    def log(
        self,
        run: Run,
        metrics: list[tuple[str, float, int]],
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics as (name, value, step), parameters and tags, in as few requests as MLflow allows."""
        now = _now()
        points = [{"key": key, "value": value, "timestamp": now, "step": step} for key, value, step in metrics]
        pairs = _pairs(params or {})
        for start in range(0, max(len(points), 1), METRICS_PER_REQUEST):
            first = pairs[:PARAMS_PER_REQUEST] if start == 0 else []
            batch = points[start : start + METRICS_PER_REQUEST]
            body = {"run_id": run.run_id, "metrics": batch, "params": first}
            self._post("runs/log-batch", body | {"tags": _pairs(tags or {}) if start == 0 else []})

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
            self._request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{where}", content=path.read_bytes())

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, files))

    def run(self, run_id: str) -> Run:
        """A run that was opened before.

        Raises:
            FailError: MLflow has none of that id any more.
        """
        try:
            return _run(self._get("runs/get", {"run_id": run_id}))
        except Missing as error:
            raise FailError(
                f"MLflow at {self._address} has no run {run_id} any more",
                "Delete its model version in MLflow too, and run the date again, which trains anew",
            ) from error

    def end_run(self, run: Run, status: str = "FINISHED") -> None:
        """Close a run, as finished or as `FAILED`."""
        self._post("runs/update", {"run_id": run.run_id, "status": status, "end_time": _now()})

    def tag_run(self, run_id: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        self._post("runs/set-tag", {"run_id": run_id, "key": key, "value": value})

    def register(self, dataset: str, run: Run, path: str, tags: Mapping[str, str]) -> Version:
        """Register a run's model folder as the next version of the dataset's model."""
        source = f"{run.artifact_uri}/{path}"
        body = {"name": dataset, "source": source, "run_id": run.run_id, "tags": _pairs(tags)}
        # First the model itself: with MLflow's login on, a version of a model that is not there is "forbidden".
        with suppress(Exists):
            self._post("registered-models/create", {"name": dataset})
        answer = self._post("model-versions/create", body)
        return _version(answer["model_version"])

    def versions(self, dataset: str, tags: Mapping[str, str] | None = None) -> list[Version]:
        """The dataset's versions that carry these tags, the newest first."""
        parts = [f"name = '{dataset}'", *(f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items())]
        query = {"filter": " AND ".join(parts), "max_results": "1000"}
        found: list[Version] = []
        while True:
            answer = self._get("model-versions/search", query)
            found += [_version(item) for item in answer.get("model_versions", [])]
            if not answer.get("next_page_token"):
                return sorted(found, key=lambda item: -int(item.version))
            query["page_token"] = answer["next_page_token"]

    def version(self, dataset: str, version: str) -> Version | None:
        """One version, or none."""
        try:
            return _version(self._get("model-versions/get", {"name": dataset, "version": version})["model_version"])
        except Missing:
            return None

    def aliased(self, dataset: str, alias: str) -> Version | None:
        """The version that an alias names, or none."""
        try:
            return _version(self._get("registered-models/alias", {"name": dataset, "alias": alias})["model_version"])
        except Missing:
            return None

    def aliases(self, dataset: str) -> dict[str, str]:
        """Alias → version; empty where nothing is registered."""
        try:
            found = self._get("registered-models/get", {"name": dataset})["registered_model"]
        except Missing:
            return {}
        return {item["alias"]: str(item["version"]) for item in found.get("aliases", [])}

    def set_alias(self, dataset: str, alias: str, version: str) -> None:
        """Let an alias name a version."""
        self._post("registered-models/alias", {"name": dataset, "alias": alias, "version": version})

    def delete_alias(self, dataset: str, alias: str) -> None:
        """Let an alias name nothing."""
        self._request("DELETE", "/api/2.0/mlflow/registered-models/alias", json={"name": dataset, "alias": alias})

    def tag_version(self, dataset: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._post("model-versions/set-tag", {"name": dataset, "version": version, "key": key, "value": value})

    def untag_version(self, dataset: str, version: str, key: str) -> None:
        """Remove a tag of a version."""
        body = {"name": dataset, "version": version, "key": key}
        self._request("DELETE", "/api/2.0/mlflow/model-versions/delete-tag", json=body)

    def _experiment_id(self, name: str) -> str:
        try:
            found = self._get("experiments/get-by-name", {"experiment_name": name})
        except Missing:
            try:
                return str(self._post("experiments/create", {"name": name})["experiment_id"])
            except Exists:
                found = self._get("experiments/get-by-name", {"experiment_name": name})
        return str(found["experiment"]["experiment_id"])

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        return self._object(self._request("GET", f"/api/2.0/mlflow/{path}", params=query))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._object(self._request("POST", f"/api/2.0/mlflow/{path}", json=body))

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        found = _json_object(answer)
        if found is None:
            raise EnvironmentUnfit(
                f"MLflow at {self._address} answers without JSON, as a login page does: {answer.text[:100]!r}",
                "Set BOOSTLINE_MLFLOW_URI to MLflow's own address, and the user or token that it asks for",
            )
        return found

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        import httpx

        try:
            answer = self._client.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                f"MLflow at {self._address} does not answer: {error}", "Start it, or set BOOSTLINE_MLFLOW_URI"
            ) from error
        if "date" in answer.headers:
            self.answered = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
        if answer.is_success:
            return answer
        self._refuse(answer)
        raise AssertionError("unreachable")

    def _refuse(self, answer: httpx.Response) -> None:
        """Raise what a failed answer means."""
        data = _json_object(answer) or {}
        code, text = str(data.get("error_code", "")), str(data.get("message", answer.text))[:500]
        if code == "RESOURCE_ALREADY_EXISTS":
            raise Exists(text)
        # An alias that is not set is INVALID_PARAMETER_VALUE in MLflow 3.
        missing = code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in text.lower())
        if missing and answer.request.method == "GET":
            raise Missing(text)
        if answer.status_code in (401, 403):
            raise EnvironmentUnfit(
                f"MLflow at {self._address} refuses this user ({answer.status_code})",
                "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise ServiceUnavailable(f"MLflow at {self._address} failed: {text}", "Try again when it is well")
        # Whoever changes something has seen it before: it was deleted meanwhile.
        remedy = "Clear the train task, so that it registers" if missing else "Read MLflow's log"
        raise FailError(f"MLflow at {self._address} refuses {answer.request.url.path}: {text}", remedy)


@contextmanager
def tracking(settings: Settings) -> Iterator[Tracking]:
    """A connection to the MLflow server that the settings name.

    Raises:
        EnvironmentUnfit: The address is not one of a server.
    """
    import httpx

    if not _is_address(settings.mlflow_uri):
        # Whatever stands before an @ may hold a password.
        raise EnvironmentUnfit(
            f"BOOSTLINE_MLFLOW_URI is {settings.mlflow_uri.rpartition('@')[2]!r}, which is no server's address",
            "Start one with `mlflow server` and give its address, as in http://127.0.0.1:5000",
        )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request would bury the task's own
    user, token = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_TOKEN")
    with httpx.Client(
        base_url=settings.mlflow_uri,
        auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
        headers={"Authorization": f"Bearer {token}"} if token and not user else None,
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        transport=httpx.HTTPTransport(retries=2),
    ) as client:
        yield Tracking(settings, client)


def _is_address(text: str) -> bool:
    import httpx

    try:
        return httpx.URL(text).scheme in ("http", "https")
    except httpx.InvalidURL:
        return False


def _json_object(answer: httpx.Response) -> dict[str, Any] | None:
    """What an answer says; none where it is no JSON object."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


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
