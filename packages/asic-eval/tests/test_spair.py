from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asic_eval import AnnotationError, KeypointBenchmark, geometry_aware_subset, pck, point_errors
from asic_eval.benchmarks.spair import CATEGORIES, PairFilter, read_spair, write_spair_annotations
from asic_eval.benchmarks.spair_keypoints import LOOK_ALIKE, SIDES, highest_keypoint
from asic_eval.benchmarks.synthetic import draw_collection
from asic_eval.keypoints import swap


def pair_document(**changes: Any) -> dict[str, Any]:
    return {
        "pair_id": 1,
        "filename": "000001-a-b:lynx",
        "src_imname": "a.jpg",
        "trg_imname": "b.jpg",
        "src_imsize": [500, 333, 3],
        "trg_imsize": [400, 300, 3],
        "src_bndbox": [10, 20, 110, 220],
        "trg_bndbox": [5, 6, 300, 206],
        "category": "lynx",
        "src_kps": [[12, 30], [50, 60]],
        "trg_kps": [[7, 8], [100.5, 90]],
        "kps_ids": ["0", "3"],
        "mirror": 0,
        "viewpoint_variation": 0,
        "scale_variation": 1,
        "truncation": 2,
        "occlusion": 3,
    } | changes


def write_pair(root: Path, document: dict[str, Any], stem: str = "000001-a-b", split: str = "test") -> Path:
    path = root / "PairAnnotation" / split / f"{stem}:lynx.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_there_are_eighteen_categories() -> None:
    assert len(set(CATEGORIES)) == 18
    assert list(CATEGORIES) == sorted(CATEGORIES)


def test_one_pair(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document())
    benchmark = read_spair(tmp_path, "lynx")
    assert benchmark.name == "spair/lynx/test"
    assert benchmark.keypoint_names == ("0", "1", "2", "3")
    assert [image.name for image in benchmark.images] == ["lynx/a.jpg", "lynx/b.jpg"]
    assert benchmark.images[0].size_hw == (333, 500)
    assert benchmark.images[0].box_xyxy == (10, 20, 110, 220)
    assert benchmark.images[1].box_xyxy == (5, 6, 300, 206)
    assert benchmark.pairs.tolist() == [[0, 1]]
    assert benchmark.visible.tolist() == [[True, False, False, True]] * 2
    assert benchmark.images[1].points_image[3].tolist() == [100.5, 90.0]
    assert benchmark.pair_visible is None
    assert benchmark.mirror is None
    assert benchmark.look_alike is None


def test_a_size_may_lack_its_depth(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document(src_imsize=[500, 333]))
    assert read_spair(tmp_path, "lynx").images[0].size_hw == (333, 500)


def test_the_highest_id(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document(kps_ids=["0", "999"]))
    assert len(read_spair(tmp_path, "lynx").keypoint_names) == 1000


def second_pair() -> dict[str, Any]:
    return pair_document(
        trg_imname="c.jpg", kps_ids=["0", "1"], src_kps=[[12, 30], [70, 80]], viewpoint_variation=2, truncation=0
    )


def test_an_image_keeps_the_keypoints_of_all_its_pairs(tmp_path: Path) -> None:
    """The published code kept those of the last pair alone."""
    write_pair(tmp_path, pair_document())
    write_pair(tmp_path, second_pair(), "000002-a-c")
    benchmark = read_spair(tmp_path, "lynx")
    assert benchmark.visible[0].tolist() == [True, True, False, True]
    assert benchmark.asked.tolist() == [[True, False, False, True], [True, True, False, False]]


def test_a_pair_asks_for_its_own_keypoints_only(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document())
    write_pair(tmp_path, pair_document(kps_ids=["3"], src_kps=[[50, 60]], trg_kps=[[100.5, 90]]), "000002-a-b")
    benchmark = read_spair(tmp_path, "lynx")
    assert benchmark.pair_visible is not None
    assert benchmark.asked.sum(axis=1).tolist() == [2, 1]


