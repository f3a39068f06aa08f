"""Spark's History Server behind Airflow's sign-in: a real one, which the first look starts."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import wait_for
from tests.plugins.conftest import APP, Site

ALPHA, BETA = APP.format(1), APP.format(2)


@pytest.fixture(scope="module")
def running(site: Site) -> str:
    """The address of Alpha's job, whose first look has started the server."""
    page = f"/boostline/spark/history/{ALPHA}/jobs/"
    with site.client("ann") as ann:
        first = ann.get(page)
        assert first.status_code == 503 and "is starting" in first.text and first.headers["refresh"] == "3"
        wait_for("the server", lambda: ann.get(page).status_code == 200, 60)
    return page


def test_a_reader_of_the_dag_sees_the_job_with_links_that_stay_below(site: Site, running: str) -> None:
    with site.client("ann") as ann:
        page = ann.get(running)
        assert "boostline ingest alpha" in page.text and f"/boostline/spark/history/{ALPHA}/stages/" in page.text
        assert 'href="/history' not in page.text and 'src="/static' not in page.text
        assert ann.get("/boostline/spark/static/webui.css").headers["content-type"].startswith("text/css")
        assert ann.get(f"/boostline/spark/api/v1/applications/{ALPHA}/allexecutors").json() == []
        redirected = ann.get(f"/boostline/spark/history/{ALPHA}/")
        assert redirected.status_code == 307 and redirected.headers["location"] == running
        policy = page.headers["content-security-policy"]
        assert f"connect-src {site.url}/boostline/spark/;" in policy and "'self'" not in policy


@pytest.mark.parametrize(
    "path",
    [
        f"history/{BETA}/jobs/",
        f"history/{BETA}/environment/",
        f"api/v1/applications/{BETA}/environment",
        f"history/{ALPHA}/../{BETA}/jobs/",
        f"history/{ALPHA}/%2e%2e/{BETA}/jobs/",
        f"history/{ALPHA}/..%2f{BETA}/jobs/",
        f"history/{ALPHA}/..;/{BETA}/jobs/",
        f"static/%2e%2e/history/{BETA}/jobs/",
        "api/v1/applications",
        "history/app-20130101000000-0009/jobs/",
        "",
    ],
)
def test_nobody_sees_the_job_of_another_dataset(site: Site, running: str, path: str) -> None:
    with site.client("ann") as ann:
        answer = ann.get(f"/boostline/spark/{path}")
    assert answer.status_code in (307, 403, 404) and "beta" not in answer.text


def test_nobody_sees_anything_without_signing_in(site: Site, running: str) -> None:
    with site.client(None) as nobody:
        for path in (
            running,
            f"/boostline/spark/api/v1/applications/{ALPHA}/environment",
            "/boostline/spark/static/webui.css",
        ):
            assert nobody.get(path).status_code == 401
