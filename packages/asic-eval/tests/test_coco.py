from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asic_eval import AnnotationError
from asic_eval.benchmarks.coco import (
    STANFORD_EXTRA_KEYPOINTS,
    decode_run_lengths,
    read_coco_keypoints,
    read_stanford_dogs,
    read_stanford_dogs_masks,
)
from asic_eval.fields import Field


def annotation(image: int, points: list[float], box: list[float], category: int = 7) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "keypoints": points, "bbox": box}


DOCUMENT: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30},
        {"id": 2, "file_name": "sub/b.jpg", "width": 50, "height": 60},
        {"id": 3, "file_name": "c.jpg", "width": 50, "height": 60},
        {"id": 4, "file_name": "empty.jpg", "width": 50, "height": 60},
    ],
    "annotations": [
        annotation(1, [1, 2, 2, 3, 4, 1, 0, 0, 0], [0, 1, 10, 20]),
        annotation(2, [5, 6, 2, 7, 8, 2, 9, 9, 2], [0, 0, 5, 5]),
        annotation(2, [5, 6, 2, 1, 1, 2, 0, 0, 0], [0, 0, 9, 9]),
        annotation(2, [0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 6, 6]),
        annotation(3, [5, 6, 2, 7, 8, 2, 9, 9, 2], [1, 1, 5, 5]),
        {"image_id": 1, "category_id": 8},
    ],
    "categories": [
        {"id": 7, "name": "cat", "keypoints": ["nose", "left_ear", "right_ear"]},
        {"id": 8, "name": "dog", "keypoints": []},
    ],
}


def write(folder: Path, document: object, name: str = "x.json") -> Path:
    (folder / name).write_text(json.dumps(document))
    return folder / name


def test_single_instances(tmp_path: Path) -> None:
    benchmark = read_coco_keypoints(write(tmp_path, DOCUMENT), "cat")
    assert benchmark.name == "coco/cat"
    assert [image.name for image in benchmark.images] == ["a.jpg", "c.jpg"]
    assert benchmark.keypoint_names == ("nose", "left_ear", "right_ear")
    assert benchmark.mirror is not None
    assert benchmark.mirror.tolist() == [0, 2, 1]
    first = benchmark.images[0]
    assert first.size_hw == (30, 40)
    assert first.box_xyxy == (0, 1, 10, 21)
    assert first.visible.tolist() == [True, False, False]
    assert first.points_image[1].tolist() == [3.0, 4.0]
    assert np.isnan(first.points_image[2]).all()
    assert benchmark.pairs.tolist() == [[0, 1], [1, 0]]


def test_largest_instance(tmp_path: Path) -> None:
    benchmark = read_coco_keypoints(write(tmp_path, DOCUMENT), "cat", instances="largest")
    assert [image.name for image in benchmark.images] == ["a.jpg", "sub/b.jpg", "c.jpg"]
    assert benchmark.images[1].box_xyxy == (0, 0, 9, 9)
    assert benchmark.images[1].visible.tolist() == [True, True, False]
    shifted = copy.deepcopy(DOCUMENT)
    shifted["annotations"][1]["bbox"] = [30, 30, 5, 5]  # far from the origin, and still the smaller one
    again = read_coco_keypoints(write(tmp_path, shifted), "cat", instances="largest")
    assert again.images[1].box_xyxy == (0, 0, 9, 9)


