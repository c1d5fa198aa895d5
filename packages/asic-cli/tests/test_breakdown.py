from __future__ import annotations

import numpy as np
import pytest

from asic_cli.breakdown import MOST_SHOWN, break_down
from asic_cli.runs import load_run, read_summary


@pytest.fixture(scope="module")
def loaded(demo):
    return load_run(demo / "run")


@pytest.fixture(scope="module")
def breakdown(loaded):
    return break_down(loaded.collection, loaded.alignment, loaded.truth())


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
