"""The report as one self-contained HTML page."""

from __future__ import annotations

import json
from typing import Any

from boostline.dataset import Dataset
from boostline.metrics import LOWER_IS_BETTER, METRICS_BY_TASK
from boostline.reporting.drift import LARGE, SMALL
from boostline.reporting.templates import templates
from boostline.reporting.text import days, label_unit, metric_name, share, unit_of


def render_page(dataset: Dataset, result: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The page of a run; every text of the user is escaped.

    Args:
        dataset: The run's dataset.
        result: What `build_result` gives.
        evaluation: What `evaluation.evaluation` gives.
    """
    # Loaded when a report is written, not when this module is imported: DAG files import its neighbours.
    from bokeh.resources import Resources
    from markupsafe import Markup

    from boostline.reporting.charts import charts

    environment = templates(
        share=share,
        mebibytes=lambda size: f"{size / 2**20:,.0f} MiB" if size else "–",
        pretty=lambda value: json.dumps(value, indent=1, sort_keys=True),
    )
    names = model_names(result)
    drawn = charts(evaluation, names)
    return environment.get_template("report.html.j2").render(
        dataset=dataset,
        run=result,
        evaluation=evaluation,
        verdict=verdict_sentence(result),
        names=names,
        charts=drawn,
        label_unit=lambda metric: label_unit(metric, evaluation),
        lower_is_better=LOWER_IS_BETTER,
        drift_levels=(SMALL, LARGE),
        # Both are ours: the library, and JSON in which every `<` is escaped.
        script=Markup("\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)),  # noqa: S704
        plots={key: Markup(chart.plot) for key, chart in drawn.items()},  # noqa: S704
    )


def model_names(result: dict[str, Any]) -> dict[str, str]:
    """What people call each model of the run that there is."""
    names = {"candidate": "XGBoost", "baseline": f"{result['baseline']['kind']} baseline"}
    if result["champion"] and result["champion"].get("metrics"):
        names["champion"] = f"champion, version {result['champion']['version']}"
    return names


def verdict_sentence(result: dict[str, Any]) -> str:
    """The run in a sentence: promoted or not, the metric, the rows, and how it compares."""
    metric, test = result["metric"], result.get("test", {"noun": "rows", "unit": ""})
    value = result["candidate"]["metrics"]["test"].get(metric)
    passed = "Passed, waits for approval" if "approval" in result else "Passed, not promoted"
    head = "Promoted" if result["promoted"] else (passed if result["gate"]["passed"] else "Refused")
    when = f" of {days(test['first'], test['last'])}" if "first" in test else ""
    rows = f"on {result['rows']['test']:,} test {test['noun']}{when}"
    if value is None:
        return f"{head}: {metric_name(metric)} is not defined {rows}"
    unit = test["unit"] if unit_of(metric, test["unit"]) == test["unit"] else ""
    told = f"{head}: {metric_name(metric)} {value:,.4g}{' ' + unit if unit else ''} {rows}"
    rivals = {f"the {result['baseline']['kind']} baseline": result["baseline"]["metrics"]["test"]}
    if result["champion"] and result["champion"].get("metrics"):
        rivals["the champion"] = result["champion"]["metrics"]
    gains = [_distance(value, found[metric], name) for name, found in rivals.items() if metric in found]
    return ", ".join([told, *gains])


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


def _distance(value: float, rival: float, name: str) -> str:
    if value == rival:
        return f"equal to {name}"
    side = "below" if value < rival else "above"
    return f"{share(abs(value - rival) / abs(rival))} {side} {name}" if rival else f"{side} {name}"
