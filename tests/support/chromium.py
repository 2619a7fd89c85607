"""A real Chromium, headless, driven through chromedriver; nothing is downloaded and nothing is left behind.

    with start_browser(tmp_path) as browser:
        browser.get(url)

Every browser has an empty profile of its own. See looks_like() for the screen, zone and preferences of its viewer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.support.require import require

PAGE_LOAD_S = 30
SCRIPT_S = 20
_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--lang=en-US",
)


@contextlib.contextmanager
def start_browser(profile: Path) -> Iterator[Chrome]:
    """Run a browser for the time of the context. Skips (or fails, in CI) where Chromium is not installed.

    profile: an empty folder for it. Its console is kept: get_log("browser").
    """
    chromium, driver = require("chromium", "chromium"), require("chromedriver", "chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # both paths are given, so that Selenium looks for no browser or driver of its own
    browser = Chrome(options=options, service=Service(executable_path=driver))
    browser.set_page_load_timeout(PAGE_LOAD_S)
    browser.set_script_timeout(SCRIPT_S)
    try:
        yield browser
    finally:
        browser.quit()


def looks_like(
    browser: Chrome, *, width: int = 1280, height: int = 900, dark: bool = False, still: bool = False, zone: str = "UTC"
) -> None:
    """Give the browser's viewer a screen (CSS pixels), a colour scheme, a wish for no motion, and a time zone."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    features = [
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
    ]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": zone})
