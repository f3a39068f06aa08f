"""`boostline models`, `promote` and `rollback` against a real MLflow registry and a real S3 store."""

from __future__ import annotations

import json

import pytest
import yaml
from tests.model_lab import toy_dataset
from tests.pipeline_lab import Pipeline, train_ref
from typer.testing import CliRunner

from boostline.cli.app import app, out
from boostline.errors import FailError, ModelRefused
from boostline.lake.manifest import read_ref


@pytest.fixture
def pipeline(store, settings, request, monkeypatch, tmp_path):
    """Two promoted versions of a dataset whose file the commands find."""
    name = request.node.name.removeprefix("test_")[:40]
    dataset = toy_dataset("regression", name, **{"gate.beat_champion": -0.5})
    body = dataset.model_dump(mode="json", by_alias=True, exclude_unset=True)
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(body))
    for key in ("lake", "s3_endpoint", "mlflow_uri"):
        monkeypatch.setenv(f"BOOSTLINE_{key.upper()}", str(getattr(settings, key)))
    monkeypatch.setenv("BOOSTLINE_DATASETS", str(tmp_path))
    monkeypatch.setattr(out, "width", 200)
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    found = Pipeline(store, settings, dataset)
    found.run("2020-03-30")
    found.run("2020-03-31", seed=5)
    assert found.champion() == "2"
    return found


def command(*arguments):
    """Run a command that succeeds; returns what it printed, on one line."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_versions_are_listed_rolled_back_and_promoted_by_hand(pipeline, tmp_path):
    name = pipeline.dataset.name
    versions = {item["version"]: item for item in json.loads(command("models", name, "--json"))}
    assert versions["2"]["aliases"] == ["champion"] and versions["1"]["aliases"] == []
    assert versions["2"]["date"] == "2020-03-31" and versions["2"]["passed"] is True
    assert versions["2"]["metrics"]["rmse"] > 0 and len(versions["2"]["sha256"]) == 64
    (move,) = versions["2"]["moves"]
    assert (move["from"], move["to"], move["who"]) == ("1", "2", "the pipeline")
    text = command("models", name)
    assert "champion since" in text and "was champion from" in text and "in place of version 1" in text

    assert command("rollback", name, "--reason", "[too] late") == (
        f"version 1 of {name} is the champion again; version 2 is blocked\n"
    )
    assert "rolled back: [too] late" in command("models", name)
    assert command("promote", name, "2", "--reason", "it was fine") == (
        f"version 2 of {name} is the champion, in place of version 1\n"
    )
    assert command("promote", name, "2", "--reason", "again") == f"version 2 of {name} is the champion already\n"
    newest = json.loads(command("models", name, "--json"))[0]
    assert newest["aliases"] == ["champion"] and newest["rolled_back"] is None
    assert [(move["reason"], move["who"]) for move in newest["moves"]][1:] == [("it was fine", "ann")]

    with pytest.raises(FailError, match="has no version 9"):
        CliRunner().invoke(app, ("promote", name, "9", "--reason", "x"), catch_exceptions=False)
    body = yaml.safe_load((tmp_path / f"{name}.yaml").read_text()) | {"name": "untrained"}
    (tmp_path / "untrained.yaml").write_text(yaml.safe_dump(body))
    assert "boostline run untrained" in command("models", "untrained")


def test_a_challenger_is_named_and_taken_away(pipeline):
    name = pipeline.dataset.name
    with pytest.raises(FailError, match="version 2 of .* is the champion"):
        CliRunner().invoke(app, ("promote", name, "2", "--challenger", "--reason", "x"), catch_exceptions=False)
    assert command("promote", name, "1", "--challenger", "--reason", "old against new") == (
        f"version 1 of {name} is the challenger\n"
    )
    assert "challenger since" in command("models", name) and pipeline.champion() == "2"
    assert command("rollback", name, "--challenger", "--reason", "seen") == (
        f"version 1 of {name} is the challenger no more\n"
    )
    assert command("rollback", name, "--challenger") == f"{name} has no challenger\n"
    command("promote", name, "1", "--challenger", "--reason", "once more")
    # Crowned, it challenges nobody; and the challenger's moves are none that a rollback goes back by.
    command("promote", name, "1", "--reason", "it won")
    moves = [json.loads(command("models", name, "--json"))[index]["moves"] for index in (1, 0)]
    assert [(move["alias"], move["from"], move["to"], move["reason"]) for move in moves[0]][1:] == [
        ("challenger", "", "1", "old against new"),
        ("challenger", "1", "", "seen"),
        ("challenger", "", "1", "once more"),
        ("champion", "2", "1", "it won"),
        ("challenger", "1", "", "it is the champion now"),
    ]
    assert command("rollback", name) == f"version 2 of {name} is the champion again; version 1 is blocked\n"


def test_a_version_whose_file_was_changed_is_not_promoted(pipeline, store):
    manifest = read_ref(store, train_ref(pipeline, "2020-03-30"))
    key = next(item.key for item in manifest.files if item.key.endswith("model.ubj"))
    store.put(key, store.get(key)[0] + b"x")
    for arguments in (("promote", pipeline.dataset.name, "1", "--reason", "x"), ("rollback", pipeline.dataset.name)):
        with pytest.raises(ModelRefused, match="SHA-256"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert pipeline.champion() == "2"
