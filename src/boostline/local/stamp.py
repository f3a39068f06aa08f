"""A stamp: a small file beside another that says what this was made from, so that a change makes it anew."""

from __future__ import annotations

from pathlib import Path


def is_stamped(path: Path, stamp: str) -> bool:
    """Whether a file is there and was made from this."""
    beside = _beside(path)
    return path.exists() and beside.exists() and beside.read_text() == stamp


def write_stamp(path: Path, stamp: str) -> None:
    """Note what a file was made from."""
    _beside(path).write_text(stamp)


def _beside(path: Path) -> Path:
    return path.with_suffix(".stamp")
