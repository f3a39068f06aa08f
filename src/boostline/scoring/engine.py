"""XGBoost as this project uses it: a light import, and no more threads than the task may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Lock
from typing import Any

_IMPORT = Lock()


def import_xgboost() -> Any:
    """The xgboost module, without its scikit-learn face.

    XGBoost imports scikit-learn where it is installed, and MLflow installs it: 3 s of processor time and 100 MiB in
    every task that trains or scores. XGBoost is written to run without it, so it is told that there is none.
    """
    with _IMPORT:
        if "xgboost" in sys.modules or "sklearn" in sys.modules:
            import xgboost

            return xgboost
        # Threads that wait must sleep: by default they spin, and beside another busy process on the same processors
        # that made a training of 1 s last 39 s. Read once, when the library is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        sys.modules["sklearn"] = None  # type: ignore[assignment]
        try:
            import xgboost
        finally:
            del sys.modules["sklearn"]
        return xgboost


def allowed_threads(wanted: int, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Threads that this process may use: at most those asked for, its processors, and its group's share of them.

    Training with more threads than processors is up to 40 times slower, so a container's quota counts too.
    """
    quota = _quota(cgroup / "cpu.max") or _quota(cgroup / "cpu/cpu.cfs_quota_us", cgroup / "cpu/cpu.cfs_period_us")
    limits = [wanted, len(os.sched_getaffinity(0)), *([int(quota)] if quota else [])]
    return max(1, min(limits))


def _quota(*files: Path) -> float | None:
    """Processors that a control group allows, from cgroup v2's one file or v1's two; none where it sets no limit."""
    try:
        amount, period = " ".join(path.read_text() for path in files).split()
    except (OSError, ValueError):
        return None
    return int(amount) / int(period) if amount not in ("max", "-1") else None
