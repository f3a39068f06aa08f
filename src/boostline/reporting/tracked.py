"""What MLflow is told when a run has been reported: its page, and a nested run for each stage before the training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boostline.metrics import flat_metrics
from boostline.settings import Settings
from boostline.tracking import tracking


def log_report(settings: Settings, result: Mapping[str, Any], page: bytes) -> None:
    """Put the page beside the model in MLflow, and the stages below the model's run. A repeat replaces both.

    Args:
        settings: MLflow's address.
        result: What run.json says.
        page: The report.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    with tracking(settings) as mlflow, tempfile.TemporaryDirectory(prefix="boostline-report-") as scratch:
        run = mlflow.run(result["model"]["mlflow"]["run_id"])
        path = Path(scratch, "report", "report.html")
        path.parent.mkdir()
        path.write_bytes(page)
        mlflow.upload(run, Path(scratch))
        there = mlflow.nested_runs(run)
        for stage in ("ingest", "featurize", "baseline", "gate"):
            name = f"{result['dataset']} {result['date']} {stage}"
            child = there.get(name) or mlflow.start_run(result["dataset"], name, {"stage": stage}, parent=run)
            metrics = [("seconds", result["seconds"][stage]), *_measured(stage, result)]
            # What Spark applied as tags: parameters could not be given anew, and a repeat may run on another cluster.
            tags = result["spark"].get(stage, {}) | _said(stage, result)
            mlflow.log(child, [(key, float(value), 0) for key, value in metrics], tags=tags)
            mlflow.end_run(child)


def _measured(stage: str, result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if stage == "ingest":
        for table, counts in result["window"]["tables"].items():
            yield from ((f"{table}_{name}_rows", count) for name, count in counts.items())
    elif stage == "featurize":
        yield from ((f"{split}_rows", count) for split, count in result["rows"].items())
    elif stage == "baseline":
        for split, metrics in result["baseline"]["metrics"].items():
            yield from ((f"{split}_{name}", value) for name, value in flat_metrics(metrics))


def _said(stage: str, result: Mapping[str, Any]) -> dict[str, str]:
    if stage == "baseline":
        return {"kind": result["baseline"]["kind"]}
    if stage == "gate":
        passed = "yes" if result["gate"]["passed"] else "no"
        return {"passed": passed, "reasons": "; ".join(result["gate"]["reasons"]), "promotion": result["promotion"]}
    return {}
