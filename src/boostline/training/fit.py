"""Fitting: from quantised rows to a booster that stopped where the valid rows said so."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boostline.dataset import Dataset
from boostline.dataset.learning import OBJECTIVES
from boostline.errors import DataInvalid
from boostline.scoring.engine import import_xgboost
from boostline.training.data import Rows

log = logging.getLogger(__name__)

PROGRESS_LINES = 20
"""About so many lines of progress go to the log."""

Curve = dict[str, list[float]]


def booster_params(dataset: Dataset, classes: list[str], threads: int) -> dict[str, Any]:
    """XGBoost's parameters: the dataset file's, and those that follow from it."""
    # XGBoost warns of a parameter that the objective does not use.
    unused = {"objective", "scale_pos_weight"} if dataset.task == "multiclass" else {"objective"}
    params = dataset.model.params.model_dump(by_alias=True, exclude=unused, exclude_none=True)
    params |= {
        "objective": dataset.model.params.objective or OBJECTIVES[dataset.task][0],
        "seed": dataset.model.seed,
        "nthread": threads,
        "tree_method": "hist",
    }
    return params | ({"num_class": len(classes)} if dataset.task == "multiclass" else {})


@contextmanager
def refusals(dataset: Dataset) -> Iterator[None]:
    """Turn what XGBoost refuses, such as a label that the objective does not know, into an error of the data."""
    try:
        yield
    except import_xgboost().core.XGBoostError as error:
        # One line says it, after the place in XGBoost's source; a C++ stack follows.
        line = str(error).partition("\n")[0]
        if re.search(r"filesys|bad.?alloc|memory|No space", line, re.IGNORECASE):
            raise  # of the machine, such as a full disk under external memory
        reason = re.sub(r"^\[\S+\] \S+: ", "", line)
        raise DataInvalid(
            f"XGBoost cannot learn from these rows: {reason}",
            f"Check the values of label {dataset.label.name} and model.params, above all objective, in the dataset file",
        ) from error


def fit(dataset: Dataset, params: dict[str, Any], train: Rows, valid: Rows) -> tuple[Any, str, Curve]:
    """Train until the rounds are used up or the valid rows no longer gain by the objective's own metric.

    Returns:
        The booster, cut after its best round where early stopping is on; XGBoost's name of the metric, such as `mae` for
        `reg:absoluteerror`; and the learning curve: one value of it per round, for train and valid, beyond the best
        round too.

    Raises:
        DataInvalid: The metric has no finite value after some round, as `rmsle` with a prediction of -1 or less.
    """
    xgboost = import_xgboost()
    curve: dict[str, dict[str, list[float]]] = {}
    callbacks = [_progress(dataset.model.rounds)]
    if dataset.model.early_stopping:
        callbacks.append(xgboost.callback.EarlyStopping(rounds=dataset.model.early_stopping, data_name="valid"))
    booster = xgboost.train(
        params,
        train.matrix,
        dataset.model.rounds,
        evals=[(train.matrix, "train"), (valid.matrix, "valid")],
        evals_result=curve,
        callbacks=callbacks,
        verbose_eval=False,
    )
    if dataset.model.early_stopping:
        booster = booster[: booster.best_iteration + 1]
        booster.set_param({"nthread": params["nthread"]})  # a slice forgets it
    (metric,) = curve["valid"]
    _require_finite(dataset, params["objective"], metric, curve)
    return booster, metric, {split: values[metric] for split, values in curve.items()}


def _require_finite(dataset: Dataset, objective: str, metric: str, curve: dict[str, dict[str, list[float]]]) -> None:
    """Refuse a training that could not be watched: XGBoost takes a metric that is NaN for one that no longer gains."""
    for split, values in curve.items():
        bad = next((number for number, value in enumerate(values[metric], 1) if not math.isfinite(value)), None)
        if bad:
            raise DataInvalid(
                f"XGBoost's {metric} of the {split} rows is {values[metric][bad - 1]} after round {bad}: a prediction is "
                f"outside of what {objective} measures",
                f"Check the values of label {dataset.label.name}, lower model.params.eta, or choose another "
                "model.params.objective in the dataset file",
            )


def _progress(rounds: int) -> Any:
    every = max(1, rounds // PROGRESS_LINES)

    class Progress(import_xgboost().callback.TrainingCallback):  # type: ignore[misc]
        """Says now and then how far the training is."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            if (epoch + 1) % every == 0 or epoch == 0:
                now = "  ".join(
                    f"{split} {name} {values[-1]:.5g}"
                    for split, metrics in evals_log.items()
                    for name, values in metrics.items()
                )
                log.info("round %d of at most %d: %s", epoch + 1, rounds, now)
            return False

    return Progress()
