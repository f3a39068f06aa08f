"""The Python tasks of a run: train, gate, promote, report. Heavy libraries are imported when a task runs."""

from __future__ import annotations

import json
import logging
import resource
import time
from typing import Any

from boostline.errors import Outdated
from boostline.lake.manifest import Ref, read_current, read_ref, ref_of
from boostline.lake.plan import load_window, plan_stage
from boostline.lake.store import Store
from boostline.orchestration.failures import airflow_errors
from boostline.orchestration.links import approval_address
from boostline.orchestration.run import Run, new_attempt, resolve_run
from boostline.orchestration.spark_job import pull, refs_of
from boostline.settings import Settings

REPORTED = ("ingest", "featurize", "baseline", "train", "gate", "promote")
"""The tasks that a report tells of."""

log = logging.getLogger(__name__)


def train(dataset: str, **context: Any) -> dict[str, Any]:
    """Train XGBoost on the features that featurize handed on, unless a model of exactly these is there.

    A run that publishes needs its version too: one that somebody deleted in MLflow is trained and registered anew.

    Returns:
        `{"refs", "ran", "seconds", "peak_memory_bytes", "mlflow_run"}`.
    """
    with airflow_errors():
        started = time.monotonic()
        settings, store, run = _start(dataset, context)
        features = refs_of(pull(context, "featurize"))[0]
        plan = plan_stage(store, "model", run.dataset, run.day, {"features": features}, publish=run.publish)
        from boostline.registry.versions import is_registered

        ref = plan.current
        if ref and run.publish and not is_registered(store, settings, ref):
            log.warning("MLflow has the version of attempt %s no more: training again", ref.attempt)
            ref = None
        ran = ref is None
        if ref:
            log.info("Up to date: attempt %s", ref.attempt)
        else:
            from boostline.training.train import train_model

            ref = train_model(
                store,
                settings,
                run.dataset,
                features=features,
                target=plan.target,
                attempt=new_attempt(run, context["ti"].try_number),
                publish=run.publish,
                tags={"airflow_run_id": run.run_id, "changes": json.dumps(run.changes)},
            )
        tracked = read_ref(store, ref).details["mlflow"]["run_id"]
        return _handed([ref], ran=ran, started=started) | {"mlflow_run": tracked}


def gate(dataset: str, **context: Any) -> dict[str, Any]:
    """Judge the candidate against the baseline and the champion. A no is an answer, not a failure.

    Returns:
        `{"passed", "reasons", "champion", "seconds", "peak_memory_bytes"}`.
    """
    with airflow_errors():
        started = time.monotonic()
        settings, store, run = _start(dataset, context)
        verdict = _judge(settings, store, run, context)
        log.info("The gate says %s", "yes" if verdict["passed"] else "no")
        for reason in verdict["reasons"]:
            log.info("  %s", reason)
        return verdict | _cost(started)


def promote(dataset: str, **context: Any) -> dict[str, Any]:
    """Move the alias `champion` to the candidate where gate, date and dataset allow it.

    The gate is asked again where another version has become champion since: this task alone runs one at a time.

    Returns:
        `{"promoted", "reason", "seconds", "peak_memory_bytes"}`; where a person has to approve first, `approval` too:
        `{"version", "dag_id", "run_id", "address"}`; where the gate was asked again, what it said: `verdict`.
    """
    with airflow_errors():
        started = time.monotonic()
        settings, store, run = _start(dataset, context)
        verdict = pull(context, "gate")
        outcome: dict[str, Any]
        if not run.publish:
            outcome = {"promoted": False, "reason": "an experiment is not promoted; tick publish in the form"}
        elif not verdict["passed"]:
            outcome = {"promoted": False, "reason": "the gate said no"}
        else:
            outcome = _promote(settings, store, run, verdict, context)
            if version := outcome.pop("waits", None):
                outcome |= _asked_where(dataset, version)
        log.info("%s: %s", "Promoted" if outcome["promoted"] else "Not promoted", outcome["reason"])
        return outcome | _cost(started)


def report(dataset: str, **context: Any) -> dict[str, Any]:
    """Write what a person reads about the run, and the same as JSON.

    Returns:
        `{"refs", "report", "result", "ran", "seconds", …}`; `report` and `result` are addresses in the lake.
    """
    with airflow_errors():
        started = time.monotonic()
        settings, store, run = _start(dataset, context)
        handed = {name: pull(context, name) for name in REPORTED}
        handed["gate"] |= handed["promote"].get("verdict", {})
        return publish_report(settings, store, run, handed, context["ti"].try_number) | _cost(started)


