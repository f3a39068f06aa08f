"""What an operator does with a stack that is in use: new secrets, backup, restore."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.compose.conftest import DAY, ROOT, Cluster, run, secrets, stack
from tests.e2e.conftest import wait_for

DATASET, DAG = "meters_back", "meters_back_train"
ORIGIN = "https://mlflow.example.com"
SECRETS = ROOT / "docker/secrets/secrets.env"


@pytest.fixture(scope="module")
def served() -> Iterator[Cluster]:
    """A stack with a champion and two replicas that answer with it, and a caller `billing`."""
    subprocess.run([ROOT / "docker/make-secrets.sh"], check=True, capture_output=True)
    before = SECRETS.read_text()
    SECRETS.write_text(before + "TOKEN_BILLING_SECRET=c2VjcmV0IG9mIGJpbGxpbmc=\n")
    try:
        with stack("boostline-test-keeping", BOOSTLINE_MLFLOW_BASE_URL=ORIGIN) as cluster:
            cluster.up()
            cluster.inside("put", "/raw", DATASET)
            run(cluster, DAG, DAY)
            cluster.compose("--profile", "serving", "up", "--detach", "--wait", "serving")
            yield cluster
    finally:
        SECRETS.write_text("".join(line for line in SECRETS.read_text().splitlines(True) if "BILLING" not in line))
        subprocess.run([ROOT / "docker/make-secrets.sh"], check=True, capture_output=True)


def script(cluster: Cluster, name: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """What a script of the folder `docker` said."""
    command = [ROOT / "docker" / name, *args]
    return subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=600, check=False)


def answers(cluster: Cluster, token: str) -> list[tuple[int, str]]:
    """Status and champion of each replica, for a caller's token."""
    found = []
    for index in ("1", "2"):
        url = f"http://{cluster.compose('port', '--index', index, 'serving', '8000').strip()}/v1/models/{DATASET}"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
        found.append((answer.status_code, answer.json().get("version", "")))
    return found


def health(cluster: Cluster) -> dict[str, str]:
    """Of the services of S3."""
    found = {item["Config"]["Labels"]["com.docker.compose.service"]: item["State"] for item in cluster.containers()}
    return {name: found[name]["Health"]["Status"] for name in ("s3", "s3-store")}


@contextmanager
def newer_checkout() -> Iterator[None]:
    """Code in the checkout that the image does not have, as after a pull."""
    file = ROOT / "src/boostline/newer.py"
    file.write_text("")
    try:
        yield
    finally:
        file.unlink()


def test_mlflow_s_page_may_send_from_the_address_that_people_type(served: Cluster) -> None:
    url = f"http://127.0.0.1:{served.env['BOOSTLINE_PORT_MLFLOW']}/ajax-api/2.0/mlflow/experiments/search"
    login = ("admin", secrets()["MLFLOW_ADMIN_SECRET"])
    for origin, status in ((ORIGIN, 200), ("https://elsewhere.example.com", 403)):
        answer = httpx.post(url, json={"max_results": 10}, headers={"Origin": origin}, auth=login)
        assert answer.status_code == status, answer.text


def test_airflow_hears_from_a_proxy_whether_people_use_tls(served: Cluster) -> None:
    url = f"http://127.0.0.1:{served.env['BOOSTLINE_PORT_AIRFLOW']}/auth/logout"
    for scheme in ("http", "https"):
        answer = httpx.get(url, headers={"X-Forwarded-Proto": scheme}, timeout=60)
        secure = ["; Secure" in cookie for cookie in answer.headers.get_list("set-cookie")]
        assert secure == [scheme == "https"] * 2, answer.headers


@pytest.mark.timeout(1800)
def test_new_secrets_reach_the_replicas_too(served: Cluster) -> None:
    names = ("TOKEN_CLIENT_SECRET", "TOKEN_BILLING_SECRET", "S3_SERVING_SECRET", "MLFLOW_READER_SECRET")
    before = secrets()
    assert [answers(served, before[name]) for name in names[:2]] == [[(200, "1")] * 2] * 2
    done = script(served, "rotate.sh", *names)
    assert done.returncode == 0, done.stderr[-3000:]
    after = secrets()
    assert {name for name in after if after[name] != before[name]} == set(names)
    served.compose("--profile", "serving", "up", "--detach", "--wait", "serving")  # changes nothing, waits
    for name in names[:2]:
        wait_for(name, lambda name=name: answers(served, after[name]) == [(200, "1")] * 2, 60)
        assert answers(served, before[name]) == [(401, "")] * 2


@pytest.mark.timeout(1800)
def test_a_backup_is_whole_or_not_there_and_leaves_all_running(served: Cluster, tmp_path: Path) -> None:
    with newer_checkout():
        done = script(served, "backup.sh", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == [
        "airflow.dump",
        "mlflow.dump",
        "mlflow_login.dump",
        "s3.tar",
    ]
    wait_for("S3", lambda: health(served) == {"s3": "healthy", "s3-store": "healthy"}, 60)
    published = served.inside("published", DATASET, DAY.isoformat())

    served.compose("stop", "postgres")
    assert script(served, "backup.sh", tmp_path / "other").returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    served.compose("start", "postgres")

    done = script(served, "backup.sh", "--restore", tmp_path / "backup")
    assert done.returncode == 0, done.stderr[-3000:]
    wait_for("Airflow", lambda: served.client.runs(DAG, limit=1), 180)
    assert served.inside("published", DATASET, DAY.isoformat()) == published
    assert answers(served, secrets()["TOKEN_CLIENT_SECRET"]) == [(200, "1")] * 2
