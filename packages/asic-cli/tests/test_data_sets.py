from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    """Four drawn birds in CUB-200-2011's layout, of which the third in `images.txt` order is another species."""
    root = tmp_path / "CUB"
    (root / "parts").mkdir(parents=True)
    generator = np.random.default_rng(0)
    names = ["001.A/z.jpg", "001.A/a.jpg", "002.B/b.jpg", "001.A/m.jpg"]
    for index, name in enumerate(names):
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 60, (80, 100, 3), dtype=np.uint8)
        pixels[20:60, 30 + index : 70 + index] += 150
        Image.fromarray(pixels).save(path)
    rows = range(1, len(names) + 1)
    (root / "classes.txt").write_text("1 001.A\n2 002.B\n")
    (root / "images.txt").write_text("".join(f"{row} {name}\n" for row, name in zip(rows, names, strict=True)))
    (root / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n4 1\n")
    (root / "train_test_split.txt").write_text("".join(f"{row} {row % 2}\n" for row in rows))
    (root / "bounding_boxes.txt").write_text("".join(f"{row} {29 + row}.0 20.0 40.0 40.0\n" for row in rows))
    (root / "parts" / "parts.txt").write_text("1 back\n2 left eye\n3 right eye\n")
    (root / "parts" / "part_locs.txt").write_text(
        "".join(f"{row} {part} {35 + row + 5 * part}.0 40.0 {int(part < 3)}\n" for row in rows for part in (1, 2, 3))
    )
    return root


def test_cub(asic, cub) -> None:
    command = ("features", cub, "--dataset", "cub", "--species", "001.A", "--size", 64, "--json", "--out", "x")
    result = asic(*command)
    assert result.code == 0, result.err
    # In the order of images.txt, which is not that of names.
    assert result.json["photos"] == ["001.A/z.jpg", "001.A/a.jpg", "001.A/m.jpg"]
    assert asic(*command).json["reused"]
    assert asic("features", cub, "--dataset", "cub", "--species", 1, "--size", 64, "--out", "x", "--json").json[
        "reused"
    ]
    index = json.loads(Path("x/collection.json").read_text())
    # The box of 40 grown by 5 % a side is 44 square.
    assert index["photos"][0]["scale_xy"] == [64 / 44, 64 / 44]
    summary = asic("eval", "x", "--json").json
    assert summary["protocol"].startswith("cub-asic-256")
    # The parts move with the boxes, so copying the position in the box is right.
    assert summary["methods"]["box_copy"]["pck"]["0.05"] == {"per_point": 1.0, "per_image": 1.0}


def test_limit_takes_the_first_of_the_list(asic, cub) -> None:
    result = asic("features", cub, "--dataset", "cub", "--species", 1, "--size", 64, "--limit", 2, "--json")
    assert result.json["photos"] == ["001.A/z.jpg", "001.A/a.jpg"]
    assert result.json["collection"] == "asic-out/cub-001.A"


def test_faults_are_named(asic, cub) -> None:
    command = ("features", cub, "--dataset", "cub", "--species")
    result = asic(*command, "003.C")
    assert (result.code, "--dataset cub: species: expected one of the 2 classes" in result.err) == (2, True)
    result = asic(*command, 1, "--split", "train")
    assert (result.code, "only one photo" in result.err) == (2, True)
    result = asic(*command, 1, "--category", "bird")
    assert (result.code, "--category does not go with --dataset cub" in result.err) == (2, True)
    (cub / "bounding_boxes.txt").write_text("1 a b c d\n")
    result = asic(*command, 1)
    assert (result.code, "bounding_boxes.txt: line 1, column 'x'" in result.err) == (2, True)


def test_annotated_photos_that_are_gone_are_all_listed(asic, demo, tmp_path) -> None:
    import shutil

    root = shutil.copytree(demo / "photos", tmp_path / "photos")
    for name in ("003.png", "007.png"):
        (root / "JPEGImages" / "creature" / name).unlink()
    command = ("features", root, "--dataset", "spair", "--category", "creature", "--size", 64, "--out", "x")
    result = asic(*command)
    assert (result.code, "003.png: this file does not exist" in result.err) == (2, True)
    assert "007.png: this file does not exist" in result.err
    result = asic(*command, "--skip-bad", "--json")
    assert (result.code, len(result.json["photos"])) == (4, 8)
    truth = json.loads(Path("x/truth.json").read_text())
    assert [image["name"] for image in truth["images"]] == result.json["photos"]
    assert asic("eval", "x", "--json").json["collection"]["photos"] == 8


@pytest.mark.real_data
def test_stanford_dogs(asic, real_data) -> None:
    root = real_data / "stanford_dogs"
    result = asic("features", root, "--dataset", "stanford_dogs", "--size", 64, "--limit", 3, "--out", "x", "--json")
    assert len(result.json["photos"]) == 3
    assert asic("eval", "x", "--json").json["protocol"].startswith("box-per-point")


@pytest.mark.real_data
@pytest.mark.parametrize(("species", "nearest", "default"), [(1, 66.1, 75.0), (2, 58.1, 65.0)])
def test_cub_from_photos_to_scores(asic, real_data, species, nearest, default) -> None:
    """The recipe and the figures of plain nearest neighbour; the default answer is well above them."""
    weights = next((real_data / "weights" / "vit_tiny_in1k").glob("*.pth"))
    source = ("--dataset", "cub", "--species", species, "--limit", 20)
    network = ("--backbone", "vit_tiny_p16", "--weights", weights, "--block", 8, "--facet", "key", "--stride", 8)
    assert asic("features", real_data / "CUB_200_2011", *source, *network, "--size", 256, "--out", "x").code == 0
    assert asic("train", "x", "--out", "y").code == 0
    summary = asic("eval", "y", "--json").json
    scores = {name: 100 * scores["pck"]["0.10"]["per_point"] for name, scores in summary["methods"].items()}
    assert scores["nearest_neighbour"] == pytest.approx(nearest, abs=1.0)
    assert scores[summary["default"]] >= default
