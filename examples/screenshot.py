"""Takes the picture that README opens with: a report, a place touched on one photo, lit up on all others.

`uv run --all-packages --with playwright python examples/screenshot.py REPORT.html docs/viewer.webp`
"""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

# Shares of the canonical tile, where the creatures that `asic demo` draws have their back, eye and chest.
STROKE = [(0.40, 0.46), (0.46, 0.48), (0.52, 0.48), (0.58, 0.47), (0.64, 0.46)]
PINS = [(0.16, 0.30), (0.30, 0.52)]
HOVER = (0.74, 0.60)


def main() -> None:
    """Opens the report, pins, paints and hovers, and takes the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dark", action="store_true", help="in the dark scheme")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    given = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=os.environ.get("ASIC_BROWSER", "/usr/bin/chromium"))
        page = browser.new_page(
            viewport={"width": given.width, "height": given.height}, color_scheme="dark" if given.dark else "light"
        )
        page.goto(given.report.resolve().as_uri())
        page.wait_for_selector("#viewer[data-ready]")
        page.evaluate("scrollTo(0, document.getElementById('viewer').offsetTop - 14)")
        _use(page)
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    picture.convert("RGB").save(given.out, quality=90, method=6)


def _use(page: Page) -> None:
    def place(share: tuple[float, float]) -> tuple[float, float]:
        # Asked anew each time: tools that unfold move the tiles.
        box = page.locator("#viewer .canonical .picture").bounding_box()
        if box is None:
            raise SystemExit("the report shows no canonical average")
        return box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"]

    for pin in PINS:
        page.mouse.click(*place(pin))
    page.check("input[name=tool][value=brush]")
    page.mouse.move(*place(STROKE[0]))
    page.mouse.down()
    for point in STROKE:
        page.mouse.move(*place(point), steps=4)
    page.mouse.up()
    page.check("input[name=tool][value=look]")
    page.mouse.move(*place(HOVER))
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
