"""The gate is a pure decision; every way in which it says no is shown to block."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boostline.dataset.learning import Gate
from boostline.metrics import LOWER_IS_BETTER, METRICS_BY_TASK, improvement
from boostline.registry.gate import decide

metrics = st.sampled_from(sorted({name for names in METRICS_BY_TASK.values() for name in names}))
values = st.floats(0.001, 100)
margins = st.floats(-1, 1)


@given(metrics, values, values, values | st.none(), margins, margins)
def test_passes_exactly_where_every_margin_is_met(metric, candidate, baseline, champion, over_baseline, over_champion):
    policy = Gate(metric=metric, beat_baseline=over_baseline, beat_champion=over_champion)
    rival = None if champion is None else {metric: champion}
    decision = decide({metric: candidate}, {metric: baseline}, rival, policy, 100)
    met = improvement(metric, candidate, baseline) >= over_baseline
    met &= champion is None or improvement(metric, candidate, champion) >= over_champion
    assert decision.passed == met
    assert len(decision.reasons) == (1 if champion is None else 2)
    assert all("100 test rows" in reason and metric in reason for reason in decision.reasons)


@given(metrics, values, values, margins)
def test_a_better_candidate_never_fails_where_a_worse_one_passed(metric, one, other, margin):
    better, worse = sorted((one, other), reverse=metric not in LOWER_IS_BETTER)
    policy = Gate(metric=metric, beat_baseline=margin)

    def passed(value):
        return decide({metric: value}, {metric: 1.0}, None, policy, 10).passed

    assert passed(better) or not passed(worse)


@pytest.mark.parametrize(
    ("metric", "candidate", "baseline", "margin", "passed", "reason"),
    [
        (
            "log_loss",
            0.1406,
            0.1506,
            0.01,
            True,
            "log_loss 0.1406 is 6.6% below the baseline's 0.1506 on 5,731 test rows; 1.0% better was asked",
        ),
        (
            "rmse",
            3.9,
            3.9,
            0.01,
            False,
            "rmse 3.9000 equals the baseline's 3.9000 on 5,731 test rows; 1.0% better was asked",
        ),
        (
            "auc",
            0.78,
            0.80,
            -0.05,
            True,
            "auc 0.7800 is 2.5% below the baseline's 0.8000 on 5,731 test rows; up to 5.0% worse is allowed",
        ),
        (
            "f1",
            0.5,
            0.0,
            0.0,
            True,
            "f1 0.5000 is above the baseline's 0.0000 on 5,731 test rows; 0.0% better was asked",
        ),
    ],
)
def test_reasons_are_sentences_with_numbers(metric, candidate, baseline, margin, passed, reason):
    policy = Gate(metric=metric, beat_baseline=margin)
    decision = decide({metric: candidate}, {metric: baseline}, None, policy, 5731)
    assert (decision.passed, decision.reasons) == (passed, [reason])


def test_a_champion_that_is_better_blocks_though_the_baseline_is_beaten():
    policy = Gate(metric="rmse", beat_champion=0.02)
    decision = decide({"rmse": 3.0}, {"rmse": 4.0}, {"rmse": 3.05}, policy, 10)
    assert not decision.passed
    assert (
        decision.reasons[1] == "rmse 3.0000 is 1.6% below the champion's 3.0500 on 10 test rows; 2.0% better was asked"
    )


@pytest.mark.parametrize(("candidate", "baseline"), [({}, {"auc": 0.5}), ({"auc": 0.9}, {})])
def test_a_metric_that_the_rows_do_not_define_blocks(candidate, baseline):
    decision = decide(candidate, baseline, None, Gate(metric="auc", beat_baseline=-1), 12)
    assert not decision.passed
    assert decision.reasons == ["auc is not defined on these 12 test rows, so the baseline cannot be compared"]
