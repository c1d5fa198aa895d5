from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asic_eval import AnnotationError
from asic_eval.benchmarks.cub import asic_crop_sides, read_cub


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4) + height.to_bytes(4) + bytes(5)


FILES = {
    "classes.txt": "1 001.Auk\n2 002.Blue jay\n",
    "images.txt": "1 001.Auk/a.jpg\n2 002.Blue jay/b.jpg\n4 001.Auk/d.jpg\n3 001.Auk/c.jpg\n",
    "image_class_labels.txt": "1 1\n2 2\n3 1\n4 1\n",
    "train_test_split.txt": "1 0\n2 1\n3 1\n4 0\n",
    "bounding_boxes.txt": "1 10.0 20.0 30.0 40.0\n2 0 0 5 5\n3 1 1 8 2\n4 2.5 2.5 5 5\n",
    "parts/parts.txt": "1 beak\n2 left eye\n3 right eye\n",
    "parts/part_locs.txt": "".join(
        f"{image} {part} {10 * image + part}.5 {part}.0 {int((image, part) != (1, 2))}\n"
        for image in (1, 2, 3, 4)
        for part in (1, 2, 3)
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for line in FILES["images.txt"].splitlines():
        path = tmp_path / "images" / line.partition(" ")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(50, 60))
    return tmp_path


def test_one_species_in_the_order_of_the_list(root: Path) -> None:
    benchmark = read_cub(root, 1)
    assert benchmark.name == "cub/001.Auk"
    assert [image.name for image in benchmark.images] == ["001.Auk/a.jpg", "001.Auk/d.jpg", "001.Auk/c.jpg"]
    assert benchmark.keypoint_names == ("beak", "left eye", "right eye")
    assert benchmark.mirror is not None
    assert benchmark.mirror.tolist() == [0, 2, 1]
    assert len(benchmark.pairs) == 6
    first = benchmark.images[0]
    assert first.size_hw == (60, 50)
    assert first.box_xyxy == (10.0, 20.0, 40.0, 60.0)
    assert first.visible.tolist() == [True, False, True]
    assert first.points_image[0].tolist() == [11.5, 1.0]
    assert np.isnan(first.points_image[1]).all()
    assert benchmark.images[1].points_image[2].tolist() == [43.5, 3.0]


def test_choices(root: Path) -> None:
    assert [image.name for image in read_cub(root, "002.Blue jay").images] == ["002.Blue jay/b.jpg"]
    assert len(read_cub(root, 1, 2).images) == 2
    assert len(read_cub(root, None).images) == 4
    assert read_cub(root, None).name == "cub"
    train = read_cub(root, None, split="train")
    assert [image.name for image in train.images] == ["002.Blue jay/b.jpg", "001.Auk/c.jpg"]
    assert train.name == "cub/train"
    assert [image.name for image in read_cub(root, 1, split="test").images] == ["001.Auk/a.jpg", "001.Auk/d.jpg"]
    drawn = read_cub(root, None, num_random_pairs=50, seed=4)
    assert drawn.pairs.shape == (50, 2)
    assert np.array_equal(drawn.pairs, read_cub(root, None, num_random_pairs=50, seed=4).pairs)
    assert not np.array_equal(drawn.pairs, read_cub(root, None, num_random_pairs=50).pairs)
    assert len(read_cub(root, 1, 0).images) == 0


def test_crop_sides(root: Path) -> None:
    birds = read_cub(root, 1)
    assert asic_crop_sides(birds) == pytest.approx([44.0, 5.5, 8.8])
    boxless = replace(birds, images=(replace(birds.images[0], box_xyxy=None), *birds.images[1:]))
    with pytest.raises(ValueError, match=r"^threshold 'box': expected a box for every image, got none for "):
        asic_crop_sides(boxless)


def test_unknown_species(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^species: expected one of the 2 classes \(001\.Auk, 002\.Blue jay, \.\.\.\), got 9$"
    ):
        read_cub(root, 9)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("images.txt", "", r"images\.txt: file: expected at least one line, got none$"),
        ("images.txt", "1\n", r"images\.txt: line 1: expected 2 columns \(image_id, image_name\), got '1'$"),
        ("images.txt", "x a.jpg\n", r"line 1, column 'image_id': expected a whole number from 1, got 'x'$"),
        ("images.txt", "1 ../a.jpg\n", r"line 1, column 'image_name': expected a relative path"),
        ("images.txt", "1 a.jpg\n\n1 b.jpg\n", r"line 3, column 'image_id': expected an id that comes once, got '1'$"),
        ("classes.txt", "1\t001.Auk\n1 b\n", r"line 2, column 'class_id': expected an id that comes once"),
        (
            "parts/parts.txt",
            "0 beak\n",
            r"parts\.txt: line 1, column 'part_id': expected a whole number from 1, got '0'$",
        ),
        (
            "image_class_labels.txt",
            "1 1\n",
            r"image_class_labels\.txt: column 'image_id': expected a line for image 2, got none$",
        ),
        (
            "image_class_labels.txt",
            "1 1\n2 z\n3 1\n4 1\n",
            r"line 2, column 'class_id': expected a whole number from 1",
        ),
        ("bounding_boxes.txt", "", r"bounding_boxes\.txt: file: expected a box for every image, got none$"),
        ("bounding_boxes.txt", "1 1 1 2 2\n", r"bounding_boxes\.txt: column 'image_id': expected a line for image 4"),
        ("bounding_boxes.txt", "1 1 1 0 2\n", r"line 1: expected a box \[left, top, width, height\] with a positive"),
        ("bounding_boxes.txt", "1 1 1 nan 2\n", r"line 1, column 'width': expected a finite number, got 'nan'$"),
        (
            "bounding_boxes.txt",
            "1 1 1 2\n",
            r"line 1: expected 5 columns \(image_id, x, y, width, height\), got '1 1 1 2'",
        ),
        (
            "bounding_boxes.txt",
            FILES["bounding_boxes.txt"] + "1 0 0 500 500\n",
            r"bounding_boxes\.txt: line 5, column 'image_id': expected an image that comes once, got '1'$",
        ),
        (
            "parts/part_locs.txt",
            "",
            r"part_locs\.txt: column 'part_id': expected a line for part 1 of image 1, got none$",
        ),
        (
            "parts/part_locs.txt",
            FILES["parts/part_locs.txt"][: -len("4 3 43.5 3.0 1\n")],
            r"part_locs\.txt: column 'part_id': expected a line for part 3 of image 4, got none$",
        ),
        (
            "parts/part_locs.txt",
            FILES["parts/part_locs.txt"] + "1 2 0 0 0\n",
            r"part_locs\.txt: line 13, column 'part_id': expected a part that comes once for image 1, got '2'$",
        ),
        ("parts/part_locs.txt", "1 4 1 1 1\n", r"line 1, column 'part_id': expected a part from 1 to 3, got '4'$"),
        ("parts/part_locs.txt", "1 1 1e999 1 1\n", r"line 1, column 'x': expected a finite number, got '1e999'$"),
        (
            "parts/part_locs.txt",
            "1 1 1 1 yes\n",
            r"line 1, column 'visible': expected a whole number from 0, got 'yes'$",
        ),
    ],
)
def test_errors_name_file_and_line(root: Path, file: str, text: str, message: str) -> None:
    (root / file).write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_cub(root, 1)


