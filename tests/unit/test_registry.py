"""Judging and promoting against a real MLflow registry and a real S3 store."""

from __future__ import annotations

import io
import json

import mlflow
import pyarrow.compute as pc
import pytest
from boto3.s3.transfer import TransferConfig
from tests.model_lab import put_features, toy_dataset, toy_rows, train_toy
from tests.pipeline_lab import STRONG, Pipeline, train_ref

from boostline.errors import FailError, ModelRefused, RetryError, ServiceUnavailable
from boostline.lake.manifest import read_ref
from boostline.metrics import evaluate
from boostline.registry import promotion
from boostline.registry.promotion import promote_by_hand, rollback
from boostline.registry.versions import find_version, load_version, version_number
from boostline.scoring.model_file import load_published
from boostline.tracking import Tracking, tracking


@pytest.fixture
def pipeline(store, settings, request):
    """A pipeline of a dataset of the test's own, so that tests share no registered model."""
    name = request.node.name.removeprefix("test_").replace("[", "_").rstrip("]")[:60]
    return Pipeline(store, settings, toy_dataset("regression", name, **{"gate.beat_champion": -0.5}))


def test_first_model_needs_only_the_baseline(pipeline):
    verdict, outcome = pipeline.run("2020-03-31")
    assert verdict["passed"] and verdict["champion"] is None
    assert verdict["candidate"]["version"] == "1"
    assert verdict["reasons"][-1] == "there is no champion yet, so the baseline alone was to beat"
    assert outcome == {"promoted": True, "reason": "version 1 of 2020-03-31 passed the gate, the first champion"}
    assert pipeline.champion() == "1"


def test_champion_is_loaded_by_its_alias(pipeline, mlflow_uri):
    pipeline.run("2020-03-31")
    mlflow.set_tracking_uri(mlflow_uri)
    model = mlflow.pyfunc.load_model(f"models:/{pipeline.dataset.name}@champion")
    assert list(model.predict(model.input_example).columns) == ["prediction"]


def test_gate_that_says_no_keeps_the_alias_where_it_is(pipeline):
    features, model = pipeline.train("2020-03-31")
    verdict = pipeline.judge("2020-03-31", features, model, STRONG)
    assert not verdict["passed"]
    assert pipeline.promote(model) == {"promoted": False, "reason": "the gate has not passed version 1"}
    assert pipeline.champion() is None


def test_a_version_that_nobody_judged_is_not_promoted(pipeline):
    _, model = pipeline.train("2020-03-31")
    assert not pipeline.promote(model)["promoted"]


def test_champion_is_scored_on_this_dates_rows_through_its_own_transformation(pipeline, store):
    pipeline.run("2020-03-30", seed=0)
    old = load_published(store, read_ref(store, train_ref(pipeline, "2020-03-30")))
    features, model = pipeline.train("2020-03-31", seed=50)
    verdict = pipeline.judge("2020-03-31", features, model)
    raw = toy_rows("regression", 300, 52, new_city=True)
    expected = evaluate("regression", raw.column("_label").to_numpy(), old.predict(raw))
    assert verdict["champion"]["version"] == "1"
    assert verdict["champion"]["metrics"] == pytest.approx(expected)
    assert "the champion's" in verdict["reasons"][1]
    assert pipeline.promote(model)["reason"] == (
        "version 2 of 2020-03-31 passed the gate, in place of version 1 of 2020-03-30"
    )


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_champion_of_a_classifier_is_compared(store, settings, task):
    classifier = Pipeline(store, settings, toy_dataset(task, f"compared_{task}", **{"gate.beat_champion": -1.0}))
    classifier.run("2020-03-30")
    verdict, outcome = classifier.run("2020-03-31", seed=9)
    assert verdict["champion"]["metrics"]["auc"] > 0.8
    assert outcome["promoted"]


