"""The report as one self-contained HTML page."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from boostline.dataset import Dataset
from boostline.metrics import LOWER_IS_BETTER, METRICS_BY_TASK


def render_page(dataset: Dataset, result: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The page of a run; every text of the user is escaped.

    Args:
        dataset: The run's dataset.
        result: What `build_result` gives.
    """
    # Loaded when a report is written, not when this module is imported: DAG files import its neighbours.
    environment = Environment(
        loader=PackageLoader("boostline.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=1, sort_keys=True)
    return environment.get_template("report.html.j2").render(
        dataset=dataset,
        run=result,
        verdict=verdict_sentence(result),
        comparison=comparison(result),
        lower_is_better=LOWER_IS_BETTER,
    )


def verdict_sentence(result: dict[str, Any]) -> str:
    """The run in a sentence: promoted or not, the metric, the rows, and how it compares."""
    metric = result["metric"]
    value = result["candidate"]["metrics"]["test"][metric]
    head = "Promoted" if result["promoted"] else ("Passed, not promoted" if result["gate"]["passed"] else "Refused")
    gains = [f"{_gain(metric, value, result['baseline']['metrics']['test'][metric])} the {_kind(result)} baseline"]
    if result["champion"] and result["champion"].get("metrics"):
        champion = result["champion"]["metrics"][metric]
        gains.append(f"{_gain(metric, value, champion)} the champion of {result['champion']['date']}")
    return f"{head}: {metric} {number(value)} on {result['rows']['test']:,} test rows, {', '.join(gains)}"


def comparison(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per metric: baseline, candidate and champion on the test rows; metrics that nobody has are left out."""
    models = {
        "baseline": result["baseline"]["metrics"]["test"],
        "candidate": result["candidate"]["metrics"]["test"],
        "champion": (result["champion"] or {}).get("metrics") or {},
    }
    rows = [
        {"metric": metric} | {name: values.get(metric) for name, values in models.items()}
        for metric in METRICS_BY_TASK[result["task"]]
    ]
    return [row for row in rows if row["candidate"] is not None or row["baseline"] is not None]


def number(value: Any) -> str:
    """A number for people: four significant decimals, thousands separated, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _kind(result: dict[str, Any]) -> str:
    return str(result["baseline"]["kind"])


def _gain(metric: str, value: float, reference: float) -> str:
    if not reference:
        return "beside"
    share = (value - reference) / abs(reference)
    return f"{abs(share):.1%} {'below' if share < 0 else 'above'}"