def test_images_with_few_points_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, DOCUMENT)
    assert [image.name for image in read_coco_keypoints(path, "cat", least_visible=3).images] == ["c.jpg"]
    labelled = read_coco_keypoints(path, "cat", least_visible=2, counted="labelled")
    assert [image.visible.tolist() for image in labelled.images] == [[True, True, False], [True, True, True]]
    with pytest.raises(ValueError, match=r"^counted: expected 'visible' or 'labelled', got 'all'$"):
        read_coco_keypoints(path, "cat", counted="all")  # type: ignore[arg-type]
    hidden = copy.deepcopy(DOCUMENT)
    hidden["annotations"][0]["keypoints"] = [0] * 9
    assert [image.name for image in read_coco_keypoints(write(tmp_path, hidden), "cat").images] == ["c.jpg"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("annotations",), None, "annotations: expected an array, got None"),
        (("annotations", 0, "image_id"), "1", "annotations[0].image_id: expected a whole number from 0, got '1'"),
        (("annotations", 0, "category_id"), -7, "annotations[0].category_id: expected a whole number from 0, got -7"),
        (("annotations", 0, "bbox"), [0, 0, 1], "annotations[0].bbox: expected an array of 4, got [0, 0, 1]"),
        (("annotations", 0, "bbox"), [0, 0, 1, -1], "annotations[0].bbox: expected a box [left, top, width, height]"),
        (("annotations", 0, "keypoints"), [1, 2], "annotations[0].keypoints: expected an array of 9, got [1, 2]"),
        (
            ("annotations", 0, "keypoints", 2),
            3,
            "annotations[0].keypoints[2]: expected a whole number from 0 to 2, got 3",
        ),
        (("annotations", 0, "keypoints", 0), None, "annotations[0].keypoints[0]: expected a finite number, got None"),
        (("images", 0, "width"), 0, "images[0].width: expected a whole number from 1 to 1000000, got 0"),
        (("images", 0, "height"), 1.5, "images[0].height: expected a whole number from 1 to 1000000, got 1.5"),
        (("images", 0, "file_name"), "/etc/x", "images[0].file_name: expected a relative path with forward slashes"),
        (("images", 0, "id"), None, "images[0].id: expected a whole number from 0, got None"),
        (("categories", 0, "name"), "dog", "categories: expected the category 'cat', got [{"),
        (("categories", 0, "keypoints"), "x", "categories[0].keypoints: expected an array, got 'x'"),
        (("categories", 0, "id"), 2.0, "categories[0].id: expected a whole number from 0, got 2.0"),
    ],
)
def test_errors_name_file_and_field(tmp_path: Path, path: tuple[Any, ...], value: object, message: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    file = write(tmp_path, document)
    with pytest.raises(AnnotationError) as caught:
        read_coco_keypoints(file, "cat")
    assert str(caught.value).startswith(f"{file}: {message}")


def dog(name: str, **changes: Any) -> dict[str, Any]:
    joints = [[float(i), 2.0 * i, float(i != 0)] for i in range(24)]
    return {
        "img_path": name,
        "img_width": 360,
        "img_height": 296,
        "joints": joints,
        "img_bbox": [7, 13, 9, 8],
    } | changes


def test_stanford_extra(tmp_path: Path) -> None:
    write(tmp_path, [dog("n1-a/x.jpg"), dog("n2-b/y.jpg")], "StanfordExtra_v12.json")
    benchmark = read_stanford_dogs(tmp_path)
    assert benchmark.name == "stanford_dogs"
    assert benchmark.keypoint_names == STANFORD_EXTRA_KEYPOINTS
    assert [image.name for image in benchmark.images] == ["n1-a/x.jpg", "n2-b/y.jpg"]
    assert benchmark.images[0].size_hw == (296, 360)
    assert benchmark.images[0].box_xyxy == (7, 13, 16, 21)
    assert benchmark.visible.sum(axis=1).tolist() == [23, 23]
    assert benchmark.images[0].points_image[3].tolist() == [3.0, 6.0]
    assert np.isnan(benchmark.images[0].points_image[0]).all()
    assert benchmark.pairs.tolist() == [[0, 1], [1, 0]]
    assert benchmark.mirror is not None
    one = read_stanford_dogs(tmp_path, breed="n2-b")
    assert one.name == "stanford_dogs/n2-b"
    assert [image.name for image in one.images] == ["n2-b/y.jpg"]


def test_stanford_extra_sides_may_be_strings(tmp_path: Path) -> None:
    write(tmp_path, [dog("x.jpg", img_width="360", img_height="296")], "StanfordExtra_v12.json")
    assert read_stanford_dogs(tmp_path).images[0].size_hw == (296, 360)
    write(tmp_path, [dog("x.jpg", img_width="wide")], "StanfordExtra_v12.json")
    with pytest.raises(AnnotationError, match=r"\[0\]\.img_width: expected a whole number from 1, got 'wide'"):
        read_stanford_dogs(tmp_path)


def test_stanford_extra_outlines(tmp_path: Path) -> None:
    # Runs of 5, 2, 2, 2 and 1 + 0 pixels down the columns of 4 x 3: the fourth is written as 2 - 2, the last as 1 - 2.
    outline = {"img_width": 3, "img_height": 4, "seg": "5220O"}
    write(tmp_path, [dog("n1-a/x.jpg", **outline), dog("n2-b/y.jpg", **outline)], "StanfordExtra_v12.json")
    found = dict(read_stanford_dogs_masks(tmp_path))
    assert list(found) == ["n1-a/x.jpg", "n2-b/y.jpg"]
    assert found["n1-a/x.jpg"].astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]]
    assert [name for name, _ in read_stanford_dogs_masks(tmp_path, breed="n2-b")] == ["n2-b/y.jpg"]


