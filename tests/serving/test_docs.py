"""The commands of docs/use.md, as they stand there, against a real service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from boostline.dataset import load_dataset
from tests.serving.conftest import Server, World, raw_rows, serving

SECTION = Path("docs/use.md").read_text().partition("## Over HTTP")[2].partition("\n## ")[0]
CURL = next(block for block in re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL) if "curl" in block)
PYTHON = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[0]
ROWS = re.search(r"<<'ROWS'\n(.*?)ROWS\n", CURL, re.DOTALL)


@pytest.fixture(scope="module")
def server(world: World, tmp_path_factory: pytest.TempPathFactory):
    with serving(world, tmp_path_factory.mktemp("docs")) as found:
        yield found


def test_the_documented_row_has_the_columns_of_the_dataset() -> None:
    assert ROWS
    (row,) = json.loads(ROWS[1])["records"]
    assert row.keys() == load_dataset(Path("conf/datasets/nyc_flights.yaml")).needed_columns.keys()


def test_the_documented_commands_are_answered(server: Server, tmp_path: Path) -> None:
    rows = json.dumps({"records": raw_rows("binary", 1).to_pylist()}, default=str)
    assert ROWS

    def here(text: str) -> str:
        return text.replace("http://127.0.0.1:8000", server.url).replace("nyc_flights", "binary")

    script = here(CURL.replace(ROWS[1], rows + "\n")).replace("curl -s", "curl -sf -w '\\n'")
    done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model, plain, explained, ready = (json.loads(line) for line in done.stdout.splitlines())
    assert model["version"] == plain["version"] == explained["version"]
    assert plain["predictions"][0]["probability"] == explained["predictions"][0]["probability"]
    assert explained["predictions"][0]["contributions"] and ready["status"] == "ready"
    done = subprocess.run(
        [sys.executable, "-c", here(PYTHON)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "probability" in done.stdout, done.stderr
