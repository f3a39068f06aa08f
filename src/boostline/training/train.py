"""The train stage: features in, a measured, explained, tracked and published model out."""

from __future__ import annotations

import hashlib
import logging
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boostline.dataset import Dataset
from boostline.lake import paths
from boostline.lake.features import Split, split_keys, transform_key
from boostline.lake.job import Target
from boostline.lake.manifest import Manifest, Ref, put_files, read_ref
from boostline.lake.manifest import publish as publish_manifest
from boostline.lake.plan import require_same_rules
from boostline.lake.store import Store
from boostline.metrics import Metrics, choose_threshold, evaluate
from boostline.scoring.engine import allowed_threads
from boostline.scoring.matrix import predict_batches
from boostline.scoring.model_file import INFO, TRANSFORM, UBJ, ModelInfo, software_versions
from boostline.settings import Settings
from boostline.training.data import SplitFiles, feature_columns, load_split, raw_sample
from boostline.training.explain import importance, sample_size
from boostline.training.fit import Curve, booster_params, fit, refusals
from boostline.training.scratch import scratch_folder
from boostline.training.track import Input, point_to, track

log = logging.getLogger(__name__)

TOP_FEATURES = 20
_SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class Trained:
    """What training found out, before it is written anywhere."""

    ubj: bytes
    params: dict[str, Any]
    rounds: int
    threshold: float | None
    metrics: dict[str, Metrics]
    curve: Curve
    importance: list[dict[str, Any]]
    rows: dict[str, int]


def train_model(
    store: Store,
    settings: Settings,
    dataset: Dataset,
    *,
    features: Ref,
    target: Target,
    attempt: str,
    publish: bool,
    tags: Mapping[str, str],
) -> Ref:
    """Train on exactly the features that were handed on, and publish the model.

    The attempt's files come first, then MLflow (run, and version where it publishes), then the manifest. A try that
    dies in between leaves files that nothing refers to, and a retry finds the same version again by fingerprint.

    Args:
        store: The lake.
        settings: Threads, size limit, MLflow.
        dataset: With the run's changes applied.
        features: The features' manifest.
        target: Partition, fingerprint and the ETag that the published manifest had before.
        attempt: A new attempt's name.
        publish: False for an experiment: tracked in MLflow, no version, no published manifest.
        tags: What MLflow's run shall carry, such as Airflow's run id.

    Returns:
        The model's reference, or the winner's where another attempt published the same model first.

    Raises:
        Superseded: Another attempt published another model for this date meanwhile.
        ServiceUnavailable: MLflow does not answer.
        DataInvalid: The features were made by other rules than the dataset file has now, hold nothing to learn from, or a label
            that the objective does not take.
    """
    started = time.monotonic()
    source = read_ref(store, features)
    require_same_rules(dataset, [source])
    classes = [str(name) for name in source.details.get("classes") or (("0", "1") if dataset.task == "binary" else ())]
    with scratch_folder(settings.spark_scratch) as scratch:
        trained = _fit_and_measure(store, settings, dataset, source, classes, scratch)
    transform = store.get(transform_key(source))[0]
    info = _model_info(dataset, features, target, classes, trained, transform)
    files = {UBJ: trained.ubj, INFO: info.model_dump_json(indent=1).encode(), TRANSFORM: transform}
    folder = paths.attempt_folder("model", dataset.name, attempt)
    written = put_files(store, folder, files)
    example = raw_sample(store, source, list(dataset.needed_columns))
    uses = zip(("training", "validation", "testing"), _SPLITS, strict=True)
    inputs = {use: _input(store, source, split, trained.rows[split]) for use, split in uses}
    tracked = track(settings, info, files, example=example, attempt=attempt, publish=publish, inputs=inputs, tags=tags)
    manifest = target.manifest(
        "model",
        dataset.name,
        attempt,
        files=written,
        rows=trained.rows,
        columns=info.features,
        row_hash=info.sha256,
        details={
            "metrics": info.metrics,
            "rounds": info.rounds,
            "threshold": info.threshold,
            "mlflow": {"run_id": tracked.run_id, "version": tracked.version},
            "sha256": info.sha256,
            "seconds": round(time.monotonic() - started, 2),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "importance": info.importance[:TOP_FEATURES],
        },
    )
    ref = publish_manifest(store, manifest, target.expected_etag, to_current=publish)
    if tracked.version and ref.attempt != tracked.attempt:
        point_to(settings, dataset.name, tracked.version, ref.attempt)
    return ref


