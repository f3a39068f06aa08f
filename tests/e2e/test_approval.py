"""A person approves, rejects, or does not answer, on a real stack; the approval in Airflow's own pages, in a browser."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from boostline.registry.versions import champion_of
from boostline.settings import Settings
from tests.e2e.conftest import APPROVAL, World, days_to, wait_for

DAY, NAME = date(2024, 5, 10), "meters_approved"
pytestmark = pytest.mark.long
TRAIN, PROMOTE = f"{NAME}_train", f"{NAME}_promote"


@pytest.fixture(scope="module")
def landed(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    world.land(tmp_path_factory.mktemp("raw"), NAME, days_to(DAY + timedelta(days=2), 7))
    return world


def train(world: World, day: date) -> dict[str, Any]:
    """Train a date; its result."""
    answer = world.cli("run", NAME, "--date", day.isoformat(), "--json")
    assert answer.code == 0, answer.err
    return dict(answer.json)


def waiting(world: World, version: str) -> None:
    """Wait until a person is asked about a version."""

    def asks() -> bool:
        states = {task["task_id"]: task["state"] for task in world.client.tasks(PROMOTE, f"approve__{version}")}
        return states.get("approve") == "awaiting_input"

    wait_for(f"the question about version {version}", asks)


def ended(world: World, version: str) -> dict[str, Any]:
    """Wait for the end of a version's run; what the registry says of the version."""
    run_id = f"approve__{version}"
    wait_for("the end", lambda: world.client.run(PROMOTE, run_id)["state"] in ("success", "failed"))
    assert world.client.run(PROMOTE, run_id)["state"] == "success"
    versions = {item["version"]: item for item in world.cli("models", NAME, "--json").json}
    return dict(versions[version])


def champion(world: World) -> str | None:
    found = champion_of(Settings(), NAME)
    return found and found.version


def test_candidates_wait_for_a_person(landed: World, tmp_path: Path) -> None:
    world = landed
    first = train(world, DAY)
    assert first["gate"]["passed"] and not first["promoted"]
    assert first["promotion"] == f"version 1 waits for approval in {PROMOTE}"
    assert first["approval"]["address"] == (
        f"{world.stack.airflow_url}/dags/{PROMOTE}/runs/approve__1/tasks/approve/required_actions"
    )
    waiting(world, "1")
    # The run that waits holds up neither training nor the next question, and nobody is asked twice.
    second = train(world, DAY + timedelta(days=1))
    assert second["promotion"] == f"version 2 waits for approval in {PROMOTE}" and second["champion"] is None
    assert train(world, DAY) == first
    assert [run["dag_run_id"] for run in world.client.runs(PROMOTE)] == ["approve__2", "approve__1"]
    assert champion(world) is None
    shown = world.cli("show", NAME, "--date", DAY.isoformat()).out
    assert "Passed, waits for approval" in shown and first["approval"]["address"] in shown
    assert "waits for approval" in world.cli("models", NAME).out

    answer_in_the_browser(world, first, "Approve", "good on weekends", tmp_path)
    record = ended(world, "1")
    assert record["aliases"] == ["champion"] and champion(world) == "1"
    assert [(item["decision"], item["who"], item["why"]) for item in record["approvals"]] == [
        ("asked", "", ""),
        ("approved", "admin", "good on weekends"),
    ]
    assert record["moves"][-1]["who"] == "admin" and "good on weekends" in record["moves"][-1]["reason"]
    told = world.cli("show", NAME, "--date", DAY.isoformat(), "--json").json
    assert told["promoted"] and told["promotion"].endswith("approved by admin: good on weekends")
    assert train(world, DAY) == told

    waiting(world, "2")
    answer_in_the_browser(world, second, "Reject", "not yet", tmp_path)
    record = ended(world, "2")
    assert [(item["decision"], item["who"], item["why"]) for item in record["approvals"]] == [
        ("asked", "", ""),
        ("rejected", "admin", "not yet"),
    ]
    assert champion(world) == "1"
    assert "version 2 was rejected by admin" in world.cli("models", NAME).out

    # Ten seconds for an answer: the task reads the file when it starts.
    path = world.stack.datasets / f"{NAME}.yaml"
    path.write_text(path.read_text().replace(APPROVAL.format(hours=1), APPROVAL.format(hours=0.003)))
    train(world, DAY + timedelta(days=2))
    record = ended(world, "3")
    assert (record["approvals"][-1]["decision"], record["approvals"][-1]["who"]) == ("timed out", "nobody")
    assert champion(world) == "1"


def answer_in_the_browser(world: World, result: dict[str, Any], option: str, why: str, tmp: Path) -> None:
    """Sign in, find the question under Required Actions, read it and the report, give a reason, press a button."""
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium and driver, "this test drives Debian's chromium: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    version, address = result["candidate"]["version"], result["approval"]["address"]
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser:
        browser.set_window_size(1440, 1200)
        waiting = WebDriverWait(browser, 120)

        def shown(css: str) -> Any:
            return waiting.until(
                lambda page: next(
                    (item for item in page.find_elements(By.CSS_SELECTOR, css) if item.is_displayed()), None
                )
            )

        browser.get(f"{world.stack.airflow_url}/required_actions")
        shown("input[name=username]").send_keys("admin")
        shown("input[name=password]").send_keys(json.loads(world.stack.passwords.read_text())["admin"])
        shown("button[type=submit]").click()
        shown(f"a[href*='/dags/{PROMOTE}/runs/approve__{version}']")
        browser.get(address)
        shown("#element_reason")
        text = browser.find_element(By.TAG_NAME, "body").text
        assert f"Promote version {version} of {NAME}, which learnt up to {result['date']}?" in text
        assert "Passed, waits for approval: RMSE" in text and "the baseline's" in text
        report = shown("a[href*='/boostline/']").get_attribute("href")
        assert f"/boostline/{TRAIN}/runs/" in report
        browser.get(report)
        browser.switch_to.frame(shown("iframe.report"))
        waiting.until(lambda page: "Passed, waits for approval" in page.find_element(By.TAG_NAME, "body").text)
        browser.switch_to.default_content()
        browser.get(address)
        shown("#element_reason").send_keys(why)
        browser.save_screenshot(str(tmp / f"{option}.png"))
        shown(f"[data-testid='hitl-option-{option}']").click()
        waiting.until(
            lambda page: not page.find_elements(By.CSS_SELECTOR, f"[data-testid='hitl-option-{option}']:enabled")
        )
