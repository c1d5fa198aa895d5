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


@pytest.mark.parametrize("place", ["", "cachedir/cub/data"])
def test_the_lists_of_acsm_decide_where_they_are(asic, cub, place) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="scipy writes the list")
    parts = np.zeros((3, 15))
    parts[:, 1] = [41.0, 31.0, 1.0]
    names = ["001.A/m.jpg", "002.B/b.jpg", "001.A/z.jpg"]
    records = np.empty((1, 3), dtype=[(name, object) for name in ("rel_path", "bbox", "parts", "mask")])
    for index, name in enumerate(names):
        box = {"x1": 31.0, "y1": 21.0, "x2": 80.0, "y2": 60.0}  # 50 x 40 pixels, counted from 1
        records[0, index] = (name, box, parts, np.zeros((80, 100), dtype=np.uint8))
    (cub / place).mkdir(parents=True, exist_ok=True)
    scipy_io.savemat(cub / place / "val_cub_cleaned.mat", {"images": records})
    command = ("features", cub, "--dataset", "cub", "--size", 64, "--json", "--species")
    result = asic(*command, 1, "--split", "val")
    assert result.code == 0, result.err
    assert result.json["photos"] == ["001.A/m.jpg", "001.A/z.jpg"]
    assert result.json["collection"] == "asic-out/acsm-val_cub_cleaned-001.A"
    index = json.loads(Path(result.json["collection"], "collection.json").read_text())
    assert index["photos"][0]["box_xyxy"] == [29.5, 19.5, 79.5, 59.5]
    # Grown by 5 % a side, and square.
    assert index["photos"][0]["scale_xy"] == [64 / 55, 64 / 55]
    truth = json.loads(Path(result.json["collection"], "truth.json").read_text())
    assert (truth["pairs"], truth["images"][1]["points_image"][1]) == ([[0, 1], [1, 0]], [40.0, 30.0])
    assert asic(*command, "001.A", "--split", "val").json["reused"]
    # No list of another split is there.
    assert len(asic(*command, 1).json["photos"]) == 3
    result = asic(*command, "003.C", "--split", "val")
    assert (result.code, "expected one of the 2 in val_cub_cleaned.mat (001.A, 002.B" in result.err) == (2, True)
    (cub / place / "val_cub_cleaned.mat").unlink()
    result = asic(*command, 1, "--split", "val")
    assert (result.code, "copy val_cub_cleaned.mat to" in result.err) == (2, True)


def test_boxes_as_masks(asic, cub) -> None:
    command = ("features", cub, "--dataset", "cub", "--species", 1, "--size", 64, "--masks", "box", "--json")
    result = asic(*command)
    assert result.json["foreground"] == pytest.approx((40 / 44) ** 2, abs=0.03)


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


