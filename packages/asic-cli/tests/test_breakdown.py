from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from asic_cli.breakdown import MOST_SHOWN, Breakdown, break_down, breakdown_of
from asic_cli.errors import InputError
from asic_cli.runs import load_run, read_summary


@pytest.fixture(scope="module")
def loaded(demo):
    return load_run(demo / "run")


@pytest.fixture(scope="module")
def breakdown(loaded):
    return break_down(loaded.photos.settings, loaded.alignment, loaded.truth())


def test_every_way_to_split_adds_up_to_the_score(loaded, breakdown) -> None:
    score = read_summary(loaded)["methods"]["combined"]["pck"]["0.10"]["per_point"]
    asked = int(loaded.truth().asked.sum())
    for shares in (breakdown.found_in, breakdown.carried_from, breakdown.by_keypoint):
        assert sum(share.total for share in shares) == asked
        assert sum(share.hits for share in shares) / asked == pytest.approx(score)


def test_misses_are_real_and_fall_in_order(loaded, breakdown) -> None:
    truth = loaded.truth()
    assert 0 < len(breakdown.worst) <= MOST_SHOWN
    assert len({(miss.target, miss.keypoint) for miss in breakdown.worst}) == len(breakdown.worst)
    errors = [miss.error for miss in breakdown.worst]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 0.1
    for miss in breakdown.worst:
        assert miss.from_image == tuple(truth.images[miss.source].points_image[miss.keypoint])
        found = loaded.alignment.transfer([miss.from_image], miss.source, miss.target).points_image[0]
        np.testing.assert_allclose(miss.found_image, found, atol=1e-3)
        box = truth.images[miss.target].box_xyxy
        distance = np.hypot(*(np.array(miss.found_image) - miss.truth_image))
        assert miss.error == pytest.approx(distance / max(box[2] - box[0], box[3] - box[1]))


def _same(first: Breakdown, second: Breakdown) -> None:
    for field in fields(Breakdown):
        np.testing.assert_equal(getattr(first, field.name), getattr(second, field.name))


def test_a_summary_keeps_it_to_the_bit(loaded, breakdown) -> None:
    _same(breakdown_of(read_summary(loaded), loaded.truth()), breakdown)
    kept = json.loads(json.dumps(breakdown.to_json()))
    # What is kept is taken, and not found anew.
    kept["found_in"][2] = [0, 17]
    assert breakdown_of({"breakdown": kept}, loaded.truth()).found_in[2].total == 17


def test_there_is_none_without_scores_or_annotated_points(loaded, breakdown) -> None:
    assert breakdown_of({}, loaded.truth()) is None
    # A collection's summary, or that of photos without annotated points.
    assert breakdown_of({"breakdown": None}, loaded.truth()) is None
    assert breakdown_of({"breakdown": breakdown.to_json()}, None) is None


def _without_a_photo(kept: dict[str, Any]) -> None:
    kept["found_in"].pop()


def _without_worst(kept: dict[str, Any]) -> None:
    del kept["worst"]


def _of_no_photo(kept: dict[str, Any]) -> None:
    kept["worst"][0]["target"] = 10


def _of_no_shares(kept: dict[str, Any]) -> None:
    kept["found_in"] = 3


def _nowhere(kept: dict[str, Any]) -> None:
    kept["worst"][0]["from_image"] = [1.0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_a_photo, "expected 10 photos"),
        (_of_no_photo, "expected 10 photos"),
        (_without_worst, "malformed: KeyError"),
        (_of_no_shares, "malformed: TypeError"),
        (_nowhere, "malformed: ValueError"),
    ],
)
def test_what_was_kept_is_checked(loaded, breakdown, damage, message) -> None:
    kept = json.loads(json.dumps(breakdown.to_json()))
    damage(kept)
    with pytest.raises(InputError, match=f"field 'breakdown': {message}"):
        breakdown_of({"breakdown": kept}, loaded.truth())
