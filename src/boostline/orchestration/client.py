"""Airflow's REST API as the command line uses it. Imports nothing of Airflow, so it works from any machine."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
)

from boostline.errors import EnvironmentUnfit, FailError, ServiceUnavailable
from boostline.settings import Settings

TERMINAL = frozenset({"success", "failed"})
PAGE = 100
PARSED_WITHIN = 45
"""Seconds that a new dataset file may take to become a DAG."""


class AirflowClient:
    """A signed-in session with Airflow's API.

    Args:
        settings: Address, user and password file.

    Raises:
        ServiceUnavailable: Airflow does not answer.
        EnvironmentUnfit: It refuses the user or the password.
    """

    def __init__(self, settings: Settings) -> None:
        self.url, self._settings = settings.airflow_url.rstrip("/"), settings
        self._http = httpx.Client(base_url=self.url, timeout=30, follow_redirects=True)
        self._sign_in()

    def _sign_in(self) -> None:
        user = self._settings.airflow_user
        answer = self._ask("POST", "/auth/token", json={"username": user, "password": _password(self._settings)})
        if answer.status_code in (401, 403):
            raise EnvironmentUnfit(
                f"Airflow at {self.url} refuses user {user!r}", "Check BOOSTLINE_AIRFLOW_PASSWORD_FILE"
            )
        self._http.headers["Authorization"] = f"Bearer {self._json(answer)['access_token']}"

    def ready_dag(self, dag_id: str, *, unpause: bool = True) -> None:
        """Make sure that a DAG is known and runs: unpause it, or have it parsed anew and wait a little for that.

        Raises:
            FailError: There is no such DAG, or it stands in for a broken dataset file.
        """
        answer = self._dag(dag_id)
        if answer is None or _is_broken(answer):  # perhaps its dataset file is newer than what Airflow last read
            answer = self._parsed_anew(dag_id, answer)
        if answer is None:
            raise FailError(f"Airflow has no DAG {dag_id}", f"Known: {', '.join(self.dag_ids()) or 'none'}")
        if _is_broken(answer):
            raise FailError(f"DAG {dag_id}: its dataset file is wrong", "Run `boostline check`")
        if answer["is_paused"] and unpause:
            self._send("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def _parsed_anew(self, dag_id: str, before: dict[str, Any] | None) -> dict[str, Any] | None:
        """Have the DAG files parsed now, and wait for what becomes of one DAG."""
        for token in {item["file_token"] for item in self._dags()}:
            # A no is none: asked for already, or no right to ask. Airflow then parses in its own time.
            self._request("PUT", f"/parseDagFile/{token}")
        seen = before and before["last_parsed_time"]
        found: dict[str, Any] | None = Retrying(
            retry=retry_if_result(lambda found: found is None or found["last_parsed_time"] == seen),
            stop=stop_after_delay(PARSED_WITHIN),
            wait=wait_fixed(1),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )(self._dag, dag_id)
        return found

    def _dag(self, dag_id: str) -> dict[str, Any] | None:
        """A DAG, or what stands in for it while its dataset file is wrong: the one that Airflow has read last."""
        found = [self._get(f"/dags/{name}", none_on_404=True) for name in (dag_id, f"{dag_id}_invalid")]
        read = [dag for dag in found if dag and not dag["is_stale"]]
        return max(read, key=lambda dag: str(dag["last_parsed_time"]), default=None)

    def is_paused(self, dag_id: str) -> bool:
        """Whether nothing of a DAG starts until somebody unpauses it."""
        answer = self._get(f"/dags/{dag_id}", none_on_404=True)
        return bool(answer and answer["is_paused"])

    def _dags(self) -> list[dict[str, Any]]:
        return self._list("/dags", "dags", None, tags="boostline")

    def dag_ids(self) -> list[str]:
        """All DAGs of this project that Airflow knows."""
        return [item["dag_id"] for item in self._dags()]

    def trigger(self, dag_id: str, day: date, conf: dict[str, Any]) -> str:
        """Start a run of one data date and return its id. It is named here, so that trying again starts no second one."""
        run_id = f"manual__{datetime.now(UTC).isoformat()}__{secrets.token_hex(4)}"
        body = {"dag_run_id": run_id, "logical_date": None, "partition_key": day.isoformat(), "conf": conf}

        def start() -> None:
            if self.find_run(dag_id, run_id) is None:
                self._send("POST", f"/dags/{dag_id}/dagRuns", body, timeout=60)  # longer than Airflow waits for SQLite

        _patiently(start)
        return run_id

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One run, as Airflow describes it."""
        found: dict[str, Any] = self._get(f"/dags/{dag_id}/dagRuns/{run_id}")
        return found

    def find_run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """The same for an id that a person typed; none where the DAG has no such run."""
        found: dict[str, Any] | None = self._get(f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}", none_on_404=True)
        return found if found and found.get("dag_run_id") == run_id else None  # an empty id finds the list of runs

    def runs(self, dag_id: str, *, limit: int | None = 100, **filters: Any) -> list[dict[str, Any]]:
        """The newest runs of a DAG, newest first; all of them where `limit` is none."""
        # Not by `run_after`: for a backfill's run that is the data date, years back perhaps.
        return self._list(f"/dags/{dag_id}/dagRuns", "dag_runs", limit, order_by="-id", **filters)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        found: list[dict[str, Any]] = self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return found

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned, or none."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        answer = self._get(path, none_on_404=True, deserialize="false")
        value = answer["value"] if answer else None
        return json.loads(value) if isinstance(value, str) else value

    def failure(self, dag_id: str, run_id: str, task: dict[str, Any]) -> str:
        """What a failed task's log says went wrong: the exception's message, or its last lines."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{max(task['try_number'], 1)}"
        answer = self._get(path, none_on_404=True, full_content="true")
        events = [event for event in (answer or {}).get("content", []) if isinstance(event, dict)]
        details = [detail for event in events for detail in event.get("error_detail") or []]
        if details:
            return str(details[0].get("exc_value") or details[0].get("exc_type"))
        return "\n".join(str(event.get("event", "")) for event in events[-5:]) or "its log is empty"

    def cancel(self, dag_id: str, run_id: str) -> None:
        """End a run: its tasks are killed, its Spark driver with them.

        Raises:
            ServiceUnavailable: The run is not marked as failed, whatever was tried.
        """
        for _ in range(5):
            self._send("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})
            # On SQLite, which locks no rows, a scheduler that read the run before this calls it a success a moment
            # later: of the tasks at the end, none failed; all are skipped.
            time.sleep(1)
            if self.run(dag_id, run_id)["state"] == "failed":
                return
        raise ServiceUnavailable(f"Airflow does not mark {run_id} as failed", "See the log of its scheduler")

    def backfill(
        self, dag_id: str, first: date, last: date, *, max_active: int, conf: dict[str, Any]
    ) -> dict[str, Any]:
        """Start a backfill over data dates, both ends included: a new run for each that has none under way.

        Returns:
            What Airflow knows of it, its `id` and `created_at` among that. The runs exist when this returns.
        """
        body = {
            "dag_id": dag_id,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T00:00:00Z",
            "max_active_runs": max_active,
            # Not "failed": late data, or other settings, are for dates that succeeded too; what is up to date costs little.
            "reprocess_behavior": "completed",
            "dag_run_conf": conf,
        }
        # Airflow makes all runs before it answers: some 20 s for a year of dates.
        patience = 30 + (last - first).days
        started: dict[str, Any] = self._send("POST", "/backfills", body, timeout=patience)
        return started

    def cancel_backfill(self, backfill_id: int) -> None:
        """End a backfill: nothing new starts; runs that are queued are failed."""
        self._send("PUT", f"/backfills/{backfill_id}/cancel", None)

    def runs_by_date(self, dag_id: str, first: date, last: date) -> dict[str, dict[str, Any]]:
        """The newest run of each data date that has one."""
        found: dict[str, dict[str, Any]] = {}
        runs = self.runs(
            dag_id, limit=None, partition_date_gte=f"{first}T00:00:00Z", partition_date_lte=f"{last}T00:00:00Z"
        )
        for run in sorted(runs, key=lambda item: item["queued_at"] or ""):
            found[run["partition_key"]] = run
        return found

    def health(self) -> dict[str, Any]:
        """The state of Airflow's parts."""
        answer: dict[str, Any] = self._get("/monitor/health")
        return answer

    def _list(self, path: str, kind: str, limit: int | None, **query: Any) -> list[dict[str, Any]]:
        """The first entries of a list, or all; Airflow gives no more than its `maximum_page_limit` at a time."""
        found: list[dict[str, Any]] = []
        while limit is None or len(found) < limit:
            page = self._get(path, offset=len(found), limit=PAGE if limit is None else limit - len(found), **query)
            found += page[kind]
            if not page[kind] or len(found) >= page["total_entries"]:
                break
        return found

    def _get(self, path: str, *, none_on_404: bool = False, **query: Any) -> Any:
        def get() -> Any:
            answer = self._request("GET", path, params=query, headers={"Accept": "application/json"})
            return None if none_on_404 and answer.status_code == 404 else self._json(answer)

        return _patiently(get)

    def _send(self, method: str, path: str, body: Any, timeout: float = 30) -> Any:
        return self._json(self._request(method, path, json=body, timeout=timeout))

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Ask, and once more after signing in anew where the token has expired: runs may be followed for days."""
        answer = self._ask(method, f"/api/v2{path}", **kwargs)
        if answer.status_code == 401:  # before anything was done
            self._sign_in()
            answer = self._ask(method, f"/api/v2{path}", **kwargs)
        return answer

    def _ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                f"Airflow at {self.url} does not answer: {error}", "Start it: make up, or set BOOSTLINE_AIRFLOW_URL"
            ) from error

    def _json(self, answer: httpx.Response) -> Any:
        if answer.status_code >= 500:
            raise ServiceUnavailable(f"Airflow answered {answer.status_code} to {answer.request.url.path}", "Try again")
        if answer.is_error:
            raise FailError(f"Airflow refused {answer.request.url.path}: {_detail(answer)}")
        return answer.json() if answer.content else None


def _patiently(call: Callable[[], Any]) -> Any:
    """Call until Airflow answers, for half a minute or at least twice.

    On SQLite a request that writes can wait for its whole half minute and fail, since Airflow 3.3 has one that holds the lock
    wait for the one that waits for the lock.
    """
    return Retrying(
        retry=retry_if_exception_type(ServiceUnavailable),
        stop=stop_after_delay(30) & stop_after_attempt(2),
        wait=wait_fixed(1),
        reraise=True,
    )(call)


def _is_broken(dag: dict[str, Any]) -> bool:
    return any(tag["name"] == "invalid" for tag in dag["tags"])


def days_between(first: date, last: date) -> list[str]:
    """All dates from first to last, both included."""
    return [(first + timedelta(days=step)).isoformat() for step in range((last - first).days + 1)]


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json().get("detail", answer.text)
    except json.JSONDecodeError:
        detail = answer.text
    return detail if isinstance(detail, str) else json.dumps(detail)


def _password(settings: Settings) -> str:
    if settings.airflow_password:
        return settings.airflow_password.get_secret_value()
    path = settings.airflow_password_file
    if path is None:
        raise EnvironmentUnfit(
            "no password for Airflow", "Start the stack (make up) or set BOOSTLINE_AIRFLOW_PASSWORD_FILE"
        )
    try:
        return str(json.loads(path.read_text())[settings.airflow_user])
    except (OSError, ValueError, KeyError) as error:
        raise EnvironmentUnfit(
            f"{path} holds no password of {settings.airflow_user!r}", "It is a JSON file: user → password"
        ) from error
