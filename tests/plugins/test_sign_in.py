"""Signing in to Airflow's pages: in plain HTTP on this machine, and behind a proxy that speaks TLS."""

from __future__ import annotations

import re

import httpx

from boostline.local.ports import free_ports
from tests.plugins.conftest import Site, airflow_server

LOGIN = "/auth/login/"


def sign_in(browser: httpx.Client, origin: str) -> dict[str, bool]:
    """Fill in the form as a browser does that sees the server at `origin`; each cookie that is set, and whether it is secure."""
    form = browser.get(LOGIN)
    (token,) = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', form.text)
    fields = {"username": "ann", "password": "word-of-ann", "csrf_token": token}
    # The cookies of the form go along by hand: this client would keep secure ones back, since it speaks plain HTTP.
    headers = {"Referer": f"{origin}{LOGIN}", "Cookie": f"session={form.cookies['session']}"}
    done = browser.post(LOGIN, data=fields, headers=headers)
    assert done.status_code == 302, done.text
    set_cookies = [cookie for answer in (form, done) for cookie in answer.headers.get_list("set-cookie")]
    assert {cookie.partition("=")[0] for cookie in set_cookies} == {"session", "_token"}
    seen = browser.get("/api/v2/dags", headers={"Cookie": f"_token={done.cookies['_token']}"})
    assert seen.status_code == 200, seen.text
    return {cookie.partition("=")[0]: "; Secure" in cookie for cookie in set_cookies}


def test_a_person_signs_in_without_tls_on_this_machine(site: Site) -> None:
    with httpx.Client(base_url=site.url, timeout=60) as browser:
        assert sign_in(browser, site.url) == {"session": False, "_token": False}


def test_behind_a_proxy_with_tls_every_cookie_is_secure(site: Site) -> None:
    origin, port = "https://airflow.example.com", free_ports().airflow
    forwarded = {"Host": "airflow.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
    with (
        airflow_server({**site.env, "AIRFLOW__API__BASE_URL": origin}, port) as url,
        httpx.Client(base_url=url, timeout=60, headers=forwarded) as browser,
    ):
        assert sign_in(browser, origin) == {"session": True, "_token": True}
