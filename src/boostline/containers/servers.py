"""Configuration files of servers that take their secrets from a file only."""

from __future__ import annotations

import configparser
import io
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boostline.local.places import write_private

LAKE = ("BOOSTLINE_LAKE",)
LOGS = ("BOOSTLINE_LOGS", "BOOSTLINE_EVENT_LOG")
ARTIFACTS = ("BOOSTLINE_MLFLOW_ARTIFACTS",)
_ALL = ("Read", "Write", "List", "Tagging")


def buckets(*settings: str) -> list[str]:
    """The buckets of these settings' addresses, each once."""
    return sorted({urlsplit(os.environ[name]).netloc for name in settings})


def identities() -> dict[str, list[str]]:
    """Who may do what on the stack's own S3 server, in SeaweedFS's words."""
    return {
        "ADMIN": ["Admin"],
        "PIPELINE": [f"{right}:{bucket}" for bucket in buckets(*LAKE, *LOGS) for right in _ALL],
        "SERVING": [f"{right}:{bucket}" for bucket in buckets(*LAKE) for right in ("Read", "List")],
        "MLFLOW": [f"{right}:{bucket}" for bucket in buckets(*ARTIFACTS) for right in _ALL],
    }


def write_s3_identities(target: Path) -> None:
    """Write SeaweedFS's file of identities: https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API."""
    found: list[dict[str, Any]] = [
        {
            "name": name.lower(),
            "credentials": [
                {"accessKey": os.environ[f"S3_{name}_KEY"], "secretKey": os.environ[f"S3_{name}_SECRET"]},
            ],
            "actions": rights,
        }
        for name, rights in identities().items()
    ]
    write_private(target, json.dumps({"identities": found}))


def write_mlflow_login(target: Path) -> None:
    """Write MLflow's basic-auth settings; the admin's password stays in the environment."""
    settings = configparser.ConfigParser(interpolation=None)
    settings["mlflow"] = {
        "default_permission": "READ",
        "database_uri": os.environ["MLFLOW_LOGIN_STORE_URI"],
        "admin_username": "admin",
        # Checking a password takes 0.1 s by design, and a training task makes some dozens of requests.
        "auth_cache_ttl_seconds": "60",
    }
    text = io.StringIO()
    settings.write(text)
    write_private(target, text.getvalue())
