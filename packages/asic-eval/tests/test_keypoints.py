from __future__ import annotations

import copy
import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from asic_eval import AnnotationError, ImageKeypoints, KeypointBenchmark, all_pairs, mirror_from_names, random_pairs


def image(**changes: object) -> ImageKeypoints:
    arguments = {
        "name": "a.png",
        "size_hw": (10, 20),
        "box_xyxy": (0.0, 0.0, 5.0, 5.0),
        "points_image": [[1.0, 2.0], [np.nan, np.nan]],
        "visible": [True, False],
    }
    return ImageKeypoints(**(arguments | changes))  # type: ignore[arg-type]


def test_images_are_frozen_and_keep_a_copy() -> None:
    points = np.array([[1.0, 2.0]])
    one = image(points_image=points, visible=[True])
    points[:] = 9.0
    assert one.points_image.tolist() == [[1.0, 2.0]]
    with pytest.raises(ValueError, match="read-only"):
        one.points_image[0, 0] = 3.0
    with pytest.raises(FrozenInstanceError):
        one.name = "b.png"  # type: ignore[misc]
    assert one.points_image.dtype == np.float64
    assert one.visible.dtype == np.bool_


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points_image": [1.0, 2.0]}, r"^a\.png: points_image: expected shape \(any, 2\), got \(2,\)$"),
        ({"points_image": np.zeros((2, 3))}, r"^a\.png: points_image: expected shape \(any, 2\), got \(2, 3\)$"),
        ({"visible": [True]}, r"^a\.png: visible: expected shape \(2\), got \(1,\)$"),
        (
            {"visible": [True, True]},
            r"^a\.png: expected a position for the visible keypoint 1, got \[nan nan\]$",
        ),
        ({"size_hw": (0, 5)}, r"^a\.png: expected a size of at least 1 x 1, got \(0, 5\)$"),
        (
            {"box_xyxy": (5, 0, 5, 5)},
            r"^a\.png: expected a box with left < right and top < bottom, got \(5\.0, 0\.0, 5\.0, 5\.0\)$",
        ),
        ({"box_xyxy": (0, 5, 5, 5)}, r"expected a box with left < right and top < bottom"),
        ({"box_xyxy": (0, 0, np.inf, 5)}, r"^a\.png: expected a box with finite edges, got \(0\.0, 0\.0, inf, 5\.0\)$"),
        ({"box_xyxy": (0, -np.inf, 5, 5)}, r"^a\.png: expected a box with finite edges, got "),
    ],
)
def test_bad_images_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image(**changes)


def test_smallest_image_is_allowed() -> None:
    assert image(size_hw=(1, 1), box_xyxy=None).box_xyxy is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoint_names": ("only",)}, r"^a/0\.png: expected 1 keypoints, got 4$"),
        ({"pairs": [[0, 3]]}, r"^pairs: expected indices from 0 to 2, got 0 to 3$"),
        ({"pairs": [[-1, 2]]}, r"^pairs: expected indices from 0 to 2, got -1 to 2$"),
        ({"pairs": [0, 1]}, r"^pairs: expected shape \(any, 2\), got \(2,\)$"),
        ({"mirror": [0, 1]}, r"^mirror: expected shape \(4\), got \(2,\)$"),
        ({"mirror": [1, 2, 0, 3]}, r"^mirror: expected a permutation that undoes itself, got \[1, 2, 0, 3\]$"),
        ({"mirror": [0, 0, 1, 3]}, r"^mirror: expected a permutation that undoes itself"),
        ({"pair_visible": np.ones((5, 4))}, r"^pair_visible: expected shape \(6, 4\), got \(5, 4\)$"),
        ({"pair_visible": np.ones((6, 4))}, r"^pair_visible: expected only points that are visible in both images$"),
    ],
)
def test_bad_benchmarks_are_refused(benchmark: KeypointBenchmark, changes: dict[str, object], message: str) -> None:
    parts = {name: getattr(benchmark, name) for name in ("name", "keypoint_names", "images", "pairs", "mirror")}
    with pytest.raises(ValueError, match=message):
        KeypointBenchmark(**(parts | changes))


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_pair_asks_for_nothing_that_one_end_hides(hidden: int) -> None:
    images = tuple(image(points_image=[[1.0, 2.0]], visible=[index != hidden]) for index in (0, 1))
    with pytest.raises(ValueError, match=r"^pair_visible: expected only points that are visible in both images$"):
        KeypointBenchmark("x", ("p",), images, [[0, 1]], pair_visible=[[True]])  # type: ignore[arg-type]


