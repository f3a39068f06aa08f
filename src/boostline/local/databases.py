"""The databases of Airflow and MLflow: made once at set-up, copied for each new stack, migrated after an upgrade."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from boostline.local.layout import Stack, airflow_env, base_env
from boostline.local.places import POOLS
from boostline.local.processes import run_logged
from boostline.local.stamp import is_stamped, write_stamp


def ensure_databases(stack: Stack) -> None:
    """Have both databases of the stack at the installed versions.

    Raises:
        EnvironmentUnfit: A migration failed; names its log.
    """
    for path, stamp, migrate in _databases(stack):
        _ensure(stack, path, stamp, migrate)


def databases_ready(stack: Stack) -> bool:
    """Whether both databases are at the installed versions."""
    return all(is_stamped(path, stamp) for path, stamp, _ in _databases(stack))


def _databases(stack: Stack) -> list[tuple[Path, str, Callable[[Stack], None]]]:
    """Each database, the versions that it has to be at, and what brings it there."""
    pools = hashlib.sha256(POOLS.read_bytes()).hexdigest()[:12]
    airflow = f"airflow {version('apache-airflow')} pools {pools}"
    return [
        (stack.airflow_home / "airflow.db", airflow, _migrate_airflow),
        (stack.home / "mlflow.db", f"mlflow {version('mlflow')}", _migrate_mlflow),
    ]


def _migrate_airflow(stack: Stack) -> None:
    """Create or upgrade Airflow's database, and its pools."""
    env, log = airflow_env(stack), stack.home / "logs/airflow-migrate.log"
    _run(["airflow", "db", "migrate"], env, log)
    _run(["boostline.orchestration.pools", str(POOLS)], env, log)
    with sqlite3.connect(stack.airflow_home / "airflow.db") as database:
        # Readers and the one writer no longer wait for each other; the file remembers it.
        database.execute("PRAGMA journal_mode=WAL")
    database.close()


def _migrate_mlflow(stack: Stack) -> None:
    """Create or upgrade MLflow's database."""
    command = ["mlflow", "db", "upgrade", f"sqlite:///{stack.home / 'mlflow.db'}"]
    _run(command, {**base_env(), "MLFLOW_DISABLE_TELEMETRY": "true"}, stack.home / "logs/mlflow-migrate.log")


def _ensure(stack: Stack, path: Path, stamp: str, migrate: Callable[[Stack], None]) -> None:
    if is_stamped(path, stamp):
        return
    fresh = stack.jars.parent / "fresh" / path.name  # shared by all stacks, as the jars are
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and is_stamped(fresh, stamp):
        shutil.copy2(fresh, path)
    else:
        new = not path.exists()
        migrate(stack)
        if new:
            _backup(path, fresh)
            write_stamp(fresh, stamp)
    write_stamp(path, stamp)


def _backup(path: Path, copy: Path) -> None:
    """Copy a database with what is still in its write-ahead log."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()


def _run(command: list[str], env: dict[str, str], log: Path) -> None:
    run_logged(f"`{' '.join(command)}`", [sys.executable, "-m", *command], env, log)
