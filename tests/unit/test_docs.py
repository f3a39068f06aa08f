"""What the documents tell a person to type exists, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from boostline.cli import app

PAGES = sorted([Path("README.md"), Path("CONTRIBUTING.md"), Path("CHANGELOG.md"), *Path("docs").rglob("*.md")])
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def commands(program: str) -> list[str]:
    """Lines of shell blocks, and inline code, that start this program."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    blocks = [
        line.split("#")[0].strip() for text in texts for block in BLOCK.findall(text) for line in block.splitlines()
    ]
    inline = [code for text in texts for code in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))]
    # In a container of the compose stack it is the same command.
    lines = [
        line.partition(" cli ")[2] if line.startswith("docker compose run") else line for line in [*blocks, *inline]
    ]
    return sorted({line for line in lines if line.startswith(program + " ")})


@pytest.mark.parametrize("line", commands("boostline"))
def test_documented_commands_parse(line: str) -> None:
    group = typer.main.get_command(app)
    name, *args = shlex.split(line)[1:]
    assert name in group.commands, f"{line}: no such command"
    if args:
        group.commands[name].make_context(name, args)


@pytest.mark.parametrize("line", commands("make"))
def test_documented_make_targets_exist(line: str) -> None:
    (targets,) = re.findall(r"^\.PHONY: (.*)", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert line.split()[1] in targets.split()  # make itself takes a folder's name for a target that is done
    subprocess.run(["make", "--dry-run", line.split()[1]], check=True, capture_output=True)


@pytest.mark.parametrize("name", sorted(typer.main.get_command(app).commands))
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = typer.main.get_command(app).commands[name]
    assert command.help
    assert command.epilog.startswith(f"Example: boostline {name} ")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert there.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(there), f"{page}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What links to headings end in."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_error_class_is_explained() -> None:
    from boostline.errors import FailError, RetryError

    page = Path("docs/operations.md").read_text(encoding="utf-8")
    for kind, word in ((RetryError, "retries"), (FailError, "fails")):
        for error in kind.__subclasses__():
            assert f"| `{error.__name__}` | {word} |" in page
