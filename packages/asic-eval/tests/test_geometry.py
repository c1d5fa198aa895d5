from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asic_eval import AnnotationError, KeypointBenchmark, geometry_aware_subset
from asic_eval.benchmarks.coco import STANFORD_EXTRA_KEYPOINTS
from asic_eval.geometry import groups_from_names


def test_groups_of_the_dogs() -> None:
    groups = groups_from_names(STANFORD_EXTRA_KEYPOINTS)
    assert groups == ((0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11), (14, 15), (18, 19), (20, 21))


def test_words_of_place_are_whole_words() -> None:
    assert groups_from_names(["Left_wing", "right wing", "leftover", "backpack", "pack"]) == ((0, 1),)
    assert groups_from_names(["back", "front", "top"]) == ()


def test_points_are_kept_where_the_target_shows_a_rival(benchmark: KeypointBenchmark) -> None:
    # Image 1 hides the right eye: its left eye has no rival there.
    subset = geometry_aware_subset(benchmark)
    assert subset.name == "hand-made/geometry-aware"
    by_pair = {tuple(pair): asked.tolist() for pair, asked in zip(subset.pairs.tolist(), subset.asked, strict=True)}
    assert by_pair[0, 1] == [False, False, False, False]
    assert by_pair[0, 2] == [False, True, True, False]
    assert by_pair[1, 2] == [False, True, False, False]
    everything = geometry_aware_subset(benchmark, [[0, 3], [1, 2]])
    assert everything.asked[0].tolist() == [True, False, False, True]


@pytest.mark.parametrize("groups", [[], [[0, 0]], [[0, 1], [1, 2]], [[0, 4]], [[-1, 0]]])
def test_errors(benchmark: KeypointBenchmark, groups: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"^hand-made: groups: expected distinct keypoints from 0 to 3, got \["):
        geometry_aware_subset(benchmark, groups)
    nameless = replace(benchmark, keypoint_names=("a", "b", "c", "d"), mirror=None, pair_visible=np.zeros((6, 4)))
    with pytest.raises(ValueError, match=r"^hand-made: groups: expected distinct keypoints from 0 to 3, got \[\]$"):
        geometry_aware_subset(nameless)


def test_the_benchmarks_own_groups_come_before_the_names(benchmark: KeypointBenchmark) -> None:
    own = replace(benchmark, look_alike=((0, 3),))
    assert geometry_aware_subset(own).asked[0].tolist() == [True, False, False, True]
    assert geometry_aware_subset(own, [[1, 2]]).asked[1].tolist() == [False, True, True, False]
    again = KeypointBenchmark.from_json(own.to_json(), file="b")
    assert again.look_alike == ((0, 3),)
    assert KeypointBenchmark.from_json(benchmark.to_json(), file="b").look_alike is None
    with pytest.raises(ValueError, match=r"^look_alike: expected distinct keypoints from 0 to 3, got \[\[0, 4\]\]$"):
        replace(benchmark, look_alike=((0, 4),))
    with pytest.raises(AnnotationError, match=r"^b: document: look_alike: expected distinct keypoints"):
        KeypointBenchmark.from_json(benchmark.to_json() | {"look_alike": [[0, 9]]}, file="b")
    with pytest.raises(AnnotationError, match=r"^b: look_alike\[0\]: expected an array, got 3$"):
        KeypointBenchmark.from_json(benchmark.to_json() | {"look_alike": [3]}, file="b")
