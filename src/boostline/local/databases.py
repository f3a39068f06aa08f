"""The databases of Airflow and MLflow: made once at set-up, copied for each new stack, migrated after an upgrade."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from boostline.errors import EnvironmentUnfit
from boostline.local.layout import Stack, airflow_env, base_env
from boostline.local.places import POOLS


def ensure_databases(stack: Stack) -> None:
    """Have both databases of the stack at the installed versions.

    Raises:
        EnvironmentUnfit: A migration failed; names its log.
    """
    for path, stamp, migrate in (
        (stack.airflow_home / "airflow.db", airflow_stamp(), migrate_airflow),
        (stack.home / "mlflow.db", f"mlflow {version('mlflow')}", migrate_mlflow),
    ):
        _ensure(stack, path, stamp, migrate)


def databases_ready(stack: Stack) -> bool:
    """Whether both databases are at the installed versions."""
    return _stamped(stack.airflow_home / "airflow.db", airflow_stamp()) and _stamped(
        stack.home / "mlflow.db", f"mlflow {version('mlflow')}"
    )


def airflow_stamp() -> str:
    """Changes with Airflow's version and with the pools."""
    pools = hashlib.sha256(POOLS.read_bytes()).hexdigest()[:12]
    return f"airflow {version('apache-airflow')} pools {pools}"


def migrate_airflow(stack: Stack) -> None:
    """Create or upgrade Airflow's database, and its pools."""
    env, log = airflow_env(stack), stack.home / "logs/airflow-migrate.log"
    _run(["airflow", "db", "migrate"], env, log)
    _run(["airflow", "pools", "import", str(POOLS)], env, log)
    with sqlite3.connect(stack.airflow_home / "airflow.db") as database:
        # Readers and the one writer no longer wait for each other; the file remembers it.
        database.execute("PRAGMA journal_mode=WAL")
    database.close()


def migrate_mlflow(stack: Stack) -> None:
    """Create or upgrade MLflow's database."""
    command = ["mlflow", "db", "upgrade", f"sqlite:///{stack.home / 'mlflow.db'}"]
    _run(command, {**base_env(), "MLFLOW_DISABLE_TELEMETRY": "true"}, stack.home / "logs/mlflow-migrate.log")


def _ensure(stack: Stack, path: Path, stamp: str, migrate: Callable[[Stack], None]) -> None:
    if _stamped(path, stamp):
        return
    fresh = stack.jars.parent / "fresh" / path.name  # shared by all stacks, as the jars are
    path.parent.mkdir(parents=True, exist_ok=True)
    (stack.home / "logs").mkdir(parents=True, exist_ok=True)
    if not path.exists() and _stamped(fresh, stamp):
        shutil.copy2(fresh, path)
    else:
        new = not path.exists()
        migrate(stack)
        if new:
            _backup(path, fresh)
            _stamp_path(fresh).write_text(json.dumps(stamp))
    _stamp_path(path).write_text(json.dumps(stamp))


def _backup(path: Path, copy: Path) -> None:
    """Copy a database with what is still in its write-ahead log."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()


def _stamp_path(path: Path) -> Path:
    return path.with_suffix(".stamp")


def _stamped(path: Path, stamp: str) -> bool:
    stamp_path = _stamp_path(path)
    return path.exists() and stamp_path.exists() and stamp_path.read_text() == json.dumps(stamp)


def _run(command: list[str], env: dict[str, str], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=env,
            cwd=log.parent,
            stdout=file,
            stderr=file,
            timeout=600,
            check=False,
        )
    if done.returncode:
        raise EnvironmentUnfit(f"`{' '.join(command)}` ended with exit code {done.returncode}", f"See {log}")
