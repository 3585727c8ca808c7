"""A page in Chromium: headless, with every host out of reach, and a record of what it asked for.

`python -m benchmarks.browser REPORT PNG [--width PX] [--height PX]` takes a picture of a report.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def missing() -> str | None:
    """Return what is missing to open a browser, None where all is there."""
    needed = {"chromium": "apt-get install chromium", "chromedriver": "apt-get install chromium-driver"}
    return next((f"{name} is not installed: {how}" for name, how in needed.items() if shutil.which(name) is None), None)


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """Open Chromium with a profile of its own; gives selenium's driver, which logs console and requests."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get("about:blank")
            driver.get_log("performance")  # what the first tab of a new profile asked for
            yield driver
        finally:
            driver.quit()


def open_report(driver: Any, page: Path) -> float:
    """Open a report and wait until its charts are drawn; returns the seconds until then, as the page has them."""
    driver.get(page.resolve().as_uri())
    deadline = time.monotonic() + 600
    while not driver.execute_script("return document.documentElement.dataset.charts"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{page}: its charts are not drawn: {console(driver)}")
        time.sleep(0.02)
    return float(driver.execute_script("return document.documentElement.dataset.charts"))


def console(driver: Any) -> list[str]:
    """Return what the page said on its console since the last call."""
    return [f"{entry['level']}: {entry['message']}" for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """Return every address that was asked for since the last call."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]


def screenshot(driver: Any, path: Path, height: int | None = None) -> None:
    """Write the page as PNG of 256 colours, as wide as its window and as high as asked, or all of it."""
    from PIL import Image

    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Take a picture of a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int)
    given = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    with chromium(given.width) as driver:
        open_report(driver, given.report)
        screenshot(driver, given.picture, given.height)


if __name__ == "__main__":
    main()
