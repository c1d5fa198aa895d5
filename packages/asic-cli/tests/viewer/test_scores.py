from __future__ import annotations

import re
from typing import Any

import pytest

from asic_cli.viewer.scores import headline, score_panel


def _rows(panel: str) -> list[list[str]]:
    rows = re.findall(r"<tr.*?</tr>", panel, re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def test_table_holds_every_score_in_a_fixed_order(summary: dict[str, Any]) -> None:
    assert _rows(score_panel(summary)) == [
        ["Method", "PCK@0.10", "PCK@0.05", "2-cycle@0.10", "3-cycle@0.10", "Gain"],
        ["Nearest neighbour", "50.1", "40.1", "60.1", "55.1", ""],
        ["Canonical maps", "43.3", "33.3", "53.3", "48.3", "\N{MINUS SIGN}6.8"],
        ["Maps and descriptors default", "71.2", "61.2", "81.2", "76.2", "+21.1"],
    ]


def test_folder_without_keypoints_shows_held_out_matches() -> None:
    scores = {"pck": None, "cycle": None, "grid_cycle": {"0.10": {"2": 0.9, "3": 0.8}}, "held_out": {"0.10": 0.5}}
    panel = score_panel({"default": "canonical", "methods": {"canonical": scores, "mine": {"held_out": {"0.10": 0.4}}}})
    assert _rows(panel) == [
        ["Method", "2-cycle@0.10", "3-cycle@0.10", "Held out@0.10", "Gain"],
        ["Canonical maps default", "90.0", "80.0", "50.0", ""],
        ["mine", "\N{EN DASH}", "\N{EN DASH}", "40.0", ""],
    ]
    cycles = {"grid_cycle": {"0.10": {"2": 1.0}}}
    rows = _rows(score_panel({"methods": {"nearest_neighbour": scores, "box_copy": cycles, "mine": cycles}}))
    assert [(row[0], row[-1]) for row in rows[1:]] == [
        ("Copy the box position", ""),
        ("Nearest neighbour", ""),
        ("mine", "+10.0"),
    ]
    # Held-out matches are nearest neighbours: a score that favours these is no headline.
    found = headline({"default": "canonical", "methods": {"canonical": scores}})
    assert found is not None
    assert (found.heading, found.score, found.gain) == ("2-cycle@0.10", 90, None)


def test_headline_is_the_default_methods_gain(summary: dict[str, Any]) -> None:
    found = headline(summary)
    assert found is not None
    assert (found.heading, found.score) == ("PCK@0.10", pytest.approx(71.2))
    assert found.gain == pytest.approx(21.1)


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"methods": None},
        {"methods": {"combined": None}},
        {"methods": {"combined": {"pck": {"0.10": {"per_point": "x"}}}}},
    ],
)
def test_summary_without_scores_says_so(summary: dict[str, Any]) -> None:
    assert headline(summary) is None
    assert score_panel(summary) == '<p class="quiet">Not scored yet; <code>asic eval</code> does that.</p>'


def test_names_in_a_summary_are_text() -> None:
    panel = score_panel({"protocol": "<i>", "methods": {"<u>": {"held_out": {"0.10": 0.4}}}})
    assert "<i>" not in panel
    assert "<u>" not in panel
