"""The notebooks on the stack, cell by cell. After test_pipeline.py, whose runs they read."""

from __future__ import annotations

import json
import signal
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from nbclient import NotebookClient

from boostline.cli.notebook import notebook_env
from boostline.lake import published
from boostline.lake.manifest import read_current
from boostline.local.ports import free_ports
from tests.e2e.conftest import World, days_to, wait_for

BEFORE, AFTER = date(2024, 5, 11), date(2024, 5, 12)
pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def runs(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two dates of `meters` that are trained and scored; made here only where these tests run alone."""
    if not all(read_current(world.store, "report", "meters", None, str(day)) for day in (BEFORE, AFTER)):
        world.land(tmp_path_factory.mktemp("raw"), "meters", days_to(AFTER, 7))
        for day in (BEFORE, AFTER):
            answer = world.cli("run", "meters", "--date", str(day))
            assert answer.code == 0, answer.err
    answer = world.cli("score", "meters", "--from", str(BEFORE), "--to", str(AFTER))
    assert answer.code == 0, answer.err


def execute(world: World, name: str, values: str) -> Any:
    """Run a notebook with other values in its first cell; raises what a cell raises."""
    path = Path("notebooks", name).resolve()
    notebook = nbformat.read(path, as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code").source = values
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env=notebook_env(world.stack))
    return notebook


def shown(cell: Any) -> str:
    """What a cell printed and showed, as text."""
    return "".join(item.get("text") or item.get("data", {}).get("text/plain", "") for item in cell.outputs)


def pictures(notebook: Any) -> int:
    outputs = [item for cell in notebook.cells if cell.cell_type == "code" for item in cell.outputs]
    return sum("image/png" in item.get("data", {}) for item in outputs)


def test_the_first_model_ends_at_the_figures_of_the_dag_and_publishes_nothing(world: World) -> None:
    def current() -> dict[str, str]:
        return {item.key: item.etag for item in world.store.list("") if item.key.endswith("/current.json")}

    before = current()
    notebook = execute(world, "first_model.ipynb", f'DATASET, DATE = "meters", "{AFTER}"')
    report = published("report", "meters", AFTER, store=world.store).read_json("run.json")
    last = shown(notebook.cells[-1])
    assert f"figures are equal to those of {report['run_id']}" in last
    for model in ("baseline", "candidate"):
        assert f"{report[model]['metrics']['test']['rmse']:.6f}" in last
    assert pictures(notebook) == 1
    assert current() == before


def test_explore_reads_two_dates(world: World) -> None:
    notebook = execute(world, "explore.ipynb", f'DATASET, BEFORE, AFTER = "meters", "{BEFORE}", "{AFTER}"')
    last = shown(notebook.cells[-1])
    assert str(BEFORE) in last and str(AFTER) in last and "XGBoost rmse" in last
    assert pictures(notebook) == 2


def test_notebook_opens_jupyter_on_the_stack_behind_its_token(world: World, tmp_path: Path) -> None:
    port = free_ports().airflow
    folders = {name: str(tmp_path / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    there = World(world.stack, world.store, world.client, world.env | folders)
    process = there.start("notebook", "--port", str(port), "--no-browser")
    try:
        find = lambda: next(Path(folders["JUPYTER_RUNTIME_DIR"]).glob("jpserver-*.json"), None)  # noqa: E731
        server = json.loads(wait_for("Jupyter", lambda: (found := find()) and found.read_text(), 120))
        assert (server["hostname"], server["port"]) == ("127.0.0.1", port)
        contents = f"http://127.0.0.1:{port}/api/contents"
        assert httpx.get(contents).status_code == 403
        listed = httpx.get(contents, headers={"Authorization": f"token {server['token']}"}).json()["content"]
        assert {"explore.ipynb", "first_model.ipynb"} <= {item["name"] for item in listed}
        again = there.cli("notebook", "--port", str(port))
        assert again.code == 1 and f"Port {port} is in use" in again.err and "--port" in again.err
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