def test_no_keypoints_at_all(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document(kps_ids=[], src_kps=[], trg_kps=[]))
    benchmark = read_spair(tmp_path, "lynx")
    assert benchmark.keypoint_names == ()
    assert benchmark.asked.shape == (1, 0)


@pytest.mark.parametrize(
    ("pair_filter", "pairs"),
    [
        (PairFilter(), 2),
        (PairFilter(viewpoint=[0]), 1),
        (PairFilter(viewpoint=[0, 2], truncation={2}), 1),
        (PairFilter(scale=[1], occlusion=[3]), 2),
        (PairFilter(scale=[0]), 0),
        (PairFilter(occlusion=[0]), 0),
        (PairFilter(truncation=[0]), 1),
    ],
)
def test_filters(tmp_path: Path, pair_filter: PairFilter, pairs: int) -> None:
    write_pair(tmp_path, pair_document())
    write_pair(tmp_path, second_pair(), "000002-a-c")
    assert len(read_spair(tmp_path, "lynx", pair_filter=pair_filter).pairs) == pairs


def test_the_layout_decides_where_it_is_there(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document())
    write_pair(tmp_path, second_pair(), "000002-a-c")
    for layout, names in (
        ("large", "000002-a-c:lynx\n000001-a-b:lynx\n000009-x-y:dog\n"),
        ("small", "000001-a-b:lynx\n"),
    ):
        (tmp_path / "Layout" / layout).mkdir(parents=True)
        (tmp_path / "Layout" / layout / "test.txt").write_text(names)
    assert [image.name for image in read_spair(tmp_path, "lynx").images] == ["lynx/a.jpg", "lynx/c.jpg", "lynx/b.jpg"]
    assert len(read_spair(tmp_path, "lynx", layout="small").pairs) == 1
    (tmp_path / "Layout" / "small" / "test.txt").write_text("000001-a-b:lynx\n../x:lynx\n")
    with pytest.raises(AnnotationError, match=r"small/test\.txt: pair 2: expected a relative path"):
        read_spair(tmp_path, "lynx", layout="small")
    with pytest.raises(AnnotationError, match=r"PairAnnotation/test/000009-x-y:dog\.json: file: expected a readable"):
        read_spair(tmp_path, "dog")


def test_other_splits_are_other_folders(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document(), split="val")
    assert read_spair(tmp_path, "lynx", "val").name == "spair/lynx/val"
    message = r"PairAnnotation/trn: folder: expected pair annotations of 'lynx', got none$"
    with pytest.raises(AnnotationError, match=message):
        read_spair(tmp_path, "lynx", "trn")


def write_image(root: Path, name: str, kps: Any, **more: Any) -> None:
    path = root / "ImageAnnotation" / "lynx" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"kps": kps} | more))


def test_image_annotations_add_keypoints_and_names(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document())
    write_image(tmp_path, "a", {"0": [12, 30], "1": None, "2": [1, 2], "3": [50, 60]}, kps_names=["w", "x", "y", "z"])
    write_image(tmp_path, "b", {"0": None, "1": None, "2": None, "3": None}, kps_names=["w", "x", "y", "z"])
    benchmark = read_spair(tmp_path, "lynx")
    assert benchmark.keypoint_names == ("w", "x", "y", "z")
    assert benchmark.visible.tolist() == [[True, False, True, True], [True, False, False, True]]
    assert benchmark.images[0].points_image[2].tolist() == [1.0, 2.0]


def test_image_annotations_are_there_for_every_image_or_for_none(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document())
    assert read_spair(tmp_path, "lynx").keypoint_names == ("0", "1", "2", "3")
    (tmp_path / "ImageAnnotation").mkdir()
    for missing in ("a", "b"):
        message = (
            rf"ImageAnnotation/lynx/{missing}\.json: file: expected a readable file, got No such file or directory$"
        )
        with pytest.raises(AnnotationError, match=message):
            read_spair(tmp_path, "lynx")
        write_image(tmp_path, missing, {"0": None, "1": [1, 2], "2": None, "3": None})
    assert read_spair(tmp_path, "lynx").visible.tolist() == [[True, True, False, True]] * 2


