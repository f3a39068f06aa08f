"""Evaluators, NumPy only.

A metric that the rows do not define is left out of the result, so no NaN ever reaches a JSON file: R² and Gini of a
constant label, AUC and average precision of rows with one class only, everything of no rows. A share of nothing
(precision without a positive prediction, recall without a positive row, F1 of both) is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from boostline.errors import ModelRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Metrics = dict[str, Any]
"""Floats by metric name; for classifiers also `per_class`."""

METRICS_BY_TASK = {
    "regression": ("rmse", "mae", "r2", "gini"),
    "binary": ("log_loss", "auc", "pr_auc", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("log_loss", "auc", "pr_auc", "accuracy", "precision", "recall", "f1"),
}
"""Metrics of each task, the first of them the usual one."""

LOWER_IS_BETTER = frozenset({"rmse", "mae", "log_loss"})

CLASS_AVERAGES = frozenset({"auc", "pr_auc", "precision", "recall", "f1"})
"""Of several classes these are means of a figure by class, so one class with few rows makes them unsure."""

PER_CLASS = "per_class"

LONGEST_CLASS = 200
"""Characters of a class's name within a metric's name."""


class ThresholdPolicy(Protocol):
    """The part of a dataset file that says what a decision threshold is chosen for."""

    @property
    def choose(self) -> str: ...
    @property
    def min_recall(self) -> float: ...
    @property
    def cost_false_positive(self) -> float: ...
    @property
    def cost_false_negative(self) -> float: ...


def evaluate(
    task: str, label: ArrayLike, prediction: ArrayLike, *, threshold: float = 0.5, classes: tuple[str, ...] = ()
) -> Metrics:
    """All metrics of a task, those that the rows define.

    Args:
        task: regression, binary or multiclass.
        label: Shape (rows,): the number, 0 or 1, or the class index.
        prediction: Shape (rows,): the number or the probability of class 1; multiclass: (rows, classes).
        threshold: Binary only: this probability and above is class 1.
        classes: Names for `per_class`, in order; the indices where none.

    Returns:
        Floats by metric name; for classifiers also `per_class`: class → precision, recall, f1, rows.
        Lower is better for those of `LOWER_IS_BETTER`. rmse and mae are in the label's unit, r2 and gini at most 1,
        log_loss in nats, the others from 0 to 1. Multiclass auc and pr_auc are one-vs-rest, averaged over the classes
        that both occur and do not fill the rows; its precision, recall and f1 are averaged over the classes that occur
        in label or prediction.

    Raises:
        ModelRefused: A prediction is NaN or infinite.
    """
    import numpy as np

    y, p = np.asarray(label, np.float64), np.asarray(prediction)
    if not np.isfinite(p).all():
        rows = int((~np.isfinite(p)).sum())
        raise ModelRefused(f"{rows} of {p.size} predictions are NaN or infinite", "Lower eta or check the features")
    if not len(y):
        return {}
    if task == "regression":
        return _regression(y, p.astype(np.float64, copy=False))
    if task == "binary":
        return _binary(y, p.astype(np.float64, copy=False), threshold, classes or ("0", "1"))
    return _multiclass(y.astype(np.int64), p, classes or tuple(str(index) for index in range(p.shape[1])))


def choose_threshold(label: ArrayLike, probability: ArrayLike, policy: ThresholdPolicy) -> float:
    """The decision threshold of a binary model that serves a policy best on these rows.

    `f1`: the best F1. `recall`: the best precision among thresholds with at least `min_recall`. `cost`: the least
    `cost_false_positive · false positives + cost_false_negative · false negatives`. Of equally good ones the highest.

    Args:
        label: Shape (rows,), 0 or 1.
        probability: Shape (rows,), of class 1.
        policy: What to choose for.

    Returns:
        Half-way between two neighbouring probabilities, so that rounding cannot move a row across; 0 means all rows are
        positive, and a value above all probabilities none. 0.5 where f1 or recall is asked of rows without a positive.
    """
    import numpy as np

    y, p = np.asarray(label, np.float64), np.asarray(probability, np.float64)
    positives = y.sum()
    if positives == 0 and (policy.choose != "cost" or not len(y)):
        return 0.5
    steps, cut, true_positives = threshold_steps(y, p)
    recall = true_positives / max(positives, 1)
    precision = true_positives / cut
    if policy.choose == "f1":
        score = 2 * true_positives / (cut + positives)
    elif policy.choose == "recall":
        score = np.where(recall >= policy.min_recall, precision, -1.0)
    else:
        false_positives, false_negatives = cut - true_positives, positives - true_positives
        score = -(policy.cost_false_positive * false_positives + policy.cost_false_negative * false_negatives)
        if -policy.cost_false_negative * positives >= score.max():
            return float(max((steps[0] + 1) / 2, np.nextafter(steps[0], np.inf)))
    best = int(score.argmax())
    if best + 1 == len(steps):
        return 0.0
    middle = (steps[best] + steps[best + 1]) / 2
    return float(middle if middle > steps[best + 1] else steps[best])


def improvement(metric: str, candidate: float, reference: float) -> float:
    """How much better the candidate is, relative to the reference: 0.01 is one per cent better, negative is worse.

    A reference of 0 has no relative size: then better counts as 1, worse as -1, equal as 0.
    """
    gain = reference - candidate if metric in LOWER_IS_BETTER else candidate - reference
    if reference == 0:
        return float((gain > 0) - (gain < 0))
    return gain / abs(reference)


def _regression(y: Floats, p: Floats) -> Metrics:
    import numpy as np

    error = y - p
    metrics = {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}
    if y.min() == y.max():
        return metrics
    spread = y - y.mean()
    # Normalised Gini is cov(y, rank of p) / cov(y, rank of y); with ranks averaged over ties no row order matters.
    # Sums, not `@`: BLAS would start threads for it, which costs milliseconds beside other work and moves the last digit.
    gini = float((spread * _ranks(p)).sum()) / float((spread * _ranks(y)).sum())
    return metrics | {"r2": 1 - float((error**2).sum()) / float((spread**2).sum()), "gini": gini}


def _binary(y: Floats, p: Floats, threshold: float, classes: tuple[str, ...]) -> Metrics:
    import numpy as np

    clipped = np.clip(p, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    metrics: Metrics = {"log_loss": -float(np.where(y == 1, np.log(clipped), np.log1p(-clipped)).mean())}
    if 0 < y.sum() < len(y):
        metrics |= {"auc": _auc(y, p), "pr_auc": _average_precision(y, p)}
    decided = (p >= threshold).astype(np.float64)
    metrics["accuracy"] = float((decided == y).mean())
    per_class = {name: _class_metrics(y == index, decided == index) for index, name in enumerate(classes)}
    positive = per_class[classes[1]]
    return metrics | {name: positive[name] for name in ("precision", "recall", "f1")} | {PER_CLASS: per_class}


def _multiclass(y: NDArray[np.int64], p: NDArray[Any], classes: tuple[str, ...]) -> Metrics:
    """In double precision one class at a time: all of XGBoost's single ones twice over could fill the memory."""
    import numpy as np

    eps = np.finfo(np.float64).eps
    decided = p.argmax(axis=1)
    of_own_class = p[np.arange(len(y)), y].astype(np.float64)
    metrics: Metrics = {
        "log_loss": -float(np.log(np.clip(of_own_class, eps, 1 - eps)).mean()),
        "accuracy": float((decided == y).mean()),
    }
    seen = np.bincount(y, minlength=len(classes))
    defined = np.flatnonzero((seen > 0) & (seen < len(y)))
    for name, area in (("auc", _auc), ("pr_auc", _average_precision)) if len(defined) else ():
        metrics[name] = float(np.mean([area(y == index, p[:, index].astype(np.float64)) for index in defined]))
    per_class = {name: _class_metrics(y == index, decided == index) for index, name in enumerate(classes)}
    occurs = [classes[index] for index in np.union1d(y, decided)]
    for name in ("precision", "recall", "f1"):
        metrics[name] = float(np.mean([per_class[item][name] for item in occurs]))
    return metrics | {PER_CLASS: per_class}


