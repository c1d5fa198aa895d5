from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asic_eval import AnnotationError, random_pairs, threshold_lengths
from asic_eval.arrays import write_arrays
from asic_eval.benchmarks.acsm import read_acsm_cub
from asic_eval.benchmarks.ap10k import KEYPOINTS, LOOK_ALIKE, read_ap10k, read_ap10k_pairs
from asic_eval.benchmarks.pairs_file import read_benchmark_json, read_pair_list, read_pairs_csv
from asic_eval.benchmarks.pf_pascal import CATEGORIES, read_pf_pascal
from asic_eval.benchmarks.pf_willow import read_pf_willow
from asic_eval.benchmarks.reading import Request, read_benchmarks
from asic_eval.benchmarks.tracks import read_tracks


def put_image(root: Path, name: str, width: int, height: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4) + height.to_bytes(4))


PF_HEADER = "source_image,target_image,class,XA,YA,XB,YB\n"


@pytest.fixture
def pf_root(tmp_path: Path) -> Path:
    put_image(tmp_path, "d/a.jpg", 40, 30)
    put_image(tmp_path, "d/b.jpg", 20, 50)
    return tmp_path


def write(root: Path, text: str) -> Path:
    (root / "pairs.csv").write_text(text)
    return root / "pairs.csv"


