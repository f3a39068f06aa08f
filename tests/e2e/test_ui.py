"""What a person does in the browser: sign in, find the model and its report, trigger a run by the form."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from boostline.local.layout import USER, read_password
from boostline.registry.versions import champion_of
from boostline.settings import Settings
from tests.e2e.conftest import DAY, World, days_to, wait_for

ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1440,1200")


class Person:
    """A browser, and what one does with it."""

    def __init__(self, page: webdriver.Chrome, url: str) -> None:
        self.page, self.url = page, url

    def see(self, css: str, text: str = "") -> Any:
        """The first visible element with this text, once it is there."""

        def found(page: webdriver.Chrome) -> Any:
            items = [item for item in page.find_elements(By.CSS_SELECTOR, css) if item.is_displayed()]
            return next((item for item in items if text in item.text), None)

        wait = WebDriverWait(self.page, 60, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(found, f"no {css} with {text!r} at {self.page.current_url}")

    def sign_in(self, password: str) -> None:
        self.page.get(self.url)
        self.see("input[name=username]").send_keys(USER)
        self.see("input[name=password]").send_keys(password)
        self.see("button[type=submit]").click()
        self.see("[aria-label=Plugins]")
        self.page.get_log("browser")  # what Airflow's first page asked for before anybody had signed in

    def check(self) -> None:
        """No script failed on this page, and axe finds no fault of any weight."""
        failed = [entry["message"] for entry in self.page.get_log("browser") if entry["level"] == "SEVERE"]
        assert failed == [], self.page.current_url
        found = Axe().run(self.page)["violations"]
        assert [(item["help"], item["nodes"][0]["html"]) for item in found] == [], self.page.current_url


@pytest.fixture(scope="module")
def person(world: World, first: dict[str, object]) -> Iterator[Person]:
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("there is no Chromium with its driver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ARGUMENTS:
        options.add_argument(argument)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as page:
        found = Person(page, world.stack.airflow_url)
        found.sign_in(read_password(world.stack))
        yield found


def test_the_way_from_airflow_to_a_report_and_on(world: World, person: Person) -> None:
    page = person.page
    person.see("[aria-label=Plugins]").click()
    person.see("a[role=menuitem]", "Models").click()
    WebDriverWait(page, 60).until(lambda _: len(page.window_handles) == 2, "the page opens beside Airflow's")
    page.switch_to.window(page.window_handles[-1])
    person.see("h1", "Models")
    champion = champion_of(Settings(), "meters")
    assert champion and f"version {champion.version}," in person.see("section", "meters\n").text
    person.check()
    person.see("h2 a", "meters").click()
    person.see("h2", "Reports")
    assert "promoted" in person.see("tr", str(DAY)).text
    person.check()
    person.see("td a", str(DAY)).click()
    page.switch_to.frame(person.see("iframe"))
    assert person.see(".verdict").text.startswith("Promoted: RMSE")
    plots = page.find_elements(By.CSS_SELECTOR, ".plot")
    WebDriverWait(page, 30).until(lambda _: all(plot.find_elements(By.CSS_SELECTOR, "*") for plot in plots))
    assert len(plots) >= 4
    page.switch_to.default_content()
    person.see("a", "The report alone".lower()).click()
    person.see(".verdict")
    person.check()
    page.back()
    person.see("a", "The run in Airflow").click()
    person.see("[data-testid], button", "Success")


def test_a_spark_task_leads_to_its_finished_job(world: World, person: Person, first: dict[str, object]) -> None:
    page, run = person.page, first["run_id"]
    links = world.client._get(f"/dags/meters_train/dagRuns/{run}/taskInstances/ingest/links")
    page.get(links["extra_links"]["Spark job"])
    person.see("h1", "Not available")  # nobody has looked before, so the History Server is started now
    person.see("h3", "Spark Jobs")
    assert "boostline ingest meters" in page.title
    page.get_log("browser")
    person.see("a", "Executors").click()
    person.see("td", "driver")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_run_with_a_changed_parameter_from_the_form(world: World, person: Person) -> None:
    page, dag = person.page, "meters_train"
    before = {run["dag_run_id"] for run in world.client.runs(dag, limit=100)}
    reports = world.store.list("report/meters/date=")
    # The newest, whose features nobody has made stale since.
    day = max(date.fromisoformat(item.key.split("date=")[1][:10]) for item in reports)
    page.get(f"{person.url}/dags/{dag}")
    person.see("[data-testid=trigger-dag-button]").click()
    date_field = person.see("[name=element_date]")
    page.execute_script("arguments[0].focus()", date_field)
    date_field.send_keys(day.strftime("%m%d%Y"))
    person.see("button", "Change the run").click()
    person.see("[name=element_rounds]").send_keys("7")
    page.find_elements(By.XPATH, "//div[@role='dialog']//button[normalize-space()='Trigger']")[-1].click()

    def new() -> list[dict[str, Any]]:
        return [run for run in world.client.runs(dag, limit=100) if run["dag_run_id"] not in before]

    (run,) = wait_for("the run", new, 60)
    page.get("about:blank")
    ended = ("success", "failed")
    wait_for("its end", lambda: world.client.run(dag, run["dag_run_id"])["state"] in ended, 300)
    assert world.client.run(dag, run["dag_run_id"])["state"] == "success"
    page.get(f"{person.url}/boostline/{dag}/runs/{run['dag_run_id']}")
    page.switch_to.frame(person.see("iframe"))
    assert "model.rounds = 7" in person.see("body", "Experiment").text
    page.switch_to.default_content()
    assert world.client.xcom(dag, run["dag_run_id"], "promote")["promoted"] is False


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_backfill_of_seven_days_from_the_form(world: World, person: Person, tmp_path: Path) -> None:
    page, dag, first_day = person.page, "meters_form_train", DAY - timedelta(days=6)
    world.land(tmp_path, "meters_form", days_to(DAY, 12))
    page.get(f"{person.url}/dags/{dag}")
    person.see("[data-testid=trigger-dag-button]").click()
    person.see("[role=dialog] label", "Backfill").click()
    for index, day in enumerate((first_day, DAY)):
        wait_for(
            "the fields", lambda: len(page.find_elements(By.CSS_SELECTOR, "[data-testid=datetime-input]")) == 2, 60
        )
        page.find_elements(By.CSS_SELECTOR, "[data-testid=datetime-input]")[index].click()
        person.see("input[placeholder='YYYY/MM/DD']").send_keys(f"{day:%Y/%m/%d}", Keys.TAB)
        person.see("[role=dialog] h2", "Run Backfill").click()
    person.see("p", "7 runs will be triggered.")
    person.see("[role=dialog] button", "Run Backfill").click()
    world.client.ready_dag(dag)
    page.get("about:blank")  # a page that draws itself anew takes time that the runs need

    def ended() -> dict[str, dict[str, Any]] | None:
        runs = world.client.runs_by_date(dag, first_day, DAY)
        return runs if len(runs) == 7 and all(run["state"] in ("success", "failed") for run in runs.values()) else None

    runs = wait_for("the end of seven runs", ended, 1200)
    assert {day: run["state"] for day, run in runs.items()} == {str(day): "success" for day in days_to(DAY, 7)}
    assert {
        world.client.xcom(dag, run["dag_run_id"], "report")["report"].split("/attempts/")[1][:10]
        for run in runs.values()
    } == set(runs)