def swapped(classifier, day, classes, seed=9):
    """Train and judge on rows whose classes have these names, in the other order."""
    raw = {}
    for index, split in enumerate(("train", "valid", "test")):
        rows = toy_rows("binary", 400, seed + index)
        place = rows.column_names.index("_label")
        raw[split] = rows.set_column(place, "_label", pc.subtract(1.0, rows.column("_label")))
    features = put_features(classifier.store, classifier.dataset, day, raw, classes=classes, attempt=f"f-{day}")
    model = train_toy(classifier.store, classifier.settings, classifier.dataset, features, f"m-{day}")
    return classifier.judge(day, features, model)


def test_champion_of_reversed_classes_is_compared_the_right_way_round(store, settings):
    classifier = Pipeline(store, settings, toy_dataset("binary", "reversed_classes", **{"gate.beat_champion": -1.0}))
    classifier.run("2020-03-30")
    old = load_published(store, read_ref(store, train_ref(classifier, "2020-03-30")))
    found = swapped(classifier, "2020-03-31", ("yes", "no"))["champion"]["metrics"]
    raw = toy_rows("binary", 400, 11)
    expected = evaluate("binary", raw.column("_label").to_numpy(), old.predict(raw), threshold=old.info.threshold)
    assert old.info.threshold != 0.5
    for metric in ("log_loss", "auc", "accuracy"):
        assert found[metric] == pytest.approx(expected[metric])
    assert found["recall"] == pytest.approx(expected["per_class"]["0"]["recall"])


def test_champion_of_renamed_classes_is_not_compared(store, settings):
    classifier = Pipeline(store, settings, toy_dataset("binary", "renamed_classes"))
    classifier.run("2020-03-30")
    verdict = swapped(classifier, "2020-03-31", ("late", "in time"))
    assert verdict["champion"]["metrics"] is None
    assert verdict["reasons"][-1] == (
        "the champion, version 1, was not compared: it cannot score these rows: "
        "its classes are no, yes, those of the rows are late, in time"
    )


def test_better_champion_blocks(pipeline):
    pipeline.run("2020-03-30")
    strict = toy_dataset("regression", pipeline.dataset.name, **{"gate.beat_champion": 0.9})
    features, model = pipeline.train("2020-03-31", seed=5)
    verdict = pipeline.judge("2020-03-31", features, model, dataset=strict)
    assert not verdict["passed"]
    assert not pipeline.promote(model)["promoted"]
    assert pipeline.champion() == "1"


def test_champion_of_a_later_date_is_neither_compared_nor_replaced(pipeline):
    pipeline.run("2020-03-31")
    features, model = pipeline.train("2020-03-30", seed=5)
    verdict = pipeline.judge("2020-03-30", features, model)
    assert verdict["passed"] and verdict["champion"]["metrics"] is None
    assert "2020-03-31 is later, so it may know these test rows" in verdict["reasons"][-1]
    assert pipeline.promote(model) == {
        "promoted": False,
        "reason": "its data date 2020-03-30 is before the champion's, 2020-03-31",
    }


def test_champion_that_learnt_under_another_split_is_not_compared(pipeline):
    pipeline.run("2020-03-30")
    changes = {"window.days": 30, "split.test_share": 0.3, "gate.beat_champion": 0.9}
    other = toy_dataset("regression", pipeline.dataset.name, **changes)
    features, model = pipeline.train("2020-03-31", seed=5, dataset=other)
    verdict = pipeline.judge("2020-03-31", features, model, dataset=other)
    assert verdict["passed"] and verdict["champion"] == {"version": "1", "date": "2020-03-30", "metrics": None}
    assert verdict["reasons"][-1] == (
        "the champion, version 1, was not compared: it learnt under another split (test_share 0.1, now 0.3, "
        "window_days 1, now 30), so it may know these test rows"
    )


def test_champion_that_learnt_from_otherwise_clean_rows_is_not_compared(pipeline):
    pipeline.run("2020-03-30")
    city = {"type": "string", "clean": ["trim", "lower", {"replace": "x"}]}
    other = toy_dataset(
        "regression", pipeline.dataset.name, **{"tables.rows.columns.city": city, "gate.beat_champion": 0.9}
    )
    features, model = pipeline.train("2020-03-31", seed=5, dataset=other)
    verdict = pipeline.judge("2020-03-31", features, model, dataset=other)
    assert verdict["passed"] and verdict["champion"]["metrics"] is None
    assert verdict["reasons"][-1].startswith(
        "the champion, version 1, was not compared: it learnt from column city as string"
    )


