from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from asic_cli.breakdown import break_down
from asic_cli.report import write_report

_VOID = {"meta", "img", "input", "br", "image", "line", "circle", "link"}


class _Page(HTMLParser):
    """Collects elements, attributes and visible text; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def count(self, tag: str, kind: str = "") -> int:
        return sum(name == tag and kind in (attributes.get("class") or "") for name, attributes in self.elements)


@pytest.fixture(scope="module")
def page_text(run: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    summary = {"default": "combined", "methods": {"combined": {"held_out": {"0.10": 0.7}}}}
    write_report(path, title="<b>Birds & co</b>", **vars(run), summary=summary)
    return path.read_text("utf-8")


def test_page_is_well_formed_and_has_every_part(run: Any, page_text: str) -> None:
    page = _Page(page_text)
    count = len(run.collection)
    assert page.count("figure", "average") == 2
    assert page.count("figure", "tile") == count
    # Three drawings, and the one that the script fills.
    assert page.count("figure", "pair") == 3 + 1
    assert page.count("line") > 30
    # Two averages, photos, cut-outs, painted photos and the wheel.
    assert page.count("img") == 2 + 3 * count + 1


def test_nothing_outside_the_file_is_asked_for(page_text: str) -> None:
    for _, attributes in _Page(page_text).elements:
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith("data:")
    assert not re.search(r"@import|url\(|https?:", page_text)
    assert "default-src 'none'" in page_text


def test_names_and_title_are_text(page_text: str) -> None:
    page = _Page(page_text)
    words = "".join(page.words)
    assert "<b>Birds & co</b>" in words
    assert "script>.png" in words
    assert "line␊break.png" in words
    assert "quote\"'&amp;.png" in words
    assert "bytes-\N{REPLACEMENT CHARACTER}.png" in words
    assert "a.png" in page.words
    assert page.count("b") == 0
    assert any(attributes.get("title") == "<script>alert(1)</script>.png" for _, attributes in page.elements)


def test_same_input_same_file(run: Any, summary: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, title="Twice", **vars(run), summary=summary)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.html", "b.html"}


def test_figures_come_from_the_summary(run: Any, summary: dict[str, Any], tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", title="Scores", **vars(run), summary=summary)
    words = _Page((tmp_path / "report.html").read_text("utf-8")).words
    assert words[words.index("PCK@0.10") - 1] == "71.2"
    assert words[words.index("points over nearest neighbour") - 1] == "+21.1"
    assert "25 → 50 %" in words
    assert "scored in 1 s" in words


def test_scores_by_photo_and_by_keypoint(run: Any, page_text: str) -> None:
    breakdown = break_down(run.collection.settings, run.alignment, run.truth)
    words = _Page(page_text).words
    start = words.index("Keypoint")
    for name, share in zip(run.truth.keypoint_names, breakdown.by_keypoint, strict=True):
        row = words[words.index(name, start) :]
        assert row[1:3] == [f"{100 * share.hits / share.total:.0f} ", f"({share.total})"]


def test_photo_without_foreground_is_flagged(run: Any, tmp_path: Path) -> None:
    foreground = run.alignment.foreground.clone()
    foreground[2] = False
    alignment = replace(run.alignment, foreground=foreground, confidence=run.alignment.confidence * foreground)
    write_report(
        tmp_path / "r.html",
        title="Empty",
        collection=run.collection,
        matches=run.matches,
        alignment=alignment,
        summary={},
    )
    words = _Page((tmp_path / "r.html").read_text("utf-8")).words
    assert "no foreground" in words
    assert "Not scored yet; " in words


def test_all_photos_empty_still_make_a_page(run: Any, tmp_path: Path) -> None:
    alignment = replace(run.alignment, foreground=torch.zeros_like(run.alignment.foreground))
    write_report(
        tmp_path / "r.html",
        title="None",
        collection=run.collection,
        matches=run.matches,
        alignment=alignment,
        summary={},
    )
    assert _Page((tmp_path / "r.html").read_text("utf-8")).words.count("no foreground") >= len(run.collection)


def test_alignment_of_other_photos_is_refused(run: Any, tmp_path: Path) -> None:
    other = replace(run.alignment, photos=run.alignment.photos[::-1])
    with pytest.raises(ValueError, match="expected the collection's 5 photos"):
        write_report(tmp_path / "r.html", title="", **{**vars(run), "alignment": other}, summary={})
    assert not list(tmp_path.iterdir())
