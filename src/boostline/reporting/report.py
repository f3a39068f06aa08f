"""The report of a training run: the same facts as JSON, for programs, and as a page, for people."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Any

from boostline.dataset import Dataset
from boostline.lake import paths
from boostline.lake.job import Target
from boostline.lake.manifest import FileEntry, Manifest, Ref, publish, read_ref, read_refs
from boostline.lake.plan import WindowRefs
from boostline.lake.store import Store
from boostline.reporting.page import render_page


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
    spark: dict[str, dict[str, str]]


def report_keys(ref: Ref) -> tuple[str, str]:
    """The keys of a report's page and of its JSON."""
    folder = paths.attempt_folder("report", ref.dataset, ref.attempt)
    return folder + "report.html", folder + "run.json"


def write_report(store: Store, facts: RunFacts, target: Target, attempt: str) -> Ref:
    """Write page and JSON into an attempt and publish it; an experiment's stays unpublished.

    Returns:
        The report's reference.
    """
    folder = paths.attempt_folder("report", facts.dataset.name, attempt)
    result = build_result(store, facts, report=store.uri(folder + "report.html"))
    bodies = {
        folder + "run.json": (json.dumps(result, indent=1) + "\n").encode(),
        folder + "report.html": render_page(facts.dataset, result).encode(),
    }
    etags = store.put_many(bodies.items())
    manifest = target.manifest(
        "report",
        facts.dataset.name,
        attempt,
        files=[
            FileEntry(key=key, size=len(body), etag=etag)
            for (key, body), etag in zip(bodies.items(), etags, strict=True)
        ],
        rows={},
        columns={},
        row_hash=hashlib.sha256(bodies[folder + "run.json"]).hexdigest(),
        details={"passed": result["gate"]["passed"], "promoted": result["promoted"]},
    )
    return publish(store, manifest, target.expected_etag, to_current=facts.publish)


def build_result(store: Store, facts: RunFacts, report: str) -> dict[str, Any]:
    """The run as one JSON-able mapping; the keys up to `seconds` are what `boostline show --json` promises."""
    features, baseline, model = read_refs(store, [facts.features, facts.baseline, facts.model])
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
        "report": report,
        "seconds": facts.seconds,
        "promotion": facts.promotion["reason"],
        "run_id": facts.run_id,
        "experiment": {"changes": facts.changes, "published": facts.publish} if facts.changes else None,
        "test_is_valid": facts.dataset.split.test_is_valid,
        "window": _window(facts, read_refs(store, facts.window.refs)),
        "dropped": {key: features.rows[key] for key in ("no_label", "duplicates") if key in features.rows},
        "importance": model.details["importance"],
        "threshold": model.details["threshold"],
        "model": {key: model.details[key] for key in ("sha256", "mlflow", "peak_memory_bytes")},
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


def load_result(store: Store, ref: Ref) -> dict[str, Any]:
    """The JSON of a published report."""
    read_ref(store, ref)
    result: dict[str, Any] = json.loads(store.get(report_keys(ref)[1])[0])
    return result


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
