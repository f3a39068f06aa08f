"""What `make setup` does after the virtual environment: Java, jars, class-data archive, databases; each once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from boostline.local.class_data import archive_stamp, make_archive
from boostline.local.databases import databases_ready, ensure_databases
from boostline.local.jars import fetch_jars, jars_complete, read_lock
from boostline.local.java import ensure_java
from boostline.local.layout import Stack
from boostline.local.places import JARS_LOCK
from boostline.local.processes import take_lock
from boostline.local.spark_conf import ARCHIVE, check_paths
from boostline.local.stack import make_stack
from boostline.local.stamp import is_stamped, write_stamp

Step = tuple[str, Callable[[], bool], Callable[[], None]]


def set_up(say: Callable[[str, bool], None]) -> None:
    """Bring HOME up to date; a second call finds all of it done.

    Args:
        say: Called with each step's name and whether there is work to do, before the work.

    Raises:
        EnvironmentUnfit: A step failed, or HOME is a path that Java cannot be given; says what to do.
    """
    java = ensure_java()
    stack = make_stack()
    check_paths(stack)
    jars, archive = read_lock(), stack.cds / ARCHIVE
    stamp = archive_stamp(java, stack.jars)
    steps: list[Step] = [
        (
            f"{len(jars)} jars for S3, checked against {JARS_LOCK.name}",
            lambda: jars_complete(stack.jars, jars),
            lambda: fetch_jars(stack.jars, jars, java),
        ),
        (
            "class-data archive, which halves the start of a Spark job",
            lambda: is_stamped(archive, stamp),
            lambda: _archive(stack, stamp),
        ),
        ("databases of Airflow and MLflow", lambda: databases_ready(stack), lambda: ensure_databases(stack)),
    ]
    say(f"Java {java.version} in {java.home}", False)
    while (lock := take_lock(stack.home / "setup.lock")) is None:  # another `make` sets up the same HOME
        time.sleep(0.5)
    try:
        for name, done, work in steps:
            needed = not done()
            say(name, needed)
            if needed:
                work()
    finally:
        os.close(lock)


def _archive(stack: Stack, stamp: str) -> None:
    make_archive(stack.cds, stack.home / "logs/class-data.log")
    write_stamp(stack.cds / ARCHIVE, stamp)