def test_lists_become_frozen_arrays(benchmark: KeypointBenchmark) -> None:
    flags = benchmark.asked.tolist()
    given = KeypointBenchmark(
        "x", benchmark.keypoint_names, benchmark.images, benchmark.pairs.tolist(), [0, 2, 1, 3], flags
    )
    for array in (given.pairs, given.mirror, given.pair_visible):
        assert isinstance(array, np.ndarray)
        assert not array.flags.writeable


def test_asked_is_visible_in_both_unless_said_otherwise(benchmark: KeypointBenchmark) -> None:
    assert benchmark.asked[0].tolist() == [True, True, False, True]  # images 0 and 1
    assert benchmark.asked[1].tolist() == [True, True, True, False]  # images 0 and 2
    fewer = benchmark.asked.copy()
    fewer[0] = [True, False, False, False]
    chosen = KeypointBenchmark(
        benchmark.name, benchmark.keypoint_names, benchmark.images, benchmark.pairs, pair_visible=fewer
    )
    assert chosen.asked[0].tolist() == [True, False, False, False]
    assert chosen.asked[1].tolist() == [True, True, True, False]


def test_stacked_views(benchmark: KeypointBenchmark) -> None:
    assert benchmark.points_image.shape == (3, 4, 2)
    assert benchmark.points_image[1, 3].tolist() == [50.0, 90.0]
    assert benchmark.visible.sum(axis=1).tolist() == [4, 3, 3]
    empty = KeypointBenchmark("none", ("nose",), (), np.zeros((0, 2)))
    assert empty.points_image.shape == (0, 1, 2)
    assert empty.visible.shape == (0, 1)
    assert empty.asked.shape == (0, 1)


def test_select_by_name_and_by_index_renumbers_the_pairs(benchmark: KeypointBenchmark) -> None:
    by_name = benchmark.select(["a/2.png", "a/0.png"])
    by_index = benchmark.select([2, 0])
    for chosen in (by_name, by_index):
        assert [one.name for one in chosen.images] == ["a/2.png", "a/0.png"]
        assert chosen.pairs.tolist() == [[1, 0], [0, 1]]
        assert chosen.name == "hand-made"
        assert chosen.mirror is not None
        assert chosen.pair_visible is None


def test_select_keeps_what_each_pair_asks(benchmark: KeypointBenchmark) -> None:
    asked = benchmark.asked.copy()
    asked[:, 0] = False
    chosen = KeypointBenchmark(
        "x", benchmark.keypoint_names, benchmark.images, benchmark.pairs, pair_visible=asked
    ).select([0, 2])
    assert chosen.pair_visible is not None
    assert chosen.pair_visible.tolist() == [[False, True, True, False]] * 2


@pytest.mark.parametrize("images", [["a/9.png"], [3], [-1]])
def test_select_names_an_unknown_image(benchmark: KeypointBenchmark, images: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"^hand-made: expected one of its 3 images, got {images[0]!r}$"):
        benchmark.select(images)


def test_select_refuses_an_image_twice(benchmark: KeypointBenchmark) -> None:
    with pytest.raises(ValueError, match=r"^hand-made: expected each image once, got \[0, 'a/0.png'\]$"):
        benchmark.select([0, "a/0.png"])  # type: ignore[list-item]


