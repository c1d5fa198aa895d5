"""The viewer in a real browser: Chromium, headless, driven by Playwright."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import max_pool2d

from asic_cli.breakdown import break_down
from asic_cli.report import write_report
from asic_cli.viewer.glide import Glide
from asic_eval import get_protocol
from asic_eval.benchmarks.spair import read_spair
from asic_flow.alignment import Alignment
from asic_flow.matches import MatchSet
from asic_flow.sides import SecondMaps

_NO_MATCHES = MatchSet(
    pairs=np.zeros((0, 2), np.int32),
    offsets=np.zeros(1, np.int64),
    xy_a=np.zeros((0, 2), np.float32),
    xy_b=np.zeros((0, 2), np.float32),
    score=np.zeros(0, np.float32),
    saliency=np.zeros(0, np.float32),
    support=np.zeros(0, np.int32),
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


def _when_changed(page: Any, photo: int, before: Any) -> Any:
    """A tile's pixels once they have changed and stand still, however busy the machine."""
    last = before
    for _ in range(100):
        page.wait_for_timeout(200)
        now = _pixels(page, photo)
        if (now != before).any() and (now == last).all():
            return now
        last = now
    return last


def _marked(page: Any) -> list[dict[str, Any]]:
    """What the tiles say of the marked place, in the photos' own pixels."""
    records = page.eval_on_selector_all(_TILES, "tiles => tiles.map(({ dataset }) => ({ ...dataset }))")
    return [
        {key: float(record[key]) for key in ("x", "y", "probability")} | {"visible": record["visible"] == "true"}
        for record in records
    ]


def _inside(run: Any, photo: int, seed: int, count: int) -> Any:
    """Foreground pixels (count, 2) xy of a photo, away from its border."""
    rows, columns = np.nonzero(run.alignment.foreground[photo].numpy())
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return np.stack((columns[chosen], rows[chosen]), 1)


