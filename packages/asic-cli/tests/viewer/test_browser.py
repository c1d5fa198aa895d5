"""The viewer in a real browser: Chromium, headless, driven by Playwright."""

from __future__ import annotations

import base64
import csv
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from asic_cli.breakdown import break_down
from asic_cli.report import write_report
from asic_flow.matches import MatchSet

_NO_MATCHES = MatchSet(
    pairs=np.zeros((0, 2), np.int32),
    offsets=np.zeros(1, np.int64),
    xy_a=np.zeros((0, 2), np.float32),
    xy_b=np.zeros((0, 2), np.float32),
    score=np.zeros(0, np.float32),
    saliency=np.zeros(0, np.float32),
)
_TILES = "#viewer .tile[data-photo]"


@pytest.fixture(scope="module")
def report(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(path, title="Tested", **vars(run), summary={})
    return path


@pytest.fixture
def page(browser: Any, opened: Any, report: Path) -> Iterator[Any]:
    """The open page. Afterwards: it logged no error, opened no dialogue and asked for nothing but itself."""
    with opened(browser, report) as page:
        yield page


def _screen(page: Any, run: Any, photo: int, point_px: Any) -> tuple[float, float]:
    """The place on screen of a model pixel of a photo, or of the canonical tile for -1."""
    selector = "#viewer .canonical .picture" if photo < 0 else f"{_TILES[:-1]}='{photo}'] .picture"
    box = page.locator(selector).bounding_box()
    height, width = run.alignment.size_hw
    x, y = point_px
    return box["x"] + (x + 0.5) / width * box["width"], box["y"] + (y + 0.5) / height * box["height"]


def _settle(page: Any) -> None:
    """Waits until the queue of frames is empty."""
    page.evaluate("new Promise((done) => setTimeout(() => requestAnimationFrame(done), 150))")


def _marked(page: Any) -> list[dict[str, float]]:
    """What the tiles say of the marked place, in the photos' own pixels."""
    records = page.eval_on_selector_all(_TILES, "tiles => tiles.map(({ dataset }) => ({ ...dataset }))")
    return [{key: float(record[key]) for key in ("x", "y", "confidence")} for record in records]


def _inside(run: Any, photo: int, seed: int, count: int) -> Any:
    """Foreground pixels (count, 2) xy of a photo, away from its border."""
    rows, columns = np.nonzero(run.alignment.foreground[photo].numpy())
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return np.stack((columns[chosen], rows[chosen]), 1)


def _pixels(page: Any, photo: int) -> Any:
    data = page.eval_on_selector(f"{_TILES[:-1]}='{photo}'] canvas", "canvas => canvas.toDataURL()")
    return np.asarray(Image.open(BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")).astype(int)


@pytest.mark.parametrize("source", [0, 3])
def test_hover_marks_what_transfer_says(page: Any, run: Any, source: int) -> None:
    worst = 0.0
    for point in _inside(run, source, seed=source, count=12):
        page.mouse.move(*_screen(page, run, source, point))
        _settle(page)
        marked = _marked(page)
        here = [[marked[source]["x"], marked[source]["y"]]]
        for target, place in enumerate(marked):
            if target == source:
                continue
            truth = run.alignment.transfer(here, source, target, method="canonical")
            scale = np.array(run.collection.photos[target].scale_xy) * 256 / run.alignment.size_hw[0]
            error = np.hypot(*((np.array([place["x"], place["y"]]) - truth.points_image[0]) * scale))
            worst = max(worst, float(error))
            assert place["confidence"] == pytest.approx(truth.confidence[0], abs=0.05)
    assert worst < 0.1


def test_canonical_tile_marks_all_photos(page: Any, run: Any) -> None:
    page.mouse.move(*_screen(page, run, -1, (128.25, 120.5)))
    _settle(page)
    tile = page.locator("#viewer .canonical")
    canonical = np.array([float(tile.get_attribute("data-x")), float(tile.get_attribute("data-y"))])
    for photo, place in enumerate(_marked(page)):
        found = run.alignment.to_canonical([[place["x"], place["y"]]], photo)[0]
        assert np.hypot(*(found - canonical)) < 0.02


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_pins_come_back_from_a_file(page: Any, run: Any, tmp_path: Path, kind: str) -> None:
    first = _inside(run, 1, seed=7, count=1)
    page.mouse.click(*_screen(page, run, 1, first[0]))
    # Far from where the first pin shows: a click on a pin takes hold of it.
    found = run.alignment.transfer(run.collection.photos[1].to_image(first), 1, 3, "canonical").points_image
    choices = _inside(run, 3, seed=7, count=50)
    apart = np.hypot(*(choices - run.collection.photos[3].to_model(found)).T)
    page.mouse.click(*_screen(page, run, 3, choices[apart.argmax()]))
    page.mouse.click(*_screen(page, run, -1, (30, 215)))
    page.locator("#pin-list input").first.fill('the "left", one')
    page.locator("#pin-list input").first.blur()

    def save(name: str) -> str:
        with page.expect_download() as download:
            page.click(f"#pins-{kind}")
        download.value.save_as(tmp_path / name)
        return (tmp_path / name).read_text("utf-8")

    saved = save(f"first.{kind}")
    assert saved.count("the ") == len(run.collection) + 1
    page.click("#pins-clear")
    assert page.locator("#pin-list li").count() == 0
    page.set_input_files("#pins-file", tmp_path / f"first.{kind}")
    page.locator("#pin-list li").nth(2).wait_for()
    assert page.locator("#message").inner_text().startswith("3 pins read")
    read = (lambda text: list(csv.DictReader(text.splitlines(True)))) if kind == "csv" else _places
    for one, other in zip(read(saved), read(save(f"second.{kind}")), strict=True):
        assert (one["pin"], one["photo"], one["placed"]) == (other["pin"], other["photo"], other["placed"])
        for field in ("x", "y", "confidence"):
            assert float(one[field]) == pytest.approx(float(other[field]), abs=1e-3)


def _places(text: str) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = json.loads(text)["places"]
    return places


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\r\n1,2\r\n", "columns pin, photo"),
        ('{"format": "other"}', "format asic-pins"),
        ("pin,photo,x,y,confidence,placed\r\np,absent.png,1,2,1,1\r\n", "no photo absent.png"),
        ("pin,photo,x,y,confidence,placed\r\np,,one,2,1,1\r\n", "must be numbers"),
    ],
)
def test_pin_files_that_do_not_fit_are_refused(page: Any, tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "pins.txt").write_text(content)
    page.set_input_files("#pins-file", tmp_path / "pins.txt")
    page.locator("#message:not(:empty)").wait_for()
    assert reason in page.locator("#message").inner_text()
    assert page.locator("#pin-list li").count() == 0


def test_dragging_a_pin_places_it_anew(page: Any, run: Any) -> None:
    start, end = _inside(run, 2, seed=1, count=2)
    page.mouse.click(*_screen(page, run, 2, start))
    page.mouse.move(*_screen(page, run, 2, start))
    page.mouse.down()
    page.mouse.move(*_screen(page, run, 2, end), steps=4)
    page.mouse.up()
    _settle(page)
    assert page.locator("#pin-list li").count() == 1
    transform = page.locator(f"{_TILES[:-1]}='2'] .pin").get_attribute("transform")
    assert [float(value) for value in transform[10:-1].split()] == pytest.approx(end.tolist(), abs=0.6)


def test_keys_move_the_mark_and_pin_it(page: Any) -> None:
    page.locator(f"{_TILES[:-1]}='1'] .picture").focus()
    for key in ("ArrowRight", "Shift+ArrowUp", "Enter"):
        page.keyboard.press(key)
    assert page.locator("#pin-list li").count() == 1
    transform = page.locator(f"{_TILES[:-1]}='1'] .pin").get_attribute("transform")
    assert transform == "translate(128.50 117.50)"


def test_stroke_shows_at_its_place_on_other_photos(page: Any, run: Any) -> None:
    source, targets = 0, (1, 2, 4)
    # A place that all four photos are sure of.
    points = _inside(run, source, seed=5, count=200)
    photo = run.collection.photos
    sure = np.min(
        [
            run.alignment.transfer(photo[source].to_image(points), source, target, "canonical").confidence
            for target in targets
        ],
        axis=0,
    )
    point = points[sure.argmax()]
    before = {target: _pixels(page, target) for target in targets}
    page.check("input[name=tool][value=brush]")
    page.evaluate("document.getElementById('brush-size').value = 3")
    page.mouse.move(*_screen(page, run, source, point))
    page.mouse.down()
    page.mouse.move(*_screen(page, run, source, (point[0] + 3, point[1])), steps=3)
    page.mouse.up()
    _settle(page)
    colour = np.array([0xE0, 0x21, 0x8A])
    for target in targets:
        found = run.alignment.transfer(photo[source].to_image(point[None]), source, target, "canonical").points_image
        x, y = photo[target].to_model(found)[0].round().astype(int)
        after = _pixels(page, target)
        assert np.abs(after[y, x] - colour).max() <= 3
        changed = np.abs(after - before[target]).max(-1) > 12
        rows, columns = np.nonzero(changed)
        assert 20 < len(rows) < 3000
        assert np.hypot(columns.mean() - x, rows.mean() - y) < 12
        assert not (changed & ~run.alignment.foreground[target].numpy()).any()
    page.click("#undo")
    _settle(page)
    for target in targets:
        assert np.abs(_pixels(page, target) - before[target]).max() <= 1


def test_stamp_on_canonical_space_reaches_all_photos_and_is_saved(page: Any, run: Any, tmp_path: Path) -> None:
    page.check("input[name=tool][value=stamp]")
    page.fill("#stamp-text", "\N{BLACK SQUARE}")
    page.evaluate("document.getElementById('brush-size').value = 12")
    before = [_pixels(page, photo) for photo in range(len(run.collection))]
    page.mouse.click(*_screen(page, run, -1, (128, 128)))
    _settle(page)
    for photo, pixels in enumerate(before):
        assert (np.abs(_pixels(page, photo) - pixels).max(-1) > 12).sum() > 50
    # Photos out of sight are saved as well.
    page.set_viewport_size({"width": 500, "height": 300})
    page.fill("#morph", "0.5")
    with page.expect_download() as download:
        page.click("#save-photos")
    download.value.save_as(tmp_path / "saved.zip")
    with zipfile.ZipFile(tmp_path / "saved.zip") as archive:
        assert archive.testzip() is None
        names = sorted(archive.namelist())
        assert len(names) == len(run.collection) + 1
        saved = [np.asarray(Image.open(BytesIO(archive.read(name))).convert("RGB")).astype(int) for name in names]
    for photo, pixels in enumerate(saved[:-1]):
        assert pixels.any()
        np.testing.assert_array_equal(pixels, _pixels(page, photo))


def test_morph_ends_in_the_canonical_frame(page: Any, run: Any) -> None:
    """At the end a foreground pixel is where the canonical tile has its canonical position."""
    page.fill("#morph", "1")
    _settle(page)
    point = _inside(run, 2, seed=3, count=1)[0]
    canonical = run.alignment.maps[2, point[1], point[0]].numpy()
    left, top, right, bottom = page.evaluate("JSON.parse(document.getElementById('viewer-data').textContent).box")
    height, width = run.alignment.size_hw
    scale = min((width - 1) / (right - left), (height - 1) / (bottom - top))
    x, y = (canonical - [(left + right) / 2, (top + bottom) / 2]) * scale + [(width - 1) / 2, (height - 1) / 2]
    page.mouse.move(*_screen(page, run, 2, (x, y)))
    _settle(page)
    marked = _marked(page)[2]
    found = run.collection.photos[2].to_model(np.array([marked["x"], marked["y"]]))
    assert np.hypot(*(found - point)) < 1.5
    assert (_pixels(page, 2)[round(y), round(x)] > 0).any()


def test_overlays_change_the_photos_and_leave(page: Any) -> None:
    plain = _pixels(page, 1)
    for overlay in ("mask", "wheel", "grid", "confidence"):
        page.select_option("#overlay", overlay)
        _settle(page)
        assert np.abs(_pixels(page, 1) - plain).mean() > 5
    page.select_option("#overlay", "none")
    _settle(page)
    np.testing.assert_array_equal(_pixels(page, 1), plain)


def test_lines_of_a_chosen_pair_follow_the_threshold(page: Any) -> None:
    page.select_option("#pair-first", "3")
    page.select_option("#pair-second", "1")
    every = page.locator("#pair-lines line").count()
    assert every > 10
    page.fill("#pair-threshold", "0.97")
    assert page.locator("#pair-lines line").count() < every


def test_what_missed_most_opens_its_pair(page: Any, run: Any) -> None:
    thumbnails = page.locator("#worst button")
    worst = break_down(run.collection, run.alignment, run.truth).worst
    assert thumbnails.count() == len(worst) > 2
    miss = worst[2]
    assert thumbnails.nth(2).inner_text() == f"{run.truth.keypoint_names[miss.keypoint]} · {10 * miss.error:.1f}"
    thumbnails.nth(2).click()
    assert page.locator("#pair-first").input_value() == str(miss.source)
    assert page.locator("#pair-second").input_value() == str(miss.target)
    ring = page.locator("#pair-lines .miss .truth")
    x, y = run.collection.photos[miss.target].to_model(np.array(miss.truth_image))
    assert float(ring.get_attribute("cx")) == pytest.approx(x + run.alignment.size_hw[1] + 12, abs=0.01)
    assert float(ring.get_attribute("cy")) == pytest.approx(y, abs=0.01)
    page.select_option("#pair-first", "0")
    assert page.locator("#pair-lines .miss").count() == 0


def test_frames_stay_short(page: Any) -> None:
    page.evaluate("window.frameTimes.length = 0")
    for share in (0.2, 0.4, 0.6, 0.8, 1):
        page.fill("#morph", str(share))
        _settle(page)
    times = page.evaluate("window.frameTimes")
    assert len(times) > 5
    assert np.median(times) <= 8


def test_photo_without_foreground_and_collection_without_matches(
    browser: Any, opened: Any, run: Any, tmp_path: Path
) -> None:
    foreground = run.alignment.foreground.clone()
    foreground[2] = False
    alignment = replace(run.alignment, foreground=foreground)
    changed = {**vars(run), "matches": _NO_MATCHES, "alignment": alignment}
    write_report(tmp_path / "r.html", title="", **changed, summary={})
    with opened(browser, tmp_path / "r.html") as page:
        for share in ("0", "1"):
            page.fill("#morph", share)
            page.mouse.move(*_screen(page, run, -1, (120, 120)))
            _settle(page)
            assert page.locator(f"{_TILES} output:visible").count() == len(run.collection) - 1
        page.check("input[name=tool][value=brush]")
        page.mouse.click(*_screen(page, run, 2, (120, 120)))
        page.check("input[name=tool][value=look]")
        page.mouse.click(*_screen(page, run, 2, (120, 120)))
        assert page.locator("#pin-list li").count() == 1
        assert page.locator("#pair-count").inner_text().startswith("0 of 0")


def test_page_without_scripts_still_shows_the_pictures(browser: Any, report: Path, run: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#tools").is_hidden()
    assert page.locator("#pair-chooser").is_hidden()
    assert page.locator(".average img").first.is_visible()
    assert page.locator(f"{_TILES} img").count() == len(run.collection)
    context.close()


def test_phone_scrolls_in_one_direction_only(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(report.as_uri())
    page.wait_for_selector("#viewer[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
