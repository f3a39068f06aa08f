"""The published figures, reproduced on the cluster, where the data is."""

from __future__ import annotations

import json
from datetime import date

import pytest

from tests.compose.conftest import ROOT, Cluster, run

DATA = ROOT.parent / "shared/data/liberty_mutual"
DAY = date(2024, 1, 1)


@pytest.mark.skipif(not (DATA / "train.csv").exists(), reason=f"{DATA / 'train.csv'} is not there")
def test_the_published_protocol_gives_its_figures(cluster: Cluster) -> None:
    def cli(*command: str) -> str:
        return cluster.compose("run", "--rm", "-T", "--no-deps", "-v", f"{DATA}:/raw:ro", "cli", "boostline", *command)

    name, day = "liberty_mutual_seed", DAY.isoformat()
    cli("land", name, "/raw/train.csv", "--date", day)
    run(cluster, f"{name}_train", DAY)
    result = json.loads(cli("show", name, "--date", day, "--json"))
    baseline, candidate = result["baseline"]["metrics"], result["candidate"]["metrics"]
    assert baseline["in_sample"]["rmse"] == pytest.approx(3.9197, abs=1e-4)
    assert baseline["test"]["rmse"] == pytest.approx(3.8667, abs=1e-4)
    assert candidate["test"]["rmse"] <= 3.7240
    assert result["rows"]["test"] == 5000
