"""Fitting: from quantised rows to a booster that stopped where the valid rows said so."""

from __future__ import annotations

import logging
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

_EVAL_METRIC = {"regression": "rmse", "binary": "logloss", "multiclass": "mlogloss"}
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
        "eval_metric": _EVAL_METRIC[dataset.task],
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


def fit(dataset: Dataset, params: dict[str, Any], train: Rows, valid: Rows) -> tuple[Any, Curve]:
    """Train until the rounds are used up or the valid rows no longer gain.

    Returns:
        The booster, cut after its best round where early stopping is on, and the learning curve: one value of the
        evaluation metric per round, for train and valid, beyond the best round too.
    """
    xgboost = import_xgboost()
    curve: dict[str, dict[str, list[float]]] = {}
    callbacks = [_progress(dataset.model.rounds)]
    if dataset.model.early_stopping:
        callbacks.append(
            xgboost.callback.EarlyStopping(
                rounds=dataset.model.early_stopping, data_name="valid", metric_name=params["eval_metric"]
            )
        )
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
    return booster, {split: values[params["eval_metric"]] for split, values in curve.items()}


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