def _input(store: Store, source: Manifest, split: Split, rows: int) -> Input:
    folder = split_keys(source, split)[0].rpartition("/")[0]
    return Input(
        f"{source.dataset} {source.partition} {split}", source.row_hash, store.uri(folder), source.columns, rows
    )


def _fit_and_measure(
    store: Store, settings: Settings, dataset: Dataset, source: Manifest, classes: list[str], scratch: Path
) -> Trained:
    columns, threads = feature_columns(dataset), allowed_threads(settings.threads)
    params = booster_params(dataset, classes, threads)
    files = {split: SplitFiles(store, split_keys(source, split), columns) for split in _SPLITS}
    limits = {"max_bin": dataset.model.params.max_bin, "threads": threads, "limit": settings.external_memory_bytes}
    with refusals(dataset):
        train = load_split(files["train"], like=None, cache=_folder(scratch, "train"), **limits)
        valid = load_split(files["valid"], like=train, cache=_folder(scratch, "valid"), **limits)
        log.info("Training on %d rows of %d features, %d threads", len(train.label), len(columns.names), threads)
        booster, metric, curve = fit(dataset, params, train, valid)
    labels = {"train": train.label, "valid": valid.label}
    found = {"train": booster.predict(train.matrix), "valid": booster.predict(valid.matrix)}
    del train, valid
    labels["test"] = files["test"].labels()
    found["test"] = predict_batches(booster, files["test"].batches(), columns, threads)
    threshold = None
    if dataset.task == "binary":
        threshold = choose_threshold(labels["valid"], found["valid"], dataset.model.threshold)
    metrics: dict[str, Metrics] = {
        split: evaluate(
            dataset.task,
            labels[split],
            found[split],
            threshold=0.5 if threshold is None else threshold,
            classes=tuple(classes),
        )
        for split in _SPLITS
    }
    rounds = int(booster.num_boosted_rounds())
    trees = rounds * (len(classes) if dataset.task == "multiclass" else 1)
    sample = files["test"].sample(sample_size(trees))
    return Trained(
        ubj=bytes(booster.save_raw("ubj")),
        params=params | {"eval_metric": metric},
        rounds=rounds,
        threshold=threshold,
        metrics=metrics,
        curve=curve,
        importance=importance(booster, sample, columns, threads),
        rows={split: len(labels[split]) for split in _SPLITS},
    )


def _model_info(
    dataset: Dataset, features: Ref, target: Target, classes: list[str], trained: Trained, transform: bytes
) -> ModelInfo:
    columns = feature_columns(dataset)
    # The threads are this machine's; with them the same training would describe itself differently elsewhere.
    params = {key: value for key, value in trained.params.items() if key != "nthread"}
    return ModelInfo(
        dataset=dataset.name,
        task=dataset.task,
        date=target.partition,
        sha256=hashlib.sha256(trained.ubj).hexdigest(),
        transform_sha256=hashlib.sha256(transform).hexdigest(),
        fingerprint=target.fingerprint,
        data_fingerprint=features.identity,
        split=dataset.split_rule,
        objective=trained.params["objective"],
        params=params,
        rounds=trained.rounds,
        threshold=trained.threshold,
        classes=classes,
        features=dict(zip(columns.names, columns.types, strict=True)),
        metrics=trained.metrics,
        learning_curve=trained.curve,
        importance=trained.importance,
        versions=software_versions(),
    )


def _folder(scratch: Path, name: str) -> Path:
    folder = scratch / name
    folder.mkdir()
    return folder
