"""A person's answer about a candidate, against a real MLflow registry and a real S3 store."""

from __future__ import annotations

from datetime import date
from secrets import token_hex

import pytest
from pydantic import ValidationError
from tests.model_lab import put_baseline, toy_dataset
from tests.pipeline_lab import STRONG, WEAK, Pipeline

from boostline.dataset.sections import Promotion
from boostline.errors import ModelRefused
from boostline.lake.manifest import read_ref
from boostline.registry.approval import LONGEST_REASON, Answer, carry_out, record_question
from boostline.registry.overview import overview
from boostline.registry.promotion import promote_by_hand, rollback

NOON = "2024-05-10T12:00:00+00:00"


class Approved(Pipeline):
    """A pipeline whose candidates wait for a person."""

    def wait(self, day, **kwargs):
        """Train, judge and try to promote; what an answer needs."""
        features, model = self.train(day, **kwargs)
        assert self.judge(day, features, model)["passed"]
        return {"day": day, "features": features, "model": model}, self.promote(model)

    def answer(self, waiting, yes=True, who="ann", when=NOON, why="", baseline=WEAK, dataset=None):
        day, features = waiting["day"], waiting["features"]
        rival = put_baseline(self.store, self.dataset, day, baseline, f"b-{day}-{features.attempt}-{baseline['rmse']}")
        return carry_out(
            self.store,
            self.settings,
            dataset or self.dataset,
            date.fromisoformat(day),
            model=waiting["model"],
            baseline=rival,
            features=features,
            answer=Answer(yes=yes, who=who, when=when, why=why),
        )

    def records(self, version):
        found = {item["version"]: item for item in overview(self.settings, self.dataset.name)}
        return found[version]["approvals"]


@pytest.fixture
def pipeline(store, settings):
    """A pipeline of a dataset of the test's own, so that tests share no registered model."""
    return Approved(store, settings, waiting_dataset(f"approved_{token_hex(4)}"))


def waiting_dataset(name, **changes):
    """A dataset that requires approval."""
    changes = {"gate.beat_champion": -0.5, "promotion.approval": "required"} | changes
    return toy_dataset("regression", name, **changes)


def test_a_candidate_waits_and_an_approval_makes_it_champion(pipeline, settings):
    waiting, outcome = pipeline.wait("2020-03-31")
    assert outcome == {"promoted": False, "reason": "version 1 waits for approval", "waits": "1"}
    assert pipeline.champion() is None
    name = pipeline.dataset.name
    record_question(settings, name, "1", "http://airflow/there")
    record_question(settings, name, "1", "http://airflow/there")
    assert [(item["decision"], item["reason"]) for item in pipeline.records("1")] == [
        ("asked", "waits for approval: http://airflow/there")
    ]
    assert pipeline.promote(waiting["model"])["waits"] == "1"

    done = pipeline.answer(waiting, why="fits the\nweekend\x1b[31m <b>")
    reason = "version 1 of 2020-03-31 passed the gate, the first champion; approved by ann: fits the weekend [31m <b>"
    assert (done["promoted"], done["reason"], done["verdict"]["passed"]) == (True, reason, True)
    assert pipeline.champion() == "1"
    assert [(move["who"], move["reason"]) for move in pipeline.moves()] == [("ann", reason)]
    assert pipeline.records("1")[1] == {
        "decision": "approved", "who": "ann", "when": NOON, "why": "fits the weekend [31m <b>",
        "promoted": True, "reason": reason,
    }  # fmt: skip
    assert pipeline.promote(waiting["model"]) == {"promoted": True, "reason": reason}


def test_the_same_answer_again_changes_nothing(pipeline, settings):
    waiting, _ = pipeline.wait("2020-03-31")
    done = pipeline.answer(waiting)
    records, moves = pipeline.records("1"), pipeline.moves()
    assert pipeline.answer(waiting) == done
    assert (pipeline.records("1"), pipeline.moves()) == (records, moves)