def test_backfill_promotes_only_where_the_dataset_says_so(pipeline):
    features, model = pipeline.train("2020-03-31")
    pipeline.judge("2020-03-31", features, model)
    assert "in_backfill: false" in pipeline.promote(model, is_backfill=True)["reason"]
    willing = toy_dataset("regression", pipeline.dataset.name, **{"promotion.in_backfill": True})
    assert pipeline.promote(model, is_backfill=True, dataset=willing)["promoted"]


def test_repeat_of_a_finished_run_changes_nothing(pipeline, settings):
    features, model = pipeline.train("2020-03-31")
    first = pipeline.judge("2020-03-31", features, model), pipeline.promote(model)
    moves = pipeline.moves()
    again = pipeline.judge("2020-03-31", features, model), pipeline.promote(model)
    assert again == first
    pipeline.run("2020-04-01", seed=5)
    after_a_newer_champion = pipeline.judge("2020-03-31", features, model), pipeline.promote(model)
    assert after_a_newer_champion == first
    assert pipeline.moves()[: len(moves)] == moves
    assert pipeline.champion() == "2"


def back_and_forth(pipeline):
    """Two settings of one date, both promoted, and the first one's run may come back now."""
    day, other = "2020-03-31", toy_dataset("regression", pipeline.dataset.name, **{"model.rounds": 30})
    features, first = pipeline.train(day)
    pipeline.judge(day, features, first)
    pipeline.promote(first)
    _, second = pipeline.train(day, dataset=other, attempt="other")
    pipeline.judge(day, features, second)
    assert pipeline.promote(second)["promoted"] and pipeline.champion() == "2"
    return features, first, second


def test_what_comes_back_after_another_of_its_date_wins_its_place_or_is_not_promoted(pipeline):
    features, first, _ = back_and_forth(pipeline)
    strict = toy_dataset("regression", pipeline.dataset.name, **{"gate.beat_champion": 0.9})
    assert not pipeline.judge("2020-03-31", features, first, dataset=strict)["passed"]
    assert not pipeline.promote(first)["promoted"] and pipeline.champion() == "2"
    verdict, outcome = pipeline.judge("2020-03-31", features, first), pipeline.promote(first)
    assert verdict["champion"]["version"] == "2" and verdict["champion"]["metrics"]
    reason = "version 1 of 2020-03-31 passed the gate, in place of version 2 of 2020-03-31"
    assert outcome == {"promoted": True, "reason": reason} and pipeline.champion() == "1"
    moves = pipeline.moves()
    assert (pipeline.judge("2020-03-31", features, first), pipeline.promote(first)) == (verdict, outcome)
    assert pipeline.moves() == moves and len(moves) == 3


@pytest.mark.parametrize("by", ["rollback", "promote"])
def test_what_a_person_has_replaced_does_not_come_back(pipeline, store, settings, by):
    features, _, second = back_and_forth(pipeline)
    if by == "rollback":
        rollback(store, settings, pipeline.dataset.name, reason="complaints", who="ann")
    else:
        promote_by_hand(store, settings, pipeline.dataset.name, "1", reason="better on weekends", who="ann")
    assert pipeline.champion() == "1"
    pipeline.judge("2020-03-31", features, second)
    outcome = pipeline.promote(second)
    assert pipeline.champion() == "1" and [move["to"] for move in pipeline.moves()] == ["1", "2", "1"]
    assert by == "promote" or not outcome["promoted"]


def test_changed_rules_are_judged_anew(pipeline):
    features, model = pipeline.train("2020-03-31")
    pipeline.judge("2020-03-31", features, model)
    pipeline.promote(model)
    assert not pipeline.judge("2020-03-31", features, model, STRONG)["passed"]


