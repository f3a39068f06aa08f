"""The report of a training run: the same facts as JSON, for programs, and as a page, for people."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from boostline import __version__
from boostline.dataset import Dataset
from boostline.errors import DataMissing
from boostline.lake import paths
from boostline.lake.job import Target
from boostline.lake.manifest import Manifest, Ref, publish, put_files, read_refs
from boostline.lake.plan import WindowRefs
from boostline.lake.store import NotFound, Store
from boostline.reporting.drift import changes
from boostline.reporting.evaluation import evaluation
from boostline.reporting.page import render_page, verdict_sentence
from boostline.reporting.rows import load_champion, load_rows_before, load_test_rows, load_train_rows
from boostline.reporting.tracked import log_report
from boostline.scoring.model_file import Model, ModelInfo, load_published
from boostline.settings import Settings

DROPPED = ("no_label", "unseen_class", "duplicates")
"""What featurize counts of the rows that it leaves out, by the names in its manifest."""


class Stages(NamedTuple):
    """The manifests of the run's own stages."""

    features: Manifest
    baseline: Manifest
    model: Manifest


@dataclass(frozen=True)
class RunFacts:
    """All that is known about a run when it reports."""

    dataset: Dataset
    day: date
    run_id: str
    changes: dict[str, Any]
    publish: bool
    window: WindowRefs
    features: Ref
    baseline: Ref
    model: Ref
    verdict: dict[str, Any]
    promotion: dict[str, Any]
    seconds: dict[str, float]
    memory: dict[str, int]
    spark: dict[str, dict[str, str]]


def report_keys(ref: Ref) -> tuple[str, str]:
    """The keys of a report's page and of its JSON."""
    folder = paths.attempt_folder("report", ref.dataset, ref.attempt)
    return folder + "report.html", folder + "run.json"


def write_report(store: Store, settings: Settings, facts: RunFacts, target: Target, attempt: str) -> Ref:
    """Write page and JSON into an attempt, log the page with the model's MLflow run, and publish.

    An experiment's report stays unpublished, and MLflow gets it only where the model is the experiment's own.

    Returns:
        The report's reference.

    Raises:
        ServiceUnavailable: MLflow does not answer.
        ModelRefused: The model's files are gone, or do not match their SHA-256.
    """
    stages = Stages(*read_refs(store, [facts.features, facts.baseline, facts.model]))
    folder = paths.attempt_folder("report", facts.dataset.name, attempt)
    model = load_published(store, stages.model)
    found = _evaluate(store, settings, facts, stages, model)
    result = build_result(facts, stages, model.info, _window(facts, read_refs(store, facts.window.refs)))
    result |= {"test": found["test"], "report": store.uri(folder + "report.html")}
    page = render_page(facts.dataset, result, found).encode()
    files = {"run.json": _json(result), "evaluation.json": _json(found), "report.html": page}
    written = put_files(store, folder, files)
    if facts.publish or result["candidate"]["version"] is None:
        log_report(settings, result, page)
    manifest = target.manifest(
        "report",
        facts.dataset.name,
        attempt,
        files=written,
        rows={},
        columns={},
        row_hash=hashlib.sha256(files["run.json"]).hexdigest(),
        details={"passed": result["gate"]["passed"], "promoted": result["promoted"], "summary": _summary(result)},
    )
    return publish(store, manifest, target.expected_etag, to_current=facts.publish)


