"""Debian's packages, where this process may install them."""

from __future__ import annotations

import os
import shutil
import subprocess

from boostline.errors import EnvironmentUnfit


def can_apt() -> bool:
    """Whether this is root on a machine with apt."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(package: str) -> None:
    """Install one Debian package.

    Raises:
        EnvironmentUnfit: apt failed; carries its last words.
    """
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=900, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise EnvironmentUnfit(
                f"`{' '.join(command)}` failed: {' '.join(last)}", f"Install {package} by hand, then try again"
            )
