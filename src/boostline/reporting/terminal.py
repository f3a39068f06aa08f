"""The outcome of a run in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from boostline.reporting.page import comparison, verdict_sentence
from boostline.reporting.text import number


def run_summary(result: dict[str, Any]) -> RenderableType:
    """Verdict, comparison on the test rows, reasons, seconds per task, and where the report is."""
    table = Table(
        title=f"{result['dataset']} {result['date']}: {result['rows']['test']:,} test rows", title_justify="left"
    )
    table.add_column("metric")
    table.add_column(f"{result['baseline']['kind']} baseline", justify="right")
    version = result["candidate"]["version"]
    table.add_column("XGBoost" + (f", version {version}" if version else ""), justify="right")
    champion = result["champion"]
    if champion:
        table.add_column(f"champion, version {champion['version']}", justify="right")
    for row in comparison(result):
        name = f"[bold]{row['metric']} (gate)[/]" if row["metric"] == result["metric"] else row["metric"]
        cells = [number(row["baseline"]), number(row["candidate"]), *([number(row["champion"])] if champion else [])]
        table.add_row(name, *cells)
    in_sample = result["baseline"]["metrics"].get("in_sample")
    lines = [
        f"[bold]{escape(verdict_sentence(result))}[/]",
        *(f"  • {escape(text)}" for text in result["gate"]["reasons"]),
    ]
    lines.append(f"  • {escape(result['promotion'])}")
    if "approval" in result:
        lines.append(f"Approve or reject: {result['approval']['address']}")
    if in_sample:
        value = number(in_sample[result["metric"]])
        lines.append(f"Baseline fitted and measured on all rows: {result['metric']} {value}")
    lines.append("Seconds: " + ", ".join(f"{name} {value:g}" for name, value in result["seconds"].items()))
    lines.append(f"Report: {result['report']}")
    return Group(table, *lines)