def _away(run: Any, photo: int) -> Any:
    """Pixels (N, 2) xy of a photo that are well away from its object."""
    around = max_pool2d(run.alignment.foreground[photo].float()[None], 41, 1, 20)[0]
    away = torch.nonzero(around == 0).flip(1).numpy()
    return away[len(away) // 2 :]


def _pixels(page: Any, photo: int, taken: str = "canvas => canvas.toDataURL()") -> Any:
    selector = "#viewer .canonical canvas" if photo < 0 else f"{_TILES[:-1]}='{photo}'] canvas"
    return _decoded(base64.b64decode(page.eval_on_selector(selector, taken).split(",")[1]))


def _decoded(picture: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


_ENLARGE = """canvas => {
    const large = Object.assign(document.createElement("canvas"), { width: 512, height: 512 });
    large.getContext("2d", { willReadFrequently: true }).drawImage(canvas, 0, 0, 512, 512);
    return large.toDataURL();
}"""


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
            truth = run.alignment.transfer(here, source, target, method="consensus")
            scale = np.array(run.collection.photos[target].scale_xy) * 256 / run.alignment.size_hw[0]
            error = np.hypot(*((np.array([place["x"], place["y"]]) - truth.points_image[0]) * scale))
            worst = max(worst, float(error))
            assert place["probability"] == pytest.approx(truth.probability[0], abs=0.04)
            assert place["visible"] == truth.visible[0]
    assert worst < 0.1


def test_tiles_say_how_likely_a_place_is_right_and_where_it_is_not_seen(page: Any, run: Any) -> None:
    source, said = 0, set()
    for point in _inside(run, source, seed=1, count=12):
        page.mouse.move(*_screen(page, run, source, point))
        _settle(page)
        for target, place in enumerate(_marked(page)):
            tile = page.locator(f"{_TILES[:-1]}='{target}']")
            words, faint = tile.locator("output").inner_text(), tile.locator(".cross.unseen").count() == 1
            if target != source:
                # The place says its probability to four digits, so what rounds to a half may lie on either side of it.
                chances = {f"{np.floor(100 * place['probability'] + half):.0f} %" for half in (0.495, 0.505)}
                assert words in (chances if place["visible"] else {"not seen"})
                assert faint == (not place["visible"])
                said.add(faint)
    assert said == {True, False}
    page.mouse.move(*_screen(page, run, source, _away(run, source)[0]))
    _settle(page)
    assert page.locator(".tile output:visible").count() == 1
    assert page.locator(f"{_TILES[:-1]}='{source}'] output").inner_text().endswith("off the object")


def _carried(alignment: Alignment, source: int, point_px: Any, target: int) -> tuple[Any, float]:
    """(2,) model pixel of a target that a source's pixel is carried to, and the canonical distance that remains."""
    here, there = alignment.maps_between(source, target)
    canonical = alignment.places_on_maps(torch.tensor(np.array([point_px]), dtype=torch.float32), torch.tensor([here]))
    found, distance = alignment.look_up(canonical, there)
    return found[0].numpy(), float(distance)


def _missed(alignment: Alignment, source: int, point_px: Any, target: int, answer_px: Any) -> float:
    """The canonical distance between a source's pixel and a target's, by the maps between the two."""
    ends = torch.tensor(np.array([point_px, answer_px]), dtype=torch.float32)
    here, there = alignment.places_on_maps(ends, torch.tensor(alignment.maps_between(source, target)))
    return float((here - there).norm())


def test_places_travel_on_maps_that_keep_left_and_right_apart(
    browser: Any, opened: Any, two_sided: Any, tmp_path: Path
) -> None:
    write_report(tmp_path / "r.html", title="", **vars(two_sided), summary={})
    photos, own = two_sided.collection.photos, two_sided.alignment
    without = replace(own, second=SecondMaps.none(own.size_hw))
    with opened(browser, tmp_path / "r.html") as page:
        exchanged = 0
        for source in (0, 1, 3, 4):
            for point in _inside(two_sided, source, seed=source, count=4):
                page.mouse.move(*_screen(page, two_sided, source, point))
                _settle(page)
                marked = [(place["x"], place["y"]) for place in _marked(page)]
                for target in set(range(len(photos))) - {source}:
                    shown = photos[target].to_model(np.array(marked[target]))
                    answers = [run.transfer([marked[source]], source, target, "consensus") for run in (own, without)]
                    found, straight = (photos[target].to_model(answer.points_image[0]) for answer in answers)
                    if np.hypot(*(shown - found)) >= 1:
                        # Of a point that the target does not show, two places of its outline may be equally near.
                        assert not answers[0].visible[0]
                        asked = (own, source, photos[source].to_model(np.array(marked[source])), target)
                        assert _missed(*asked, shown) < _missed(*asked, found) + 2e-4
                    exchanged += np.hypot(*(straight - found)) > 10
        assert exchanged > 10


def test_paint_travels_on_maps_that_keep_left_and_right_apart(
    browser: Any, opened: Any, two_sided: Any, tmp_path: Path
) -> None:
    white = replace(two_sided.collection, images=torch.full_like(two_sided.collection.images, 255))
    write_report(tmp_path / "r.html", title="", **{**vars(two_sided), "collection": white}, summary={})
    with opened(browser, tmp_path / "r.html") as page:
        page.check("input[name=tool][value=brush]")
        page.evaluate("document.getElementById('brush-size').value = 3")
        seen = 0
        for source, colour in ((0, "#00a000"), (3, "#c00000"), (1, "#0000b0")):
            others = sorted(set(range(5)) - {source})
            # A place that all others show as well.
            point = min(
                _inside(two_sided, source, seed=1, count=60),
                key=lambda point: sum(_carried(two_sided.alignment, source, point, target)[1] for target in others),
            )
            page.evaluate(f"document.getElementById('colour').value = '{colour}'")
            page.mouse.click(*_screen(page, two_sided, source, point))
            _settle(page)
            paint = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            for target in others:
                (x, y), apart = _carried(two_sided.alignment, source, point, target)
                if apart < 1e-3:
                    seen += 1
                    assert np.abs(_pixels(page, target)[round(y), round(x)] - paint).max() <= 6
        # Photos 0 and 1, 1 and 3, and 3 and 4 reach each other by second maps only.
        assert seen >= 8
        for _ in range(3):
            page.click("#undo")
        _settle(page)
        for target in range(5):
            assert _pixels(page, target).min() >= 253


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
    # All can be read, and those that photos may not show look different.
    assert page.eval_on_selector_all(".pin", "pins => Math.min(...pins.map((pin) => pin.style.opacity))") >= 0.6
    third = page.locator(f"{_TILES} .pin.unseen:has-text('3') circle").first
    assert third.evaluate("dot => getComputedStyle(dot).fill") == "rgba(0, 0, 0, 0.733)"
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
        for field in ("x", "y", "probability", "visible"):
            assert float(one[field]) == pytest.approx(float(other[field]), abs=1e-3)


def _places(text: str) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = json.loads(text)["places"]
    return places


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\r\n1,2\r\n", "columns pin, photo"),
        ('{"format": "other"}', "format asic-pins"),
        ("pin,photo,x,y,probability,visible,placed\r\np,absent.png,1,2,1,1,1\r\n", "no photo absent.png"),
        ("pin,photo,x,y,probability,visible,placed\r\np,,one,2,1,1,1\r\n", "must be numbers"),
        ("pin,photo,x,y,probability,visible,placed\r\np,,1,2,1,1,1\r\np,,3,4,1,1,1\r\n", "two pins are named p"),
    ],
)
def test_pin_files_that_do_not_fit_are_refused(page: Any, tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "pins.txt").write_text(content)
    page.set_input_files("#pins-file", tmp_path / "pins.txt")
    page.locator("#message:not(:empty)").wait_for()
    assert reason in page.locator("#message").inner_text()
    assert page.locator("#pin-list li").count() == 0


