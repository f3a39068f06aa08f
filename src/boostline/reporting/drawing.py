"""Bokeh plots in the page's look: colours, labels, and the form that is put into the page. See docs/adr/0014-charts.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from boostline.reporting.text import shortened

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY = "#8A8F94"
"""Okabe and Ito's colours, which colour-blind people can tell apart; dashes and shapes tell them apart as well."""
HEIGHT, ROW_HEIGHT, AXIS_HEIGHT = 320, 28, 70
"""In pixels: of a plot, and of one with a row for each name."""
LABEL_CHARACTERS = 22

# The page's own variables, so that a chart follows light and dark.
_STYLE = """:host { --bk-background-fill-color: var(--paper); --bk-border-fill-color: var(--paper);
--bk-outline-line-color: transparent; --bk-axis-label-text-color: var(--ink); --bk-major-label-text-color: var(--ink);
--bk-axis-line-color: var(--faint); --bk-major-tick-line-color: var(--faint); --bk-minor-tick-line-color: transparent;
--bk-grid-line-color: var(--line); --bk-axis-label-text-font-style: normal; --bk-axis-label-text-font-size: 13px;
--bk-major-label-text-font-size: 12px; }"""


@dataclass(frozen=True)
class Series:
    """How a line is told from the others: its name in the legend, colour, dashes and marker."""

    name: str
    colour: str
    dash: str = "solid"
    marker: str = "circle"


@dataclass(frozen=True)
class Chart:
    """One chart as the page shows it."""

    key: str
    title: str
    about: str
    """What it shows, its unit and rows, and what it says: the text alternative."""
    series: Sequence[Series]
    plot: str
    """Bokeh's JSON, safe within a script element."""


def plot(x_label: str, y_label: str, *, height: int = HEIGHT, **ranges: Any) -> Any:
    """An empty plot of the page's width."""
    from bokeh.plotting import figure

    found = figure(
        height=height,
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
        x_axis_label=plain(x_label),
        y_axis_label=plain(y_label),
        stylesheets=[_STYLE],
        **ranges,
    )
    found.xaxis.ticker.desired_num_ticks = 5  # more of them run into each other on a telephone
    return found


def plain(text: str) -> Any:
    """A text that Bokeh takes as it is: one of `$$…$$` would be mathematics, for which it loads a script."""
    from bokeh.models import PlainText

    return PlainText(text=text)


def line(on: Any, series: Series, x: Sequence[Any], y: Sequence[Any], *, points: bool = False, **more: Any) -> None:
    """A curve; with `points` its points are marked. `more` are columns for the tooltip."""
    source = _source(x=x, y=y, **more)
    on.line("x", "y", source=source, color=series.colour, line_dash=series.dash, line_width=2)
    if points:
        on.scatter("x", "y", source=source, color=series.colour, marker=series.marker, size=7)


def whiskers(on: Any, series: Series, y: Sequence[float], errors: Sequence[dict[str, Any]], *, across: bool) -> None:
    """Values with their intervals: `across` along the x axis, else along the y axis."""
    values, low, high = ([item[key] for item in errors] for key in ("value", "low", "high"))
    source = _source(at=y, value=values, low=low, high=high)
    ends = ("low", "at", "high", "at") if across else ("at", "low", "at", "high")
    on.segment(*ends, source=source, color=series.colour, line_width=2, line_alpha=0.6)
    place = ("value", "at") if across else ("at", "value")
    on.scatter(*place, source=source, color=series.colour, marker=series.marker, size=8)


def reference(on: Any, x: Sequence[float], y: Sequence[float]) -> None:
    """A thin grey line to compare with."""
    on.line(x, y, color=GREY, line_width=1.5, line_dash=[2, 4])


def name_rows(on: Any, names: Sequence[str]) -> None:
    """Write names at the whole numbers of the y axis, the first at the top; shortened, the tables have all of them."""
    places = [len(names) - 1 - index for index in range(len(names))]
    on.yaxis.ticker = sorted(places)
    on.yaxis.major_label_overrides = {
        place: plain(shortened(name, LABEL_CHARACTERS)) for place, name in zip(places, names, strict=True)
    }
    on.y_range.start, on.y_range.end = -0.7, len(names) - 0.3
    on.ygrid.visible = False


def rows_height(rows: int) -> int:
    """The height of a plot with so many names, in pixels."""
    return AXIS_HEIGHT + ROW_HEIGHT * rows


def tooltips(on: Any, **texts: str) -> None:
    """What is said of the point under the mouse; Bokeh escapes the values."""
    from bokeh.models import HoverTool

    on.add_tools(HoverTool(tooltips=list(texts.items())))


def finished(key: str, title: str, about: str, series: Sequence[Series], on: Any) -> Chart:
    """A plot as the page takes it: the same for the same data, whatever was drawn before."""
    from bokeh.embed import json_item

    item = _renumbered(json_item(on), f"{key}-", {})
    # `<` would let data such as </script> end the element that holds it.
    return Chart(
        key,
        title,
        about[:1].upper() + about[1:],
        series,
        json.dumps(item, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _renumbered(value: Any, prefix: str, names: dict[str, str]) -> Any:
    """Bokeh numbers its objects on and on through the life of a process; here they count from 0 in each plot."""
    if isinstance(value, dict):
        return {
            key: names.setdefault(item, f"{prefix}{len(names)}")
            if key in ("id", "root_id") and isinstance(item, str)
            else _renumbered(item, prefix, names)
            for key, item in value.items()
        }
    return [_renumbered(item, prefix, names) for item in value] if isinstance(value, list | tuple) else value


def _source(**columns: Sequence[Any]) -> Any:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource({name: list(values) for name, values in columns.items()})
