"""What has to hold before any server of the compose stack starts; each failure is one message with its remedy."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import psutil

from boostline.errors import EnvironmentUnfit
from boostline.local.places import ROOT

CHECKOUT = Path("/checkout")
CODE = (
    "src",
    "dags",
    "jobs",
    "plugins",
    "conf",
    "docker/airflow",
    "docker/entrypoint.sh",
    "docker/healthy.sh",
    "requirements.txt",
)
"""Of a checkout, what the image is made of."""

NEEDED_GIB = 7.0
"""The idle stack takes 2 GiB; a run adds a driver, two executors and a training task."""

SECRETS = (
    "POSTGRES_SECRET",
    "AIRFLOW_DB_SECRET",
    "AIRFLOW_ADMIN_SECRET",
    "MLFLOW_DB_SECRET",
    "MLFLOW_PIPELINE_SECRET",
    "MLFLOW_READER_SECRET",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "BOOSTLINE_SPARK_SECRET",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_LOGIN_STORE_URI",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    *(f"S3_{name}_{part}" for name in ("ADMIN", "PIPELINE", "SERVING", "MLFLOW") for part in ("KEY", "SECRET")),
)


def preflight() -> None:
    """Check what the stack needs.

    Raises:
        EnvironmentUnfit: Something is missing; names it.
    """
    if missing := [name for name in SECRETS if not os.environ.get(name)]:
        raise EnvironmentUnfit(f"no value for {', '.join(missing)} in docker/secrets", "Run: make secrets")
    if closed := _closed(CHECKOUT):
        raise EnvironmentUnfit(
            f"the containers' user may not read {', '.join(closed[:3])}{' …' if len(closed) > 3 else ''} of the checkout",
            f"Let all read it: chmod -R a+rX {' '.join(CODE)} docker/prometheus.yml",
        )
    if CHECKOUT.is_dir() and (ROOT / "code.sha256").read_text().strip() != code_hash(CHECKOUT):
        raise EnvironmentUnfit("the image was built from other code than this checkout's", "Run: docker compose build")
    memory = psutil.virtual_memory().total / 2**30
    if memory < NEEDED_GIB:
        raise EnvironmentUnfit(
            f"containers get {memory:.1f} GiB of memory here, and the stack needs {NEEDED_GIB:.0f}",
            "Give the machine, or Docker's virtual machine, more",
        )


def code_hash(root: Path) -> str:
    """SHA-256 over what the image is made of, below a folder; dataset files are mounted and so left out."""
    digest = hashlib.sha256()
    paths = [path for part in CODE for path in (root / part, *(root / part).rglob("*"))]
    for path in sorted(path for path in paths if _is_code(path, root)):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _closed(root: Path) -> list[str]:
    """Folders that this user may not look into, and would find empty; if there are none, code that it may not read."""
    paths = sorted(path for part in CODE for path in (root / part, *(root / part).rglob("*")))
    # Path.is_dir() raises where a folder may be listed and not entered.
    folders = [path for path in paths if os.path.isdir(path) and path.name != "__pycache__"]  # noqa: PTH112
    closed = [path for path in folders if not os.access(path, os.R_OK | os.X_OK)]
    closed = closed or [path for path in paths if _is_code(path, root) and not os.access(path, os.R_OK)]
    return [str(path.relative_to(root)) for path in closed]


def _is_code(path: Path, root: Path) -> bool:
    inside = path.relative_to(root)
    return path.is_file() and "__pycache__" not in inside.parts and inside.parts[:2] != ("conf", "datasets")
