"""One small drawn collection, described without weights and aligned once, for all tests of the report."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from asic_eval import KeypointBenchmark
from asic_eval.benchmarks.synthetic import draw_collection
from asic_features.config import FeatureConfig
from asic_features.extract import extract_collection
from asic_features.images import list_photos
from asic_flow.alignment import Alignment
from asic_flow.collection import ImageCollection
from asic_flow.collection_folder import CollectionArrays
from asic_flow.matches import MatchSet
from asic_flow.run_folder import AlignmentArrays
from asic_flow.sides import SecondMaps
from asic_flow.tokens import at_tokens

BROWSER = os.environ.get("ASIC_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
DEMANDED = "ASIC_BROWSER" in os.environ
HAS_DRIVER = importlib.util.find_spec("playwright") is not None

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_WITHOUT_WEBGL = ("--disable-gpu", "--disable-3d-apis")
_WEBGL_IN_SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
_TIME_FRAMES = """
    window.frameTimes = [];
    const ask = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (job) => ask((now) => {
        const start = performance.now();
        job(now);
        window.frameTimes.push(performance.now() - start);
    });
"""
HOSTILE_NAMES = (
    "<script>alert(1)</script>.png",
    "line\nbreak.png",
    "quote\"'&amp;.png",
    "bytes-\udcff.png",
    "🐦/a.png",
)


@dataclass(frozen=True)
class Run:
    collection: ImageCollection
    matches: MatchSet
    alignment: Alignment
    truth: KeypointBenchmark

    @property
    def photos(self) -> CollectionArrays:
        return self.collection.arrays()

    @property
    def maps(self) -> AlignmentArrays:
        return self.alignment.arrays


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five creatures under hostile names, with few tokens, so that it is quick."""
    folder = tmp_path_factory.mktemp("photos")
    drawn = draw_collection(3, len(HOSTILE_NAMES), 300)
    for index, image in enumerate(drawn.images):
        Image.fromarray(image).save(folder / f"{index}.png")
    collection, matches = extract_collection(list_photos(folder), FeatureConfig(size=256, stride=12))
    photos = tuple(replace(photo, path=name) for photo, name in zip(collection.photos, HOSTILE_NAMES, strict=True))
    collection = replace(collection, photos=photos, settings={**collection.settings, "source": {"kind": "spair"}})
    return Run(collection, matches, Alignment.fit(collection, matches), drawn.benchmark)


@pytest.fixture(scope="session")
def two_sided(run: Run) -> Run:
    """The same, as if photos 1 and 3 showed both sides of their creature."""
    alignment = run.alignment
    second = SecondMaps(
        photo=torch.tensor([1, 3]),
        maps=alignment.maps[[1, 3]] * torch.tensor([-1.0, 1.0]) + 0.05 * torch.sin(alignment.maps[[1, 3]].flip(-1)),
        symmetry=torch.tensor([0.95, 0.9]),
    )
    mirrored = torch.tensor([False, True, False, False, True])
    image, token = alignment.token_image, alignment.token
    own = at_tokens(run.collection, alignment.maps)
    other = own.clone()
    other[second.photo] = at_tokens(run.collection, second.maps)
    places = torch.stack((own[image, token], other[image, token]), 1)
    places[mirrored[image]] = places[mirrored[image]].flip(1)
    return replace(run, alignment=replace(alignment, second=second, mirrored=mirrored, places=places))


@pytest.fixture
def summary() -> dict[str, Any]:
    """A summary of a collection with keypoints, each score a different number."""

    def scores(start: float) -> dict[str, Any]:
        return {
            "pck": {
                alpha: {"per_point": round(start + step, 4), "per_image": 0.001}
                for alpha, step in (("0.05", 0.0), ("0.10", 0.1))
            },
            "cycle": {
                "0.10": {
                    hops: {"end": round(start + step, 4), "every_hop": 0.002}
                    for hops, step in (("2", 0.2), ("3", 0.15))
                }
            },
        }

    return {
        "protocol": "drawn creatures",
        "default": "combined",
        "seconds": {"train": 1.25},
        "alignment": {"mask_iou_before": 0.25, "mask_iou_after": 0.5},
        "methods": {"combined": scores(0.612), "nearest_neighbour": scores(0.401), "canonical": scores(0.333)},
    }


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """What drives Chromium. Without either tests are skipped; a set ASIC_BROWSER names it and makes that a failure."""
    if not (BROWSER and HAS_DRIVER) and not DEMANDED:
        pytest.skip("needs chromium and playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver.chromium


@pytest.fixture(scope="session")
def browser(driver: Any) -> Iterator[Any]:
    """Chromium without WebGL, so that everything is drawn on 2-D canvases."""
    browser = driver.launch(executable_path=BROWSER, args=[*_ARGUMENTS, *_WITHOUT_WEBGL])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def webgl_browser(driver: Any) -> Iterator[Any]:
    """Chromium with WebGL2, by SwiftShader."""
    browser = driver.launch(executable_path=BROWSER, args=[*_ARGUMENTS, *_WEBGL_IN_SOFTWARE])
    yield browser
    browser.close()


@pytest.fixture
def opened() -> Any:
    """Opens a page. Afterwards: it logged no error, opened no dialogue and asked for nothing but itself."""
    return _opened


@contextmanager
def _opened(browser: Any, report: Path) -> Iterator[Any]:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.add_init_script(_TIME_FRAMES)
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", "blob:", report.as_uri())) else complaints.append(request.url)
        ),
    )
    page.goto(report.as_uri())
    page.wait_for_selector("#viewer[data-ready]")
    page.evaluate("document.getElementById('viewer').scrollIntoView()")
    yield page
    page.close()
    assert complaints == []
