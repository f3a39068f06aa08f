"""What the service tells of its models."""

from __future__ import annotations

from typing import Any

from boostline.serving.models import Picture, Served


def listing(picture: Picture) -> list[dict[str, Any]]:
    """One entry for each dataset; its version is none where it has no model yet."""
    return [_entry(picture, name) for name in picture.datasets]


def _entry(picture: Picture, name: str) -> dict[str, Any]:
    champion, challenger = picture.champion(name), picture.challenger(name)
    return {
        "dataset": name,
        "version": champion and champion.version,
        "date": champion and champion.model.info.date,
        "task": champion and champion.model.info.task,
        "challenger": challenger and challenger.version,
    }


def describe(served: Served, challenger: Served | None) -> dict[str, Any]:
    """A model in full: which it is, what it takes and answers, and how well it did."""
    info, transform = served.model.info, served.model.transform
    return {
        **served.head,
        "task": info.task,
        "sha256": info.sha256,
        "columns": {name: column.type for name, column in transform.columns.items()},
        "answer": info.answer_columns,
        "classes": info.classes,
        "threshold": info.threshold,
        "metrics": info.metrics,
        "objective": info.objective,
        "rounds": info.rounds,
        "challenger": challenger and challenger.version,
    }
