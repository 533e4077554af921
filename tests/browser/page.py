"""A browser with the console in it, as the tests speak to it."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nodes import until
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

WIDE = (1280, 800)
PHONE = (390, 844)
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]

# Remembered before anything of the page runs.
WATCH = "addEventListener('securitypolicyviolation', (e) => (window.violations ??= []).push(`${e.violatedDirective} ${e.blockedURI}`));"


def programs() -> tuple[str, str] | None:
    """The browser and its driver; none where one of them is missing."""
    browser = os.environ.get("LIMINAL_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = os.environ.get("LIMINAL_CHROMEDRIVER") or shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def launch(browser: str, driver: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--lang=en-GB"]
    # Nothing but this machine can be reached, whatever a page or the browser itself would like.
    arguments += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, Service(driver))
    chrome.set_page_load_timeout(30)
    chrome.command_executor.client_config.timeout = 60
    chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    return chrome


class Page:
    def __init__(self, chrome: webdriver.Chrome, address: str) -> None:
        self.chrome, self.address = chrome, address

    def look(self, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
        """The size of the window, and what the system prefers."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def fresh(self) -> None:
        """As if nobody had been here."""
        self.look()
        self.chrome.get(f"{self.address}/console/icon.svg")
        self.run("sessionStorage.clear(); localStorage.clear()")
        for log in ("browser", "performance"):
            self.chrome.get_log(log)

    def open(self, view: str) -> None:
        self.chrome.get("about:blank")
        self.chrome.get(f"{self.address}/#/{view}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def all(self, css: str) -> list[WebElement]:
        return [one for one in self.chrome.find_elements(By.CSS_SELECTOR, css) if one.is_displayed()]

    def find(self, css: str, text: str = "", within: float = 20.0) -> WebElement:
        """Waits for something that is shown and says so; views draw themselves again while a test looks."""

        def found() -> WebElement | None:
            try:
                return next((one for one in self.all(css) if text in one.text), None)
            except StaleElementReferenceException:
                return None

        return until(f"{css} with {text!r} is shown", found, within)

    def id(self, name: str, text: str = "", within: float = 20.0) -> WebElement:
        return self.find(f'[data-testid="{name}"]', text, within)

    def gone(self, css: str) -> None:
        until(f"{css} is gone", lambda: not self.chrome.find_elements(By.CSS_SELECTOR, css))

    def words(self) -> str:
        return str(self.run("return document.body.innerText"))

    def click(self, css: str, text: str = "") -> None:
        def clicked() -> bool:
            try:
                self.find(css, text).click()
                return True
            except StaleElementReferenceException:
                return False

        until(f"{css} with {text!r} is clicked", clicked)

    def write(self, name: str, text: str) -> None:
        """In the place of what is in a field."""
        element = self.id(name)
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(Keys.DELETE)
        element.send_keys(text)

    def focused(self) -> WebElement:
        return self.chrome.switch_to.active_element

    def press(self, *keys: str) -> None:
        ActionChains(self.chrome).send_keys(*keys).perform()

    def replace_all(self, text: str) -> None:
        """In the place of what is in the field that has the focus."""
        ActionChains(self.chrome).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).send_keys(text).perform()

    def tab_to(self, what: str, is_it: Callable[[WebElement], bool], most: int = 60) -> WebElement:
        """By the keyboard alone; everything that it passes has to be seen to have the focus."""
        for _ in range(most):
            self.press(Keys.TAB)
            element = self.focused()
            outline = self.run("const s = getComputedStyle(arguments[0]); return s.outlineStyle + ' ' + s.outlineWidth", element)
            assert not outline.startswith("none") and not outline.endswith(" 0px"), f"no ring: {element.get_attribute('outerHTML')[:200]}"
            if is_it(element):
                return element
        raise AssertionError(f"{what} is not reached with {most} tabs")

    def complaints(self) -> list[str]:
        """Errors of the console, what the policy forbade, and requests to any other host, since the last time."""
        own = urlsplit(self.address).netloc
        found = [entry["message"] for entry in self.chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        found += self.run("return window.violations ?? []")
        for entry in self.chrome.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if urlsplit(url).scheme not in ("about", "data", "chrome") and urlsplit(url).netloc != own:
                    found.append(f"a request to {url}")
        return found

    def picture(self, file: Path, height: int) -> None:
        """The upper part of the page, as wide as it is."""
        width = self.run("return innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
        file.write_bytes(base64.b64decode(taken["data"]))