def test_images_that_are_not_chosen_are_not_looked_at(root: Path) -> None:
    before = read_cub(root, 1)
    (root / "bounding_boxes.txt").write_text(FILES["bounding_boxes.txt"] + "2 0 0 5 5\n7 0 0 5 5\n")
    parts = FILES["parts/part_locs.txt"].replace("2 3 23.5 3.0 1\n", "2 1 9 9 1\n") + "7 1 1 1 1\n"
    (root / "parts" / "part_locs.txt").write_text(parts)
    after = read_cub(root, 1)
    assert np.array_equal(after.points_image, before.points_image, equal_nan=True)
    assert [image.box_xyxy for image in after.images] == [image.box_xyxy for image in before.images]
    with pytest.raises(
        AnnotationError, match=r"bounding_boxes\.txt: line 5, column 'image_id': expected an image that"
    ):
        read_cub(root, None)


def test_a_missing_split_entry_is_named(root: Path) -> None:
    (root / "train_test_split.txt").write_text("1 1\n")
    with pytest.raises(AnnotationError, match=r"train_test_split\.txt: column 'image_id': expected a line for image 2"):
        read_cub(root, None, split="train")


def test_missing_files_are_named(root: Path) -> None:
    (root / "images" / "001.Auk" / "a.jpg").unlink()
    with pytest.raises(
        AnnotationError, match=r"a\.jpg: file: expected a readable file, got No such file or directory$"
    ):
        read_cub(root, 1)
    (root / "classes.txt").unlink()
    with pytest.raises(AnnotationError, match=r"classes\.txt: file: expected a readable file, got No such file"):
        read_cub(root, 1)


@pytest.mark.real_data
def test_the_genuine_files(real_data: Path) -> None:
    benchmark = read_cub(real_data / "CUB_200_2011", 1, 20)
    assert len(benchmark.images) == 20
    assert len(benchmark.pairs) == 380
    assert benchmark.images[0].name == "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg"
    assert benchmark.images[0].size_hw == (335, 500)
    assert benchmark.mirror is not None
    assert benchmark.mirror.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 9, 6, 7, 8, 13, 14]
    assert len(read_cub(real_data / "CUB_200_2011", None).images) == 238
