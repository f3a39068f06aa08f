"""Where things of the embedded stack lie: the checkout, and HOME (`.boostline`) inside it."""

from __future__ import annotations

import os
from pathlib import Path

from boostline.errors import EnvironmentUnfit
from boostline.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
JARS_LOCK = ROOT / "conf/spark/jars.lock"
SPARK_DEFAULTS = ROOT / "conf/spark/spark-defaults.conf"
WARM_UP = ROOT / "conf/spark/warm_up.py"
AIRFLOW_ENV = ROOT / "conf/airflow/airflow.env"
POOLS = ROOT / "conf/airflow/pools.json"


def absolute(path: Path) -> Path:
    """A path of the settings; a relative one starts at the checkout, wherever the command was typed."""
    return (ROOT / path).resolve()


def stack_home() -> Path:
    """HOME of the embedded stack (`BOOSTLINE_HOME`), absolute.

    Raises:
        EnvironmentUnfit: The package does not run from a checkout.
    """
    if not JARS_LOCK.is_file():
        raise EnvironmentUnfit(
            f"{JARS_LOCK} is missing: the embedded stack runs from a checkout of the project",
            "Clone the project and install it with `make setup`",
        )
    return absolute(Settings().home)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