def test_pins_keep_names_of_their_own(page: Any, run: Any) -> None:
    spread = [points[0] for points in (_inside(run, photo, seed=7, count=1) for photo in range(4))]
    for photo in (0, 1, 2):
        page.mouse.click(*_screen(page, run, photo, spread[photo]))
    names = page.locator("#pin-list input")
    assert names.count() == 3
    page.get_by_role("button", name="Remove pin 1").click()
    assert page.evaluate("document.activeElement.ariaLabel") == "Remove pin 1"
    page.mouse.click(*_screen(page, run, 3, spread[3]))
    assert [names.nth(pin).input_value() for pin in range(3)] == ["pin 2", "pin 3", "pin 4"]
    names.nth(2).fill("pin 2")
    names.nth(2).blur()
    assert names.nth(2).input_value() == "pin 4"
    assert page.locator("#message").inner_text() == "another pin is named pin 2"
    for _ in range(3):
        page.get_by_role("button", name="Remove pin 1").press("Enter")
    assert page.evaluate("document.activeElement.id") == "pins-file"


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


def test_keys_go_where_they_point_and_marks_ride_along(page: Any, run: Any) -> None:
    mirrored = run.alignment.mirrored.nonzero()[0].item()

    def marks() -> Any:
        places = "marks => marks.map((mark) => mark.getAttribute('transform').slice(10, -1).split(' ').map(Number))"
        return np.array(page.eval_on_selector_all("#viewer .cross", places))

    page.fill("#morph", "1")
    page.locator(f"{_TILES[:-1]}='{mirrored}'] .picture").focus()
    page.keyboard.press("Shift+ArrowRight")
    before = marks()
    page.keyboard.press("Shift+ArrowRight")
    after = marks()
    assert (after - before)[mirrored + 1] == pytest.approx([10, 0], abs=3)
    # The photos move, and the marks with them.
    places = np.array([[place["x"], place["y"]] for place in _marked(page)])
    page.eval_on_selector("#morph", "morph => { morph.value = 0; morph.dispatchEvent(new Event('input')); }")
    _settle(page)
    home = marks()
    shown = [photo.to_image(point) for photo, point in zip(run.collection.photos, home[1:], strict=True)]
    assert np.abs(shown - places).max() < 0.1
    page.keyboard.press("ArrowRight")
    assert (marks() - home)[mirrored + 1] == pytest.approx([1, 0], abs=0.02)


def test_keys_stamp_as_well(page: Any) -> None:
    page.check("input[name=tool][value=stamp]", force=True)
    page.fill("#stamp-text", "\N{BLACK SQUARE}")
    before = _pixels(page, 2)
    page.locator("#viewer .canonical .picture").focus()
    for key in ("ArrowUp", "Enter"):
        page.keyboard.press(key)
    assert (_when_changed(page, 2, before) != before).any()
    assert page.locator("#pin-list li").count() == 0
    page.keyboard.press("Control+z")
    page.wait_for_timeout(500)
    np.testing.assert_array_equal(_pixels(page, 2), before)


def test_tools_stay_in_one_line_at_1280(page: Any) -> None:
    heights = set()
    for tool in ("look", "brush", "stamp"):
        page.check(f"input[name=tool][value={tool}]", force=True)
        heights.add(round(page.locator("#tools").bounding_box()["height"]))
    assert max(heights) < 60


def test_photos_grow_and_places_stay(webgl_browser: Any, opened: Any, report: Path, run: Any) -> None:
    with opened(webgl_browser, report) as page:
        frame = page.locator(f"{_TILES[:-1]}='2'] .picture")
        before = frame.bounding_box()["width"]
        in_a_row = "tiles => getComputedStyle(tiles).gridTemplateColumns.split(' ').length"
        for _ in range(4):
            said = -int(page.locator("#tile-size").input_value())
            assert said == page.eval_on_selector("#viewer .tiles", in_a_row)
            page.locator("#tile-size").press("ArrowRight")
        assert said == 3
        assert frame.bounding_box()["width"] >= 400 > 1.5 * before
        frame.scroll_into_view_if_needed()
        page.mouse.move(*_screen(page, run, 2, (100, 120)))
        _settle(page)
        assert _marked(page)[2]["x"] == pytest.approx(run.collection.photos[2].to_image([100, 120])[0], abs=0.5)
        page.fill("#morph", "1")
        page.fill("#tile-size", "-3")
        _settle(page)
        stage, tiles = page.locator(".stage").bounding_box(), page.locator("#viewer .tiles").bounding_box()
        assert stage == pytest.approx(tiles, abs=1)


def test_tiles_are_named_and_leaving_them_takes_the_mark_away(page: Any) -> None:
    frame = page.get_by_role("application", name="line\nbreak.png: arrow keys")
    frame.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".cross[visibility=visible]").count() > 0
    page.locator("#overlay").focus()
    _settle(page)
    assert page.locator(".cross[visibility=visible]").count() == 0


def test_tools_act_on_the_object_only(page: Any, run: Any) -> None:
    source, others = 0, range(-1, len(run.collection))
    here, there = _away(run, source)[:2]
    before = {photo: _pixels(page, photo) for photo in others}
    for tool in ("look", "brush", "stamp"):
        page.check(f"input[name=tool][value={tool}]", force=True)
        page.mouse.move(*_screen(page, run, source, here))
        page.mouse.down()
        page.mouse.move(*_screen(page, run, source, there), steps=3)
        page.mouse.up()
        _settle(page)
        assert page.locator(f"{_TILES[:-1]}='{source}'] output").inner_text().endswith("off the object")
    assert page.locator("#pin-list li").count() == 0
    for photo in others:
        np.testing.assert_array_equal(_pixels(page, photo), before[photo])
    # A stroke that begins there paints once it is on the object, and is undone at once.
    page.check("input[name=tool][value=brush]", force=True)
    page.mouse.move(*_screen(page, run, source, here))
    page.mouse.down()
    page.mouse.move(*_screen(page, run, source, _inside(run, source, seed=2, count=1)[0]))
    page.mouse.up()
    assert (_when_changed(page, source, before[source]) != before[source]).any()
    page.click("#undo")
    _settle(page)
    for photo in others:
        np.testing.assert_array_equal(_pixels(page, photo), before[photo])


