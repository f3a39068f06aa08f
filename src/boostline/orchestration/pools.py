"""Airflow's pools, made where they are missing: `python -m boostline.orchestration.pools FILE`.

`airflow pools import` gives those that are there the file's slots again, and so takes away what a person has set.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow.models.pool import Pool


def make_pools(file: Path) -> list[str]:
    """Make the pools that Airflow's database lacks; those that it has stay as they are.

    Args:
        file: JSON in the form of `airflow pools export`.

    Returns:
        The names of those made.
    """
    wanted, there = json.loads(file.read_text()), {pool.pool for pool in Pool.get_pools()}
    missing = [name for name in wanted if name not in there]
    for name in missing:
        Pool.create_or_update_pool(name, **wanted[name])
    return missing


if __name__ == "__main__":
    sys.stdout.write(f"Made the pools {make_pools(Path(sys.argv[1]))}\n")
