"""Pictures of the pages for docs/, from the stack that is up: `make screenshots`, after `make up` and a run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from boostline.local.layout import USER, read_password
from boostline.local.stack import current_stack

FOLDER = Path(__file__).parent / "images"
SIZES = {"desktop": (1280, 1400, "light"), "phone": (390, 844, "dark")}


@contextmanager
def browser(width: int, height: int, scheme: str) -> Iterator[webdriver.Chrome]:
    """A headless Chromium of this size, in light or dark."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    with webdriver.Chrome(options=options) as found:
        found.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        found.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield found


def main() -> None:
    """Sign in, open each page, and save what is seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="nyc_flights", help="one that has a report")
    dataset = parser.parse_args().dataset
    stack = current_stack()
    login = {"username": USER, "password": read_password(stack)}
    token = (
        httpx.post(f"{stack.airflow_url}/auth/token", json=login, timeout=30).raise_for_status().json()["access_token"]
    )
    FOLDER.mkdir(exist_ok=True)
    for size, (width, height, scheme) in SIZES.items():
        with browser(width, height, scheme) as page:
            page.get(f"{stack.airflow_url}/api/v2/version")
            page.add_cookie({"name": "_token", "value": token, "path": "/"})
            page.get(f"{stack.airflow_url}/boostline/")
            save(page, f"models-{size}")
            page.get(f"{stack.airflow_url}/boostline/{dataset}_train")
            save(page, f"dataset-{size}")
            page.find_element(By.CSS_SELECTOR, "td a").click()
            page.get(page.find_element(By.TAG_NAME, "iframe").get_attribute("src"))
            save(page, f"report-{size}")


def save(page: webdriver.Chrome, name: str) -> None:
    """Save the page once its charts are drawn."""
    drawn = "return [...document.querySelectorAll('.plot')].every(plot => plot.childElementCount)"
    WebDriverWait(page, 30).until(lambda browser: browser.execute_script(drawn))
    target = FOLDER / f"{name}.png"
    page.save_screenshot(str(target))
    print(target)  # noqa: T201 (a program for the terminal)


if __name__ == "__main__":
    main()
