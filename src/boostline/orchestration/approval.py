"""A person's approval: the task that asks for it, and the tasks of `DATASET_promote`, one run of which waits for one answer."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param

from boostline.dataset import Dataset, change_dataset, dataset_path, load_dataset
from boostline.errors import DataMissing, FailError, NothingToDo
from boostline.lake.manifest import read_current
from boostline.lake.store import Store
from boostline.orchestration.failures import airflow_errors
from boostline.orchestration.links import report_address
from boostline.orchestration.run import Run
from boostline.orchestration.spark_job import pull, refs_of
from boostline.orchestration.tasks import REPORTED, publish_report
from boostline.settings import Settings

YES, NO = "Approve", "Reject"

log = logging.getLogger(__name__)


class Ask(TriggerDagRunOperator):
    """Starts the run of `DATASET_promote` that waits for a person, once for each version; skipped where nobody is to be asked."""

    def execute(self, context: Any) -> Any:
        """Start it and go on: the run waits, this one does not."""
        with airflow_errors():
            outcome = pull(context, "promote")
            if "approval" not in outcome:
                raise NothingToDo(f"nobody is asked: {outcome['reason']}")
        self.trigger_run_id = outcome["approval"]["run_id"]
        self.conf = {"run": context["run_id"]}
        log.info("A person is asked here: %s", outcome["approval"]["address"])
        return super().execute(context)


def ask(dataset: Dataset) -> Ask:
    """The last task of a training run whose dataset requires approval."""
    return Ask(
        task_id="ask",
        trigger_dag_id=f"{dataset.name}_promote",
        logical_date=None,
        skip_when_already_exists=True,
        fail_when_dag_is_paused=True,
    )


def approval_tasks(dataset: Dataset) -> list[PythonOperator | HITLOperator]:
    """`question`, `approve`, `decide` and `report`, in this order."""
    policy = dataset.promotion

    def python(task_id: str, function: Any, **kwargs: Any) -> PythonOperator:
        return PythonOperator(
            task_id=task_id,
            python_callable=function,
            op_kwargs={"dataset": dataset.name},
            show_return_value_in_logs=False,
            **kwargs,
        )

    approve = HITLOperator(
        task_id="approve",
        subject="{{ ti.xcom_pull(task_ids='question')['subject'] }}",
        body="{{ ti.xcom_pull(task_ids='question')['body'] }}",
        options=[YES, NO],
        defaults=YES if policy.on_timeout == "approve" else NO,
        params={
            # Without maxLength: Airflow's form lets more through, and the task would fail on it and ask again.
            "reason": Param(
                None,
                type=["null", "string"],
                title="Reason",
                description="Kept with the version and your name; cut after 500 characters.",
            )
        },
        assigned_users=[{"id": name, "name": name} for name in policy.approvers] or None,
        response_timeout=timedelta(hours=policy.timeout_hours),
    )
    return [
        python("question", question),
        approve,
        python("decide", decide, pool="promotion"),
        python("report", report),
    ]


def approval_form() -> dict[str, Param]:
    """The field of the trigger form; the training run fills it in."""
    text = "A run of the training DAG whose candidate waits for approval: its run id."
    return {"run": Param(type="string", minLength=1, maxLength=250, title="Training run", description=text)}


@dataclass(frozen=True)
class Asked:
    """The training run whose candidate somebody is asked about, and what its tasks handed on."""

    run: Run
    handed: dict[str, Any]
    result: dict[str, Any]


def question(dataset: str, **context: Any) -> dict[str, str]:
    """Put the question, from what the training run's tasks handed on.

    Returns:
        `{"version", "subject", "body"}`; the body is Markdown.
    """
    with airflow_errors():
        from boostline.registry.approval import record_question
        from boostline.reporting.page import verdict_sentence

        settings = Settings()
        asked = _asked(settings, dataset, context)
        result, reasons, outcome = asked.result, asked.result["gate"]["reasons"], asked.handed["promote"]
        if "approval" not in outcome:
            raise FailError(
                f"run {asked.run.run_id} of {dataset}_train does not wait for approval: {outcome['reason']}"
            )
        version = outcome["approval"]["version"]
        record_question(settings, dataset, version, outcome["approval"]["address"])
        address = report_address(f"{dataset}_train", asked.run.run_id)
        lines = [_markdown(verdict_sentence(result)), "", *(f"- {_markdown(reason)}" for reason in reasons)]
        lines += [
            "",
            f"[The report]({address})",
            "",
            "On *Approve* the gate is asked once more, against the champion of then.",
        ]
        subject = f"Promote version {version} of {dataset}, which learnt up to {asked.run.day}?"
        return {"version": version, "subject": subject, "body": "\n".join(lines)}


def decide(dataset: str, **context: Any) -> dict[str, Any]:
    """Do what the person said, or what the dataset says where nobody answered in time.

    A training run that was cleared may hold another version by now, which nobody was asked about here: then the version
    of the question lapses, and the rest is skipped.

    Returns:
        `{"promoted", "reason", "verdict"}`.
    """
    with airflow_errors():
        from boostline.registry.approval import Answer, carry_out, record_lapse
        from boostline.registry.versions import version_number

        settings = Settings()
        store, asked, said = Store(settings), _asked(settings, dataset, context), pull(context, "approve")
        person, model = said["responded_by_user"], refs_of(asked.handed["train"])[0]
        answer = Answer(
            yes=said["chosen_options"] == [YES],
            who=person and person["name"],
            when=said["responded_at"].astimezone(UTC).isoformat(),
            why=str((said["params_input"] or {}).get("reason") or ""),
        )
        now = version_number(store, model)
        version = pull(context, "question").get("version", now)  # a question of before an upgrade names none
        if now != version:
            since = f"its run {asked.run.run_id} was run again and holds version {now or 'none'} now"
            raise NothingToDo(record_lapse(settings, dataset, version, answer, since))
        outcome = carry_out(
            store,
            settings,
            asked.run.dataset,
            asked.run.day,
            model=model,
            baseline=refs_of(asked.handed["baseline"])[0],
            features=refs_of(asked.handed["featurize"])[0],
            answer=answer,
        )
        log.info("%s: %s", "Promoted" if outcome["promoted"] else "Not promoted", outcome["reason"])
        return outcome


def report(dataset: str, **context: Any) -> dict[str, Any]:
    """Write the training run's report anew, with what became of its candidate.

    Returns:
        See `boostline.orchestration.tasks.report`.
    """
    with airflow_errors():
        settings = Settings()
        store, asked, outcome = Store(settings), _asked(settings, dataset, context), pull(context, "decide")
        found = read_current(store, "report", dataset, None, asked.run.day.isoformat())
        if found is None or found[0].details["summary"]["version"] != asked.result["candidate"]["version"]:
            raise NothingToDo(f"a later run has reported on {asked.run.day}, about another version")
        before = asked.handed["promote"]
        promoted = {"promoted": outcome["promoted"], "reason": outcome["reason"], "seconds": before["seconds"]}
        handed = asked.handed | {"promote": promoted, "gate": asked.handed["gate"] | outcome["verdict"]}
        return publish_report(settings, store, asked.run, handed, context["ti"].try_number)


def _asked(settings: Settings, dataset: str, context: Any) -> Asked:
    """The training run that this run asks about.

    Raises:
        FailError: There is no such run, or it has not reported, or its report is gone.
    """
    from boostline.reporting.report import load_result

    train, run_id = f"{dataset}_train", context["params"]["run"]
    handed = {
        name: context["ti"].xcom_pull(task_ids=name, dag_id=train, run_id=run_id) for name in (*REPORTED, "report")
    }
    if missing := [name for name, value in handed.items() if value is None]:
        raise FailError(
            f"run {run_id!r} of {train} is not there, or has not handed on {', '.join(missing)}",
            "Run the date again: a candidate that waits starts a run here by itself",
        )
    try:
        result = load_result(Store(settings), refs_of(handed.pop("report"))[0])
    except DataMissing as error:
        raise FailError(
            f"{error.message}: the question is too old to be put again",
            f"Promote the version by hand: boostline promote {dataset} VERSION --reason …",
        ) from error
    spec, changes = load_dataset(dataset_path(settings.datasets, dataset)), (result["experiment"] or {}).get("changes")
    run = Run(
        day=date.fromisoformat(result["date"]),
        dataset=change_dataset(spec, changes) if changes else spec,
        run_id=run_id,
        changes=changes or {},
        publish=True,
        is_backfill=False,
    )
    return Asked(run, handed, result)


def _markdown(text: str) -> str:
    """A text whose characters mean themselves in Markdown."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~-])", r"\\\1", text)
