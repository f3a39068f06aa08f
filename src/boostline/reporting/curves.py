"""Curves of models over the same test rows: NumPy in, short lists out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boostline.metrics import threshold_steps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

POINTS, SCATTER_ROWS, BINS, HISTOGRAM_BINS = 200, 1_000, 10, 40
CLASSES, MATRIX_CLASSES = 6, 12
"""Most classes with curves of their own, and most in a confusion matrix; the most frequent ones come first."""


def rounded(values: Any, digits: int = 6) -> Any:
    """Numbers as JSON has them, with so many significant digits; none for NaN. Arrays, mappings and single numbers."""
    import numpy as np

    if isinstance(values, Mapping):
        return {name: rounded(value, digits) for name, value in values.items()}
    if isinstance(values, np.ndarray):
        return [rounded(value, digits) for value in values.tolist()]
    if isinstance(values, int):
        return values
    return float(f"{values:.{digits}g}") if np.isfinite(values) else None


def thinned(size: int, most: int = POINTS) -> NDArray[np.int64]:
    """Evenly spaced places, the first and the last among them."""
    import numpy as np

    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


def value_curves(label: Floats, predictions: Mapping[str, Floats], seed: int) -> dict[str, Any]:
    """Predicted against actual numbers, and the residuals (actual minus predicted).

    Returns:
        `scatter`: some rows of the candidate; `bins`: per tenth of the rows by prediction, the means and the number of
        rows; `residuals`: `edges`, and by model the share of rows between them, with `outside` those beyond.
    """
    import numpy as np

    ours = predictions["candidate"]
    size = min(len(label), SCATTER_ROWS)
    some = np.sort(np.random.default_rng(seed).choice(len(label), size, replace=False))
    residuals = {name: label - values for name, values in predictions.items()}
    # The middle 99%, so that a few outliers do not flatten everything else.
    low, high = np.quantile(np.concatenate(list(residuals.values())), [0.005, 0.995])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    shares = {name: np.histogram(values, edges)[0] / len(values) for name, values in residuals.items()}
    return {
        "scatter": {"predicted": rounded(ours[some], 4), "actual": rounded(label[some], 4)},
        "bins": _bins(label, ours),
        "residuals": {
            "edges": rounded(edges),
            "shares": {name: rounded(found, 4) for name, found in shares.items()},
            "outside": {name: rounded(1 - found.sum(), 4) for name, found in shares.items()},
        },
    }


def score_curves(label: NDArray[Any], predictions: Mapping[str, Floats], points: int = POINTS) -> dict[str, Any]:
    """ROC, precision over recall, and calibration, by model.

    Args:
        label: 0 or 1.
        predictions: Probabilities of 1, by model.
        points: Most points of a curve.

    Returns:
        `roc` and `precision_recall` are empty where only one class occurs: they are not defined then.
    """
    positives = int(label.sum())
    defined = 0 < positives < len(label)
    return {
        "positives": positives,
        "roc": {name: _roc(label, values, points) for name, values in predictions.items()} if defined else {},
        "precision_recall": {name: _pr(label, values, points) for name, values in predictions.items()}
        if defined
        else {},
        "calibration": {name: _bins(label, values) for name, values in predictions.items()},
    }


def class_curves(label: NDArray[Any], probability: Floats, classes: list[str]) -> dict[str, Any]:
    """The same for one model of several classes: each of the most frequent ones against the rest."""
    import numpy as np

    seen = np.bincount(label.astype(np.int64), minlength=len(classes))
    first = sorted(range(len(classes)), key=lambda index: (-seen[index], index))[:CLASSES]
    found = {classes[index]: score_curves(label == index, {"": probability[:, index]}, POINTS // 2) for index in first}
    return {
        "rows_by_class": {classes[index]: int(seen[index]) for index in first},
        **{
            kind: {name: curves[kind][""] for name, curves in found.items() if "" in curves[kind]}
            for kind in ("roc", "precision_recall", "calibration")
        },
    }


def confusion(label: NDArray[Any], decided: NDArray[Any], classes: list[str]) -> dict[str, Any]:
    """Rows by actual and decided class; of many classes the rarer ones are one.

    Returns:
        `classes`, and `rows`: a list per actual class.
    """
    import numpy as np

    seen = np.bincount(label.astype(np.int64), minlength=len(classes))
    names, place = list(classes), np.arange(len(classes))
    if len(classes) > MATRIX_CLASSES:
        kept = sorted(np.argsort(-seen, kind="stable")[: MATRIX_CLASSES - 1])
        place = np.full(len(classes), len(kept))
        place[kept] = np.arange(len(kept))
        names = [*[classes[index] for index in kept], f"{len(classes) - len(kept)} others"]
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (place[label.astype(np.int64)], place[decided.astype(np.int64)]), 1)
    return {"classes": names, "rows": matrix.tolist()}


def _roc(label: NDArray[Any], probability: Floats, points: int) -> dict[str, Any]:
    import numpy as np

    _, cut, hits = threshold_steps(label.astype(np.float64), probability)
    positives = float(label.sum())
    false, true = np.append(0.0, (cut - hits) / (len(label) - positives)), np.append(0.0, hits / positives)
    some = thinned(len(false), points)
    return {"x": rounded(false[some], 4), "y": rounded(true[some], 4)}


def _pr(label: NDArray[Any], probability: Floats, points: int) -> dict[str, Any]:
    import numpy as np

    _, cut, hits = threshold_steps(label.astype(np.float64), probability)
    some = thinned(len(cut), points)
    return {"x": rounded((hits / float(label.sum()))[some], 4), "y": rounded((hits / cut)[some], 4)}


def _bins(label: NDArray[Any], prediction: Floats) -> dict[str, Any]:
    """Ten groups of equally many rows by prediction: mean prediction, mean label, and rows. Equal predictions stay together."""
    import numpy as np

    edges = np.unique(np.quantile(prediction, np.linspace(0, 1, BINS + 1)[1:-1]))
    group = np.searchsorted(edges, prediction, side="left")
    rows = np.bincount(group, minlength=len(edges) + 1)
    there = rows > 0
    predicted = np.bincount(group, prediction, len(rows))[there] / rows[there]
    actual = np.bincount(group, label, len(rows))[there] / rows[there]
    return {"x": rounded(predicted, 4), "y": rounded(actual, 4), "rows": rows[there].tolist()}
