"""The gate's comparison: candidate, baseline and champion on the same test rows.

A champion is loaded from its attempt in the lake, which its version names in the tag `boostline.attempt`, and not from
MLflow's copy: the attempt is what the manifest's hashes describe, it is read in one round without importing MLflow, and
the SHA-256 that MLflow holds of it is a second witness. So maintenance keeps attempts that a version names.
"""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

from boostline.dataset import Dataset
from boostline.errors import DataInvalid
from boostline.lake.arrow import read_parquet
from boostline.lake.features import LABEL, test_raw_keys
from boostline.lake.manifest import Manifest, Ref, read_ref
from boostline.lake.store import Store
from boostline.metrics import PER_CLASS, Metrics, evaluate
from boostline.registry.gate import decide
from boostline.registry.leakage import why_known
from boostline.registry.moves import is_settled
from boostline.registry.versions import CHAMPION, date_of, load_version, verdict_of
from boostline.scoring.contract import other_contract
from boostline.scoring.engine import allowed_threads
from boostline.scoring.model_file import Model
from boostline.settings import Settings
from boostline.tracking import TAG, Version, tracking

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def judge(
    store: Store,
    settings: Settings,
    dataset: Dataset,
    day: date,
    *,
    model: Ref,
    baseline: Ref,
    features: Ref,
    publish: bool = True,
) -> dict[str, Any]:
    """Judge a candidate, and record the verdict with its version (or its run, for an experiment's own model).

    An experiment that changes nothing that the model depends on judges the published version, and leaves it as it is.

    A candidate that has been champion before, judged by the same rules against the same baseline, gets the verdict that
    was recorded then: a repeat of a finished run changes nothing. See `is_settled` for when it is judged anew.

    Rows of a class that the candidate never saw in training are told among the reasons, and change no verdict.

    Args:
        store: The lake.
        settings: MLflow's address, threads.
        dataset: Gives the gate's rules.
        day: The data date.
        model: The candidate's manifest.
        baseline: The baseline's, on the same features.
        features: Of the same date; their raw test rows are what the champion is scored on.
        publish: False for an experiment.

    Returns:
        `{"passed", "reasons", "champion", "candidate"}`; champion: `{"version", "date", "metrics"}` on these test rows
        (metrics none where it was not compared), or none where there is no champion. Metrics are without those by
        class, since MLflow keeps at most 100,000 characters of them.

    Raises:
        ModelRefused: The champion's files are gone, or do not match their SHA-256.
        ServiceUnavailable: MLflow does not answer.
    """
    candidate, rival, rows = read_ref(store, model), read_ref(store, baseline), read_ref(store, features)
    tracked, metrics = candidate.details["mlflow"], _of_all_classes(candidate.details["metrics"]["test"])
    # Rules and baseline are part of what is recorded, so that changed ones are judged anew.
    basis = {"gate": dataset.gate.model_dump(), "baseline": baseline.identity}
    with tracking(settings) as mlflow:
        own = mlflow.version(dataset.name, tracked["version"]) if tracked["version"] else None
        champion = mlflow.aliased(dataset.name, CHAMPION)
        recorded = verdict_of(own) if own and is_settled(own, champion) else None
        if recorded and recorded["basis"] == basis:
            verdict: dict[str, Any] = recorded["verdict"]
            return verdict
        if champion and own and champion.version == own.version:
            compared, notes = None, [f"version {own.version} is the champion itself, so the baseline alone was to beat"]
        else:
            compared, notes = _score_champion(store, settings, dataset, day, champion, rows)
        decision = decide(metrics, rival.details["metrics"]["test"], compared, dataset.gate, candidate.rows["test"])
        verdict = {
            "passed": decision.passed,
            "reasons": [*decision.reasons, *notes, *_never_seen(candidate, rows)],
            "champion": champion and _champion(champion, compared),
            "candidate": {"version": tracked["version"], "metrics": metrics},
        }
        if own and publish:
            text = json.dumps({"basis": basis, "verdict": verdict})
            mlflow.tag_version(dataset.name, own.version, {TAG + "verdict": text})
        elif not tracked["version"]:
            text = json.dumps({key: verdict[key] for key in ("passed", "reasons")})
            mlflow.tag_run(tracked["run_id"], TAG + "verdict", text)
        return verdict