def test_pf_pascal(pf_root: Path) -> None:
    lines = "d/a.jpg,d/b.jpg,8,1;2;3,4;5;6,7;8;9,1;2;3\nd/b.jpg,d/a.jpg,1,1.5,2.5,3.5,4.5\n"
    benchmark = read_pf_pascal(write(pf_root, PF_HEADER + lines), pf_root)
    assert benchmark.name == "pf-pascal"
    assert benchmark.pairs.tolist() == [[0, 1], [2, 3]]
    assert [image.name for image in benchmark.images] == ["d/a.jpg", "d/b.jpg", "d/b.jpg", "d/a.jpg"]
    assert benchmark.keypoint_names == ("0", "1", "2")
    assert benchmark.asked.tolist() == [[True] * 3, [True, False, False]]
    assert benchmark.images[0].points_image.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert benchmark.images[1].points_image.tolist() == [[7, 1], [8, 2], [9, 3]]
    assert threshold_lengths(benchmark, "image").tolist() == [40, 50, 50, 40]
    cats = read_pf_pascal(pf_root / "pairs.csv", pf_root, "cat")
    assert cats.name == "pf-pascal/cat"
    assert len(cats.pairs) == 1
    assert len(read_pf_pascal(pf_root / "pairs.csv", pf_root, "tvmonitor").pairs) == 0
    assert len(set(CATEGORIES)) == 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("d/a.jpg,d/b.jpg,21,1,1,1,1", r"line 2, column 'class': expected a class from 1 to 20, got '21'$"),
        ("d/a.jpg,d/b.jpg,0,1,1,1,1", r"line 2, column 'class': expected a whole number from 1, got '0'$"),
        (
            "d/a.jpg,d/b.jpg,1,1;2,1,1,1",
            r"line 2, column 'XA': expected as many numbers as YA, XB and YB have, got '1;2'$",
        ),
        ("d/a.jpg,d/b.jpg,1,1,1,1;,1", r"line 2, column 'XB': expected a string, got ''$"),
        ("../a.jpg,d/b.jpg,1,1,1,1,1", r"line 2, column 'source_image': expected a relative path"),
        ("d/c.jpg,d/b.jpg,1,1,1,1,1", r"d/c\.jpg: file: expected a readable file"),
    ],
)
def test_pf_pascal_errors(pf_root: Path, line: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_pf_pascal(write(pf_root, PF_HEADER + line), pf_root)


def test_pf_pascal_category_must_be_known(pf_root: Path) -> None:
    with pytest.raises(ValueError, match=r"^category: expected one of aeroplane, .*, tvmonitor, got 'duck'$"):
        read_pf_pascal(write(pf_root, PF_HEADER), pf_root, "duck")


def willow_line(**changes: Any) -> str:
    xs, ys = [str(index) for index in range(10)], [str(10 + index) for index in range(10)]
    columns = {"source": "d/a.jpg", "target": "d/b.jpg", "xa": xs, "ya": ys, "xb": ys, "yb": xs} | changes
    flat = [columns["source"], columns["target"], *columns["xa"], *columns["ya"], *columns["xb"], *columns["yb"]]
    return ",".join(flat)


WILLOW_HEADER = ",".join(["imageA", "imageB", *(f"c{index}" for index in range(40))]) + "\n"


def test_pf_willow(pf_root: Path) -> None:
    padded = willow_line(xb=["12", "-1"] * 5, yb=["3", "-1"] * 5)
    benchmark = read_pf_willow(write(pf_root, WILLOW_HEADER + willow_line() + "\n" + padded), pf_root)
    assert benchmark.name == "pf-willow"
    assert benchmark.pairs.tolist() == [[0, 1], [2, 3]]
    assert benchmark.images[0].points_image[3].tolist() == [3.0, 13.0]
    assert benchmark.images[1].points_image[3].tolist() == [13.0, 3.0]
    assert benchmark.asked.sum(axis=1).tolist() == [10, 5]
    assert threshold_lengths(benchmark, "keypoints").tolist() == [9.0, 9.0, 9.0, 0.0]
    assert read_pf_willow(pf_root / "pairs.csv", pf_root, "d").name == "pf-willow/d"
    with pytest.raises(AnnotationError, match=r"pairs\.csv: file: expected pairs of 'a\.jpg', got \[\]$"):
        read_pf_willow(pf_root / "pairs.csv", pf_root, "a.jpg")
    with pytest.raises(AnnotationError, match=r"pairs\.csv: file: expected pairs, got \[\]$"):
        read_pf_willow(write(pf_root, WILLOW_HEADER), pf_root)
    with pytest.raises(AnnotationError, match=r"line 2: expected 42 columns, got 2$"):
        read_pf_willow(write(pf_root, WILLOW_HEADER + "a,b\n"), pf_root)
    with pytest.raises(AnnotationError, match=r"line 2, column '2': expected a finite number, got 'x'$"):
        read_pf_willow(write(pf_root, WILLOW_HEADER + willow_line(xa=["x"] * 10)), pf_root)
    # Positions so far apart have an infinite extent, at which every answer would be right.
    apart = willow_line(xb=["1e308", "-1e308"] * 5)
    with pytest.raises(
        AnnotationError, match=r"pairs\.csv: line 2, column '22': expected a finite number, got '1e308'$"
    ):
        read_pf_willow(write(pf_root, WILLOW_HEADER + apart), pf_root)


def animal_file(folder: Path, name: str) -> Path:
    def animal(image: int, category: int, shown: int) -> dict[str, Any]:
        flat = [value for index in range(4) for value in (index, index, 2 * (index < shown))]
        return {"image_id": image, "category_id": category, "keypoints": flat, "bbox": [0, 0, 5, 5]}

    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in range(5)],
        "annotations": [animal(0, 1, 3), animal(1, 1, 4), animal(2, 1, 2), animal(3, 2, 4), animal(4, 2, 3)],
        "categories": [
            {"id": 1, "name": "dog", "keypoints": ["nose", "left_eye", "right_eye", "tail"]},
            {"id": 2, "name": "cat", "keypoints": ["nose", "left_eye", "right_eye", "tail"]},
        ],
    }
    path = folder / "annotations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_ap10k(tmp_path: Path) -> None:
    animal_file(tmp_path, "ap10k-test-split1.json")
    dogs = read_ap10k(tmp_path, "dog")
    assert dogs.name == "ap10k/dog/test"
    assert [image.name for image in dogs.images] == ["0.jpg", "1.jpg"]
    assert dogs.pairs.tolist() == [[0, 1], [1, 0]]
    assert dogs.mirror is not None
    across = read_ap10k(tmp_path, "dog", "cat")
    assert across.name == "ap10k/dog-cat/test"
    assert [image.name for image in across.images] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    assert across.pairs.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert across.mirror is not None
    assert across.mirror.tolist() == [0, 2, 1, 3]
    assert dogs.look_alike is None  # four keypoints are not AP-10K's seventeen
    animal_file(tmp_path, "ap10k-val-split3.json")
    assert read_ap10k(tmp_path, "cat", split="val", fold=3).name == "ap10k/cat/val"
    with pytest.raises(AnnotationError, match=r"ap10k-train-split2\.json: file: expected a readable file"):
        read_ap10k(tmp_path, "cat", split="train", fold=2)