def test_what_was_promoted_before_its_record_was_written_is_recorded_on_the_next_try(pipeline, settings, monkeypatch):
    waiting, _ = pipeline.wait("2020-03-31")

    def fails(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("boostline.registry.approval.add_approval", fails)
        pipeline.answer(waiting)
    assert pipeline.champion() == "1" and pipeline.records("1") == []
    assert pipeline.answer(waiting)["promoted"]
    assert [item["decision"] for item in pipeline.records("1")] == ["approved"]
    assert len(pipeline.moves()) == 1


def test_a_rejection_stands_until_somebody_answers_otherwise(pipeline):
    waiting, _ = pipeline.wait("2020-03-31")
    done = pipeline.answer(waiting, yes=False, why="x" * 2 * LONGEST_REASON)
    assert not done["promoted"]
    (record,) = pipeline.records("1")
    assert (record["decision"], record["who"], record["why"]) == ("rejected", "ann", "x" * LONGEST_REASON)
    assert pipeline.champion() is None
    # The next run of the date asks nobody again.
    assert pipeline.promote(waiting["model"]) == {"promoted": False, "reason": record["reason"]}
    assert pipeline.answer(waiting, who="bob", when="2024-05-11T12:00:00+00:00")["promoted"]
    assert [(item["decision"], item["who"]) for item in pipeline.records("1")] == [
        ("rejected", "ann"),
        ("approved", "bob"),
    ]


@pytest.mark.parametrize("yes", [False, True])
def test_no_answer_in_time_is_what_the_dataset_says(pipeline, yes):
    waiting, _ = pipeline.wait("2020-03-31")
    done = pipeline.answer(waiting, yes=yes, who=None)
    assert done["promoted"] is yes and "because nobody answered in time" in done["reason"]
    (record,) = pipeline.records("1")
    assert (record["decision"], record["who"]) == ("approved" if yes else "timed out", "nobody")
    assert pipeline.champion() == ("1" if yes else None)


@pytest.mark.parametrize("who", ["ann", None])
def test_an_older_one_that_waits_lapses_once_a_newer_one_is_champion(pipeline, settings, who):
    older, _ = pipeline.wait("2020-03-30")
    newer, _ = pipeline.wait("2020-03-31", seed=5)
    for version in ("1", "2"):
        record_question(settings, pipeline.dataset.name, version, "http://airflow/there")
    assert pipeline.answer(newer)["promoted"]
    assert [item["decision"] for item in pipeline.records("1")] == ["asked", "lapsed"]
    assert [item["decision"] for item in pipeline.records("2")] == ["asked", "approved"]
    done = pipeline.answer(older, who=who, yes=bool(who))
    assert not done["promoted"]
    assert "version 1 lapsed, since version 2 of 2020-03-31 is champion and newer" in done["reason"]
    assert pipeline.records("1")[-1]["decision"] == "lapsed"
    assert pipeline.champion() == "2"
    # What a person says no to is rejected, whatever the champion.
    pipeline.answer(older, yes=False, when="2024-05-11T12:00:00+00:00")
    assert pipeline.records("1")[-1]["decision"] == "rejected"


def test_of_one_date_the_later_version_is_the_newer_one(pipeline):
    first, _ = pipeline.wait("2020-03-31")
    second, _ = pipeline.wait(
        "2020-03-31", dataset=waiting_dataset(pipeline.dataset.name, **{"model.rounds": 3}), attempt="b"
    )
    assert pipeline.answer(second)["promoted"] and pipeline.champion() == "2"
    assert "lapsed" in pipeline.answer(first)["reason"]
    assert pipeline.champion() == "2"


def test_what_comes_back_after_another_of_its_date_was_approved_is_brought_back_by_hand_alone(pipeline):
    first, _ = pipeline.wait("2020-03-31")
    pipeline.answer(first)
    second, _ = pipeline.wait(
        "2020-03-31", dataset=waiting_dataset(pipeline.dataset.name, **{"model.rounds": 30}), attempt="b"
    )
    pipeline.answer(second)
    assert pipeline.judge("2020-03-31", first["features"], first["model"])["champion"]["version"] == "2"
    assert pipeline.promote(first["model"]) == {
        "promoted": False,
        "reason": "version 1 was approved before, and another of its date has taken its place since: "
        "boostline promote brings it back",
    }
    assert pipeline.champion() == "2"


def test_the_gate_is_asked_again_against_the_champion_of_now(pipeline):
    waiting, _ = pipeline.wait("2020-03-31", seed=5)
    older, _ = pipeline.wait("2020-03-30")
    assert pipeline.answer(older)["promoted"]
    done = pipeline.answer(waiting, dataset=waiting_dataset(pipeline.dataset.name, **{"gate.beat_champion": 0.9}))
    assert not done["promoted"] and "the gate, asked again, said no" in done["reason"]
    assert done["verdict"]["champion"]["version"] == "2" and done["verdict"]["champion"]["metrics"]["rmse"] > 0
    assert pipeline.records("1")[-1]["decision"] == "refused"
    assert pipeline.champion() == "2"


def test_a_candidate_whose_file_is_gone_is_not_promoted_though_a_person_says_yes(pipeline, store):
    waiting, _ = pipeline.wait("2020-03-31")
    (key,) = [item.key for item in read_ref(store, waiting["model"]).files if item.key.endswith("model.ubj")]
    good = store.get(key)[0]
    store.delete([key])
    with pytest.raises(ModelRefused, match=r"lacks model\.ubj"):
        pipeline.answer(waiting)
    assert pipeline.champion() is None and not pipeline.records("1")
    store.put(key, good)
    assert pipeline.answer(waiting)["promoted"] and pipeline.champion() == "1"


def test_a_better_baseline_is_heard_too(pipeline):
    waiting, _ = pipeline.wait("2020-03-31")
    assert not pipeline.answer(waiting, baseline=STRONG)["promoted"]
    assert pipeline.champion() is None


def test_a_version_that_was_rolled_back_stays_blocked(pipeline, store, settings):
    name = pipeline.dataset.name
    older, _ = pipeline.wait("2020-03-30")
    pipeline.answer(older)
    waiting, _ = pipeline.wait("2020-03-31", seed=5)
    promote_by_hand(store, settings, name, "2", reason="at once", who="bob")
    rollback(store, settings, name, reason="too hasty", who="bob")
    done = pipeline.answer(waiting)
    assert not done["promoted"] and "stays blocked" in done["reason"]
    assert pipeline.champion() == "1"


def test_nobody_is_asked_about_a_backfill_that_does_not_promote(pipeline):
    features, model = pipeline.train("2020-03-31")
    pipeline.judge("2020-03-31", features, model)
    outcome = pipeline.promote(model, is_backfill=True)
    assert "waits" not in outcome and "in_backfill: false" in outcome["reason"]


def test_approvers_without_approval_are_a_mistake():
    with pytest.raises(ValidationError, match="approval: required"):
        Promotion(approvers=("ann",))
    with pytest.raises(ValidationError):
        Promotion(approval="required", approvers=("ann smith",))
