"""How the HTML templates of this package are filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from boostline.reporting.text import metric_name, number


def templates(**filters: Callable[..., Any]) -> Environment:
    """The templates, which escape every text and refuse a name that is missing.

    Args:
        filters: Beside `number` and `metric`.
    """
    environment = Environment(
        loader=PackageLoader("boostline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "metric": metric_name, **filters}
    return environment