def build_result(facts: RunFacts, stages: Stages, info: ModelInfo, window: dict[str, Any]) -> dict[str, Any]:
    """The run as one JSON-able mapping; the keys up to `seconds` are what `boostline show --json` promises."""
    features, baseline, model = stages.features, stages.baseline, stages.model
    splits = ("train", "valid", "test")
    return {
        "dataset": facts.dataset.name,
        "date": facts.day.isoformat(),
        "task": facts.dataset.task,
        "metric": facts.dataset.gate.metric,
        "rows": {split: features.rows.get(split, 0) for split in splits},
        "baseline": {"kind": baseline.details["kind"], "metrics": baseline.details["metrics"]},
        "candidate": {
            "version": model.details["mlflow"]["version"],
            "rounds": model.details["rounds"],
            "metrics": model.details["metrics"],
        },
        "champion": facts.verdict["champion"],
        "gate": {"passed": facts.verdict["passed"], "reasons": facts.verdict["reasons"]},
        "promoted": facts.promotion["promoted"],
        "report": "",
        "seconds": facts.seconds,
        "promotion": facts.promotion["reason"],
        **({"approval": facts.promotion["approval"]} if "approval" in facts.promotion else {}),
        "run_id": facts.run_id,
        "experiment": {"changes": facts.changes, "published": facts.publish} if facts.changes else None,
        "test_is_valid": facts.dataset.split.test_is_valid,
        "window": window,
        "dropped": {key: features.rows[key] for key in DROPPED if key in features.rows},
        "importance": model.details["importance"],
        "threshold": model.details["threshold"],
        "model": {key: model.details[key] for key in ("sha256", "mlflow", "peak_memory_bytes")},
        "peak_memory_bytes": facts.memory | {"train": model.details["peak_memory_bytes"]},
        "software": {"boostline": __version__, **info.versions},
        "params": info.params,
        "spark": facts.spark,
        "fingerprints": {
            "features": facts.features.fingerprint,
            "baseline": facts.baseline.fingerprint,
            "model": facts.model.fingerprint,
        },
        "attempts": {
            "features": facts.features.attempt,
            "baseline": facts.baseline.attempt,
            "model": facts.model.attempt,
        },
    }


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    """The run in a line, for lists of many runs; see `boostline.reporting.history`."""
    metric = result["metric"]
    return {
        "verdict": verdict_sentence(result),
        "metric": metric,
        "candidate": result["candidate"]["metrics"]["test"].get(metric),
        "baseline": result["baseline"]["metrics"]["test"].get(metric),
        "champion": ((result["champion"] or {}).get("metrics") or {}).get(metric),
        "version": result["candidate"]["version"],
        "run_id": result["run_id"],
    }


def load_result(store: Store, ref: Ref) -> dict[str, Any]:
    """The JSON of a run's report.

    Raises:
        DataMissing: It was removed.
    """
    key = report_keys(ref)[1]
    try:
        result: dict[str, Any] = json.loads(store.get(key)[0])
    except NotFound as error:
        current = store.uri(paths.current_manifest("report", ref.dataset, None, ref.partition))
        raise DataMissing(
            f"the report {store.uri(key)} was removed",
            f"Delete {current} if it still names attempt {ref.attempt}; then run the date again: "
            f"boostline run {ref.dataset} --date {ref.partition}",
        ) from error
    return result


def _evaluate(store: Store, settings: Settings, facts: RunFacts, stages: Stages, model: Model) -> dict[str, Any]:
    """Read the rows, let the models predict them, and measure; see `evaluation`."""
    rival = facts.verdict["champion"]
    champion = load_champion(store, settings, rival, facts.dataset.name)
    rows = load_test_rows(
        store,
        settings,
        facts.dataset,
        features=stages.features,
        baseline=stages.baseline,
        candidate=model,
        champion=champion,
    )
    if rival and rival.get("metrics") and champion is None:
        rows.notes.append("The champion's files are gone, so it has no interval and no curve.")
    changed = changes(
        load_rows_before(store, champion, rows.seed) if champion else None,
        load_train_rows(store, stages.features, model.transform, rows.seed),
        champion.info if champion else None,
    )
    metrics = {
        "baseline": stages.baseline.details["metrics"]["test"],
        "candidate": model.info.metrics["test"],
        "champion": (rival or {}).get("metrics") or {},
    }
    return evaluation(facts.dataset, model.info, metrics, rows, changed)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _window(facts: RunFacts, clean: list[Manifest]) -> dict[str, Any]:
    """Which days were learnt from, and what their cleaning cost."""
    daily = [manifest for manifest in clean if manifest.table == facts.dataset.daily_table]
    tables: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    for manifest in clean:
        tables.setdefault(str(manifest.table), Counter()).update(manifest.rows)
        reasons.update(manifest.details.get("reasons", {}))
    return {
        "first": daily[0].partition,
        "last": daily[-1].partition,
        "days": len(daily),
        "missing": facts.window.missing,
        "tables": {name: dict(counts) for name, counts in tables.items()},
        "quarantine_reasons": dict(reasons.most_common(20)),
    }
