"""The page of two runs in a real browser."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from asic_cli.compare import _page
from asic_cli.runs import Run

RUNS = "ours <b>", "theirs"


@pytest.fixture(scope="module")
def two(run: Any) -> tuple[Any, Any]:
    """The run, and one whose maps are bent a little."""
    bent = replace(run.alignment, maps=run.alignment.maps + 0.06 * torch.sin(5 * run.alignment.maps.flip(-1)))
    return run.alignment, bent


@pytest.fixture(scope="module")
def page_file(run: Any, two: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    settings = [{**run.collection.settings, "truth_sha256": None, "block": block} for block in (8, "9" * 64)]
    photos = [replace(run.collection, settings=own).arrays() for own in settings]
    runs = [Run(folder, folder, "", own, run.matches, both.arrays) for own, both in zip(photos, two, strict=True)]
    (folder / "compare.html").write_bytes(_page(runs[0], runs[1], RUNS))
    return folder / "compare.html"


def test_both_sides_show_what_their_run_answers(browser: Any, opened: Any, page_file: Path, run: Any, two: Any) -> None:
    with opened(browser, page_file) as page:
        halves = {photo: page.locator(f".double[data-photo='{photo}'] .side") for photo in range(len(run.collection))}
        rows, columns = np.nonzero(run.alignment.foreground[1].numpy())
        point = np.array([columns[len(columns) // 2], rows[len(rows) // 2]])
        picture = halves[1].nth(0).locator(".picture")
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        height, width = run.alignment.size_hw
        at = box["x"] + (point[0] + 0.5) / width * box["width"], box["y"] + (point[1] + 0.5) / height * box["height"]
        page.mouse.move(*at)
        page.wait_for_selector(".double[data-photo='0'] .side[data-x]")
        page.wait_for_timeout(150)
        start = [float(halves[1].nth(0).get_attribute(f"data-{axis}")) for axis in "xy"]
        for photo in (0, 2, 4):
            for side, alignment in enumerate(two):
                answer = alignment.transfer([start], 1, photo, "canonical").points_image[0]
                shown = [float(halves[photo].nth(side).get_attribute(f"data-{axis}")) for axis in "xy"]
                assert np.hypot(*(answer - shown)) * run.collection.photos[photo].scale_xy[0] < 1
        page.mouse.click(*at)
        assert page.locator(".pin").count() == 2 * len(run.collection)
        page.click("#pins-clear")
        assert page.locator(".pin").count() == 0


def test_marks_leave_with_the_focus_and_off_the_object(browser: Any, opened: Any, page_file: Path, run: Any) -> None:
    around = torch.nn.functional.max_pool2d(run.alignment.foreground[1].float()[None], 41, 1, 20)[0]
    away = torch.nonzero(around == 0).flip(1).numpy()
    with opened(browser, page_file) as page:
        marks = page.locator(".cross[visibility=visible]")
        picture = page.locator(".double[data-photo='1'] .picture").nth(0)
        picture.focus()
        page.keyboard.press("ArrowRight")
        assert marks.count() == 2 * len(run.collection)
        page.locator("#heat").focus()
        page.wait_for_timeout(150)
        assert marks.count() == 0
        box = picture.bounding_box()
        x, y = (away[len(away) // 2] + 0.5) / 256
        picture.click(position={"x": x * box["width"], "y": y * box["height"]})
        page.wait_for_timeout(150)
        assert marks.count() == 2
        assert picture.locator("output").inner_text().endswith("off the object")
        assert page.locator(".pin").count() == 0
        # A phone shows both runs' settings.
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.eval_on_selector("#settings .scroll", "box => box.scrollWidth <= box.clientWidth")


def _pixels(page: Any) -> Any:
    data = page.locator(".double canvas").first.evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")).astype(int)


def test_heat_covers_the_objects(browser: Any, opened: Any, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        before = _pixels(page)
        page.check("#heat")
        page.wait_for_timeout(300)
        share = (np.abs(_pixels(page) - before).max(2) > 10).mean()
        assert 0.03 < share < 0.7


def test_pins_of_a_viewer_show_on_both_sides(browser: Any, opened: Any, page_file: Path, tmp_path: Path) -> None:
    rows = "pin,photo,x,y,probability,visible,placed\r\nbeak,🐦/a.png,120,130,1,1,1\r\nbeak,,0.1,0.2,1,1,0\r\n"
    (tmp_path / "pins.csv").write_text(rows, encoding="utf-8")
    with opened(browser, page_file) as page:
        page.set_input_files("#pins-file", tmp_path / "pins.csv")
        page.locator("#message:not(:empty)").wait_for()
        assert page.locator("#message").inner_text() == "1 pins read from pins.csv"
        assert page.locator(".double[data-photo='4'] .pin").count() == 2
        (tmp_path / "pins.csv").write_text("pin\r\n")
        page.set_input_files("#pins-file", tmp_path / "pins.csv")
        page.locator("#message", has_text="expected a file of pins").wait_for()