@pytest.mark.parametrize(
    ("kps", "more", "message"),
    [
        ({"0": [7, 8]}, {}, r"b\.json: kps: expected the 4 keypoints of the other images, got "),
        ({"0": None, "1": None, "2": None, "4": None}, {}, r"b\.json: kps: expected the keys '0' to '3', got "),
        (
            {"0": None, "x": None},
            {},
            r"b\.json: kps: expected a keypoint's id, a string of at most 3 digits, got 'x'$",
        ),
        (
            {"0": [8, 8], "1": None, "2": None, "3": None},
            {},
            r"b\.json: kps\.0: expected keypoint 0 at \[7\.0, 8\.0\], as ",
        ),
        ([], {}, r"b\.json: kps: expected an object, got \[\]$"),
    ],
)
def test_image_annotations_must_agree(tmp_path: Path, kps: Any, more: dict[str, Any], message: str) -> None:
    write_pair(tmp_path, pair_document())
    write_image(tmp_path, "a", {"0": None, "1": None, "2": None, "3": None})
    write_image(tmp_path, "b", kps, **more)
    with pytest.raises(AnnotationError, match=message):
        read_spair(tmp_path, "lynx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category": "dog"}, r"category: expected 'lynx', got 'dog'$"),
        ({"kps_ids": ["0", 3]}, r"kps_ids\[1\]: expected a string, got 3$"),
        ({"kps_ids": ["0", "³"]}, r"kps_ids\[1\]: expected a keypoint's id, a string of at most 3 digits, got '³'$"),
        ({"kps_ids": ["0", "1000"]}, r"kps_ids\[1\]: expected a keypoint's id, a string of at most 3 digits, got "),
        ({"kps_ids": ["0", "0" * 9 + "1" * 4000]}, r"kps_ids\[1\]: expected a keypoint's id"),
        ({"kps_ids": ["0", "1" * 5000]}, r"kps_ids\[1\]: expected a keypoint's id"),
        ({"kps_ids": ["0", "0"]}, r"kps_ids: expected each keypoint once, got \['0', '0'\]$"),
        ({"kps_ids": ["0"]}, r"src_kps: expected an array of 1, got \[\[12, 30\], \[50, 60\]\]$"),
        ({"src_kps": [[12, 30], None]}, r"src_kps\[1\]: expected an array of 2, got None$"),
        ({"src_imsize": [500]}, r"src_imsize: expected at least width and height, got \[500\]$"),
        ({"src_imsize": [500, 0, 3]}, r"src_imsize\[1\]: expected a whole number from 1 to 1000000, got 0$"),
        ({"trg_bndbox": [5, 6, 5, 206]}, r"trg_bndbox: expected a box \[left, top, right, bottom\] with left < right"),
        ({"trg_imname": "../b.jpg"}, r"trg_imname: expected a relative path"),
        ({"viewpoint_variation": 3}, r"viewpoint_variation: expected a whole number from 0 to 2, got 3$"),
        ({"scale_variation": -1}, r"scale_variation: expected a whole number from 0 to 2, got -1$"),
        ({"truncation": 4}, r"truncation: expected a whole number from 0 to 3, got 4$"),
        ({"occlusion": 4}, r"occlusion: expected a whole number from 0 to 3, got 4$"),
    ],
)
def test_errors_name_file_and_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_pair(tmp_path, pair_document(**changes))
    every = PairFilter(viewpoint=range(4), scale=range(4), truncation=range(5), occlusion=range(5))
    with pytest.raises(AnnotationError, match=message) as caught:
        read_spair(tmp_path, "lynx", pair_filter=every)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"src_bndbox": [10, 20, 110, 221]},
            r"src_bndbox: expected the size and box \[500, 333, 3\], \[10, 20, 110, 220\] that other pairs give "
            r"'a\.jpg', got \[10, 20, 110, 221\]$",
        ),
        ({"src_imsize": [501, 333, 3]}, r"src_bndbox: expected the size and box \[500, 333, 3\]"),
        (
            {"src_kps": [[12, 30], [50, 61]]},
            r"src_kps: expected keypoint 3 at \[50\.0, 60\.0\], as other annotations of this image say, got \[\[12",
        ),
    ],
)
def test_pairs_must_agree(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_pair(tmp_path, pair_document())
    write_pair(tmp_path, pair_document(**changes), "000002-a-b")
    with pytest.raises(AnnotationError, match=message):
        read_spair(tmp_path, "lynx")


def test_image_annotations_must_know_the_pairs_keypoints(tmp_path: Path) -> None:
    write_pair(tmp_path, pair_document())
    write_image(tmp_path, "a", {"0": None, "1": None, "2": None})
    with pytest.raises(AnnotationError, match=r"a\.json: kps: expected the keypoint 3 that a pair asks for, got "):
        read_spair(tmp_path, "lynx")


def test_a_drawn_collection_survives_the_layout(tmp_path: Path) -> None:
    original = draw_collection(1, num_images=4, size=64).benchmark
    write_spair_annotations(tmp_path, original, "creature")
    again = read_spair(tmp_path, "creature")
    assert again.keypoint_names == original.keypoint_names
    assert [image.name for image in again.images] == [image.name for image in original.images]
    assert [image.size_hw for image in again.images] == [image.size_hw for image in original.images]
    assert [image.box_xyxy for image in again.images] == [image.box_xyxy for image in original.images]
    assert np.array_equal(again.pairs, original.pairs)
    assert np.array_equal(again.visible, original.visible)
    assert np.array_equal(again.asked, original.asked)
    assert np.array_equal(again.points_image[again.visible], original.points_image[original.visible])
    listing = (tmp_path / "Layout" / "large" / "test.txt").read_text().split()
    assert listing[0] == "000001-000-001:creature"
    assert len(listing) == 12
    pair = json.loads((tmp_path / "PairAnnotation" / "test" / f"{listing[0]}.json").read_text())
    assert pair["pair_id"] == 1
    assert pair["filename"] == listing[0]
    assert pair["src_imsize"] == [64, 64, 3]
    differences = ("mirror", "viewpoint_variation", "scale_variation", "truncation", "occlusion")
    assert [pair[key] for key in differences] == [0] * 5
    image = json.loads((tmp_path / "ImageAnnotation" / "creature" / "000.json").read_text())
    assert image["filename"] == "000.png"
    assert (image["image_width"], image["image_height"], image["image_depth"]) == (64, 64, 3)
    assert image["category"] == "creature"


def test_the_tables_of_sides_and_of_look_alikes() -> None:
    assert tuple(SIDES) == tuple(LOOK_ALIKE) == CATEGORIES
    assert sum(map(len, SIDES.values())) == 127
    assert sum(map(len, LOOK_ALIKE.values())) == 89
    for category in CATEGORIES:
        count = highest_keypoint(category) + 1
        assert count <= 30
        mirror = swap(count, SIDES[category])
        assert (mirror != np.arange(count)).sum() == 2 * len(SIDES[category])
        for group in LOOK_ALIKE[category]:
            assert {int(mirror[keypoint]) for keypoint in group} == set(group)  # looked at in a mirror
            assert len(group) > 1
    # Eyes are sides, and are told apart by nothing else; a van's plates are no sides, and look alike.
    assert (4, 5) in SIDES["cat"]
    assert (4, 5) not in LOOK_ALIKE["cat"]
    assert (4, 8) in LOOK_ALIKE["car"]
    assert (13, 23) in SIDES["bus"]


def official(root: Path, **changes: Any) -> KeypointBenchmark:
    path = write_pair(root, pair_document(category="cat", kps_ids=["4", "5"], **changes))
    path.rename(path.with_name("000001-a-b:cat.json"))
    return read_spair(root, "cat")


def test_the_own_categories_have_sides(tmp_path: Path) -> None:
    benchmark = official(tmp_path)
    assert benchmark.keypoint_names == tuple(str(index) for index in range(13))
    assert benchmark.mirror is not None
    assert benchmark.mirror.tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 8, 10, 9, 12, 11]
    assert benchmark.look_alike == ((2, 3), (9, 10, 11, 12))
    # Swapped in one of the photos: the left eye is asked for where the right one is.
    predicted = np.full((1, 13, 2), np.nan)
    predicted[0, 4], predicted[0, 5] = benchmark.images[1].points_image[[5, 4]]
    assert point_errors(predicted, benchmark, mirrored=[True]).distance[0, 4:6].tolist() == [0.0, 0.0]
    assert not pck(predicted, benchmark, [0.1]).hits.any()


