"""A question in Airflow is answered by those whose user names it gives, with users in Airflow's database."""

from __future__ import annotations

import subprocess
import sys

from tests.plugins.conftest import Site

# What a task that asks leaves in the database; no scheduler runs here.
ASK = """
import sys
from sqlalchemy import select
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
with create_session() as session:
    task = session.scalar(select(TaskInstance).where(TaskInstance.run_id == sys.argv[1], TaskInstance.task_id == "report"))
    session.add(HITLDetail(ti_id=task.id, options=["Approve"], subject="?", assignees=[{"id": "bob", "name": "bob"}]))
"""


def test_an_approver_is_known_by_name(site: Site) -> None:
    with site.client("admin") as admin, site.client("bob") as bob:
        runs = "/api/v2/dags/alpha_train/dagRuns"
        started = admin.post(runs, json={"logical_date": None, "partition_key": "2013-02-03"})
        assert started.status_code == 200, started.text
        run_id = started.json()["dag_run_id"]
        subprocess.run([sys.executable, "-c", ASK, run_id], env=site.env, check=True, timeout=120)
        where = f"{runs}/{run_id}/taskInstances/report/-1/hitlDetails"
        refused = admin.patch(where, json={"chosen_options": ["Approve"]})
        assert refused.status_code == 403 and "not a respondent" in refused.text
        answer = bob.patch(where, json={"chosen_options": ["Approve"]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["responded_by"]["name"] == "bob" != answer.json()["responded_by"]["id"]
