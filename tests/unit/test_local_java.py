"""Finding a Java that Spark runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from boostline.errors import EnvironmentUnfit
from boostline.local import java


def fake_java(folder: Path, version: str) -> Path:
    """A runtime that says it is this version, on standard error as Java does."""
    program = folder / "bin/java"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "    java.home = {folder}\n    java.vm.version = {version}" >&2\n')
    program.chmod(0o755)
    return folder


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(java, "DEBIANS", tmp_path / "jvm")
    return tmp_path


def test_java_home_comes_first(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(no_java / "jvm/17", "17.0.15+6")
    monkeypatch.setenv("JAVA_HOME", str(fake_java(no_java / "mine", "21.0.2+13")))
    assert java.find_java() == (no_java / "mine", "21.0.2+13")


def test_an_unsuitable_java_home_is_passed_over(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(no_java / "mine", "11.0.1+9")))
    fake_java(no_java / "jvm/25", "25+36")
    fake_java(no_java / "jvm/17", "17.0.15+6")
    assert java.find_java().home == no_java / "jvm/17"


def test_java_is_found_on_path(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{fake_java(no_java / 'mine', '17.0.1+12')}/bin:/usr/bin:/bin")
    assert java.find_java().home == no_java / "mine"


def test_no_java_says_what_to_install(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_can_apt", lambda: False)
    with pytest.raises(EnvironmentUnfit, match="(?s)Java 17 or 21, and there is none.*Install it.*openjdk-17"):
        java.ensure_java()


def test_only_a_wrong_java_is_named(no_java: Path) -> None:
    fake_java(no_java / "jvm/25", "25+36")
    with pytest.raises(EnvironmentUnfit, match=r"there is only 25\+36 in "):
        java.find_java()
