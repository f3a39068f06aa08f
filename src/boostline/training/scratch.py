"""The folder where a training keeps rows on disk, and what trainings that were killed left of theirs."""

from __future__ import annotations

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX, LOCK, ROWS = "boostline-train-", "lock", "rows"


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A folder of this training's own, gone when it ends; those of trainings that were killed go at its start.

    A lock tells which those are: it ends with its process, and unlike a pid it means the same in every container.

    Args:
        parent: Where it is made; the system's place for temporary files if none.
    """
    for left in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # its training runs, it is somebody else's, or another training removes it
            _remove(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as folder, (Path(folder) / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = Path(folder) / ROWS
        rows.mkdir()
        yield rows


def _remove(left: Path) -> None:
    with (left / LOCK).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (left / ROWS).exists():  # else a training that begins is about to lock it
            shutil.rmtree(left)
            log.info("Removed %s, left by a training that was killed", left)
