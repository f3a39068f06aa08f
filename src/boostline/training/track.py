"""What MLflow is told about a training: a run with everything measured, and a version where the model is published."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boostline.errors import BoostlineError
from boostline.metrics import flat_metrics
from boostline.scoring.model_file import TRANSFORM, ModelInfo
from boostline.settings import Settings
from boostline.tracking import TAG, Run, Tracking, tracking
from boostline.training.mlmodel import write_mlmodel
from boostline.transform import Transform

CURVE_POINTS = 250
"""Points of a learning curve that are logged; longer ones are thinned evenly."""


@dataclass(frozen=True)
class Input:
    """Rows that a model learnt from or was measured on.

    Attributes:
        digest: Changes with the rows; MLflow keeps 36 characters of it.
        address: The folder of the files, as `s3://…`.
        columns: Name → Spark's type.
    """

    name: str
    digest: str
    address: str
    columns: Mapping[str, str]
    rows: int

    def to_mlflow(self, use: str) -> dict[str, Any]:
        """MLflow's `DatasetInput` for this use: `training`, `validation`, `testing`."""
        types = {"int": "integer", "bigint": "long"}
        columns = [{"name": name, "type": types.get(kind, kind)} for name, kind in self.columns.items()]
        described = {
            "name": self.name,
            "digest": self.digest[:36],
            "source_type": "s3",
            "source": json.dumps({"uri": self.address}),
            "schema": json.dumps({"mlflow_colspec": columns}),
            "profile": json.dumps({"num_rows": self.rows}),
        }
        return {"tags": [{"key": "mlflow.data.context", "value": use}], "dataset": described}


@dataclass(frozen=True)
class Tracked:
    """Where MLflow holds the model. `version` is none for an experiment; `attempt` is the one that the version names."""

    run_id: str
    version: str | None
    attempt: str


def track(
    settings: Settings,
    info: ModelInfo,
    files: Mapping[str, bytes],
    *,
    example: list[dict[str, Any]],
    attempt: str,
    publish: bool,
    inputs: Mapping[str, Input],
    tags: Mapping[str, str],
) -> Tracked:
    """Log a run with its model, and register the model unless it is an experiment.

    A model of the same fingerprint and bytes that is registered already is found, the first where there are
    several, and not registered again.

    Args:
        settings: MLflow's address.
        info: What model.json says; the dataset's name is the experiment's and the registered model's.
        files: The model's files.
        example: Some raw rows, the model's input example.
        attempt: The attempt in the lake that holds the same files.
        publish: Whether to register.
        inputs: What it learnt from and was measured on, by MLflow's word for the use.
        tags: Of the run.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    own = {
        "dataset": info.dataset,
        "data_date": info.date,
        "fingerprint": info.fingerprint,
        "data_fingerprint": info.data_fingerprint,
        "experiment": "no" if publish else "yes",
        "attempt": attempt,
    }
    with tracking(settings) as mlflow:
        same = {TAG + "fingerprint": info.fingerprint, TAG + "sha256": info.sha256}
        if publish and (found := mlflow.versions(info.dataset, same)):
            return Tracked(found[-1].run_id, found[-1].version, found[-1].tags[TAG + "attempt"])
        run = mlflow.start_run(info.dataset, f"{info.dataset} {info.date}", {**tags, **own})
        try:
            mlflow.log_inputs(run, [each.to_mlflow(use) for use, each in inputs.items()])
            mlflow.log(run, list(_points(info)), params=_params(info))
            _upload(mlflow, run, info, files, example)
            mlflow.end_run(run)
        except BaseException:  # a retry starts a run of its own, and this one would seem to go on for ever
            with suppress(BoostlineError):
                mlflow.end_run(run, "FAILED")
            raise
        if not publish:
            return Tracked(run.run_id, None, attempt)
        version = mlflow.register(info.dataset, run, "model", _version_tags(info, attempt))
        return Tracked(run.run_id, version.version, attempt)


def _upload(
    mlflow: Tracking, run: Run, info: ModelInfo, files: Mapping[str, bytes], example: list[dict[str, Any]]
) -> None:
    with tempfile.TemporaryDirectory(prefix="boostline-mlflow-") as scratch:
        folder = Path(scratch)
        write_mlmodel(folder / "model", Transform.loads(files[TRANSFORM]), files, example)
        (folder / "importance.json").write_text(json.dumps(info.importance, indent=1), encoding="utf-8")
        mlflow.upload(run, folder)


def point_to(settings: Settings, dataset: str, version: str, attempt: str) -> None:
    """Let a version name the attempt that is published, whose files stay in the lake."""
    with tracking(settings) as mlflow:
        mlflow.tag_version(dataset, version, {TAG + "attempt": attempt})


def _version_tags(info: ModelInfo, attempt: str) -> dict[str, str]:
    values = {
        "date": info.date,
        "sha256": info.sha256,
        "fingerprint": info.fingerprint,
        "data_fingerprint": info.data_fingerprint,
        "attempt": attempt,
    }
    return {TAG + key: value for key, value in values.items()}


def _params(info: ModelInfo) -> dict[str, str]:
    params = {key: str(value) for key, value in info.params.items()}
    return params | {"best_rounds": str(info.rounds), "threshold": str(info.threshold)}


def _points(info: ModelInfo) -> Iterator[tuple[str, float, int]]:
    """Metrics as (name, value, step): of the model at step 0, of the learning curve at its rounds, counted from 1."""
    for split, metrics in info.metrics.items():
        for name, value in flat_metrics(metrics):
            yield f"{split}_{name}", value, 0
    metric = info.params["eval_metric"].replace("@", "_")  # tweedie-nloglik@1.5; MLflow's names have no @
    for split, curve in info.learning_curve.items():
        step = -(-len(curve) // CURVE_POINTS)
        for index in sorted({*range(0, len(curve), step), len(curve) - 1}):
            yield f"curve_{split}_{metric}", curve[index], index + 1