def test_the_tables_are_for_unnamed_keypoints_that_they_know(tmp_path: Path) -> None:
    kps = {"4": [12, 30], "5": [50, 60]} | dict.fromkeys(map(str, [0, 1, 2, 3, 6]))
    names = ["nose", "left ear", "right ear", "d", "e", "f", "g"]
    for name, own in (("a", kps), ("b", kps | {"4": [7, 8], "5": [100.5, 90]})):
        path = tmp_path / "ImageAnnotation" / "cat" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"kps": own, "kps_names": names}))
    named = official(tmp_path)
    assert named.mirror is not None
    assert (named.mirror.tolist(), named.look_alike) == ([0, 2, 1, 3, 4, 5, 6], None)
    for path in (tmp_path / "ImageAnnotation" / "cat").iterdir():
        path.write_text(json.dumps({"kps": json.loads(path.read_text())["kps"]}))
    few = read_spair(tmp_path, "cat")  # seven keypoints cannot be SPair-71k's
    assert (few.mirror, few.look_alike) == (None, None)


def test_writing_needs_names_and_boxes_that_fit(tmp_path: Path, benchmark: KeypointBenchmark) -> None:
    with pytest.raises(ValueError, match=r"^image names: expected 'lynx/<file>', got 'a/0\.png'$"):
        write_spair_annotations(tmp_path, benchmark, "lynx")
    deep = replace(benchmark, images=(replace(benchmark.images[0], name="a/b/0.png"),), pairs=np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"^image names: expected 'a/<file>', got 'a/b/0\.png'$"):
        write_spair_annotations(tmp_path, deep, "a")
    boxless = replace(benchmark, images=(replace(benchmark.images[0], box_xyxy=None),), pairs=np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"^a/0\.png: expected a box, got none$"):
        write_spair_annotations(tmp_path, boxless, "a")


@pytest.mark.real_data
def test_the_genuine_files(real_data: Path) -> None:
    benchmark = read_spair(real_data / "SPair-71k", "aeroplane")
    assert benchmark.pairs.tolist() == [[0, 1], [1, 0]]
    assert [image.name for image in benchmark.images] == ["aeroplane/2008_002719.jpg", "aeroplane/2008_004100.jpg"]
    assert len(benchmark.keypoint_names) == 30
    assert benchmark.visible.sum(axis=1).tolist() == [20, 5]
    assert np.flatnonzero(benchmark.asked[0]).tolist() == [0, 7, 11]
    assert benchmark.mirror is not None
    assert np.flatnonzero(benchmark.mirror != np.arange(30)).tolist() == list(range(4, 22))
    # Engines: the second photo shows those of one side alone.
    asked = geometry_aware_subset(benchmark).asked
    assert [np.flatnonzero(row).tolist() for row in asked] == [[], [7, 11]]
