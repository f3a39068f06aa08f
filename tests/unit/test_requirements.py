"""What the code imports is asked for by name: one that merely comes through another may leave with it."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = {"boostline", "boostline_jpmml"}
# Parts of one that is asked for: of apache-airflow, boto3 and pydantic. Then what only some need, and who needs it has it: Polars
# for `to_polars`, JPype with jpmml-evaluator, and types for mypy.
THROUGH_OTHERS = {"airflow", "botocore", "pydantic_core"} | {"polars", "jpype", "mypy_boto3_s3"}


def test_what_is_imported_is_asked_for():
    files = [path for folder in ("src", "dags", "jobs", "plugins") for path in (ROOT / folder).rglob("*.py")]
    foreign = {name for path in files for name in _imports(path)} - sys.stdlib_module_names - OWN - THROUGH_OTHERS
    assert {"pyspark", "xgboost", "fastapi"} <= foreign

    asked = {_normal(re.split(r"[\[=<>]", line)[0]) for line in _lines(ROOT / "requirements.in")}
    owners = packages_distributions()
    assert {name for name in foreign if not asked & {_normal(owner) for owner in owners[name]}} == set()


def _imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in whole | parts}


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
