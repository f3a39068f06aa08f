"""Airflow reads its settings when it is first imported: an empty home of its own, before any test imports it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="boostline-dags-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL"] = "0"  # what a test changes is seen at once
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(Path("plugins").resolve())
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"


@pytest.fixture(scope="session", autouse=True)
def no_handler_of_faults() -> Iterator[None]:
    """Let Airflow's import of DAG files set no handler for SIGSEGV.

    The tests of export may have started a JVM in this process. It handles that signal to find nulls; with a handler of
    Python's, the next one that it meets is met for ever.
    """
    from airflow.dag_processing.importers import python_importer

    harmless = SimpleNamespace(**{**vars(signal), "SIGSEGV": signal.SIGUSR2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(python_importer, "signal", harmless)
        yield
    assert not callable(signal.getsignal(signal.SIGSEGV))