def test_a_version_made_champion_by_hand_is_said_to_be_the_champion(pipeline, store, settings):
    features, model = pipeline.train("2020-03-31")
    pipeline.judge("2020-03-31", features, model)
    promote_by_hand(store, settings, pipeline.dataset.name, "1", reason="at once", who="ann")
    verdict = pipeline.judge("2020-03-31", features, model)
    assert verdict["passed"] and verdict["champion"] == {"version": "1", "date": "2020-03-31", "metrics": None}
    assert verdict["reasons"][-1] == "version 1 is the champion itself, so the baseline alone was to beat"


def test_rolled_back_version_stays_blocked_and_moves_are_recorded(pipeline, store, settings):
    pipeline.run("2020-03-30")
    features, model = pipeline.train("2020-03-31", seed=5)
    pipeline.judge("2020-03-31", features, model)
    pipeline.promote(model)
    gone, now = rollback(store, settings, pipeline.dataset.name, reason="too many complaints", who="ann")
    assert (gone.version, now.version, pipeline.champion()) == ("2", "1", "1")
    pipeline.judge("2020-03-31", features, model)
    assert pipeline.promote(model)["reason"] == ("version 2 was rolled back (too many complaints) and stays blocked")
    moves = pipeline.moves()
    assert [(move["from"], move["to"], move["who"]) for move in moves] == [
        ("", "1", "the pipeline"),
        ("1", "2", "the pipeline"),
        ("2", "1", "ann"),
    ]
    assert all(move["time"].endswith("+00:00") for move in moves)
    with pytest.raises(FailError, match="no champion before version 1"):
        rollback(store, settings, pipeline.dataset.name, reason="again", who="ann")
    # Where somebody moves the alias in MLflow itself, no earlier record is overwritten.
    with tracking(settings) as mlflow:
        mlflow.set_alias(pipeline.dataset.name, "champion", "2")
    promote_by_hand(store, settings, pipeline.dataset.name, "1", reason="after all", who="ann")
    assert pipeline.moves()[:3] == moves
    assert [move["reason"] for move in pipeline.moves()][3:] == ["after all"]


def test_a_move_is_on_record_before_the_alias_moves(pipeline, settings, monkeypatch):
    features, model = pipeline.train("2020-03-31")
    pipeline.judge("2020-03-31", features, model)

    def fails(*_):
        raise ServiceUnavailable("MLflow went away")

    with monkeypatch.context() as patch, pytest.raises(ServiceUnavailable):
        patch.setattr(Tracking, "set_alias", fails)
        pipeline.promote(model)
    assert pipeline.champion() is None
    assert [move["to"] for move in pipeline.moves()] == ["1"]
    assert pipeline.promote(model)["promoted"] and pipeline.champion() == "1"


def test_experiment_is_judged_with_its_run_and_never_promoted(pipeline, store, settings):
    features, model = pipeline.train("2020-03-31", publish=False)
    verdict = pipeline.judge("2020-03-31", features, model)
    assert verdict["passed"] and verdict["candidate"]["version"] is None
    assert version_number(store, model) is None
    assert not pipeline.promote(model)["promoted"]


def test_champion_that_was_tampered_with_is_refused(pipeline, store):
    pipeline.run("2020-03-30")
    old = read_ref(store, train_ref(pipeline, "2020-03-30"))
    key = next(item.key for item in old.files if item.key.endswith("model.ubj"))
    store.put(key, store.get(key)[0] + b"x")
    features, model = pipeline.train("2020-03-31", seed=5)
    with pytest.raises(ModelRefused, match="SHA-256"):
        pipeline.judge("2020-03-31", features, model)
    store.delete([key])
    with pytest.raises(ModelRefused, match=r"lacks model\.ubj"):
        pipeline.judge("2020-03-31", features, model)


def champion_model(pipeline):
    """The champion, loaded as every path loads it."""
    return load_version(pipeline.store, find_version(pipeline.settings, pipeline.dataset.name, "champion"))