def _score_champion(
    store: Store, settings: Settings, dataset: Dataset, day: date, champion: Version | None, features: Manifest
) -> tuple[Metrics | None, list[str]]:
    """The champion's metrics on this date's raw test rows, or none; and why none, or what they leave out."""
    if champion is None:
        return None, ["there is no champion yet, so the baseline alone was to beat"]
    name, learnt = f"the champion, version {champion.version}", date_of(champion)
    if learnt > day.isoformat():
        return None, [f"{name}, was not compared: its data date {learnt} is later, so it may know these test rows"]
    model = load_version(store, champion)
    if model.info.task != dataset.task:
        return None, [f"{name}, was not compared: its task is {model.info.task}, this one's is {dataset.task}"]
    if known := why_known(model.info.split, date.fromisoformat(learnt), dataset, day):
        return None, [f"{name}, was not compared: {known}, so it may know these test rows"]
    if differs := other_contract(model, dataset):
        return None, [f"{name}, was not compared: it {differs}"]
    raw, model = read_parquet(store, test_raw_keys(features)), model.for_clean_rows()
    classes = tuple(str(item) for item in features.details.get("classes") or ())
    try:
        prediction = predict_in_order(model, raw.drop_columns([LABEL]), classes, allowed_threads(settings.threads))
    except DataInvalid as error:
        return None, [f"{name}, was not compared: it cannot score these rows: {error.message}"]
    threshold = threshold_in_order(model, classes)
    label = raw.column(LABEL).to_numpy()
    metrics = _of_all_classes(evaluate(dataset.task, label, prediction, threshold=threshold, classes=classes))
    lost = [item for item in model.info.classes if item not in classes] if dataset.task == "multiclass" else []
    return metrics, [f"{name}, knows classes that the candidate never saw in training: {_listed(lost)}"] if lost else []


def _never_seen(candidate: Manifest, features: Manifest) -> list[str]:
    """What the metrics cannot say of classes that no train row has.

    Test rows of a class that the dataset file names count all the same. Those of others have no index, so featurize left
    them out.
    """
    train, test = (candidate.details["metrics"][split].get(PER_CLASS, {}) for split in ("train", "test"))
    lost = [name for name, each in train.items() if not each["rows"] and test[name]["rows"]]
    told, dropped = list[str](), features.rows.get("unseen_class", 0)
    if lost:
        rows = sum(test[name]["rows"] for name in lost)
        told.append(f"{rows:,} test rows are of classes that the candidate never saw in training: {_listed(lost)}")
    if dropped:
        told.append(
            f"{dropped:,} rows for valid and test are of classes that the candidate never saw in training; they were left "
            "out, and nothing was measured on them"
        )
    return told


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def predict_in_order(model: Model, raw: Any, classes: tuple[str, ...], threads: int) -> NDArray[np.float64]:
    """A model's predictions by the order of `classes`: of the second of two; of several 0 for one that it does not know.

    Args:
        model: Any version's.
        raw: `pyarrow.Table` of rows as the model takes them.
        classes: The classes of the rows' date, in order.
        threads: For XGBoost.

    Raises:
        DataInvalid: The model cannot score these rows, or tells two other classes apart.
    """
    import numpy as np

    prediction = model.predict(raw, threads)
    if model.info.task == "binary":
        return 1 - prediction if _is_reversed(model, classes) else prediction
    if model.info.task != "multiclass":
        return prediction
    found = np.zeros((len(prediction), len(classes)))
    for index, name in enumerate(classes):
        if name in model.info.classes:
            found[:, index] = prediction[:, model.info.classes.index(name)]
    return found


def threshold_in_order(model: Model, classes: tuple[str, ...]) -> float:
    """The decision threshold that belongs to the predictions of `predict_in_order`."""
    found = model.info.decision_threshold
    return 1 - found if model.info.task == "binary" and _is_reversed(model, classes) else found


def _is_reversed(model: Model, classes: tuple[str, ...]) -> bool:
    """Whether a binary model's positive class is the negative one by `classes`."""
    known, wanted = model.info.classes, list(classes) or ["0", "1"]
    if sorted(known) != sorted(wanted):
        raise DataInvalid(f"its classes are {', '.join(known)}, those of the rows are {', '.join(wanted)}")
    return known != wanted


def _of_all_classes(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if name != PER_CLASS}


def _champion(version: Version, metrics: Metrics | None) -> dict[str, Any]:
    return {"version": version.version, "date": date_of(version), "metrics": metrics}