def test_a_brush_held_still_paints_once(page: Any, run: Any) -> None:
    x, y = _screen(page, run, 0, _inside(run, 0, seed=2, count=1)[0])
    frame = page.locator(f"{_TILES[:-1]}='0'] .picture")
    page.check("input[name=tool][value=brush]")
    page.mouse.click(x, y)
    _settle(page)
    once = _shown(page, 0)
    page.click("#undo")
    page.mouse.move(x, y)
    page.mouse.down()
    for _ in range(3):
        frame.dispatch_event("pointermove", {"clientX": x, "clientY": y, "bubbles": True})
        _settle(page)
    page.mouse.up()
    _settle(page)
    np.testing.assert_array_equal(_shown(page, 0), once)


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
        saved = [_decoded(archive.read(name)) for name in names]
    for photo, pixels in enumerate(saved[:-1]):
        assert pixels.any()
        np.testing.assert_array_equal(pixels, _pixels(page, photo, _ENLARGE))


def test_a_picture_is_stamped_until_words_are_written(page: Any, run: Any, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (0, 160, 0)).save(tmp_path / "green.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    point = _inside(run, 0, seed=3, count=1)[0]
    page.check("input[name=tool][value=stamp]", force=True)
    page.set_input_files("#stamp-image", tmp_path / "green.png")
    page.locator(".file.chosen").wait_for()
    page.mouse.click(*_screen(page, run, 0, point))
    _settle(page)
    x, y = point
    assert np.abs(_pixels(page, 0)[y, x] - (0, 160, 0)).max() <= 6
    page.set_input_files("#stamp-image", tmp_path / "broken.png")
    page.locator("#message", has_text="broken.png: no picture").wait_for()
    page.fill("#stamp-text", "\N{BLACK SQUARE}")
    page.evaluate("document.getElementById('colour').value = '#c00000'")
    page.mouse.click(*_screen(page, run, 0, point))
    _settle(page)
    assert np.abs(_pixels(page, 0)[y, x] - (192, 0, 0)).max() <= 6


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


@pytest.mark.parametrize("photo", range(5))
def test_marks_glide_along(page: Any, run: Any, photo: int) -> None:
    """Well on the way, a place is marked where `Glide` takes it, on mirrored photos as well."""
    left, top, right, bottom = page.evaluate("JSON.parse(document.getElementById('viewer-data').textContent).box")
    scale = min(255 / (right - left), 255 / (bottom - top))
    tiles = (run.maps.maps - np.array([left + right, top + bottom], np.float32) / 2) * np.float32(scale) + 127.5
    places = Glide.fit(tiles, run.maps.foreground, run.maps.mirrored).places(tiles, 0.7)
    page.fill("#morph", "0.7")
    for point in _inside(run, photo, seed=4, count=30):
        x, y = places[photo, point[1], point[0]].tolist()
        if 5 < x < 250 and 5 < y < 250:
            break
    page.mouse.move(*_screen(page, run, photo, (x, y)))
    _settle(page)
    transform = page.locator(f"{_TILES[:-1]}='{photo}'] .cross").get_attribute("transform")
    assert [float(value) for value in transform[10:-1].split()] == pytest.approx([x, y], abs=1.5)


def _shown(page: Any, photo: int) -> Any:
    """A tile as it is on screen once it stands still, without what is marked on it."""
    page.add_style_tag(content=".picture svg, .picture output { visibility: hidden; }")
    picture = page.locator(f"{_TILES[:-1]}='{photo}'] .picture")
    last = b""
    for _ in range(30):
        now = picture.screenshot()
        if now == last:
            break
        last = now
        page.wait_for_timeout(150)
    return np.asarray(Image.open(io.BytesIO(last)).convert("RGB")).astype(int)


def test_webgl_shows_and_saves_what_the_canvas_does(
    browser: Any, webgl_browser: Any, opened: Any, report: Path, run: Any, tmp_path: Path
) -> None:
    shown, saved = [], []
    for one in (browser, webgl_browser):
        with opened(one, report) as page:
            if one is webgl_browser:
                page.locator(".stage").wait_for(state="attached")
            page.check("input[name=tool][value=brush]")
            page.mouse.click(*_screen(page, run, 0, _inside(run, 0, seed=2, count=1)[0]))
            page.check("input[name=tool][value=look]")
            for share in ("0.15", "0.6"):
                page.fill("#morph", share)
                page.wait_for_timeout(400)
                shown += [_shown(page, photo) for photo in (0, 2)]
            assert page.locator(".gliding").count() == (one is webgl_browser)
            with page.expect_download() as download:
                page.locator(".tile .save").nth(3).click()
            download.value.save_as(tmp_path / "saved.png")
            saved.append(np.asarray(Image.open(tmp_path / "saved.png")).astype(int))
            page.fill("#morph", "0")
            page.wait_for_timeout(300)
            shown += [_shown(page, photo) for photo in (0, 2)]
    np.testing.assert_array_equal(*saved)
    for flat, drawn in zip(shown[:6], shown[6:], strict=True):
        # Edges differ: they are soft in one and hard in the other.
        assert np.median(np.abs(flat - drawn).max(2)) <= 3
        assert np.abs(flat - drawn).mean() < 8


def test_without_webgl_from_some_moment_on_the_canvas_goes_on(webgl_browser: Any, opened: Any, report: Path) -> None:
    with opened(webgl_browser, report) as page:
        page.locator(".stage").wait_for(state="attached")
        before = _pixels(page, 2)
        page.fill("#morph", "0.5")
        page.locator(".stage").wait_for(state="visible")
        np.testing.assert_array_equal(_pixels(page, 2), before)
        page.evaluate(
            "document.querySelector('.stage').getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
        )
        page.locator(".stage").wait_for(state="detached")
        assert (_when_changed(page, 2, before) != before).any()
        assert page.locator(".gliding").count() == 0


def test_parts_have_the_colours_of_their_labels(browser: Any, opened: Any, run: Any, tmp_path: Path) -> None:
    height, width = run.alignment.size_hw
    parts = torch.zeros(len(run.collection), height, width, dtype=torch.uint8)
    parts[:, 50:100, 30:90], parts[:, 100:, 200:] = 1, 3
    collection = replace(run.collection, parts=parts, images=torch.full_like(run.collection.images, 100))
    write_report(tmp_path / "r.html", title="", **{**vars(run), "collection": collection}, summary={})
    with opened(browser, tmp_path / "r.html") as page:
        before = _pixels(page, 1)
        page.select_option("#overlay", "parts")
        shown = _when_changed(page, 1, before)
        for label, colour in ((1, (230, 80, 70)), (3, (250, 190, 50))):
            expected = 100 + 0.62 * (np.array(colour) - 100)
            assert np.abs(shown[parts[1].numpy() == label] - expected).max() <= 3
        assert np.ptp(shown[parts[1].numpy() == 0], axis=0).max() == 0


def test_places_that_come_home_have_no_cycle_error(browser: Any, opened: Any, run: Any, tmp_path: Path) -> None:
    same = [0] * len(run.collection)
    alignment = replace(run.alignment, maps=run.alignment.maps[same], foreground=run.alignment.foreground[same])
    # In photo 0 a stripe shows what no other photo does, so from there nothing comes home.
    foreground = alignment.foreground.clone()
    foreground[1:, :, :110] = False
    alignment = replace(alignment, foreground=foreground)
    collection = replace(run.collection, images=torch.full_like(run.collection.images, 100))
    changed = {**vars(run), "collection": collection, "alignment": alignment}
    write_report(tmp_path / "r.html", title="", **changed, summary={})
    with opened(browser, tmp_path / "r.html") as page:
        before = _pixels(page, 0)
        page.select_option("#overlay", "cycle")
        shown, inside = _when_changed(page, 0, before), foreground[0].numpy()
        dark = 100 + 0.72 * (np.array([68, 20, 84]) - 100)
        home = inside.copy()
        home[:, :116] = False
        assert home.sum() > 100
        assert np.abs(shown[home] - dark).max() < 12
        # What is too far from all that the others show is grey: no other photo shows it.
        canonical = alignment.maps[0]
        apart = torch.cdist(canonical[inside], canonical[foreground[1]]).amin(1).numpy()
        assert (np.ptp(shown[inside][apart > 0.12], axis=1) == 0).all()
        away = shown[inside][(apart > 0.06) & (apart < 0.08)]
        assert len(away) > 30
        assert (np.abs(away - dark).max(1) > 12).mean() > 0.9


def test_overlays_change_the_photos_and_leave(page: Any) -> None:
    plain = _pixels(page, 1)
    for overlay in ("mask", "wheel", "grid", "confidence", "saliency", "cycle"):
        before = _pixels(page, 1)
        page.select_option("#overlay", overlay)
        assert np.abs(_when_changed(page, 1, before) - plain).mean() > 5
        assert page.locator("#ramp").is_visible() == (overlay in ("confidence", "saliency", "cycle"))
    before = _pixels(page, 1)
    page.select_option("#overlay", "none")
    np.testing.assert_array_equal(_when_changed(page, 1, before), plain)


def test_lines_of_a_chosen_pair_follow_the_threshold(page: Any) -> None:
    page.select_option("#pair-first", "3")
    page.select_option("#pair-second", "1")
    every = page.locator("#pair-lines line").count()
    assert every > 10
    page.fill("#pair-threshold", "0.97")
    assert page.locator("#pair-lines line").count() < every


def test_what_missed_most_opens_its_pair(page: Any, run: Any) -> None:
    thumbnails = page.locator("#worst button")
    worst = break_down(run.collection.settings, run.alignment, run.truth).worst
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
    page.fill("#pair-threshold", "0.5")
    assert page.locator("#pair-lines .miss").count() == 1
    page.select_option("#pair-first", "0")
    assert page.locator("#pair-lines .miss").count() == 0


def test_errors_of_annotated_points_are_those_of_the_library(page: Any, run: Any) -> None:
    source, truth = 2, run.truth
    page.select_option("#truth-source", str(source))
    lengths = get_protocol("spair-official").lengths(truth)
    right, asked = 0, 0
    for target in set(range(len(truth.images))) - {source}:
        both = truth.images[source].visible & truth.images[target].visible
        found = run.alignment.transfer(truth.images[source].points_image[both], source, target, "consensus")
        error = np.hypot(*(found.points_image - truth.images[target].points_image[both]).T) / lengths[target]
        marks = page.locator(f"{_TILES[:-1]}='{target}'] .error")
        assert marks.count() == both.sum()
        good = page.locator(f"{_TILES[:-1]}='{target}'] .error.good").count()
        assert good == pytest.approx((error <= 0.05).sum(), abs=1)
        right, asked = right + (error <= 0.1).sum(), asked + both.sum()
    words = page.locator("#truth-message").inner_text().split()
    assert [int(words[0]), int(words[2])] == pytest.approx([right, asked], abs=1)
    page.select_option("#truth-source", "-1")
    assert page.locator(".error").count() == 0


def test_pins_saved_as_spair_are_read_by_its_reader_and_open_as_truth(page: Any, run: Any, tmp_path: Path) -> None:
    source = 1
    for point in _inside(run, source, seed=2, count=2):
        page.mouse.click(*_screen(page, run, source, point))
    page.locator("#pin-list input").first.fill("left eye")
    page.locator("#pin-list input").first.blur()
    names = page.locator("#pin-list input")
    with page.expect_download() as download:
        page.click("#pins-spair")
    download.value.save_as(tmp_path / "pins.zip")
    with zipfile.ZipFile(tmp_path / "pins.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "spair")
    benchmark = read_spair(tmp_path / "spair", "pins")
    assert benchmark.keypoint_names == tuple(names.nth(index).input_value() for index in range(names.count()))
    assert len(benchmark.images) == len(run.collection)
    assert len(benchmark.pairs) == len(run.collection) * (len(run.collection) - 1)
    known = {f"pins/{_unicode(photo.path)}": index for index, photo in enumerate(run.collection.photos)}
    here = next(image for image in benchmark.images if known[image.name] == source)
    for image in benchmark.images:
        target = known[image.name]
        assert image.size_hw == run.collection.photos[target].size_hw
        if target != source:
            found = run.alignment.transfer(here.points_image, source, target, "consensus").points_image
            assert np.hypot(*(found - image.points_image).T).max() < 1
    files = sorted((tmp_path / "spair" / "ImageAnnotation").rglob("*.json"))
    assert len(files) == len(run.collection)
    page.set_input_files("#truth-file", files)
    message = page.locator("#truth-message", has_text="within")
    message.wait_for()
    page.select_option("#truth-source", str(source))
    count = len(benchmark.keypoint_names) * (len(run.collection) - 1)
    assert message.inner_text().startswith(f"{count} of {count} within 0.10 (100 %)")


def _unicode(name: str) -> str:
    """A name as a file of text can hold it."""
    return "".join("\N{REPLACEMENT CHARACTER}" if 0xD800 <= ord(letter) < 0xE000 else letter for letter in name)


@pytest.mark.parametrize("kind", ["truth.json", "pins.csv", "pins.json"])
def test_truth_is_opened_from_files(page: Any, run: Any, tmp_path: Path, kind: str) -> None:
    document = run.truth.to_json()
    places = []
    for photo, image in zip(run.collection.photos, document["images"], strict=True):
        image["name"] = _unicode(photo.path)
        for keypoint, (point, seen) in enumerate(zip(image["points_image"], image["visible"], strict=True)):
            if seen:
                places.append({"pin": f"k{keypoint}", "photo": image["name"], "x": point[0], "y": point[1]})
    if kind == "truth.json":
        text = json.dumps(document)
    elif kind == "pins.json":
        text = json.dumps({"format": "asic-pins", "version": 1, "places": places})
    else:
        stream = io.StringIO()
        writer = csv.writer(stream)
        writer.writerow(["pin", "photo", "x", "y", "probability", "visible", "placed"])
        writer.writerows([*place.values(), 1, 1, 1] for place in places)
        text = stream.getvalue()
    (tmp_path / kind).write_bytes(text.encode())
    page.select_option("#truth-source", "2")
    before = page.locator("#truth-message").inner_text().split()
    page.select_option("#truth-source", "-1")
    page.set_input_files("#truth-file", tmp_path / kind)
    page.locator("#truth-message", has_text="within").wait_for()
    page.select_option("#truth-source", "2")
    after = page.locator("#truth-message").inner_text().split()
    assert after[2] == before[2]
    assert kind != "truth.json" or after == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "t.json: "),
        ('{"format": "other"}', "t.json: expected truth.json, a file of pins, or image annotations"),
        ('{"filename": "absent.png", "kps": {"0": [1, 2]}}', "t.json: it annotates no photo of this page"),
        ('{"filename": "a.png", "kps": {"0": [1, "x"]}}', "t.json: positions must be two numbers"),
        ('{"filename": "a.png", "kps": {"0": [1, 2]}, "bndbox": [5, 5, 5, 5]}', "t.json: boxes must have a size"),
        ('{"format": "asic-eval keypoint benchmark"}', "t.json: expected keypoint_names and images"),
        ("a,b\n", "columns pin, photo"),
        (
            "pin,photo,x,y,probability,visible,placed\r\np,🐦/a.png,1,2,1,1,1\r\np,🐦/a.png,3,4,1,1,1\r\n",
            "t.json: p is twice on 🐦/a.png",
        ),
    ],
)
def test_truth_that_does_not_fit_is_refused(page: Any, tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "t.json").write_text(content, encoding="utf-8")
    page.set_input_files("#truth-file", tmp_path / "t.json")
    page.locator("#truth-message", has_text=reason).wait_for(timeout=5000)


