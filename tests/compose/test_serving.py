"""What the compose stack answers with: two replicas over HTTP, watched by Prometheus, and a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.compose.conftest import MARCH, Cluster, check_hardened, run, secrets
from tests.e2e.conftest import wait_for


@pytest.fixture(scope="module")
def replicas(cluster: Cluster, flights: str) -> Iterator[list[httpx.Client]]:
    """A client for each replica, with the token that was made for callers."""
    cluster.compose("--profile", "serving", "up", "--detach", "--wait", "serving", "prometheus")
    token = secrets()["TOKEN_CLIENT_SECRET"]
    found = [cluster.compose("port", "--index", str(index), "serving", "8000").strip() for index in (1, 2)]
    clients = [httpx.Client(base_url=f"http://{at}", headers={"Authorization": f"Bearer {token}"}) for at in found]
    yield clients
    for client in clients:
        client.close()
    cluster.compose("--profile", "serving", "rm", "--stop", "--force", "--volumes", "serving", "prometheus")


def test_each_replica_answers_who_has_a_token(replicas: list[httpx.Client]) -> None:
    answers = []
    for client in replicas:
        model = client.get("/v1/models/nyc_flights").json()
        row: dict[str, Any] = dict.fromkeys(model["columns"]) | {"carrier": "UA", "origin": "EWR", "distance": 1400}
        body = {"records": [row]}
        answers.append(client.post("/v1/models/nyc_flights:predict", json=body).json())
        assert httpx.post(f"{client.base_url}/v1/models/nyc_flights:predict", json=body).status_code == 401
    assert answers[0] == answers[1]
    assert (answers[0]["version"], answers[0]["date"]) == ("1", "2013-03-31")
    assert 0 < answers[0]["predictions"][0]["probability"] < 1


def test_prometheus_scrapes_both(cluster: Cluster, replicas: list[httpx.Client]) -> None:
    url = f"http://127.0.0.1:{cluster.env['BOOSTLINE_PORT_PROMETHEUS']}/api/v1"

    def up() -> list[str]:
        targets = httpx.get(f"{url}/targets").json()["data"]["activeTargets"]
        return [target["health"] for target in targets]

    wait_for("both targets", lambda: up() == ["up", "up"], 60)
    for client in replicas:
        client.get("/v1/models")
    query = {"query": 'count(boostline_requests_total{route="models"})'}
    wait_for("the count of both", lambda: value(httpx.get(f"{url}/query", params=query)) == 2, 60)


def value(answer: httpx.Response) -> float:
    """The number that a query gave, 0 where nothing is there yet."""
    result = answer.json()["data"]["result"]
    return float(result[0]["value"][1]) if result else 0


def test_serving_reads_and_no_more(cluster: Cluster, replicas: list[httpx.Client]) -> None:
    url = f"http://127.0.0.1:{cluster.env['BOOSTLINE_PORT_MLFLOW']}/api/2.0/mlflow/registered-models/alias"
    alias, login = {"name": "nyc_flights", "alias": "champion"}, ("reader", secrets()["MLFLOW_READER_SECRET"])
    assert httpx.get(url, params=alias, auth=login).json()["model_version"]["version"] == "1"
    assert httpx.post(url, json={**alias, "version": "1"}, auth=login).status_code == 403
    assert httpx.request("DELETE", url, json=alias, auth=login).status_code == 403
    for host, port in (("postgres", 5432), ("s3-store", 8888), ("airflow-api", 8080), ("spark-master", 7077)):
        assert not cluster.reaches("serving", host, port), host
    for service in ("spark-worker", "airflow-scheduler"):
        assert not cluster.reaches(service, "serving", 8000), service
    published = check_hardened(cluster)
    assert set(published) == {"airflow-api", "mlflow", "serving", "prometheus"}


def test_a_stream_scores_a_day_of_flights_as_the_batch_does(cluster: Cluster, flights: str) -> None:
    cluster.compose("--profile", "stream", "up", "--detach", "stream")
    try:
        (batch,) = wait_for("the first batch", lambda: cluster.inside("batches", "nyc_flights"), 180)
        assert batch["version"] == "1"
        check_hardened(cluster)
        run(cluster, "nyc_flights_score", MARCH)
        rows = batch["rows"]
        assert rows > 500
        assert cluster.inside("streamed", "nyc_flights", str(MARCH), "1") == {
            "batch": rows,
            "stream": rows,
            "differ": [],
        }
    finally:
        cluster.compose("--profile", "stream", "rm", "--stop", "--force", "--volumes", "stream")
