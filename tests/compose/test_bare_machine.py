"""The first of the two commands on a bare Debian with Python 3.11 and make: what is missing is installed or named."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.compose.conftest import ROOT

IMAGE = "python:3.11-slim-bookworm"
PERSON = "1000"

Shell = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.timeout(3000)  # everything is downloaded


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """Runs a command in the checkout of a container that has nothing but make, as root or as a person."""
    command = ["docker", "run", "--detach", "--rm", "--init", "--workdir", "/checkout", IMAGE, "sleep", "3000"]
    container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def run(line: str, user: str = "0") -> subprocess.CompletedProcess[str]:
        inside = ["docker", "exec", "--user", user, "--env", "HOME=/tmp", container, "sh", "-c", line]
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    try:
        assert run("apt-get update -q && apt-get install -qy make").returncode == 0
        run("apt-get purge -qy python3-venv python3.11-venv")  # a Debian without it; Python's own images have it inside
        tree = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["docker", "cp", "-", f"{container}:/checkout"], input=tree, check=True)
        yield run
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)


def test_who_may_not_install_is_told_what_to_install(shell: Shell) -> None:
    shell(f"chown -R {PERSON} .")
    if shell("python3 -c 'import ensurepip'").returncode:
        told = shell("make setup", PERSON)
        assert told.returncode == 2
        assert "Install it (Debian: apt-get install python3-venv)" in told.stdout
    assert shell("make .venv/.installed").returncode == 0  # root's apt brings what is missing
    assert shell("command -v java").returncode != 0
    shell(f"chown -R {PERSON} .")
    told = shell("make setup", PERSON)
    assert told.returncode == 2
    assert "Spark needs Java 17 or 21, and there is none" in told.stdout + told.stderr
    assert "apt-get install openjdk-17-jre-headless" in told.stdout + told.stderr


def test_root_gets_all_of_it_and_a_trained_model(shell: Shell) -> None:
    ran = shell("make run")
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "Promoted: log loss" in ran.stdout
    assert shell("test -s .boostline/result.json").returncode == 0
    assert shell("ls /proc/[0-9]*/exe -l | grep -c -e java -e weed").stdout.strip() == "0"