def test_model_swapped_with_all_that_the_lake_says_of_it_is_refused_before_it_is_parsed(pipeline, store, monkeypatch):
    pipeline.run("2020-03-30")
    old, new = (
        read_ref(store, ref) for ref in (train_ref(pipeline, "2020-03-30"), pipeline.train("2020-03-31", seed=5)[1])
    )
    files = []
    for ours, theirs in zip(old.files, new.files, strict=True):
        etag = store.put(ours.key, store.get(theirs.key)[0])
        files.append(ours.model_copy(update={"size": theirs.size, "etag": etag}))
    forged = old.model_copy(update={"files": files, "row_hash": new.row_hash})
    store.put(old.own_key, forged.body())
    monkeypatch.setattr("xgboost.Booster.load_model", lambda *_: pytest.fail("parsed"))
    with pytest.raises(ModelRefused, match="manifest or registry"):
        champion_model(pipeline)


@pytest.mark.parametrize(
    ("name", "change"), [("model.json", {"threshold": 0.9}), ("transform.json", {"numeric": {"size": 1.0}})]
)
def test_model_of_which_another_file_was_changed_is_refused_by_the_files_name(pipeline, store, name, change):
    pipeline.run("2020-03-30")
    (key,) = [item.key for item in read_ref(store, train_ref(pipeline, "2020-03-30")).files if item.key.endswith(name)]
    good = store.get(key)[0]
    store.put(key, json.dumps(json.loads(good) | change).encode())
    with pytest.raises(ModelRefused, match=f"{key} is not the file that was published"):
        champion_model(pipeline)
    store.put(key, good)
    assert champion_model(pipeline).info.task == "regression"


def test_model_is_known_by_what_its_files_hold_where_a_copy_of_the_lake_has_other_etags(pipeline, store):
    pipeline.run("2020-03-30")
    manifest, in_parts = read_ref(store, train_ref(pipeline, "2020-03-30")), TransferConfig(multipart_threshold=1)
    for item in manifest.files:
        # Copied in parts, as tools do with large files.
        bucket, _, key = store.uri(item.key).removeprefix("s3://").partition("/")
        store._client.upload_fileobj(io.BytesIO(store.get(item.key)[0]), bucket, key, Config=in_parts)
        assert store.get(item.key)[1] != item.etag
    expected = champion_model(pipeline).predict(toy_rows("regression", 20, 1))
    # Or written so, as by a store whose ETags are no MD5.
    etags = [item.model_copy(update={"etag": store.get(item.key)[1]}) for item in manifest.files]
    store.put(manifest.own_key, manifest.model_copy(update={"files": etags}).body())
    assert (champion_model(pipeline).predict(toy_rows("regression", 20, 1)) == expected).all()


def damage(store, manifest, how):
    """Spoil a model's file; what undoes it."""
    (key,) = [item.key for item in manifest.files if item.key.endswith("model.ubj")]
    good = store.get(key)[0]
    store.put(key, good[:-9]) if how == "cut" else store.delete([key])
    return lambda: store.put(key, good)


@pytest.mark.parametrize(("how", "message"), [("cut", "SHA-256"), ("gone", r"lacks model\.ubj")], ids=["cut", "gone"])
def test_candidate_whose_file_is_damaged_is_not_promoted(pipeline, store, settings, how, message):
    pipeline.run("2020-03-30")
    features, model = pipeline.train("2020-03-31", seed=5)
    assert pipeline.judge("2020-03-31", features, model)["passed"]
    moves = pipeline.moves()
    mend = damage(store, read_ref(store, model), how)
    with pytest.raises(ModelRefused, match=message):
        pipeline.promote(model)
    assert pipeline.champion() == "1" and pipeline.moves() == moves
    mend()
    assert pipeline.promote(model)["promoted"] and pipeline.champion() == "2"


