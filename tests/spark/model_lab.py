"""Models for the tests of what scores with Spark: really learnt, stored and registered as training does it."""

from __future__ import annotations

import hashlib
from secrets import token_hex
from typing import Any

import xgboost

from boostline.dataset import Dataset
from boostline.lake.manifest import Manifest, Ref, attempt_files, publish
from boostline.lake.paths import attempt_folder
from boostline.registry.versions import CHAMPION
from boostline.scoring.matrix import Columns, single_precision
from boostline.scoring.model_file import INFO, TRANSFORM, UBJ, ModelInfo
from boostline.settings import Settings
from boostline.tracking import TAG, tracking
from tests.spark.lab import DAY, Lab


def put_model(lab: Lab, dataset: Dataset, features: Manifest, *, rounds: int = 5) -> Ref:
    """A model that XGBoost really learnt from these features, stored as training stores it."""
    transform = lab.transform(features)
    rows = lab.rows(features, "train")
    kinds = {name: "c" if name in transform.categorical else "q" for name in transform.names}
    objective = {"regression": "reg:squarederror", "binary": "binary:logistic", "multiclass": "multi:softprob"}
    params: dict[str, Any] = {"objective": objective[dataset.task], "max_depth": 3, "min_child_weight": 0}
    classes = list(transform.classes)
    if dataset.task == "multiclass":
        params["num_class"] = len(classes)
    matrix = xgboost.DMatrix(
        single_precision(rows, Columns(list(kinds), list(kinds.values()))),
        label=rows["_label"].to_numpy(),
        feature_names=list(transform.names),
        feature_types=list(kinds.values()),
        enable_categorical=True,
    )
    body = bytes(xgboost.train(params, matrix, rounds).save_raw("ubj"))
    sha256 = hashlib.sha256(body).hexdigest()
    info = ModelInfo(
        dataset=dataset.name,
        task=dataset.task,
        date=DAY,
        sha256=sha256,
        fingerprint="f",
        data_fingerprint="d",
        objective=objective[dataset.task],
        params=params,
        rounds=rounds,
        threshold=0.4 if dataset.task == "binary" else None,
        classes=classes if dataset.task != "binary" else classes or ["0", "1"],
        features=kinds,
        metrics={},
        learning_curve={},
        importance=[],
        versions={},
    )
    attempt = token_hex(6)
    folder = attempt_folder("model", dataset.name, attempt)
    for name, content in ((UBJ, body), (INFO, info.model_dump_json().encode()), (TRANSFORM, transform.dumps())):
        lab.store.put(folder + name, content)
    manifest = Manifest(
        stage="model",
        dataset=dataset.name,
        partition=DAY,
        attempt=attempt,
        fingerprint=attempt,
        inputs={},
        files=attempt_files(lab.store, folder),
        rows={},
        columns={},
        row_hash=sha256,
    )
    return publish(lab.store, manifest, None, to_current=False)


def make_champion(settings: Settings, model: Ref) -> str:
    """Register a stored model, let the alias name it, and return its version."""
    tags = {"date": model.partition, "sha256": model.row_hash, "attempt": model.attempt, "fingerprint": model.attempt}
    with tracking(settings) as mlflow:
        run = mlflow.start_run(model.dataset, "test", {})
        version = mlflow.register(model.dataset, run, "model", {TAG + key: value for key, value in tags.items()})
        mlflow.set_alias(model.dataset, CHAMPION, version.version)
    return version.version