def same(first: KeypointBenchmark, second: KeypointBenchmark) -> bool:
    return json.dumps(first.to_json()) == json.dumps(second.to_json())


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("has_mirror", [False, True])
def test_json_round_trip_is_exact(benchmark: KeypointBenchmark, asks: bool, has_mirror: bool) -> None:
    asked = benchmark.asked.copy()
    asked[2] = False
    original = KeypointBenchmark(
        benchmark.name,
        benchmark.keypoint_names,
        benchmark.images,
        benchmark.pairs,
        benchmark.mirror if has_mirror else None,
        asked if asks else None,
    )
    document = json.loads(json.dumps(original.to_json(), allow_nan=False))
    again = KeypointBenchmark.from_json(document, file="truth.json")
    assert same(original, again)
    assert np.array_equal(again.points_image, original.points_image, equal_nan=True)
    assert again.images[0].box_xyxy == (0, 0, 40, 20)
    assert again.images[0].size_hw == (100, 200)
    assert np.array_equal(again.asked, original.asked)


def test_json_without_boxes_or_keypoints() -> None:
    bare = ImageKeypoints("a.png", (3, 4), None, np.zeros((0, 2)), np.zeros(0))
    original = KeypointBenchmark("bare", (), (bare,), np.zeros((0, 2)))
    again = KeypointBenchmark.from_json(original.to_json(), file="f")
    assert again.images[0].box_xyxy is None
    assert again.images[0].points_image.shape == (0, 2)


def test_json_of_no_pairs(benchmark: KeypointBenchmark) -> None:
    lonely = benchmark.select([0])
    assert same(lonely, KeypointBenchmark.from_json(lonely.to_json(), file="f"))


def set_at(document: dict[str, object], path: tuple[object, ...], value: object) -> dict[str, object]:
    changed = copy.deepcopy(document)
    at: object = changed
    for step in path[:-1]:
        at = at[step]  # type: ignore[index]
    if value is KeyError:
        del at[path[-1]]  # type: ignore[attr-defined]
    else:
        at[path[-1]] = value  # type: ignore[index]
    return changed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "other", "format: expected 'asic-eval keypoint benchmark', got 'other'"),
        (("version",), 2, "version: expected version 1; another version of asic-eval wrote this file, got 2"),
        (("version",), True, "version: expected a whole number"),
        (
            ("keypoint_names",),
            list("abca"),
            "document: keypoint_names: expected distinct names, got ['a', 'b', 'c', 'a']",
        ),
        (("images",), {}, "images: expected an array, got {}"),
        (("images",), KeyError, "images: expected a value, got no such key"),
        (("images", 1, "name"), "../x", "images[1].name: expected a relative path with forward slashes and without"),
        (("images", 1, "size_hw"), [0, 3], "images[1].size_hw[0]: expected a whole number from 1 to 1000000, got 0"),
        (("images", 1, "name"), "a/0.png", "images[1].name: expected a name that no other image has, got 'a/0.png'"),
        (("images", 0, "box_xyxy"), [4, 0, 3, 1], "images[0].box_xyxy: expected a box [left, top, right, bottom]"),
        (("images", 0, "points_image", 1), [1], "images[0].points_image[1]: expected an array of 2, got [1]"),
        (
            ("images", 0, "points_image", 1),
            None,
            "images[0].points_image[1]: expected a position, as the keypoint is visible, got None",
        ),
        (("images", 0, "points_image", 1), [1, True], "images[0].points_image[1][1]: expected a finite number"),
        (("images", 0, "points_image"), [None], "images[0].points_image: expected an array of 4, got [None]"),
        (("images", 0, "visible"), [True], "images[0].visible: expected an array of 4, got [True]"),
        (("images", 0, "visible", 0), 2, "images[0].visible[0]: expected true or false, got 2"),
        (("pairs", 0), [0], "pairs[0]: expected an array of 2, got [0]"),
        (("pairs", 0, 1), -1, "pairs[0][1]: expected a whole number from 0, got -1"),
        (("pairs", 0, 1), 7, "document: pairs: expected indices from 0 to 2, got 0 to 7"),
        (("mirror", 0), 2, "document: mirror: expected a permutation that undoes itself, got [2, 2, 1, 3]"),
        (("keypoint_names", 0), "", "keypoint_names[0]: expected a string, got ''"),
        (("name",), 3, "name: expected a string, got 3"),
        (("pair_visible",), [], "pair_visible: expected an array of 6, got []"),
        (
            ("pair_visible",),
            [[4], [], [], [], [], []],
            "pair_visible[0][0]: expected a whole number from 0 to 3, got 4",
        ),
    ],
)
def test_json_errors_name_file_and_field(
    benchmark: KeypointBenchmark, path: tuple[object, ...], value: object, message: str
) -> None:
    with pytest.raises(AnnotationError) as caught:
        KeypointBenchmark.from_json(set_at(benchmark.to_json(), path, value), file="truth.json")
    assert str(caught.value).startswith(f"truth.json: {message}")
    assert caught.value.file == "truth.json"


