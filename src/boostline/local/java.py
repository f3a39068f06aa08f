"""Finds the Java that Spark runs on, or installs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from boostline.errors import EnvironmentUnfit

SUITABLE = (17, 21)  # Spark 4.1
PACKAGE = "openjdk-17-jre-headless"
DEBIANS = Path("/usr/lib/jvm")


class Java(NamedTuple):
    """A Java runtime: its folder and full version, such as `17.0.15+6`."""

    home: Path
    version: str


def find_java() -> Java:
    """The first Java 17 or 21 of: JAVA_HOME, the one on PATH, those in /usr/lib/jvm.

    Raises:
        EnvironmentUnfit: There is none; says which ones were found.
    """
    found = [java for java in map(_inspect, _candidates()) if java]
    for java in found:
        if int(re.split(r"[.+-]", java.version)[0]) in SUITABLE:
            return java
    others = ", ".join(f"{java.version} in {java.home}" for java in found)
    raise EnvironmentUnfit(
        f"Spark needs Java {' or '.join(map(str, SUITABLE))}, and there is " + (f"only {others}" if others else "none"),
        f"Install it (Debian: `apt-get install {PACKAGE}`) or set JAVA_HOME to it",
    )


def ensure_java() -> Java:
    """Like `find_java`, but installs Debian's runtime where none is found and that is allowed.

    Raises:
        EnvironmentUnfit: There is none and it cannot be installed.
    """
    try:
        return find_java()
    except EnvironmentUnfit:
        if not _can_apt():
            raise
    _apt_install()
    return find_java()


def _candidates() -> list[Path]:
    homes = [Path(os.environ["JAVA_HOME"]) / "bin/java"] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    installed = sorted(DEBIANS.glob("*/bin/java"))
    return homes + ([Path(on_path)] if on_path else []) + installed


def _inspect(binary: Path) -> Java | None:
    if not binary.is_file():
        return None
    command = [str(binary), "-XshowSettings:properties", "-version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    values = dict(re.findall(r"^\s+(java\.home|java\.vm\.version|java\.version) = (.+)$", said.stderr, re.MULTILINE))
    if said.returncode or "java.home" not in values:
        return None
    return Java(Path(values["java.home"]), values.get("java.vm.version") or values["java.version"])


def _can_apt() -> bool:
    """Whether this is root on a machine with apt."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _apt_install() -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGE],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=900, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise EnvironmentUnfit(
                f"`{' '.join(command)}` failed: {' '.join(last)}", f"Install {PACKAGE} by hand, then try again"
            )
