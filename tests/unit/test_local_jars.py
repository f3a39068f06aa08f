"""Jars come from the lock, by SHA-256; the repository here is a folder, served to the real Ivy."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from boostline.errors import EnvironmentUnfit
from boostline.local.jars import Jar, fetch_jars, jars_complete, read_lock
from boostline.local.java import find_java


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", f"file://{tmp_path}/repository/")
    return tmp_path / "repository"


def publish(repository: Path, name: str) -> Jar:
    """Put a jar into the repository, with a pom that asks for another one."""
    folder = repository / "org/example" / name / "1.0"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / f"{name}-1.0.jar", "w") as archive:
        archive.writestr("name.txt", name)
    (folder / f"{name}-1.0.pom").write_text(
        f"<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId><artifactId>{name}</artifactId>"
        "<version>1.0</version><dependencies><dependency><groupId>org.example</groupId><artifactId>more</artifactId>"
        "<version>1.0</version></dependency></dependencies></project>"
    )
    return Jar("org.example", name, "1.0", hashlib.sha256((folder / f"{name}-1.0.jar").read_bytes()).hexdigest())


def test_the_shipped_lock_is_complete_and_leaves_out_what_spark_has() -> None:
    jars = read_lock()
    names = {jar.artifact for jar in jars}
    assert {"hadoop-aws", "spark-hadoop-cloud_2.13", "s3", "sts", "s3-transfer-manager", "netty-nio-client"} <= names
    assert not names & {"bundle", "netty-common", "httpclient", "httpcore", "slf4j-api", "commons-codec"}
    assert len({jar.file for jar in jars}) == len(jars)


def test_just_the_jars_of_the_lock_are_fetched(repository: Path, tmp_path: Path) -> None:
    jars = [publish(repository, "one"), publish(repository, "two")]
    publish(repository, "more")
    fetch_jars(tmp_path / "jars", jars, find_java())
    assert sorted(path.name for path in (tmp_path / "jars").iterdir()) == ["one-1.0.jar", "two-1.0.jar"]
    assert jars_complete(tmp_path / "jars", jars)
    assert {path.name for path in tmp_path.iterdir()} == {"repository", "jars"}


def test_another_file_under_the_same_name_is_refused(repository: Path, tmp_path: Path) -> None:
    jars = [publish(repository, "one"), publish(repository, "two")._replace(sha256="0" * 64)]
    with pytest.raises(EnvironmentUnfit, match="org.example:two:1.0 has SHA-256 .* says 000"):
        fetch_jars(tmp_path / "jars", jars, find_java())
    assert not (tmp_path / "jars").exists()


def test_a_jar_that_the_repository_lacks_is_named(repository: Path, tmp_path: Path) -> None:
    jars = [publish(repository, "one"), Jar("org.example", "gone", "1.0", "0" * 64)]
    with pytest.raises(EnvironmentUnfit, match="org.example#gone;1.0"):
        fetch_jars(tmp_path / "jars", jars, find_java())


def test_a_changed_or_additional_jar_makes_the_folder_incomplete(repository: Path, tmp_path: Path) -> None:
    jars, folder = [publish(repository, "one")], tmp_path / "jars"
    fetch_jars(folder, jars, find_java())
    (folder / "extra.jar").touch()
    assert not jars_complete(folder, jars)
    (folder / "extra.jar").unlink()
    (folder / "one-1.0.jar").write_bytes(b"changed")
    assert not jars_complete(folder, jars)
    assert not jars_complete(tmp_path / "nowhere", jars)


@pytest.mark.parametrize("line", ["org.example:one 0123", "one:1.0 " + "0" * 64, "org.example:one:1.0"])
def test_a_broken_lock_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "jars.lock").write_text(f"# comment\n{line}\n")
    with pytest.raises(EnvironmentUnfit, match=r"jars.lock line 2 is not"):
        read_lock(tmp_path / "jars.lock")