def test_average_of_chosen_photos(page: Any) -> None:
    whole = _pixels(page, -1)
    page.click("#average-none")
    page.locator(".chosen input").nth(2).check()
    alone = _when_changed(page, -1, whole)
    before = _pixels(page, 2)
    page.fill("#morph", "1")
    photo = _when_changed(page, 2, before)
    shown = photo.any(2) & alone.any(2)
    assert shown.sum() > 1000
    assert np.median(np.abs(photo - alone)[shown]) == 0
    page.click("#average-all")
    np.testing.assert_array_equal(_when_changed(page, -1, alone), whole)


def test_a_tile_is_saved_as_it_is_shown(page: Any, run: Any, tmp_path: Path) -> None:
    def saved() -> Any:
        with page.expect_download() as download:
            page.locator(".tile .save").nth(5).click()
        assert download.value.suggested_filename == "005-_a.png"
        download.value.save_as(tmp_path / "saved.png")
        return _decoded((tmp_path / "saved.png").read_bytes())

    page.select_option("#overlay", "wheel")
    plain = saved()
    np.testing.assert_array_equal(plain, _pixels(page, 4, _ENLARGE))
    # With marks: a white number on a pin's red, and annotated points of this photo, all of them given.
    x, y = _inside(run, 4, seed=1, count=1)[0]
    page.mouse.click(*_screen(page, run, 4, (x, y)))
    page.select_option("#truth-source", "4")
    marked = saved()
    radius = round(2 * 7 / 176 * 256)
    pin = marked[2 * y - radius : 2 * y + radius, 2 * x - radius : 2 * x + radius]
    red = page.locator(".pin").first.evaluate("pin => pin.style.getPropertyValue('--pin')")
    assert red.startswith("oklch")
    assert ((pin[..., 0] > 190) & (pin[..., 2] < 90)).mean() > 0.3
    assert (pin.min(-1) > 250).mean() > 0.05
    points = run.truth.images[4].points_image[run.truth.images[4].visible]
    for column, row in run.collection.photos[4].to_model(points).round().astype(int):
        if np.hypot(column - x, row - y) > 20:
            assert np.abs(marked[2 * row + 1, 2 * column + 1] - (255, 216, 74)).max() <= 6
    changed = (marked != plain).any(-1)
    assert changed.mean() < 0.1


