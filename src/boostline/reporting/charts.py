"""The report's charts, each from its part of the evaluation and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from boostline.reporting import drawing
from boostline.reporting.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, Chart, Series
from boostline.reporting.drift import LARGE, SMALL
from boostline.reporting.text import label_unit, metric_name, number, share

WORST, DRIFTED = 15, 15
_CLASS_LOOKS = [
    (BLUE, "solid"), (VERMILION, "dashed"), (GREEN, "dotted"), (PURPLE, "dotdash"), (ORANGE, "solid"), (SKY, "dashed"),
]  # fmt: skip
_RANK_COLOURS = [BLUE, "#3A7D85", "#738859", "#AD942C", ORANGE]
"""From a low to a high value of a feature; lightness grows with it."""


def charts(evaluation: Mapping[str, Any], models: Mapping[str, str]) -> dict[str, Chart]:
    """Every chart that the data allows, by key.

    Args:
        evaluation: What `evaluation.evaluation` gives.
        models: What to call `candidate`, `baseline` and `champion`.
    """
    looks = {"candidate": (BLUE, "solid", "circle"), "baseline": (VERMILION, "dashed", "square"),
             "champion": (GREEN, "dotted", "triangle")}  # fmt: skip
    series = {name: Series(models[name], *looks[name]) for name in models}
    found = [_learning(evaluation)]
    curves = evaluation["curves"]
    if evaluation["task"] == "regression":
        found += [_scatter(evaluation), _residuals(evaluation, series)]
    else:
        if evaluation["task"] == "multiclass":
            shown = dict.fromkeys(kind for name in ("calibration", "roc") for kind in curves[name])
            series = {
                name: Series(f"{name}, {number(curves['rows_by_class'][name])} rows", *look)
                for name, look in zip(shown, _CLASS_LOOKS, strict=False)
            }
        found += list(_score_charts(evaluation, series))
    found += list(_slice_charts(evaluation, {name: Series(models[name], *looks[name]) for name in models}))
    found.append(_shap_points(evaluation) if "points" in evaluation["shap"] else _shap_classes(evaluation))
    if any(item["score"] is not None for item in evaluation["changes"].get("features", [])):
        found.append(_drift(evaluation))
    return {chart.key: chart for chart in found}


def _rows(evaluation: Mapping[str, Any]) -> str:
    """The rows that a chart is about."""
    test = evaluation["test"]
    some = "" if test["measured"] == test["rows"] else f" drawn from {number(test['rows'])}"
    return f"{number(test['measured'])} test {test['noun']}{some}"


def _learning(evaluation: Mapping[str, Any]) -> Chart:
    curve = evaluation["learning_curve"]
    name, rounds, best = metric_name(curve["metric"]), curve["rounds"], curve["best"]
    on = drawing.plot("round", name + label_unit(curve["metric"], evaluation))
    train, valid = Series("train", BLUE), Series("valid", VERMILION, "dashed")
    drawing.line(on, train, rounds, curve["train"])
    drawing.line(on, valid, rounds, curve["valid"])
    values = [value for split in ("train", "valid") for value in curve[split] if value is not None]
    drawing.reference(on, [best, best], [min(values), max(values)])
    drawing.tooltips(on, round="@x", value="@y")
    at_best = number(curve["valid"][rounds.index(best)])
    if curve["kept"] > best:
        ends = f"all {number(curve['kept'])} rounds were kept"
    elif curve["trained"] > best:
        ends = f"the model ends there. Training went on to round {number(curve['trained'])}"
    else:
        ends = "the model ends there. It is the last one"
    about = (
        f"{name}{label_unit(curve['metric'], evaluation)} after each round, on the train and on the valid rows. The valid "
        f"rows are best at round {number(best)} (dotted line), with {at_best}; {ends}."
    )
    return drawing.finished("learning", "Learning curve", about, [train, valid], on)


def _scatter(evaluation: Mapping[str, Any]) -> Chart:
    points, bins = evaluation["curves"]["scatter"], evaluation["curves"]["bins"]
    unit = f" ({evaluation['test']['unit']})" if evaluation["test"]["unit"] else ""
    on = drawing.plot(f"predicted{unit}", f"actual{unit}")
    single, mean = Series("single rows", BLUE), Series("mean of a tenth", VERMILION, "dashed", "square")
    on.scatter(points["predicted"], points["actual"], color=BLUE, size=5, alpha=0.5, line_color=None)
    drawing.line(on, mean, bins["x"], bins["y"], points=True, rows=bins["rows"])
    both = [*points["predicted"], *bins["x"]]
    drawing.reference(on, [min(both), max(both)], [min(both), max(both)])
    drawing.tooltips(on, predicted="@x", actual="@y")
    worst = max(zip(bins["x"], bins["y"], strict=True), key=lambda pair: abs(pair[0] - pair[1]))
    about = (
        f"Actual over predicted{unit}: {number(len(points['actual']))} of {_rows(evaluation)}, and the mean of each tenth of "
        f"them by prediction. On the dotted line both are equal. The tenth that is furthest off has {number(worst[0])} "
        f"predicted and {number(worst[1])} actual on average."
    )
    return drawing.finished("scatter", "Predicted against actual", about, [single, mean], on)


def _residuals(evaluation: Mapping[str, Any], series: Mapping[str, Series]) -> Chart:
    found, test = evaluation["curves"]["residuals"], evaluation["test"]
    unit = f" ({test['unit']})" if test["unit"] else ""
    on = drawing.plot(f"actual minus predicted{unit}", "share of rows")
    edges, shown = found["edges"], [series[name] for name in found["shares"]]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    for look, shares in zip(shown, found["shares"].values(), strict=True):
        drawing.line(on, look, middles, shares)
    highest = max(max(shares) for shares in found["shares"].values())
    drawing.reference(on, [0, 0], [0, highest])
    drawing.tooltips(on, residual="@x", share="@y{0.0%}")
    about = (
        f"How often actual minus predicted{unit} has which size, on {_rows(evaluation)}; right of 0 the prediction was too low. "
        f"Shown are the bins from {number(edges[0])} to {number(edges[-1])}; of XGBoost's rows "
        f"{share(found['outside']['candidate'])} lie beyond."
    )
    return drawing.finished("residuals", "Residuals", about, shown, on)


def _score_charts(evaluation: Mapping[str, Any], series: Mapping[str, Series]) -> Iterator[Chart]:
    curves, rows = evaluation["curves"], _rows(evaluation)
    several = evaluation["task"] == "multiclass"
    whose = (
        "of XGBoost, each class against the rest"
        if several
        else f"of each model, for {evaluation['label']} = {evaluation['classes'][-1]}"
    )
    kinds = (
        ("roc", "ROC", "share of false alarms", "share found",
         "of the rows of the class the share that is found, over the share of the others that is taken for it, as the "
         "decision threshold falls. Chance is the dotted line; further up and left is better"),
        ("precision_recall", "Precision and recall", "recall", "precision",
         "of the rows that are taken for the class the share that is right, over the share of the class that is found. "
         "Further up and right is better"),
        ("calibration", "Calibration", "predicted probability", "share that came true",
         "the mean predicted probability of each tenth of the rows, and the share of them that is of the class. On the "
         "dotted line a probability means what it says"),
    )  # fmt: skip
    for key, title, x_label, y_label, meaning in kinds:
        shown = [name for name in curves[key] if name in series]
        if not shown:
            continue
        on = drawing.plot(x_label, y_label, x_range=(-0.01, 1.01), y_range=(-0.01, 1.03))
        for name in shown:
            found = curves[key][name]
            extra = {"rows": found["rows"]} if "rows" in found else {}
            drawing.line(on, series[name], found["x"], found["y"], points=bool(extra), **extra)
        if key != "precision_recall":
            drawing.reference(on, [0, 1], [0, 1])
        drawing.tooltips(on, **{x_label: "@x", y_label: "@y"}, **({"rows": "@rows"} if key == "calibration" else {}))
        about = f"{title} {whose}, on {rows} (shares of 1): {meaning}.{_said(key, evaluation)}"
        yield drawing.finished(key, title, about, [series[name] for name in shown], on)


def _said(key: str, evaluation: Mapping[str, Any]) -> str:
    """What a curve comes to, as one figure by model."""
    metric = {"roc": "auc", "precision_recall": "pr_auc"}.get(key)
    row = next((row for row in evaluation["comparison"]["metrics"] if row["metric"] == metric), None)
    value = row and row["models"]["candidate"]["value"]
    return "" if value is None else f" XGBoost's {metric_name(str(metric))} is {number(value)}."


def _slice_charts(evaluation: Mapping[str, Any], series: Mapping[str, Series]) -> Iterator[Chart]:
    found = evaluation["slices"]
    name = metric_name(found["metric"]) + label_unit(found["metric"], evaluation)
    shown = [series[model] for model in found["all"]]
    whole = found["all"]["candidate"]["value"]
    if worst := found["items"][:WORST]:
        on = drawing.plot(name, "", height=drawing.rows_height(len(worst)))
        drawing.name_rows(on, [f"{item['feature']} = {item['value']}" for item in worst])
        for offset, model in zip((0.22, 0.0, -0.22), found["all"], strict=False):
            at = [len(worst) - 1 - index + offset for index in range(len(worst))]
            drawing.whiskers(on, series[model], at, [item["errors"][model] for item in worst], across=True)
        drawing.reference(on, [whole, whole], [-0.7, len(worst) - 0.3])
        drawing.tooltips(on, value="@value", low="@low", high="@high")
        first = worst[0]
        about = (
            f"{name} of the slices of {_rows(evaluation)} where XGBoost errs most, with intervals of 95%; slices of fewer than "
            f"{number(found['minimum_rows'])} rows are left out. The dotted line is XGBoost on all rows, {number(whole)}. The worst: "
            f"{first['feature']} = {first['value']}, {number(first['errors']['candidate']['value'])} on {number(first['rows'])} rows."
        )
        yield drawing.finished("slices", "Slices with the largest error", about, shown, on)
    if len(found["time"]) > 1:
        yield _time(evaluation, series, name)


def _time(evaluation: Mapping[str, Any], series: Mapping[str, Series], name: str) -> Chart:
    from datetime import date

    found = evaluation["slices"]
    on = drawing.plot("date", name, x_axis_type="datetime")
    items = found["time"]
    # Bokeh counts milliseconds; a month stands at its first day.
    epoch = date(1970, 1, 1)
    at = [(date.fromisoformat((item["value"] + "-01")[:10]) - epoch).days * 86_400_000 for item in items]
    step = (at[1] - at[0]) / 8  # beside each other, so that none hides another
    for place, model in enumerate(found["all"]):
        beside = [day + (place - 1) * step for day in at]
        drawing.whiskers(on, series[model], beside, [item["errors"][model] for item in items], across=False)
    drawing.tooltips(on, value="@value", low="@low", high="@high")
    worst = max(items, key=lambda item: float(item["errors"]["candidate"]["value"]))
    about = (
        f"{name} by data date, with intervals of 95%, on {_rows(evaluation)}. XGBoost's largest: "
        f"{number(worst['errors']['candidate']['value'])} on {worst['value']}, {number(worst['rows'])} rows."
    )
    return drawing.finished("time", "Error by date", about, [series[model] for model in found["all"]], on)


def _shap_points(evaluation: Mapping[str, Any]) -> Chart:
    found = evaluation["shap"]
    on = drawing.plot(
        f"added to the prediction ({found['unit']})", "", height=drawing.rows_height(len(found["features"]))
    )
    drawing.name_rows(on, found["features"])
    by_colour: dict[str, tuple[list[float], list[float]]] = {}
    for index, points in enumerate(found["points"]):
        place, ranks = len(found["features"]) - 1 - index, points["rank"] or [None] * len(points["shap"])
        for step, (value, rank) in enumerate(zip(points["shap"], ranks, strict=True)):
            colour = GREY if rank is None else _RANK_COLOURS[min(4, int(rank * 5))]
            x, y = by_colour.setdefault(colour, ([], []))
            x.append(value)
            # Golden-section steps spread the points of a row evenly, without chance.
            y.append(round(place + ((step * 0.618) % 1 - 0.5) * 0.6, 2))
    for colour, (x, y) in by_colour.items():
        on.scatter(x, y, color=colour, size=5, alpha=0.75, line_color=None)
    drawing.reference(on, [0, 0], [-0.7, len(found["features"]) - 0.3])
    legend = [Series("low value", BLUE), Series("high value", ORANGE), Series("category or missing", GREY)]
    about = (
        f"What each feature added to the prediction ({found['unit']}), a point for each of {number(found['rows'])} test rows, evenly "
        f"spread; SHAP values. The features that move predictions most stand first: {', '.join(found['features'][:3])}."
    )
    return drawing.finished("shap", "What moves the predictions", about, legend, on)


def _shap_classes(evaluation: Mapping[str, Any]) -> Chart:
    found = evaluation["shap"]
    on = drawing.plot(f"mean |SHAP| ({found['unit']})", "", height=drawing.rows_height(len(found["features"])))
    drawing.name_rows(on, found["features"])
    series = list[Series]()
    for (name, sizes), (colour, _) in zip(found["by_class"].items(), _CLASS_LOOKS, strict=False):
        marker = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex")[len(series)]
        series.append(Series(name, colour, marker=marker))
        at = [len(sizes) - 1 - index for index in range(len(sizes))]
        on.scatter(sizes, at, color=colour, marker=marker, size=9)
    about = (
        f"How much each feature moves the score of each class on average ({found['unit']}): mean |SHAP| of {number(found['rows'])} test "
        f"rows. The features that move most stand first: {', '.join(found['features'][:3])}."
    )
    return drawing.finished("shap", "What moves the predictions, by class", about, series, on)


def _drift(evaluation: Mapping[str, Any]) -> Chart:
    found = evaluation["changes"]
    items = [item for item in found["features"] if item["score"] is not None][:DRIFTED]
    on = drawing.plot("population stability index", "", height=drawing.rows_height(len(items)))
    drawing.name_rows(on, [item["feature"] for item in items])
    at = [len(items) - 1 - index for index in range(len(items))]
    on.hbar(y=at, right=[item["score"] for item in items], height=0.6, color=BLUE)
    on.x_range.start = 0
    for level in (SMALL, LARGE):
        drawing.reference(on, [level, level], [-0.7, len(items) - 0.3])
    large = [item["feature"] for item in items if item["score"] >= LARGE]
    about = (
        f"Population stability index of each feature (no unit): {number(found['rows']['now'].get('train', 0))} train rows now against "
        f"{number(found['rows']['before'].get('train', 0))} of the champion of {found['date']}. Dotted: {SMALL} (small) and {LARGE} "
        f"(large). Large here: {', '.join(large) or 'none'}."
    )
    return drawing.finished("drift", "Drift since the champion", about, [], on)