def test_json_that_asks_for_too_much_is_refused(benchmark: KeypointBenchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some bytes for each pair and each keypoint would take their product in memory."""
    document = benchmark.to_json()
    monkeypatch.setattr("asic_eval.keypoints.MOST_ASKED", 24)
    assert len(KeypointBenchmark.from_json(document, file="f").pairs) == 6
    monkeypatch.setattr("asic_eval.keypoints.MOST_ASKED", 23)
    message = r"^f: pairs: expected at most 23 pairs times keypoints, got 6 x 4$"
    for asked in (None, [[]] * 6):
        with pytest.raises(AnnotationError, match=message):
            KeypointBenchmark.from_json(document | {"pair_visible": asked}, file="f")


def test_long_permutations_and_groups_are_shortened(benchmark: KeypointBenchmark) -> None:
    document = benchmark.to_json()
    for key, value in (("mirror", [0] * 4), ("look_alike", [[9]] * 999)):
        with pytest.raises(AnnotationError, match=rf"^f: document: {key}: ") as caught:
            KeypointBenchmark.from_json(document | {key: value}, file="f")
        assert len(str(caught.value)) < 200


def test_all_pairs() -> None:
    assert len(all_pairs(27)) == 27 * 26
    assert all_pairs(1).shape == (0, 2)
    assert all_pairs(0).shape == (0, 2)


def test_random_pairs_are_seeded_even_and_never_of_one_image() -> None:
    pairs = random_pairs(4, 12_000, seed=1)
    assert np.array_equal(pairs, random_pairs(4, 12_000, seed=1))
    assert not np.array_equal(pairs, random_pairs(4, 12_000, seed=2))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    counts = np.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16).reshape(4, 4)
    assert counts.sum() == 12_000
    assert (counts[~np.eye(4, dtype=bool)] > 850).all()
    assert random_pairs(2, 3, seed=0).shape == (3, 2)
    with pytest.raises(ValueError, match=r"^random_pairs: expected at least 2 images, got 1$"):
        random_pairs(1, 3, seed=0)
    for count in (1_000_001, 10**12, -1):
        with pytest.raises(ValueError, match=rf"^random_pairs: expected 0 to 1000000 pairs, got {count}$"):
            random_pairs(2, count, seed=0)
    assert len(random_pairs(2, 1_000_000, seed=0)) == 1_000_000


def test_mirror_follows_the_words_left_and_right() -> None:
    names = ["Left_eye", "right_eye", "leftover", "rightover", "ear (left)", "EAR (Right)", "left horn"]
    assert mirror_from_names(names) is not None
    assert mirror_from_names(names).tolist() == [1, 0, 2, 3, 5, 4, 6]  # type: ignore[union-attr]
    assert mirror_from_names(["nose", "left eye"]) is None
    assert mirror_from_names([]) is None
    twice = mirror_from_names(["back", "left eye", "left eye", "right eye"])
    assert twice is not None
    assert twice.tolist() == [0, 1, 3, 2]