def test_long_runs_take_several_characters() -> None:
    # 1,000 = 8 + 31 * 32, whose second group would be negative by its fifth bit, so that a third one follows.
    field = Field("Xo01", "f.json", "seg")
    assert decode_run_lengths(field, (7, 143)).sum() == 1


@pytest.mark.parametrize("code", ["5", "522", "52!", "X", "oooooooo0", "5O8", "\u00e9"])
def test_broken_run_lengths_are_told(code: str) -> None:
    with pytest.raises(AnnotationError, match=r"f\.json: seg: expected run lengths"):
        decode_run_lengths(Field(code, "f.json", "seg"), (4, 3))


def test_enormous_masks_are_not_made() -> None:
    with pytest.raises(AnnotationError, match="run lengths of 400000000 pixels in all, at most 200000000"):
        decode_run_lengths(Field("PPQ_m;", "f.json", "seg"), (20_000, 20_000))


def test_stanford_extra_names_have_sides() -> None:
    assert len(set(STANFORD_EXTRA_KEYPOINTS)) == 24
    assert STANFORD_EXTRA_KEYPOINTS[0] == "left front paw"
    assert STANFORD_EXTRA_KEYPOINTS[5] == "left rear leg top"
    assert STANFORD_EXTRA_KEYPOINTS[10] == "right rear middle joint"
    assert STANFORD_EXTRA_KEYPOINTS[16] == "nose"
    assert STANFORD_EXTRA_KEYPOINTS[23] == "throat"


def test_stanford_extra_errors(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"StanfordExtra_v12\.json: file: expected a readable file"):
        read_stanford_dogs(tmp_path)
    write(tmp_path, [dog("x.jpg", joints=[[1, 2, 3]])], "StanfordExtra_sample.json")
    with pytest.raises(AnnotationError, match=r"\[0\]\.joints: expected an array of 24, got \[\[1, 2, 3\]\]$"):
        read_stanford_dogs(tmp_path)


@pytest.mark.real_data
def test_the_genuine_dogs(real_data: Path) -> None:
    benchmark = read_stanford_dogs(real_data / "stanford_dogs")
    assert len(benchmark.images) == 25
    assert len(benchmark.pairs) == 600
    assert benchmark.images[0].name == "n02087394-Rhodesian_ridgeback/n02087394_10591.jpg"
    assert benchmark.images[0].box_xyxy == (7, 13, 356, 292)
    masks = dict(read_stanford_dogs_masks(real_data / "stanford_dogs"))
    for image in benchmark.images:
        assert masks[image.name].shape == image.size_hw
        rows, columns = masks[image.name].nonzero()
        left, top, right, bottom = image.box_xyxy or (0, 0, 0, 0)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.subtract(extent, (left, top, right, bottom))).max() <= 0.12 * max(image.size_hw)
