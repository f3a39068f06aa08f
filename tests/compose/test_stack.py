"""The compose stack by real use: a run on the cluster, a backfill, the UI, and what it keeps closed."""

from __future__ import annotations

import json
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from tests.compose.conftest import DAY, LEAST_RIGHTS, ROOT, Cluster, check_hardened, run, secrets
from tests.e2e.conftest import wait_for


def test_it_comes_up_from_nothing_and_says_where_it_is(cluster: Cluster) -> None:
    assert f"http://127.0.0.1:{cluster.env['BOOSTLINE_PORT_AIRFLOW']}" in cluster.output
    assert "2 executors run what the driver runs" in cluster.output
    assert "docker/secrets/airflow-password.json" in cluster.output
    password = json.loads((ROOT / "docker/secrets/airflow-password.json").read_text())["admin"]
    assert password not in cluster.output
    for path in (ROOT / "docker/secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert (
        subprocess.run(["git", "check-ignore", "-q", "docker/secrets/secrets.env"], cwd=ROOT, check=False).returncode
        == 0
    )


def test_the_flights_run_on_both_workers(cluster: Cluster, flights: str) -> None:
    run_id, dag = flights, "nyc_flights_train"
    for task in ("ingest", "featurize", "baseline"):
        spark = cluster.client.xcom(dag, run_id, task)["spark"]
        assert (spark["executors"], spark["master"]) == ("2", "spark://spark-master:7077")
    assert [worker["cores"] for worker in cluster.master()["workers"]] == [1, 1]  # so two executors are on both
    assert [task["try_number"] for task in cluster.client.tasks(dag, run_id)] == [1] * 7
    assert set(cluster.inside("committers", "nyc_flights")) == {"magic"}
    assert cluster.client.xcom(dag, run_id, "promote")["promoted"] is True
    assert cluster.inside("uploads") == []


def test_a_backfill_of_three_days_runs_two_at_a_time(landed: Cluster) -> None:
    dag, first = "meters_back_train", DAY - timedelta(days=2)
    landed.client.ready_dag(dag)
    landed.client.backfill(dag, first, DAY, max_active=2, conf={})
    together = 0

    def ended() -> bool:
        nonlocal together
        runs = landed.client.runs_by_date(dag, first, DAY).values()
        together = max(together, sum(item["state"] == "running" for item in runs))
        return len(runs) == 3 and all(item["state"] in ("success", "failed") for item in runs)

    wait_for("the end of the backfill", ended, 900)
    assert {item["state"] for item in landed.client.runs_by_date(dag, first, DAY).values()} == {"success"}
    assert together == 2


def test_a_person_signs_in_and_sees_the_dags(cluster: Cluster, tmp_path: Path) -> None:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1440,900",
    ):
        options.add_argument(argument)
    password = json.loads((ROOT / "docker/secrets/airflow-password.json").read_text())["admin"]
    url = f"http://127.0.0.1:{cluster.env['BOOSTLINE_PORT_AIRFLOW']}"
    with webdriver.Chrome(options=options) as browser:
        browser.get(f"{url}/dags")
        waiting = WebDriverWait(browser, 60)
        waiting.until(lambda page: page.find_element(By.NAME, "username")).send_keys("admin")
        browser.find_element(By.NAME, "password").send_keys(password)
        browser.find_element(By.CSS_SELECTOR, "input[type=submit], button[type=submit]").click()
        waiting.until(lambda page: "nyc_flights_train" in page.page_source)
        browser.save_screenshot(str(tmp_path / "dags.png"))


def test_task_logs_are_read_from_s3(cluster: Cluster, flights: str) -> None:
    cluster.compose("restart", "airflow-scheduler")  # what only its disk held would be gone from the UI
    path = f"/dags/nyc_flights_train/dagRuns/{flights}/taskInstances/ingest/logs/1"
    content = wait_for("the log", lambda: cluster.client._get(path, none_on_404=True, full_content="true"), 60)[
        "content"
    ]
    text = json.dumps(content)
    assert "partitions up to date" in text
    assert "s3://logs/airflow" in text
    left = cluster.execute("airflow-scheduler", "find", "/scratch/logs", "-path", f"*run_id={flights}/task_id=ingest*")
    assert left == "", "what is in S3 stays on the disk too"


def test_the_history_server_is_seen_through_airflow_and_shows_no_secret(landed: Cluster) -> None:
    run_id, dag = run(landed, "meters_back_train", DAY), "meters_back_train"  # at once, where the backfill has run
    with landed.browser() as admin:
        links = f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances/{{}}/links"
        links_of = {task: admin.get(links.format(task)).json() for task in ("ingest", "featurize", "baseline")}
        pages = {task: urlsplit(found["extra_links"]["Spark job"]).path for task, found in links_of.items()}
        absent = admin.get(pages["ingest"])
        assert absent.status_code == 503 and "docker compose --profile history up" in absent.text
        landed.compose("--profile", "history", "up", "--detach", "--wait", "spark-history")
        try:
            for task, page in pages.items():
                wait_for("the job", lambda page=page: admin.get(page).status_code == 200, 60)
                api = page.replace("/history/", "/api/v1/applications/").removesuffix("jobs/")
                executors = admin.get(f"{api}allexecutors").json()
                hosts = {item["hostPort"].split(":")[0] for item in executors if item["id"] != "driver"}
                assert len(hosts) == 2, task
                environment = admin.get(f"{api}environment").text
                assert "spark.authenticate.secret" in environment
                assert not [
                    name for name, value in secrets().items() if name.endswith("_SECRET") and value in environment
                ]
            assert not landed.reaches("spark-worker", "spark-history", 18080)
        finally:
            landed.compose("--profile", "history", "rm", "--stop", "--force", "--volumes", "spark-history")