@pytest.fixture
def proposal_flow(draw, tmp_path: Path) -> Path:
    """Three drawn photos in the layouts of PF-PASCAL and PF-WILLOW; the first is in two pairs of each."""
    root = tmp_path / "PF"
    draw(root / "PF-dataset-PASCAL" / "JPEGImages", ["a.png", "b.png", "c.png"])
    draw(root / "PF-dataset" / "car(G)", ["a.png", "b.png", "c.png"])
    folder = "PF-dataset-PASCAL/JPEGImages"
    (root / "test_pairs_pf_pascal.csv").write_text(
        "source_image,target_image,class,XA,YA,XB,YB\n"
        f"{folder}/a.png,{folder}/b.png,8,30;60,40;70,31;61,41;71\n"
        f"{folder}/c.png,{folder}/a.png,8,50;55;60,50;50;52,50;56;61,51;50;52\n"
        f"{folder}/b.png,{folder}/c.png,3,1;2,3;4,5;6,7;8\n"
    )
    points = {name: [20 + 3 * index + offset for index in range(9)] + [-1] for offset, name in enumerate("abc")}
    header = ",".join(["imageA", "imageB", *(f"{axis}{end}{k}" for end in "AB" for axis in "XY" for k in range(10))])
    rows = [
        ",".join([f"PF-dataset/car(G)/{one}.png", f"PF-dataset/car(G)/{two}.png"])
        + ","
        + ",".join(str(value) for name in (one, two) for value in (*points[name], *points[name]))
        for one, two in ("ab", "ca")
    ]
    (root / "test_pairs_pf.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def test_pf_pascal(asic, proposal_flow) -> None:
    command = ("features", proposal_flow, "--dataset", "pf_pascal", "--category", "cat", "--size", 64, "--out", "x")
    result = asic(*command, "--json")
    assert result.code == 0, result.err
    folder = "PF-dataset-PASCAL/JPEGImages"
    assert result.json["photos"] == [f"{folder}/{name}.png" for name in "abc"]
    truth = json.loads(Path("x/truth.json").read_text())
    # Photo a is in both pairs, and each pair asks for its own points alone.
    assert truth["pairs"] == [[0, 1], [2, 0]]
    assert [len(asked) for asked in truth["pair_visible"]] == [2, 3]
    assert [sum(image["visible"]) for image in truth["images"]] == [5, 2, 3]
    second = truth["pair_visible"][1]
    assert [truth["images"][0]["points_image"][index] for index in second] == [[50, 51], [56, 50], [61, 52]]
    summary = asic("eval", "x", "--json").json
    assert summary["protocol"].startswith("pf-pascal")
    assert summary["methods"]["box_copy"]["pck"]["0.05"]["per_image"] == 1.0
    result = asic(*command, "--split", "dev")
    assert (result.code, "expected a --split of trn, val, test" in result.err) == (2, True)
    result = asic(*command, "--split", "val")
    assert (result.code, "expected a list of pairs, one of val_pairs_pf_pascal.csv" in result.err) == (2, True)


def test_pf_willow(asic, proposal_flow) -> None:
    command = ("features", proposal_flow, "--dataset", "pf_willow", "--category", "car(G)", "--size", 64, "--out", "x")
    result = asic(*command, "--json")
    assert result.code == 0, result.err
    truth = json.loads(Path("x/truth.json").read_text())
    assert (len(truth["images"]), truth["pairs"], truth["pair_visible"]) == (3, [[0, 1], [2, 0]], None)
    assert [sum(image["visible"]) for image in truth["images"]] == [9, 9, 9]
    assert asic("eval", "x", "--json").json["protocol"].startswith("pf-willow")
    pairs = proposal_flow / "test_pairs_pf.csv"
    pairs.write_text(pairs.read_text().replace("b.png,20", "b.png,21"))
    result = asic(*command, "--fresh")
    assert (result.code, "car(G)/a.png has other keypoints in another pair" in result.err) == (2, True)


def test_ap10k(asic, draw, tmp_path) -> None:
    root = tmp_path / "ap10k"
    draw(root / "data", ["1.png", "2.png", "3.png"])
    (root / "annotations").mkdir()
    keypoints = [value for index in range(17) for value in (30 + index, 40 + index, 2)]
    document = {
        "images": [{"id": row, "file_name": f"{row}.png", "width": 120, "height": 120} for row in (1, 2, 3)],
        "categories": [
            {"id": number, "name": name, "keypoints": [f"k{index}" for index in range(17)]}
            for number, name in ((1, "cat"), (2, "dog"))
        ],
        "annotations": [
            {"id": row, "image_id": row, "category_id": 1 + row // 3, "bbox": [20, 20, 60, 60], "keypoints": keypoints}
            for row in (1, 2, 3)
        ],
    }
    (root / "annotations" / "ap10k-test-split1.json").write_text(json.dumps(document))
    command = ("features", root, "--dataset", "ap10k", "--size", 64, "--out", "x", "--json")
    result = asic(*command, "--category", "cat")
    assert result.code == 0, result.err
    assert result.json["photos"] == ["1.png", "2.png"]
    assert asic("eval", "x", "--json").json["protocol"].startswith("ap10k")
    assert asic(*command).code == 2


def test_frames(asic, draw, tmp_path) -> None:
    draw(tmp_path / "frames", [f"{index:02d}.png" for index in range(7)])
    result = asic("features", "frames", "--every", 3, "--size", 64, "--json")
    assert result.json["photos"] == ["00.png", "03.png", "06.png"]
    result = asic("features", "frames", "--every", 2, "--size", 64)
    assert (result.code, "photo 02.png: not in the folder, now there" in result.err) == (2, True)
    assert (
        len(asic("features", "frames", "--every", 3, "--limit", 2, "--size", 64, "--fresh", "--json").json["photos"])
        == 2
    )
    result = asic("features", "frames", "--dataset", "stanford_dogs", "--every", 2)
    assert (result.code, "--every is for frames" in result.err) == (2, True)


def test_stanford_dogs_in_their_own_layout(asic, draw, tmp_path) -> None:
    """The photos' archive calls its folder Images."""
    draw(tmp_path / "dogs" / "Images" / "n1-pug", ["a.png", "b.png"])
    joints = [[40 + index, 50 + index, 1] for index in range(24)]
    records = [
        {
            "img_path": f"n1-pug/{name}.png",
            "img_width": 120,
            "img_height": 120,
            "img_bbox": [20, 20, 80, 80],
            "joints": joints,
        }
        for name in "ab"
    ]
    (tmp_path / "dogs" / "StanfordExtra_v12.json").write_text(json.dumps(records))
    result = asic("features", "dogs", "--dataset", "stanford_dogs", "--size", 64, "--json")
    assert result.code == 0, result.err
    assert result.json["photos"] == ["n1-pug/a.png", "n1-pug/b.png"]


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
