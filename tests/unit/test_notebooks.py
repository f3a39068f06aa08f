"""The notebooks as they are kept, and what `boostline notebook` says where it cannot start one."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from boostline.cli import notebook as command
from boostline.cli.app import app
from boostline.errors import EnvironmentUnfit

NOTEBOOKS = sorted(Path("notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == ["explore.ipynb", "first_model.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_light_and_without_outputs(path: Path) -> None:
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    assert path.stat().st_size < 40_000
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    run = [cell.id for cell in code if cell.outputs or cell.execution_count or cell.metadata]
    assert run == [], "clear them in Jupyter: Edit, Clear Outputs of All Cells"
    (names,) = ast.parse(code[0].source).body
    assert isinstance(ast.literal_eval(names.value), tuple), "the first cell holds what a person changes, and no more"


def test_without_jupyter_it_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["notebook"])
    assert isinstance(result.exception, EnvironmentUnfit)
    assert "make setup" in str(result.exception)


def test_without_a_stack_it_says_make_up(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("BOOSTLINE_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["notebook"])
    assert isinstance(result.exception, EnvironmentUnfit)
    assert f"No stack runs in {tmp_path}" in str(result.exception)
    assert "make up" in str(result.exception)
