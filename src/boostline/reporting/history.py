"""What the published reports of a dataset say, one line for each data date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from boostline.lake import paths
from boostline.lake.manifest import Manifest
from boostline.lake.store import Store
from boostline.reporting import drawing
from boostline.reporting.drawing import BLUE, GREEN, VERMILION, Chart, Series
from boostline.reporting.text import metric_name, number


@dataclass(frozen=True)
class Line:
    """A run in a line."""

    day: str
    attempt: str
    passed: bool
    promoted: bool
    summary: dict[str, Any]
    """`{"verdict", "metric", "candidate", "baseline", "champion", "version", "run_id"}`; empty of an older report."""


class History:
    """Reads each published report's manifest once: its ETag, which a listing tells, says whether it is still the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, tuple[str, Line]] = {}

    def lines(self, dataset: str) -> list[Line]:
        """All published runs of a dataset, the newest data date first."""
        prefix = f"{paths.current_folder('report', dataset, None)}date="
        listed = {item.key: item.etag for item in self._store.list(prefix)}
        stale = [key for key, etag in listed.items() if self._read.get(key, ("",))[0] != etag]
        for key, (body, etag) in self._store.get_many(stale).items():
            self._read[key] = (etag, _line(Manifest.model_validate_json(body)))
        return sorted(
            (self._read[key][1] for key in listed if key in self._read), key=lambda line: line.day, reverse=True
        )


def _line(manifest: Manifest) -> Line:
    found = manifest.details
    return Line(manifest.partition, manifest.attempt, found["passed"], found["promoted"], found.get("summary", {}))


def chart(dataset: str, metric: str, lines: list[Line]) -> Chart | None:
    """The gate's metric over the data dates, with the promotions marked; none where fewer than two runs tell it.

    Args:
        dataset: For the chart's key.
        metric: Its name.
        lines: The newest first.
    """
    told = [
        line
        for line in reversed(lines)
        if line.summary.get("metric") == metric and line.summary["candidate"] is not None
    ]
    if len(told) < 2:
        return None
    epoch = date(1970, 1, 1)
    at = {line.day: (date.fromisoformat(line.day) - epoch).days * 86_400_000 for line in told}  # Bokeh's milliseconds
    candidate = Series("XGBoost", BLUE)
    baseline = Series("baseline", VERMILION, "dashed", "square")
    promoted = Series("promoted", GREEN, marker="star")
    on = drawing.plot("data date", metric_name(metric), height=240, x_axis_type="datetime")
    labels = {"day": [line.day for line in told], "version": [line.summary["version"] or "none" for line in told]}
    for series, name in ((baseline, "baseline"), (candidate, "candidate")):
        values = [line.summary[name] for line in told]
        drawing.line(on, series, list(at.values()), values, points=len(told) <= 60, **labels)
    stars = [line for line in told if line.promoted]
    place = [at[line.day] for line in stars], [line.summary["candidate"] for line in stars]
    on.scatter(*place, color=GREEN, marker="star", size=14)
    drawing.tooltips(on, date="@day", value="@y", version="@version")
    values = [line.summary["candidate"] for line in told]
    about = (
        f"{metric_name(metric)} on each run's own test rows, over {len(told)} data dates from {told[0].day} to {told[-1].day}: XGBoost "
        f"from {number(min(values))} to {number(max(values))}, last {number(values[-1])}. Promoted: {len(stars)} of {len(values)} runs."
    )
    return drawing.finished(dataset, f"{metric_name(metric)} by data date", about, [candidate, baseline, promoted], on)
