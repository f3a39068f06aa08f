"""What changed in the train rows since the champion learnt: nulls, categories, and a drift score per feature.

The score is the population stability index (PSI): the sum over bins of (q - p) · ln(q / p), where p is a bin's share of
the champion's rows and q its share of these. Bins are the tenths of the champion's numbers and what lies below all of
them, or its most frequent categories and all others; what is missing is a bin of its own. By custom 0.1 is a small
change and 0.25 a large one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boostline.reporting.curves import rounded
from boostline.reporting.rows import TrainRows
from boostline.reporting.text import shortened
from boostline.scoring.model_file import ModelInfo
from boostline.transform import Transform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TENTHS, TOP_CATEGORIES = 10, 20
"""Bins of a number and of a category."""
FEATURES, NAMED, NAME_CHARACTERS = 50, 5, 40
"""Most features that are told of, most new or lost categories that are named, and most characters of a name."""
SMALL, LARGE = 0.1, 0.25
SMOOTH = 0.5
"""Rows that every bin has beside its own, so that an empty one has a logarithm."""


def changes(before: TrainRows | None, now: TrainRows, champion: ModelInfo | None) -> dict[str, Any]:
    """Compare the train rows of this run with those of the champion.

    Args:
        before: The champion's; none where there is no champion to compare with.
        now: This run's.
        champion: What its model.json says.

    Returns:
        Empty where there is no champion. Else `date` and `rows` of the champion and of now; `gone`: whether the
        champion's rows are not in the lake any more; `features`, the largest score first: `feature`, `score` (none
        where it cannot be computed), `nulls` before and now, `new` and `lost` categories with their number.
    """
    if before is None or champion is None:
        return {}
    found = []
    for name in now.transform.names:
        item: dict[str, Any] = {"feature": name, "score": None, "note": None if name in champion.features else "new"}
        if before.features is not None and _comparable(name, before.transform, now.transform):
            item["score"] = rounded(_psi(*_shares(name, before, now)), 4)
        item["nulls"] = {side: rows.null_shares.get(name) for side, rows in (("before", before), ("now", now))}
        found.append(item | _categories(name, before.transform, now.transform))
    found.sort(key=lambda item: (-(item["score"] or 0), item["feature"]))
    return {
        "date": champion.date,
        "rows": {"before": before.rows, "now": now.rows},
        "gone": before.features is None,
        "lost_features": [name for name in champion.features if name not in now.transform.names],
        "features": found[:FEATURES],
    }


def _categories(name: str, before: Transform, now: Transform) -> dict[str, Any]:
    """Categories that only one of the sides knows."""
    theirs, ours = before.categorical.get(name), now.categorical.get(name)
    if theirs is None or ours is None:
        return {"new": [], "lost": [], "new_count": 0, "lost_count": 0}
    new, lost = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    named = [[shortened(value, NAME_CHARACTERS) for value in side[:NAMED]] for side in (new, lost)]
    return {"new": named[0], "lost": named[1], "new_count": len(new), "lost_count": len(lost)}


def _comparable(name: str, before: Transform, now: Transform) -> bool:
    """Whether both sides have the feature, as the same kind."""
    return name in before.names and (name in before.categorical) == (name in now.categorical)


def _shares(name: str, before: TrainRows, now: TrainRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many rows each bin has, before and now; the last bin is what is missing."""
    import numpy as np

    bins_of = _category_bins if name in now.transform.categorical else _number_bins
    theirs, ours, bins = bins_of(name, before, now)
    before_rows, now_rows = (np.bincount(side, minlength=bins).astype(np.float64) for side in (theirs, ours))
    return before_rows, now_rows


def _number_bins(name: str, before: TrainRows, now: TrainRows) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Each row's bin, before and now, and how many bins there are: tenths of the champion's numbers."""
    import numpy as np

    theirs, ours = (rows.features.column(name).to_numpy().astype(np.float64) for rows in (before, now))
    known = theirs[np.isfinite(theirs)]
    edges = np.empty(0)
    if len(known):
        # What lies below the champion's smallest is a bin of its own: the lowest tenths may hold that one value only.
        below = np.nextafter(known.min(), -np.inf)
        edges = np.unique([below, *np.quantile(known, np.linspace(0, 1, TENTHS + 1)[1:-1])])
    missing = len(edges) + 1
    theirs, ours = (
        np.where(np.isfinite(side), np.searchsorted(edges, side, side="left"), missing) for side in (theirs, ours)
    )
    return theirs, ours, missing + 1


def _category_bins(name: str, before: TrainRows, now: TrainRows) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """The same: the champion's most frequent categories, all others, what is missing."""
    import numpy as np

    values = before.transform.categorical[name]
    theirs = before.features.column(name).fill_null(len(values)).to_numpy()
    seen = np.bincount(theirs, minlength=len(values) + 1)[:-1]
    top = {values[code]: place for place, code in enumerate(np.argsort(-seen, kind="stable")[:TOP_CATEGORIES].tolist())}
    sides = []
    for rows in (before, now):
        known = rows.transform.categorical[name]
        places = np.array([*[top.get(value, TOP_CATEGORIES) for value in known], TOP_CATEGORIES + 1], np.int64)
        sides.append(places[rows.features.column(name).fill_null(len(known)).to_numpy()])
    return sides[0], sides[1], TOP_CATEGORIES + 2


def _psi(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    import numpy as np

    used = (before > 0) | (now > 0)
    p, q = before[used] + SMOOTH, now[used] + SMOOTH
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())
