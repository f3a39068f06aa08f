"""The pages *Models*: what people find in Airflow's UI about all datasets, one of them, and one run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from boostline.dataset import dataset_path, load_dataset
from boostline.errors import DatasetInvalid, RetryError
from boostline.lake import paths
from boostline.lake.store import NotFound, Store
from boostline.registry.overview import champions
from boostline.reporting.drawing import Chart
from boostline.reporting.history import History, Line, chart
from boostline.reporting.templates import templates
from boostline.settings import Settings

SHOWN = 60
"""Runs in a dataset's table; all of them on request."""
_PLOTS = """for (const data of document.querySelectorAll("script[data-plot]"))
  Bokeh.embed.embed_item(JSON.parse(data.textContent), data.dataset.plot);
"""


@dataclass(frozen=True)
class Place:
    """Where the pages are, as the reader's browser sees it."""

    root: str
    """Of these pages, without a slash at its end."""
    airflow: str
    """Of Airflow's UI, with one."""


@dataclass(frozen=True)
class Item:
    """A dataset, as the pages show it."""

    name: str
    description: str
    metric: str
    lines: list[Line]
    champion: dict[str, str] | None
    problem: str
    """Why the champion is not known."""
    chart: Chart | None

    @property
    def dag_id(self) -> str:
        """Its training DAG."""
        return f"{self.name}_train"

    @property
    def behind(self) -> int:
        """Days from the data that the champion learnt up to until the newest run's."""
        if not (self.champion and self.champion["date"] and self.lines):
            return 0
        return (date.fromisoformat(self.lines[0].day) - date.fromisoformat(self.champion["date"])).days


class Pages:
    """Makes pages from the lake and the registry. Every text of the user is escaped.

    Args:
        settings: The lake, MLflow, the folder of dataset files.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings)
        self._history = History(self._store)
        # `<` would let data such as </script> end the element that holds it; drawing.finished has escaped it.
        self._environment = templates(json=Markup)

    def knows(self, name: str) -> bool:
        """Whether there is a file of such a dataset."""
        try:
            return dataset_path(self._settings.datasets, name).is_file()
        except DatasetInvalid:
            return False

    @cached_property
    def files(self) -> dict[str, tuple[str, str]]:
        """What pages load beside themselves: media type and text, by file name."""
        from bokeh.resources import Resources

        script = "text/javascript"
        return {
            "bokeh.js": (script, "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)),
            "plots.js": (script, _PLOTS),
            "flow.svg": (
                "image/svg+xml",
                files("boostline.reporting").joinpath("templates/flow.svg").read_text("utf-8"),
            ),
        }

    def models(self, place: Place, names: Sequence[str]) -> str:
        """All datasets that the reader may see, those without a run at the end."""
        items = sorted(self._items(names), key=lambda item: not item.lines)
        return self._render("models.html.j2", place, items=items, plots=any(item.chart for item in items))

    def dataset(self, place: Place, name: str, *, everything: bool) -> str:
        """One dataset: its champion, its metric over the data dates, its reports."""
        (item,) = self._items([name])
        shown = len(item.lines) if everything else SHOWN
        return self._render("dataset.html.j2", place, item=item, shown=shown, plots=bool(item.chart))

    def attempt_of(self, name: str, run_id: str) -> str | None:
        """The published report of a run; none where it has none, or a later run's stands in its place."""
        lines = self._history.lines(name)
        return next((line.attempt for line in lines if line.summary.get("run_id") == run_id), None)

    def report(self, place: Place, name: str, attempt: str) -> str | None:
        """A run's report in a frame; none where there is no such report."""
        found = self._file(name, attempt, "run.json")
        if found is None:
            return None
        item = {"name": name, "dag_id": f"{name}_train"}
        return self._render("run.html.j2", place, item=item, run=json.loads(found), attempt=attempt)

    def report_body(self, name: str, attempt: str) -> bytes | None:
        """The report itself; none where there is no such report."""
        return self._file(name, attempt, "report.html")

    def message(self, place: Place, title: str, message: str, sign_in: str | None = None) -> str:
        """What went wrong."""
        return self._render("message.html.j2", place, title=title, message=message, sign_in=sign_in)

    def _items(self, names: Sequence[str]) -> list[Item]:
        try:
            found, problem = champions(self._settings, names), ""
        except RetryError as error:
            found, problem = {}, f"The champion is not known: {error.message}."
        return [self._item(name, found.get(name), problem) for name in names]

    def _item(self, name: str, champion: dict[str, str] | None, problem: str) -> Item:
        lines = self._history.lines(name)
        try:
            spec = load_dataset(dataset_path(self._settings.datasets, name))
        except DatasetInvalid as error:
            return Item(name, f"The dataset file is wrong: {error.message}", "", lines, champion, problem, None)
        metric = spec.gate.metric
        return Item(name, spec.description, metric, lines, champion, problem, chart(name, metric, lines))

    def _file(self, name: str, attempt: str, file: str) -> bytes | None:
        try:
            return self._store.get(paths.attempt_folder("report", name, attempt) + file)[0]
        except NotFound:
            return None

    def _render(self, template: str, place: Place, **values: Any) -> str:
        values = {"plots": False, "mlflow": self._settings.mlflow_page} | values
        return self._environment.get_template(template).render(root=place.root, airflow=place.airflow, **values)
