"""Airflow's pools, made as the compose stack's `init` and the embedded stack's set-up make them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.servers import put_database

from boostline.local.layout import Stack, airflow_env
from boostline.local.places import POOLS
from boostline.local.ports import Ports


def test_pools_that_are_gone_are_made_and_the_others_keep_their_slots(tmp_path: Path) -> None:
    stack = Stack(tmp_path, Ports(), Path("/java"), tmp_path, tmp_path, tmp_path, tmp_path)
    file = stack.airflow_home / "airflow.db"
    file.parent.mkdir()
    put_database(file.name, file.parent)
    if not file.exists():  # set-up has not been run
        run(stack, "airflow", "db", "migrate")
    run(stack, "boostline.orchestration.pools", str(POOLS))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE slot_pool SET slots = 3 WHERE pool = 'spark'")
        database.execute("DELETE FROM slot_pool WHERE pool = 'promotion'")
    assert "['promotion']" in run(stack, "boostline.orchestration.pools", str(POOLS))
    with closing(sqlite3.connect(file)) as database:
        found = dict(database.execute("SELECT pool, slots FROM slot_pool"))
    assert found == {"default_pool": 128, "spark": 3, "promotion": 1, "training": 1}


def run(stack: Stack, module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=airflow_env(stack), capture_output=True, text=True, check=True).stdout