def tracks(**changes: Any) -> dict[str, Any]:
    points = np.array([[[0.5, 0.25], [0.0, 0.0], [1.0, 1.0]], [[0.1, 0.1], [0.2, 0.2], [np.nan, 0.3]]])
    occluded = np.array([[False, False, False], [False, False, True]])
    return {"points": points, "occluded": occluded, "size_hw": np.array([40, 20])} | changes


def test_tracks(tmp_path: Path) -> None:
    write_arrays(tmp_path / "t.npz", tracks())
    benchmark = read_tracks(tmp_path / "t.npz")
    assert benchmark.name == "tracks"
    assert benchmark.keypoint_names == ("0", "1")
    assert [image.name for image in benchmark.images] == ["000000", "000001", "000002"]
    assert benchmark.images[0].size_hw == (40, 20)
    assert benchmark.images[0].points_image.tolist() == [[9.5, 9.5], [1.5, 3.5]]
    assert benchmark.pairs.tolist() == [[0, 1], [0, 2]]
    assert benchmark.visible.tolist() == [[True, True], [True, True], [True, False]]
    assert len(read_tracks(tmp_path / "t.npz", pairs="all").pairs) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros((2, 3))}, r"array 'points': expected numbers of shape \(any, any, 2\), got float64"),
        ({"occluded": np.zeros((2, 2), dtype=bool)}, r"array 'occluded': expected truth values of shape \(2, 3\)"),
        ({"occluded": np.zeros((2, 3))}, r"array 'occluded': expected truth values of shape \(2, 3\)"),
        (
            {"occluded": np.zeros((2, 3), dtype=bool)},
            r"array 'points': expected a position wherever a point is not occl",
        ),
        ({"size_hw": np.array([0, 5])}, r"array 'size_hw': expected whole numbers from 1, got 0 to 5$"),
    ],
)
def test_track_errors(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_arrays(tmp_path / "t.npz", tracks(**changes))
    with pytest.raises(AnnotationError, match=message):
        read_tracks(tmp_path / "t.npz")


CSV_HEADER = "source,target,keypoint,source_x,source_y,target_x,target_y,note\n"


def test_pairs_of_ones_own(pf_root: Path) -> None:
    first, second = "d/a.jpg,d/b.jpg", "d/b.jpg,d/a.jpg"
    lines = f"{first},left ear,1,2,3,4,x\n{first},right ear,5,6,7,8,\n{second},left ear,3,4,1,2,\n"
    benchmark = read_pairs_csv(write(pf_root, CSV_HEADER + lines), pf_root)
    assert benchmark.name == "pairs"
    assert benchmark.keypoint_names == ("left ear", "right ear")
    assert [image.name for image in benchmark.images] == ["d/a.jpg", "d/b.jpg"]
    assert benchmark.images[1].size_hw == (50, 20)
    assert benchmark.pairs.tolist() == [[0, 1], [1, 0]]
    assert benchmark.asked.tolist() == [[True, True], [True, False]]
    assert benchmark.points_image.tolist() == [[[1, 2], [5, 6]], [[3, 4], [7, 8]]]
    assert benchmark.mirror is not None
    clash = "d/a.jpg,d/b.jpg,ear,1,2,3,4,\nd/a.jpg,d/b.jpg,ear,1,3,3,4,\n"
    with pytest.raises(
        AnnotationError,
        match=r"line 3, column 'source_x': expected 'ear' at \[1\.0, 2\.0\], as another line of this image says, got",
    ):
        read_pairs_csv(write(pf_root, CSV_HEADER + clash), pf_root)
    with pytest.raises(AnnotationError, match=r"line 2, column 'target_y': expected a string, got ''$"):
        read_pairs_csv(write(pf_root, CSV_HEADER + "d/a.jpg,d/b.jpg,ear,1,2,3,,\n"), pf_root)
    with pytest.raises(AnnotationError, match=r"line 2, column 'target': expected a relative path"):
        read_pairs_csv(write(pf_root, CSV_HEADER + "d/a.jpg,/b.jpg,ear,1,2,3,4,\n"), pf_root)
    assert len(read_pairs_csv(write(pf_root, CSV_HEADER), pf_root).pairs) == 0


def test_json_of_ones_own(tmp_path: Path, benchmark: Any) -> None:
    (tmp_path / "b.json").write_text(json.dumps(benchmark.to_json()))
    assert read_benchmark_json(tmp_path / "b.json").to_json() == benchmark.to_json()
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(AnnotationError, match=r"b\.json: format: expected a value, got no such key$"):
        read_benchmark_json(tmp_path / "b.json")


def test_pair_lists(tmp_path: Path) -> None:
    index_of = {"a.jpg": 0, "b.jpg": 1, "7": 1}
    assert read_pair_list(write(tmp_path, "a.jpg b.jpg\n\n7 a.jpg\n"), index_of).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(
        AnnotationError, match=r"pairs\.csv: line 2, column 'target': expected one of the benchmark's 3"
    ):
        read_pair_list(write(tmp_path, "a.jpg b.jpg\n7 8\n"), index_of)
    with pytest.raises(AnnotationError, match=r"line 1: expected 2 columns \(source, target\), got 'a\.jpg'$"):
        read_pair_list(write(tmp_path, "a.jpg\n"), index_of)
    with pytest.raises(AnnotationError, match=r"pairs\.csv: file: expected at least one pair, got none$"):
        read_pair_list(write(tmp_path, "\n"), index_of)


def put_ap10k_pair(root: Path, source: str, target: str, category: str = "cat", split: str = "test") -> None:
    folder = root / "PairAnnotation" / split
    folder.mkdir(parents=True, exist_ok=True)
    paths = [f"data/ap-10k/ImageAnnotation/Felidae/cat/{name}.json" for name in (source, target)]
    document = dict(zip(("src_json_path", "trg_json_path"), paths, strict=True))
    (folder / f"{source}-{target}:{category}.json").write_text(json.dumps(document))


def put_ap10k_image(root: Path, name: str, **changes: Any) -> None:
    path = root / "ImageAnnotation" / "Felidae" / "cat" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    keypoints = [[10.0 + index, 20.0, 2] for index in range(17)]
    keypoints[3], keypoints[4] = [0, 0, 0], [9, 8, 1]
    flat = [number for triple in keypoints for number in triple]
    path.write_text(json.dumps({"keypoints": flat, "bbox": [1, 2, 30, 40], "width": 60, "height": 50} | changes))


def test_published_pairs_of_ap10k(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        put_ap10k_image(tmp_path, name)
    put_ap10k_pair(tmp_path, "2", "1")
    put_ap10k_pair(tmp_path, "2", "3")
    put_ap10k_pair(tmp_path, "3", "1", category="dog")
    benchmark = read_ap10k_pairs(tmp_path, "cat")
    assert benchmark.name == "ap10k-pairs/cat/test"
    assert [image.name for image in benchmark.images] == [f"Felidae/cat/{name}.jpg" for name in "213"]
    assert benchmark.pairs.tolist() == [[0, 1], [0, 2]]  # each in its one direction
    assert benchmark.images[0].size_hw == (50, 60)
    assert benchmark.images[0].box_xyxy == (1.0, 2.0, 31.0, 42.0)
    assert benchmark.keypoint_names == KEYPOINTS
    assert benchmark.visible[0].tolist() == [True] * 3 + [False] + [True] * 13  # hidden, but labelled: it counts
    assert benchmark.images[0].points_image[4].tolist() == [9.0, 8.0]  # and is where it is labelled
    assert benchmark.mirror is not None
    assert benchmark.mirror.tolist() == [1, 0, 2, 3, 4, 8, 9, 10, 5, 6, 7, 14, 15, 16, 11, 12, 13]
    assert benchmark.look_alike == LOOK_ALIKE
    for group in LOOK_ALIKE:
        assert {int(benchmark.mirror[keypoint]) for keypoint in group} == set(group)
    put_ap10k_pair(tmp_path, "1", "2", category="all", split="test_cross_family")
    assert len(read_ap10k_pairs(tmp_path, "all", "test_cross_family").pairs) == 1
    by_name = read_benchmarks("ap10k-pairs", Request(tmp_path, ("all",), "test_cross_family"))
    assert by_name["all"].name == "ap10k-pairs/all/test_cross_family"
    for split in ("trn", "val", "test", "val_cross_species", "test_cross_species", "val_cross_family"):
        put_ap10k_pair(tmp_path, "1", "3", category="own", split=split)
        assert read_benchmarks("ap10k-pairs", Request(tmp_path, ("own",), split))["own"].pairs.tolist() == [[0, 1]]
    assert read_benchmarks("ap10k-pairs", Request(tmp_path, ("cat",)))["cat"].name == "ap10k-pairs/cat/test"


def test_official_splits_of_ap10k_by_name(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    seen, few = [1, 2, 2] * 17, [1, 2, 2] * 2 + [0] * 45
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(5)],
        "annotations": [
            {"image_id": i, "category_id": 1 + i // 3, "keypoints": few if i in (2, 4) else seen, "bbox": [0, 1, 9, 8]}
            for i in range(5)
        ],
        "categories": [{"id": i, "name": name, "keypoints": list(KEYPOINTS)} for i, name in ((1, "cat"), (2, "dog"))],
    }
    for split in ("test", "val", "train"):
        (tmp_path / "annotations" / f"ap10k-{split}-split1.json").write_text(json.dumps(document))
        cat = read_benchmarks("ap10k", Request(tmp_path, ("cat",), split))["cat"]
        assert (cat.name, cat.look_alike) == (f"ap10k/cat/{split}", LOOK_ALIKE)
    drawn = read_benchmarks("ap10k", Request(tmp_path, ("cat",), random_pairs=4))["cat"]
    assert drawn.pairs.tolist() == random_pairs(2, 4, 0).tolist()
    assert [image.name for image in drawn.images] == ["0.jpg", "1.jpg"]  # the third shows two keypoints
    assert list(read_benchmarks("ap10k", Request(tmp_path, ("cat", "dog")))) == ["cat", "dog"]
    across = read_ap10k(tmp_path, "cat", "dog")
    assert [image.name for image in across.images] == ["0.jpg", "1.jpg", "3.jpg"]


def test_errors_in_published_pairs_of_ap10k(tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError, match=r"PairAnnotation/val: folder: expected pair annotations of 'cat', got none$"
    ):
        read_ap10k_pairs(tmp_path, "cat", "val")
    put_ap10k_pair(tmp_path, "1", "2")
    with pytest.raises(AnnotationError, match=r"Felidae/cat/1\.json: file: expected a readable file"):
        read_ap10k_pairs(tmp_path, "cat")
    put_ap10k_image(tmp_path, "1", keypoints=[1, 2, 2])
    with pytest.raises(AnnotationError, match=r"cat/1\.json: keypoints: expected an array of 51"):
        read_ap10k_pairs(tmp_path, "cat")
    pair = tmp_path / "PairAnnotation" / "test" / "1-2:cat.json"
    for path, message in (
        ("x/1.json", r"1-2:cat\.json: src_json_path: expected a path below 'ImageAnnotation', got 'x/1\.json'$"),
        ("data/ImageAnnotation/../x.json", r"src_json_path: expected a relative path"),
        ("data/ImageAnnotation", r"src_json_path: expected a string, got ''$"),
    ):
        pair.write_text(json.dumps({"src_json_path": path, "trg_json_path": path}))
        with pytest.raises(AnnotationError, match=message):
            read_ap10k_pairs(tmp_path, "cat")


def cub_record(**changes: Any) -> dict[str, Any]:
    parts = np.zeros((3, 15))
    parts[:, 1] = [11.0, 21.0, 1.0]
    box = {"x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 40.0}
    record = {"rel_path": "001.A/a.jpg", "bbox": box, "parts": parts, "mask": np.zeros((50, 60), dtype=np.uint8)}
    return record | changes


def save_mat(folder: Path, records: list[dict[str, Any]], variable: str = "images") -> Path:
    scipy_io = pytest.importorskip("scipy.io")
    array = np.empty(len(records), dtype=object)
    array[:] = records
    scipy_io.savemat(folder / "test_cub_cleaned.mat", {variable: array if len(records) > 1 else records[0]})
    return folder / "test_cub_cleaned.mat"


def test_acsm_lists(tmp_path: Path) -> None:
    path = save_mat(tmp_path, [cub_record(), cub_record(rel_path="001.A/b.jpg")])
    benchmark = read_acsm_cub(path)
    assert benchmark.name == "acsm/test_cub_cleaned"
    assert [image.name for image in benchmark.images] == ["001.A/a.jpg", "001.A/b.jpg"]
    assert benchmark.images[0].size_hw == (50, 60)
    assert benchmark.images[0].box_xyxy == (-0.5, 0.5, 29.5, 39.5)
    assert benchmark.visible.sum(axis=1).tolist() == [1, 1]
    assert benchmark.images[0].points_image[1].tolist() == [10.0, 20.0]
    assert np.isnan(benchmark.images[0].points_image[0]).all()
    assert benchmark.keypoint_names[1] == "beak"
    assert benchmark.mirror is not None
    assert benchmark.mirror.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 9, 6, 7, 8, 13, 14]
    assert benchmark.pairs.tolist() == [[0, 1], [1, 0]]
    assert read_acsm_cub(path, num_random_pairs=7, seed=1).pairs.tolist() == random_pairs(2, 7, 1).tolist()
    assert read_acsm_cub(path, num_random_pairs=7).pairs.tolist() == random_pairs(2, 7, 0).tolist()
    drawn = read_benchmarks("acsm-cub", Request(annotations=path, random_pairs=7, seed=1))
    assert drawn["cub"].pairs.tolist() == random_pairs(2, 7, 1).tolist()
    unseen = read_acsm_cub(save_mat(tmp_path, [cub_record(parts=np.full((3, 15), np.nan))]))
    assert not unseen.visible.any()
    assert len(read_acsm_cub(save_mat(tmp_path, [cub_record()])).images) == 1


def test_acsm_struct_arrays(tmp_path: Path) -> None:
    """The genuine files hold a struct array; a list of dictionaries is written as a cell array of structs."""
    scipy_io = pytest.importorskip("scipy.io")
    records = [cub_record(), cub_record(rel_path="001.A/b.jpg", mask=np.zeros((9, 8), dtype=bool))]
    array = np.empty((1, 2), dtype=[(name, object) for name in records[0]])
    for index, record in enumerate(records):
        array[0, index] = tuple(record.values())
    scipy_io.savemat(tmp_path / "a.mat", {"other": 3, "images": array}, do_compression=True)
    benchmark = read_acsm_cub(tmp_path / "a.mat")
    assert [image.name for image in benchmark.images] == ["001.A/a.jpg", "001.A/b.jpg"]
    assert benchmark.images[1].size_hw == (9, 8)
    plain = read_acsm_cub(save_mat(tmp_path, records))
    assert plain.images[0].points_image[1].tolist() == benchmark.images[0].points_image[1].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": np.zeros((2, 15))}, r"test_cub_cleaned\.mat: images\[0\]\.parts: expected numbers of 3 x 15, got "),
        (
            {"parts": np.stack([np.full(15, np.nan), np.ones(15), np.ones(15)])},
            r"images\[0\]\.parts: expected a position for every visible part",
        ),
        ({"parts": "text"}, r"images\[0\]\.parts: expected numbers of 3 x 15, got 'text'$"),
        (
            {"bbox": {"x1": np.nan, "y1": 2.0, "x2": 3.0, "y2": 4.0}},
            r"images\[0\]\.bbox\[0\]: expected a finite number",
        ),
        ({"bbox": {"x1": 1.0}}, r"images\[0\]\.bbox\.y1: expected a value, got no such key$"),
        ({"bbox": {"x1": 9.0, "y1": 2.0, "x2": 3.0, "y2": 4.0}}, r"images\[0\]\.bbox: expected a box \[left, top"),
        ({"rel_path": "../x"}, r"images\[0\]\.rel_path: expected a relative path"),
        ({"mask": "text"}, r"test_cub_cleaned\.mat: images\[0\]\.mask: expected numbers of any x any, got 'text'$"),
        ({"mask": np.zeros((0, 3))}, r"test_cub_cleaned\.mat: images\[0\]\.mask\[0\]: expected a whole number from 1"),
    ],
)
def test_acsm_errors(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_acsm_cub(save_mat(tmp_path, [cub_record(**changes)]))


def test_acsm_other_files(tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError, match=r"test_cub_cleaned\.mat: images: expected a variable, got none of this name$"
    ):
        read_acsm_cub(save_mat(tmp_path, [cub_record()], "other"))
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "n.mat", {"images": np.zeros(3)})
    with pytest.raises(AnnotationError, match=r"n\.mat: images: expected a struct array$"):
        read_acsm_cub(tmp_path / "n.mat")