@pytest.fixture(scope="module")
def thirty(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of thirty photos: the five, six times over."""
    again = torch.arange(30) % 5
    collection, alignment = run.collection, run.alignment
    photos = tuple(replace(collection.photos[index], path=f"{place}.png") for place, index in enumerate(again.tolist()))
    collection = replace(
        collection,
        photos=photos,
        **{name: getattr(collection, name)[again] for name in ("images", "masks", "descriptors", "saliency")},
    )
    names = ("maps", "confidence", "foreground", "mirrored", "support")
    alignment = replace(alignment, photos=photos, **{name: getattr(alignment, name)[again] for name in names})
    path = tmp_path_factory.mktemp("thirty") / "r.html"
    write_report(path, title="", collection=collection, matches=_NO_MATCHES, alignment=alignment, summary={})
    return path


_GLIDE_AND_HOVER = """async () => {
    const nextFrame = () => new Promise((done) => requestAnimationFrame(done));
    const morph = document.getElementById("morph");
    const pictures = document.querySelectorAll("#viewer .picture");
    for (let step = 0; step <= 12; step++) {
        morph.value = step / 12;
        morph.dispatchEvent(new Event("input"));
        const box = pictures[3].getBoundingClientRect();
        const place = { clientX: box.x + (step / 12) * box.width, clientY: box.y + box.height / 2 };
        pictures[3].dispatchEvent(new PointerEvent("pointermove", place));
        await nextFrame();
    }
}"""


@pytest.mark.parametrize("kind", ["browser", "webgl_browser"])
@pytest.mark.usefixtures("driver")  # Where there is none, no page is drawn for it.
def test_frames_of_thirty_photos_stay_short(
    request: pytest.FixtureRequest, opened: Any, thirty: Path, kind: str
) -> None:
    assert thirty.stat().st_size < 6e6
    with opened(request.getfixturevalue(kind), thirty) as page:
        page.wait_for_timeout(1000)
        session = page.context.new_cdp_session(page)
        # Script's own time on the main thread, whatever else the machine does.
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def script_ms() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return 1000 * next(metric["value"] for metric in metrics if metric["name"] == "ScriptDuration")

        page.evaluate("window.frameTimes.length = 0")
        before = script_ms()
        page.evaluate(_GLIDE_AND_HOVER)
        page.wait_for_timeout(300)
        frames = page.evaluate("window.frameTimes.length")
        assert frames > 12
        assert (script_ms() - before) / frames <= 8


_COUNT_SETTING_UP = """
    window.settingUp = [];
    for (const name of ["compileShader", "linkProgram", "useProgram", "texStorage3D", "texSubImage3D"]) {
        const known = WebGL2RenderingContext.prototype[name];
        WebGL2RenderingContext.prototype[name] = function (...given) {
            window.settingUp.push(name);
            return known.apply(this, given);
        };
    }
"""


def test_the_first_glide_finds_all_set_up(webgl_browser: Any, report: Path) -> None:
    page = webgl_browser.new_page()
    page.add_init_script(_COUNT_SETTING_UP)
    page.goto(report.as_uri())
    page.wait_for_selector("#viewer[data-ready]")
    while page.evaluate("window.settingUp.filter((name) => name === 'texSubImage3D').length") < 10:
        page.wait_for_timeout(50)
    _settle(page)
    page.evaluate("window.settingUp.length = 0")
    page.fill("#morph", "0.5")
    _settle(page)
    assert page.locator(".stage").is_visible()
    assert page.evaluate("window.settingUp") == []
    page.close()


def test_a_finger_scrolls_looks_around_and_pins(browser: Any, report: Path, run: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("#viewer[data-ready]")
    page.evaluate("document.querySelector('#viewer .tiles').scrollIntoView()")
    session = context.new_cdp_session(page)

    marks = page.locator(".cross[visibility=visible]")

    def stroke(across: float, along: float, start: float = 0) -> tuple[float, int]:
        """Draws a finger over a photo, from near its middle. How far the page scrolled, what was marked meanwhile."""
        before = page.evaluate("scrollY")
        box = page.locator(f"{_TILES[:-1]}='3'] .picture").bounding_box()
        x, y = box["x"] + box["width"] / 2 + start, box["y"] + box["height"] / 2
        for step in range(9):
            place = {"x": x + step / 8 * across, "y": y + step / 8 * along}
            kind = "touchMove" if step else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]})
            page.wait_for_timeout(20)
        _settle(page)
        marked = marks.count()
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        last = None
        while last != (last := page.evaluate("scrollY")):
            page.wait_for_timeout(300)
        return last - before, marked

    pins = page.locator("#pin-list li")
    scrolled, _ = stroke(0, -90)
    assert scrolled > 50
    assert stroke(20, 0) == (0, len(run.collection) + 1)
    assert (pins.count(), marks.count()) == (0, 0)
    stroke(0, 0)
    # What a tap marked can be read, and so can its pin.
    assert (pins.count(), marks.count()) == (1, len(run.collection) + 1)
    assert page.locator(".pin circle").first.bounding_box()["width"] >= 14
    scrolled, _ = stroke(0, -40, start=-40)
    assert (scrolled > 20, marks.count()) == (True, 0)
    pin = page.locator(f"{_TILES[:-1]}='3'] .pin")
    before = pin.get_attribute("transform")
    scrolled, _ = stroke(0, 30, start=10)
    assert (scrolled, pins.count()) == (0, 1)
    assert pin.get_attribute("transform") != before
    context.close()


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
        assert page.locator("#pin-list li").count() == 0
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


def test_a_phone_has_room_for_all(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(report.as_uri())
    page.wait_for_selector("#viewer[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # The page scrolls in one direction only, names end in their numbers, and a finger finds what it is for.
    assert page.locator(f"{_TILES} .picture .badge").count() == 0
    tile = page.locator(_TILES).first
    assert tile.bounding_box()["width"] < 120
    parts = tile.locator(".name span")
    for part, words in enumerate(("n02085620_", "10074")):
        parts.nth(part).evaluate("(part, words) => { part.textContent = words; }", words)
    name, end = tile.locator(".name").bounding_box(), parts.nth(1).bounding_box()
    assert name["x"] - 0.5 <= end["x"]
    assert end["x"] + end["width"] <= name["x"] + name["width"] + 0.5
    for control in (".chosen", ".save"):
        box = tile.locator(control).bounding_box()
        assert min(box["width"], box["height"]) >= 18
    assert page.locator("#tile-size").input_value() == "-3"
    page.check("input[name=tool][value=stamp]", force=True)
    page.fill("#stamp-text", "HELLO")
    assert page.eval_on_selector("#stamp-text", "field => field.scrollWidth <= field.clientWidth")
    tops = page.eval_on_selector_all("#average-all, #average-none", "all => all.map((one) => one.offsetTop)")
    assert tops[0] == tops[1]
    page.emulate_media(media="print", color_scheme="dark")
    for control in ("#tools", ".tile .chosen >> nth=0", ".tile .save >> nth=0", ".size"):
        assert page.locator(control).is_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 28, 26)"
    page.close()