def test_networks_let_through_only_what_is_needed(cluster: Cluster) -> None:
    opened = {("spark-worker", "spark-master", 7077), ("spark-worker", "s3", 8333), ("s3", "s3-store", 8888)}
    closed = {
        ("spark-worker", "postgres", 5432),
        ("spark-worker", "s3-store", 8888),
        ("spark-worker", "s3-store", 8080),
        ("spark-worker", "mlflow", 5000),
        ("spark-worker", "airflow-api", 8080),
        ("airflow-scheduler", "s3-store", 8888),
        ("mlflow", "s3-store", 8888),
        ("airflow-api", "s3-store", 8888),
        ("airflow-dags", "mlflow", 5000),
        ("airflow-triggerer", "mlflow", 5000),
        ("airflow-scheduler", "spark-master", 6066),  # Spark's REST submission
    }
    ways = [*opened, *closed]
    with ThreadPoolExecutor(4) as pool:
        reached = list(pool.map(lambda way: cluster.reaches(*way), ways))
    assert {way for way, can in zip(ways, reached, strict=True) if can} == opened


def test_every_container_is_hardened(cluster: Cluster) -> None:
    published = check_hardened(cluster)
    assert set(published) == {"airflow-api", "mlflow"}
    assert {binding[0]["HostIp"] for ports in published.values() for binding in ports.values()} == {"127.0.0.1"}
    limits = [container["HostConfig"]["Memory"] for container in cluster.containers() if container["State"]["Running"]]
    assert sum(limits) < 16 * 2**30
    whoami = cluster.execute("airflow-scheduler", "sh", "-c", "id -u; touch /opt/x 2>&1 || true")
    assert whoami.startswith("50000")
    assert "Read-only" in whoami


def test_mlflow_asks_who_it_is(cluster: Cluster) -> None:
    import httpx

    url = f"http://127.0.0.1:{cluster.env['BOOSTLINE_PORT_MLFLOW']}"
    assert httpx.get(f"{url}/api/2.0/mlflow/registered-models/search").status_code == 401
    login = ("admin", secrets()["MLFLOW_ADMIN_SECRET"])
    assert httpx.get(f"{url}/api/2.0/mlflow/registered-models/search", auth=login).status_code == 200
    assert httpx.get(url, headers={"Host": "evil.example"}, auth=login).status_code == 403


def test_identities_have_least_rights(cluster: Cluster) -> None:
    assert cluster.rights() == LEAST_RIGHTS


def test_secrets_are_nowhere_to_be_read(cluster: Cluster, flights: str, tmp_path: Path) -> None:
    """Every generated secret is its own canary."""
    canaries = {value.encode() for name, value in secrets().items() if name.endswith("_SECRET")}
    assert len(canaries) >= 15

    def clean(where: str, text: bytes | str) -> None:
        content = text if isinstance(text, bytes) else text.encode()
        assert not [canary[:4] for canary in canaries if canary in content], where

    clean("docker inspect of the image", cluster.docker("inspect", "boostline:local"))
    clean("docker history of the image", cluster.docker("history", "--no-trunc", "boostline:local"))
    clean("logs", cluster.compose("--profile", "*", "logs", "--no-color"))
    for container in cluster.containers():
        if container["State"]["Running"]:
            clean(f"command lines of {container['Name']}", cluster.docker("top", container["Id"], "-eo", "pid,args"))
    run_id, dag = flights, "nyc_flights_train"
    api = f"/dags/{dag}/dagRuns/{run_id}"
    for task in cluster.client.tasks(dag, run_id):
        each = f"{api}/taskInstances/{task['task_id']}"
        for path in (each, f"{each}/xcomEntries/return_value", f"{each}/logs/1"):
            clean(path, json.dumps(cluster.client._get(path, none_on_404=True, full_content="true")))
    archive = tmp_path / "image.tar"
    cluster.docker("save", "-o", str(archive), "boostline:local")
    with tarfile.open(archive) as image:
        for member in image:
            if layer := image.extractfile(member):
                tail = b""
                while block := layer.read(2**24):
                    clean(f"layer {member.name}", tail + block)
                    tail = block[-128:]


def test_what_is_missing_is_named_before_anything_starts(cluster: Cluster) -> None:
    def preflight(*options: str) -> str:
        command = ["docker", "compose", "run", "--rm", "-T", *options, "preflight"]
        done = subprocess.run(
            command, cwd=ROOT, env=cluster.env, capture_output=True, text=True, timeout=60, check=False
        )
        return f"{done.returncode} {done.stdout}{done.stderr}"

    said = preflight("-e", "AIRFLOW__CORE__FERNET_KEY=")
    assert said.startswith("1 ")
    assert "no value for AIRFLOW__CORE__FERNET_KEY in docker/secrets" in said
    assert "make secrets" in said
    said = preflight("-v", f"{ROOT / 'tests'}:/checkout/jobs:ro")
    assert said.startswith("1 ")
    assert "built from other code than this checkout's" in said
    taken = subprocess.run(
        ["docker", "compose", "up", "-d", "--no-deps", "mlflow"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**cluster.env, "BOOSTLINE_PORT_MLFLOW": cluster.env["BOOSTLINE_PORT_AIRFLOW"]},
    )  # fmt: skip
    assert taken.returncode != 0
    assert "already" in taken.stderr
    assert cluster.env["BOOSTLINE_PORT_AIRFLOW"] in taken.stderr
    cluster.compose("up", "-d", "--wait", "mlflow")
