"""The pages *Models* in Airflow: who sees what, and that a text stays a text."""

from __future__ import annotations

import html
import re

import pytest

from tests.plugins.conftest import HOSTILE, RUNS, Site

ROUTES = (
    "",
    "alpha_train",
    "alpha_train/reports/{attempt}",
    "alpha_train/reports/{attempt}/page",
    "alpha_train/runs/x",
    "static/bokeh.js",
)


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_sees_anything_without_signing_in(site: Site, route: str) -> None:
    with site.client(None) as nobody:
        answer = nobody.get("/boostline/" + route.format(attempt=site.attempt("alpha")))
    assert answer.status_code == 401
    assert "Sign in" in answer.text and "/auth/login?next=" in answer.text
    assert not re.search("alpha|Report", re.sub(r'href="[^"]*"', "", answer.text))


def test_the_pages_are_in_the_navigation(site: Site) -> None:
    with site.client("ann") as ann:
        views = [view for plugin in ann.get("/api/v2/plugins").json()["plugins"] for view in plugin["external_views"]]
    # Two at least: Airflow shows a single one as a button that opens nothing.
    found = {view["name"]: view["href"] for view in views if view["destination"] == "nav"}
    assert found == {"Models": "/boostline/", "MLflow": site.env["BOOSTLINE_MLFLOW_URI"]}


def test_a_reader_of_one_dataset_finds_nothing_of_the_other(site: Site) -> None:
    with site.client("ann") as ann:
        front = ann.get("/boostline/")
        assert front.status_code == 200 and "alpha" in front.text and "beta" not in front.text
        assert f"All reports ({RUNS})" in front.text
        for route in ("beta_train", f"beta_train/reports/{site.attempt('beta', 2)}", "beta_train/runs/x"):
            refused = ann.get(f"/boostline/{route}")
            assert refused.status_code == 403 and "Not allowed" in refused.text
        # What is not there looks the same as what is not theirs.
        assert ann.get("/boostline/gamma_train").status_code == 403
        assert ann.get("/boostline/alpha_train").status_code == 200
    with site.client("admin") as admin:
        assert "beta" in admin.get("/boostline/").text
        assert admin.get("/boostline/beta_train").status_code == 200
        assert admin.get("/boostline/gamma_train").status_code == 404


def test_a_dataset_lists_its_reports_with_the_newest_first(site: Site) -> None:
    with site.client("ann") as ann:
        some, everything = ann.get("/boostline/alpha_train").text, ann.get("/boostline/alpha_train?all=1").text
    days = re.findall(r"<td><a href=[^>]*>(\d{4}-\d{2}-\d{2})</a>", everything)
    assert len(days) == RUNS and days == sorted(days, reverse=True)
    assert some.count("<tr><td>") == 60 and f"All {RUNS} reports" in some
    assert "log loss by data date" in some and f"over {RUNS} data dates" in some
    assert 'href="/dags/alpha_train/runs/manual__' in some


def test_a_report_is_shown_in_a_frame_without_rights(site: Site) -> None:
    attempt = site.attempt("alpha")
    with site.client("ann") as ann:
        shell = ann.get(f"/boostline/alpha_train/reports/{attempt}")
        assert f'sandbox="allow-scripts" src="/boostline/alpha_train/reports/{attempt}/page"' in shell.text
        assert "/#/runs/abc" in shell.text and "/dags/alpha_train/runs/manual__" in shell.text
        page = ann.get(f"/boostline/alpha_train/reports/{attempt}/page")
        assert "Report of alpha" in page.text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts;") and "default-src 'none'" in policy
        assert "allow-same-origin" not in policy + shell.text


def test_texts_of_the_user_stay_texts(site: Site) -> None:
    with site.client("ann") as ann:
        for route in ("", "alpha_train"):
            page = ann.get(f"/boostline/{route}")
            assert HOSTILE not in page.text
            assert "script-src 'self'" in page.headers["content-security-policy"]
        assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in ann.get("/boostline/").text


@pytest.mark.parametrize(
    "attempt",
    [
        "..",
        "..%2f..%2fbeta%2fattempts%2f2013-01-03-beta",
        "%2e%2e",
        "2013-01-01-none",
        "a" * 200,
        "a%00b",
        "2013-01-03-beta",
    ],
)
def test_paths_do_not_climb(site: Site, attempt: str) -> None:
    with site.client("ann") as ann:
        for tail in ("", "/page"):
            answer = ann.get(f"/boostline/alpha_train/reports/{attempt}{tail}")
            assert answer.status_code == 404 or (attempt in ("..", "%2e%2e") and "beta" not in answer.text)


def test_a_run_without_a_report_says_so(site: Site) -> None:
    with site.client("ann") as ann:
        answer = ann.get("/boostline/alpha_train/runs/manual__2012-01-01T00:00:00+00:00")
        published = ann.get("/boostline/alpha_train/runs/manual__2013-01-01T00:00:00+00:00", follow_redirects=True)
    assert answer.status_code == 404 and "no report yet" in answer.text
    assert published.status_code == 200 and "2013-01-01" in published.text