def publish_report(
    settings: Settings, store: Store, run: Run, handed: dict[str, Any], try_number: int
) -> dict[str, Any]:
    """Write the report of a run, unless one of exactly these facts is there.

    Args:
        settings: MLflow's address.
        store: The lake.
        run: The training run.
        handed: What each of its tasks handed on, by `REPORTED` name.
        try_number: For the attempt's name.

    Returns:
        `{"refs", "ran", "report", "result"}`.
    """
    model, baseline, features = (refs_of(handed[name])[0] for name in ("train", "baseline", "featurize"))
    decision = {"gate": _timeless(handed["gate"]), "promote": _timeless(handed["promote"])}
    reads = {
        "model": model,
        "baseline": baseline,
        "window": handed["ingest"]["window"],
        "decision": json.dumps(decision, sort_keys=True),
    }
    plan = plan_stage(store, "report", run.dataset, run.day, reads, publish=run.publish)
    from boostline.reporting.report import RunFacts, report_keys, write_report

    ref = plan.current
    if ref is None:
        facts = RunFacts(
            dataset=run.dataset,
            day=run.day,
            run_id=run.run_id,
            changes=run.changes,
            publish=run.publish,
            window=load_window(store, handed["ingest"]["window"]),
            features=features,
            baseline=baseline,
            model=model,
            verdict=_timeless(handed["gate"]),
            promotion=_timeless(handed["promote"]),
            seconds={name: value["seconds"] for name, value in handed.items()},
            memory={k: value["peak_memory_bytes"] for k, value in handed.items() if "peak_memory_bytes" in value},
            spark={name: value["spark"] for name, value in handed.items() if value.get("spark")},
        )
        ref = write_report(store, settings, facts, plan.target, new_attempt(run, try_number))
    page, result = report_keys(ref)
    log.info("Report: %s", store.uri(page))
    return {
        "refs": [ref.model_dump()],
        "ran": plan.current is None,
        "report": store.uri(page),
        "result": store.uri(result),
    }


def fail_invalid(message: str, **_: Any) -> None:
    """The one task of a dataset whose file is wrong: fails with what is wrong."""
    from airflow.sdk.exceptions import AirflowFailException

    raise AirflowFailException(message)


def _start(dataset: str, context: Any) -> tuple[Settings, Store, Run]:
    settings = Settings()
    return settings, Store(settings), resolve_run(context, dataset, settings)


def _judge(settings: Settings, store: Store, run: Run, context: Any) -> dict[str, Any]:
    from boostline.registry.compare import judge

    return judge(
        store,
        settings,
        run.dataset,
        run.day,
        model=_candidate(store, run, context),
        baseline=refs_of(pull(context, "baseline"))[0],
        features=refs_of(pull(context, "featurize"))[0],
        publish=run.publish,
    )


def _candidate(store: Store, run: Run, context: Any) -> Ref:
    """The model that train handed on.

    Raises:
        Outdated: A run that trained later has published another one of the date, which this one must not replace.
    """
    model = refs_of(pull(context, "train"))[0]
    found = read_current(store, "model", model.dataset, None, model.partition) if run.publish else None
    if found and ref_of(*found).identity != model.identity:
        raise Outdated(
            f"{store.uri(found[0].current_key)} is a newer run's model (attempt {found[0].attempt}) than the one that "
            f"this run trained (attempt {model.attempt}), which is neither judged nor promoted any more",
            f"Nothing is to be done; or run the date anew: boostline run {model.dataset} --date {model.partition}",
        )
    return model


def _promote(settings: Settings, store: Store, run: Run, verdict: dict[str, Any], context: Any) -> dict[str, Any]:
    from boostline.registry.promotion import promote_candidate
    from boostline.registry.versions import champion_of

    model = _candidate(store, run, context)
    champion, again = champion_of(settings, run.dataset.name), dict[str, Any]()
    known = ((verdict["champion"] or {}).get("version"), verdict["candidate"]["version"])
    if champion and champion.version not in known:
        log.info("Version %s is champion now: the gate is asked again", champion.version)
        again = {"verdict": _judge(settings, store, run, context)}
        if not again["verdict"]["passed"]:
            reason = f"the gate, asked again since version {champion.version} is champion now, said no"
            return {"promoted": False, "reason": reason} | again
    return promote_candidate(store, settings, run.dataset, model=model, is_backfill=run.is_backfill) | again


def _handed(refs: list[Ref], *, ran: bool, started: float) -> dict[str, Any]:
    return {"refs": [ref.model_dump() for ref in refs], "ran": ran} | _cost(started)


def _cost(started: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(time.monotonic() - started, 1), "peak_memory_bytes": peak}


def _asked_where(dataset: str, version: str) -> dict[str, Any]:
    """That a version waits, and where a person is asked; one run for each version."""
    dag_id, run_id = f"{dataset}_promote", f"approve__{version}"
    place = {"version": version, "dag_id": dag_id, "run_id": run_id, "address": approval_address(dag_id, run_id)}
    return {"reason": f"version {version} waits for approval in {dag_id}", "approval": place}


def _timeless(handed: dict[str, Any]) -> dict[str, Any]:
    """What a task decided, without what it cost: a repeat decides the same."""
    return {key: value for key, value in handed.items() if key not in ("seconds", "peak_memory_bytes")}