def _class_metrics(is_class: NDArray[np.bool_], decided: NDArray[np.bool_]) -> dict[str, float]:
    hits, rows, claims = int((is_class & decided).sum()), int(is_class.sum()), int(decided.sum())
    return {
        "precision": hits / claims if claims else 0.0,
        "recall": hits / rows if rows else 0.0,
        "f1": 2 * hits / (rows + claims) if rows + claims else 0.0,
        "rows": rows,
    }


def _auc(y: NDArray[Any], p: Floats) -> float:
    """Mann-Whitney's U over its largest value; both classes occur."""
    positives = float(y.sum())
    ranks = float(_ranks(p)[y == 1].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * (len(y) - positives))


def _average_precision(y: NDArray[Any], p: Floats) -> float:
    """The area under precision over recall, by steps; both classes occur."""
    import numpy as np

    _, cut, true_positives = threshold_steps(y, p)
    recall = true_positives / y.sum()
    return float((np.diff(recall, prepend=0.0) * true_positives / cut).sum())


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, averaged over ties."""
    import numpy as np

    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: Floats = (last - (counts - 1) / 2)[group]
    return ranks


def threshold_steps(y: Floats, p: Floats) -> tuple[Floats, Floats, Floats]:
    """The distinct probabilities, falling; how many rows lie at or above each, and how many positives among them."""
    import numpy as np

    order = np.argsort(-p, kind="stable")
    falling = p[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(p) - 1)
    return falling[ends], (ends + 1).astype(np.float64), y[order].cumsum()[ends]


def flat_metrics(metrics: Metrics) -> Iterator[tuple[str, float]]:
    """Each number with its name; those of a class as `recall/CLASS`, in the form that MLflow allows."""
    for name, value in metrics.items():
        if name != PER_CLASS:
            yield name, value
            continue
        names = [_metric_part(label) for label in value]
        taken = Counter(names)
        for index, (label, each) in enumerate(value.items()):
            # Two classes must not share a name: a changed one that another has too is told apart by its place.
            safe = names[index] if names[index] == label or taken[names[index]] == 1 else f"{names[index]} {index}"
            yield from ((f"{key}/{safe}", number) for key, number in each.items() if key != "rows")


def _metric_part(label: str) -> str:
    """A class's name as a part of a metric's, which MLflow keeps as a path of at most 250 characters."""
    safe = "".join(char if char.isalnum() or char in "_-. " else "_" for char in label)[:LONGEST_CLASS]
    return "_" if safe in ("", ".", "..") else safe
