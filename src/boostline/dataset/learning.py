"""The sections of a dataset file on learning: the baseline, XGBoost, and the gate between them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from boostline.dataset.base import Section, Share, Task
from boostline.metrics import METRICS_BY_TASK

OBJECTIVES: dict[Task, tuple[str, ...]] = {
    "regression": (
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:logistic",
        "reg:pseudohubererror",
        "reg:absoluteerror",
        "reg:gamma",
        "reg:tweedie",
        "count:poisson",
    ),
    "binary": ("binary:logistic",),
    "multiclass": ("multi:softprob",),
}
"""XGBoost's objectives by task, the default first: those that predict one number a row, or probabilities."""


class Baseline(Section):
    """The simple Spark ML model that XGBoost has to beat."""

    kind: Literal["linear", "logistic", "tree"] = Field(
        description="`linear` for a regression, `logistic` for classes, `tree` for both. A tree's probability of a class is "
        "(its rows in the leaf + 1) / (rows in the leaf + classes), so never 0 or 1"
    )
    encoding: Literal["onehot", "ordinal"] = Field(
        "onehot", description="How categorical codes enter: a column of 0 and 1 for each category, or as numbers"
    )
    regularization: float = Field(
        0.0, ge=0, description="Weight of the penalty on coefficients (Spark's regParam); 0: none"
    )
    elastic_net: Share = Field(0.0, description="What the penalty is: 0 L2, 1 L1, between them a mix")
    max_iterations: int = Field(100, ge=1, description="Of `linear` and `logistic`, at most")
    max_depth: int = Field(5, ge=1, le=30, description="Of a tree")
    in_sample: bool = Field(False, description="Report a second fit, on all rows and measured on them")


class XGBoostParams(Section):
    """XGBoost's own parameters, by its own names."""

    eta: float = Field(
        0.1, gt=0, le=1, description="Learning rate: how much each tree counts. Smaller needs more rounds"
    )
    max_depth: int = Field(6, ge=0, le=64, description="Of a tree; 0: no limit")
    max_leaves: int = Field(0, ge=0, description="Of a tree; 0: no limit")
    min_child_weight: float = Field(1.0, ge=0, description="Smallest sum of second derivatives (hessian) in a leaf")
    gamma: float = Field(0.0, ge=0, description="Smallest gain that a split must bring")
    subsample: float = Field(1.0, gt=0, le=1, description="Share of the rows drawn for each tree")
    colsample_bytree: float = Field(1.0, gt=0, le=1, description="Share of the columns drawn for each tree")
    colsample_bylevel: float = Field(1.0, gt=0, le=1, description="Of those, for each level")
    colsample_bynode: float = Field(1.0, gt=0, le=1, description="Of those, for each split")
    reg_lambda: float = Field(1.0, ge=0, alias="lambda", description="L2 penalty on the leaves' weights")
    alpha: float = Field(0.0, ge=0, description="L1 penalty on the leaves' weights")
    max_delta_step: float | None = Field(
        None, ge=0, description="Largest step of a leaf; 0: no limit. XGBoost's own is 0.7 for `count:poisson`, else 0"
    )
    scale_pos_weight: float = Field(
        1.0,
        gt=0,
        description="Weight of the positive rows of a binary label. Early stopping and `log_loss` do not know it: to decide "
        "otherwise between few and many, `model.threshold` is the better means",
    )
    max_bin: int = Field(256, ge=2, le=65535, description="Histogram bins of a numeric column")
    grow_policy: Literal["depthwise", "lossguide"] = Field(
        "depthwise", description="Split level by level, or where the loss falls most"
    )
    max_cat_to_onehot: int = Field(4, ge=1, description="With fewer categories a split takes one against the rest")
    max_cat_threshold: int = Field(64, ge=1, description="Most categories that a split considers")
    objective: str | None = Field(
        None,
        description="One of the task's, the first by default. "
        + "; ".join(f"{task}: {', '.join(names)}" for task, names in OBJECTIVES.items()),
    )


class Threshold(Section):
    """How the decision threshold of a binary model is chosen on the valid rows."""

    choose: Literal["f1", "recall", "cost"] = Field(
        "f1", description="The best F1, the best precision at a recall, or the least cost of wrong answers"
    )
    min_recall: float = Field(0.8, gt=0, le=1, description="For `recall`: best precision with at least this recall")
    cost_false_positive: float = Field(1.0, ge=0, description="For `cost`: of a negative row that is called positive")
    cost_false_negative: float = Field(1.0, ge=0, description="For `cost`: of a positive row that is called negative")


class Model(Section):
    """How XGBoost is trained."""

    params: XGBoostParams = Field(XGBoostParams(), description="XGBoost's own parameters")
    rounds: int = Field(500, ge=1, le=100_000, description="At most so many trees (per class)")
    early_stopping: int = Field(
        30,
        ge=0,
        description="Stop after so many rounds without gain on valid by the objective's own metric; 0 never stops",
    )
    categorical: Literal["native", "ordinal"] = Field("native", description="Codes as categories or as numbers")
    seed: int = Field(0, ge=0, description="Of what is drawn at random: `subsample`, `colsample_…`")
    threshold: Threshold = Field(
        Threshold(), description="For a binary label: from which probability on a row is positive"
    )


class Gate(Section):
    """When a candidate is good enough. Margins are relative: 0.01 is one per cent better."""

    metric: str = Field(
        description="Measured on the test rows, one of the task's. "
        + "; ".join(f"{task}: {', '.join(names)}" for task, names in METRICS_BY_TASK.items())
    )
    beat_baseline: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="So much better than the baseline; 0: as good will do; negative: so much worse will do",
    )
    beat_champion: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="The same against the champion on the same test rows, if there is one that cannot have learnt from them",
    )