def test_champion_that_a_person_names_while_a_candidate_is_loaded_stays(pipeline, store, settings, monkeypatch):
    pipeline.run("2020-03-30")
    pipeline.train("2020-03-29", seed=9)
    features, model = pipeline.train("2020-03-31", seed=5)
    pipeline.judge("2020-03-31", features, model)

    def slowly(*arguments):
        monkeypatch.undo()
        promote_by_hand(store, settings, pipeline.dataset.name, "2", reason="at once", who="ann")
        return load_version(*arguments)

    monkeypatch.setattr(promotion, "load_version", slowly)
    with pytest.raises(RetryError, match="the champion of .* changed meanwhile"):
        pipeline.promote(model)
    assert pipeline.champion() == "2"
    assert pipeline.promote(model)["promoted"] and pipeline.champion() == "3"


def test_champion_whose_attempt_is_gone_is_named(pipeline, settings):
    pipeline.run("2020-03-30")
    with tracking(settings) as api:
        api.tag_version(pipeline.dataset.name, "1", {"boostline.attempt": "swept"})
    features, model = pipeline.train("2020-03-31", seed=5)
    with pytest.raises(ModelRefused, match="is gone from the lake"):
        pipeline.judge("2020-03-31", features, model)


def test_verdict_is_recorded_with_the_version(pipeline, settings):
    verdict, _ = pipeline.run("2020-03-31")
    with tracking(settings) as api:
        tags = api.version(pipeline.dataset.name, "1").tags
    assert json.loads(tags["boostline.verdict"])["verdict"] == verdict
    assert tags["boostline.date"] == "2020-03-31"


def without_high(store, settings, dataset, day, splits, classes):
    """Features without the rows of class `high` in these splits, and a model that learnt from them."""
    raw = {}
    for index, split in enumerate(("train", "valid", "test")):
        rows = toy_rows("multiclass", 400, index)
        raw[split] = rows.filter(pc.less(rows.column("_label"), 2.0)) if split in splits else rows
    features = put_features(store, dataset, day, raw, classes=classes, attempt=f"f-{day}")
    return raw, features, train_toy(store, settings, dataset, features, f"m-{day}")


def test_test_rows_of_a_named_class_that_training_lacks_are_told(store, settings):
    classifier = Pipeline(store, settings, toy_dataset("multiclass", "lacks_a_named_class"))
    classes = ("low", "mid", "high")
    raw, features, model = without_high(store, settings, classifier.dataset, "2020-03-31", ("train", "valid"), classes)
    verdict = classifier.judge("2020-03-31", features, model)
    rows = pc.sum(pc.equal(raw["test"].column("_label"), 2.0)).as_py()
    assert verdict["reasons"][-1] == f"{rows} test rows are of classes that the candidate never saw in training: high"


def test_a_class_that_the_champion_knows_and_training_lost_is_told(store, settings):
    classifier = Pipeline(store, settings, toy_dataset("multiclass", "lost_a_class", **{"gate.beat_champion": -1.0}))
    classifier.run("2020-03-30")
    splits = ("train", "valid", "test")
    _, features, model = without_high(store, settings, classifier.dataset, "2020-03-31", splits, ("low", "mid"))
    manifest = read_ref(store, features)
    manifest.rows["unseen_class"] = 1234  # as featurize counts them
    store.put(manifest.own_key, manifest.body())
    verdict = classifier.judge("2020-03-31", features, model)
    assert verdict["champion"]["metrics"]
    assert verdict["reasons"][-2:] == [
        "the champion, version 1, knows classes that the candidate never saw in training: high",
        "1,234 rows for valid and test are of classes that the candidate never saw in training; they were left out, and "
        "nothing was measured on them",
    ]


def test_verdict_about_very_many_classes_is_recorded(pipeline, store, settings):
    features, model = pipeline.train("2020-03-31")
    manifest = read_ref(store, model)
    each = {"precision": 0.123456789, "recall": 0.123456789, "f1": 0.123456789, "rows": 12345}
    manifest.details["metrics"]["test"]["per_class"] = {f"class {index}": each for index in range(1500)}
    store.put(manifest.own_key, manifest.body())
    verdict = pipeline.judge("2020-03-31", features, model)
    with tracking(settings) as api:
        tags = api.version(pipeline.dataset.name, "1").tags
    assert json.loads(tags["boostline.verdict"])["verdict"] == verdict
