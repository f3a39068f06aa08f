"""The S3A jars: fetched once with Spark's own Ivy, and used only where each SHA-256 matches the lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from jinja2 import Template

from boostline.errors import EnvironmentUnfit
from boostline.local.java import Java
from boostline.local.places import JARS_LOCK


class Jar(NamedTuple):
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file name in the jars folder."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock(lock: Path = JARS_LOCK) -> list[Jar]:
    """The jars of the lock, in its order.

    Raises:
        EnvironmentUnfit: A line is not `group:artifact:version sha256`.
    """
    jars = []
    for number, line in enumerate(lock.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        coordinates, _, sha256 = line.partition(" ")
        if coordinates.count(":") != 2 or len(sha256.strip()) != 64:
            raise EnvironmentUnfit(f"{lock} line {number} is not `group:artifact:version sha256`", "Restore the file")
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256.strip()))
    return jars


def jars_complete(folder: Path, jars: list[Jar]) -> bool:
    """Whether the folder holds these jars, unchanged, and no others."""
    names = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
    return names == {jar.file for jar in jars} and all(_sha256(folder / jar.file) == jar.sha256 for jar in jars)


def fetch_jars(folder: Path, jars: list[Jar], java: Java) -> None:
    """Fetch the jars and put them into the folder, all or nothing.

    Ivy looks where Spark would: Maven Central, or the mirror that `DEFAULT_ARTIFACT_REPOSITORY` names.

    Raises:
        EnvironmentUnfit: A jar could not be had, or is not the one of the lock.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="ivy-") as temporary:
        work = Path(temporary)
        _run_ivy(work, jars, java)
        for jar in jars:
            _verify(work / "jars" / jar.file, jar)
        shutil.rmtree(folder, ignore_errors=True)
        (work / "jars").rename(folder)


def _run_ivy(work: Path, jars: list[Jar], java: Java) -> None:
    import pyspark

    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    (work / "settings.xml").write_text(_SETTINGS.render(work=work, root=os.environ.get("DEFAULT_ARTIFACT_REPOSITORY")))
    (work / "ivy.xml").write_text(_MODULE.render(jars=jars))
    command = [str(java.home / "bin/java"), "-jar", str(ivy), "-settings", "settings.xml", "-ivy", "ivy.xml"]
    command += ["-retrieve", "jars/[artifact]-[revision].[ext]"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        lines = [
            line.strip() for line in (done.stdout + done.stderr).splitlines() if "not found" in line or "ERROR" in line
        ]
        raise EnvironmentUnfit(
            f"Ivy could not fetch the S3A jars: {'; '.join(lines[:3]) or done.stderr[-300:]}",
            "Check the network, or name a Maven mirror in DEFAULT_ARTIFACT_REPOSITORY, then try again",
        )


def _verify(path: Path, jar: Jar) -> None:
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    if not path.is_file():
        raise EnvironmentUnfit(f"The jar {name} was not delivered", "Try again; then check the mirror")
    if (found := _sha256(path)) != jar.sha256:
        raise EnvironmentUnfit(
            f"The jar {name} has SHA-256 {found}, and {JARS_LOCK.name} says {jar.sha256}",
            "Do not use it: the repository or a mirror between serves another file",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# `usepoms="false"`: just the jars of the lock, and nothing that their poms ask for.
_SETTINGS = Template(
    """<ivysettings>
  <settings defaultResolver="central"/>
  <caches defaultCacheDir="{{ work | e }}/cache"/>
  <resolvers>
    <ibiblio name="central" m2compatible="true" usepoms="false"{% if root %} root="{{ root | e }}"{% endif %}/>
  </resolvers>
</ivysettings>
"""
)
_MODULE = Template(
    """<ivy-module version="2.0">
  <info organisation="boostline" module="jars"/>
  <dependencies>
    {% for jar in jars -%}
    <dependency org="{{ jar.group }}" name="{{ jar.artifact }}" rev="{{ jar.version }}" transitive="false"/>
    {% endfor -%}
  </dependencies>
</ivy-module>
"""
)
