"""Airflow's pools, as the compose stack's `init` and the embedded stack make them."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers import put_database

from boostline.containers import init
from boostline.local import databases
from boostline.local.layout import Stack
from boostline.local.places import ROOT
from boostline.local.ports import Ports


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path, Ports(), Path("/java"), tmp_path, tmp_path, tmp_path, tmp_path)


@pytest.fixture
def in_containers(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What `init` does for Airflow, on a database file in the place of PostgreSQL."""
    for name, value in {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(stack.airflow_home),
        "AIRFLOW__CORE__AUTH_MANAGER": "boostline.orchestration.people.ByNameFabAuthManager",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{stack.airflow_home}/airflow.db",
        "AIRFLOW__FAB__CONFIG_FILE": str(ROOT / "docker/airflow/webserver_config.py"),
        "AIRFLOW_ADMIN_SECRET": "word-of-admin",
    }.items():
        monkeypatch.setenv(name, value)
    return init.migrate_airflow


@pytest.fixture
def embedded(stack: Stack) -> Callable[[], None]:
    return lambda: databases._migrate_airflow(stack)


@pytest.mark.parametrize("way", ["in_containers", "embedded"])
def test_a_migration_keeps_a_pool_s_slots_and_makes_pools_that_are_gone(
    way: str, stack: Stack, request: pytest.FixtureRequest
) -> None:
    migrate: Callable[[], None] = request.getfixturevalue(way)
    file = stack.airflow_home / "airflow.db"
    file.parent.mkdir()
    put_database(file.name, file.parent)
    if not file.exists():  # set-up has not been run
        migrate()
    with sqlite3.connect(file) as database:
        database.execute("UPDATE slot_pool SET slots = 3 WHERE pool = 'spark'")
        database.execute("DELETE FROM slot_pool WHERE pool = 'promotion'")
    database.close()
    migrate()
    with sqlite3.connect(file) as database:
        found = dict(database.execute("SELECT pool, slots FROM slot_pool"))
    database.close()
    assert found == {"default_pool": 128, "spark": 3, "promotion": 1}
