"""Broken annotation files: whatever is done to a file, a reader answers or raises `AnnotationError`, nothing else.

ASIC_FUZZ_MUTATIONS sets the number of mutations per format (2,000 when unset; 100,000 in a session of its own).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from asic_eval import (
    AnnotationError,
    CategoryPredictions,
    KeypointBenchmark,
    Predictions,
    read_predictions,
    write_predictions,
)
from asic_eval.__main__ import main
from asic_eval.arrays import write_arrays
from asic_eval.benchmarks.acsm import read_acsm_cub
from asic_eval.benchmarks.ap10k import read_ap10k_pairs
from asic_eval.benchmarks.coco import read_coco_keypoints, read_stanford_dogs
from asic_eval.benchmarks.cub import read_cub
from asic_eval.benchmarks.pairs_file import read_benchmark_json, read_pair_list, read_pairs_csv
from asic_eval.benchmarks.pf_pascal import read_pf_pascal
from asic_eval.benchmarks.pf_willow import read_pf_willow
from asic_eval.benchmarks.spair import read_spair, write_spair_annotations
from asic_eval.benchmarks.synthetic import draw_collection
from asic_eval.benchmarks.tracks import read_tracks
from asic_eval.summary import read_summary

MUTATIONS = int(os.environ.get("ASIC_FUZZ_MUTATIONS", "2000"))
THROUGH_THE_COMMAND_LINE = 200
EACH_THROUGH_THE_COMMAND_LINE = MUTATIONS // 100

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x40\x00\x00\x00\x40"
WORDS = [
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e999",
        b"1e308",
        b"0",
        b"true",
        b"null",
        b'""',
        b"[]",
        b"{}",
        b"[[[[",
        b"..",
        b"/",
    ),
    *(b"\xef\xbb\xbf", b'"\\ud800"', b"9" * 400, b"[" * 3000, b"\x00", b"\xff", b";", b",", b'"', b"\n", b"-0", b"1_0"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 10**9, 2**70, -0.0, 1.5, 1e308, "", "0", "x", "../x", "\ud800", "a" * 999),
    *([], [[]], {}, {"a": 1}, [1, 2], [1, 2, 3], [1, 2, 3, 4], [None, None]),
]


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few cuts, flips, repetitions and nasty words."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + rng.randint(1, 40)] = b""
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[at : at + rng.choice([0, 1, 5])] = rng.choice(WORDS)
        elif kind == 3:
            changed[at:at] = changed[at : at + rng.randint(1, 60)]
        else:
            del changed[at:]
    return bytes(changed)


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    """Half of the time another value at some place of the document, otherwise other bytes."""
    if rng.random() < 0.5:
        return mutated_bytes(data, rng)
    document = json.loads(data)
    at, key = {"top": document}, "top"
    places: list[tuple[Any, Any]] = [(at, key)]
    for owner, index in places:
        value = owner[index]
        if len(places) < 400 and isinstance(value, dict | list):
            places.extend((value, inner) for inner in (value if isinstance(value, dict) else range(len(value))))
    owner, index = rng.choice(places)
    if isinstance(owner, dict) and owner is not at and rng.random() < 0.3:
        del owner[index]
    else:
        owner[index] = rng.choice(VALUES)
    return json.dumps(at["top"]).encode()


def spair_case(root: Path) -> tuple[Path, Callable[[], object]]:
    write_spair_annotations(root, draw_collection(0, num_images=2, size=32).benchmark, "creature")
    return next((root / "PairAnnotation" / "test").iterdir()), lambda: read_spair(root, "creature")


def spair_image_case(root: Path) -> tuple[Path, Callable[[], object]]:
    write_spair_annotations(root, draw_collection(0, num_images=2, size=32).benchmark, "creature")
    return root / "ImageAnnotation" / "creature" / "000.json", lambda: read_spair(root, "creature")


def spair_layout_case(root: Path) -> tuple[Path, Callable[[], object]]:
    write_spair_annotations(root, draw_collection(0, num_images=2, size=32).benchmark, "creature")
    return root / "Layout" / "large" / "test.txt", lambda: read_spair(root, "creature")


def cub_case(file: str) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    def make(root: Path) -> tuple[Path, Callable[[], object]]:
        texts = {
            "classes.txt": "1 001.A\n2 002.B\n",
            "images.txt": "1 001.A/a.jpg\n2 001.A/b.jpg\n3 002.B/c.jpg\n",
            "image_class_labels.txt": "1 1\n2 1\n3 2\n",
            "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 1 2 3 4\n3 5.5 6.5 7.5 8.5\n",
            "parts/parts.txt": "1 back\n2 left eye\n3 right eye\n",
            "parts/part_locs.txt": "".join(f"{i} {p} {i}.5 {p}.0 1\n" for i in (1, 2, 3) for p in (1, 2, 3)),
        }
        for name, text in texts.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        for name in ("001.A/a.jpg", "001.A/b.jpg"):
            (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "images" / name).write_bytes(PNG)
        if file == "image":
            return root / "images" / "001.A" / "a.jpg", lambda: read_cub(root, "001.A")
        return root / file, lambda: read_cub(root, "001.A")

    return make


def coco_case(root: Path) -> tuple[Path, Callable[[], object]]:
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(3)],
        "annotations": [
            {"image_id": i, "category_id": 1, "keypoints": [1, 2, 2, 3.5, 4, 1], "bbox": [0, 1, 9.5, 8]}
            for i in range(3)
        ],
        "categories": [{"id": 1, "name": "cat", "keypoints": ["left_eye", "right_eye"]}],
    }
    (root / "coco.json").write_text(json.dumps(document))
    return root / "coco.json", lambda: read_coco_keypoints(root / "coco.json", "cat")


def dogs_case(root: Path) -> tuple[Path, Callable[[], object]]:
    dog = {
        "img_path": "n/a.jpg",
        "img_width": 9,
        "img_height": 9,
        "joints": [[1.5, 2, 1]] * 24,
        "img_bbox": [0, 1, 5, 5],
    }
    path = root / "StanfordExtra_v12.json"
    path.write_text(json.dumps([dog, dog]))
    return path, lambda: read_stanford_dogs(root)


def put_images(root: Path) -> None:
    for name in ("a.png", "b.png"):
        (root / name).write_bytes(PNG)


def pf_pascal_case(root: Path) -> tuple[Path, Callable[[], object]]:
    put_images(root)
    lines = "source_image,target_image,class,XA,YA,XB,YB\na.png,b.png,3,1;2.5,3;4,5;6,7;8\nb.png,a.png,3,1,3,5,7\n"
    (root / "p.csv").write_text(lines)
    return root / "p.csv", lambda: read_pf_pascal(root / "p.csv", root)


def pf_willow_case(root: Path) -> tuple[Path, Callable[[], object]]:
    put_images(root)
    row = ",".join(str(index) for index in range(40))
    (root / "p.csv").write_text(f"A,B{',c' * 40}\na.png,b.png,{row}\nb.png,a.png,{row}\n")
    return root / "p.csv", lambda: read_pf_willow(root / "p.csv", root)


def own_csv_case(root: Path) -> tuple[Path, Callable[[], object]]:
    put_images(root)
    header = "source,target,keypoint,source_x,source_y,target_x,target_y\n"
    (root / "p.csv").write_text(header + "a.png,b.png,left ear,1,2.5,3,4\na.png,b.png,right ear,5,6,7,8\n")
    return root / "p.csv", lambda: read_pairs_csv(root / "p.csv", root)


def own_json_case(root: Path) -> tuple[Path, Callable[[], object]]:
    (root / "b.json").write_text(json.dumps(draw_collection(0, num_images=2, size=32).benchmark.to_json()))
    return root / "b.json", lambda: read_benchmark_json(root / "b.json")


def tracks_case(root: Path) -> tuple[Path, Callable[[], object]]:
    arrays = {"points": np.full((2, 3, 2), 0.5), "occluded": np.zeros((2, 3), bool), "size_hw": np.array([9, 9])}
    write_arrays(root / "t.npz", arrays)
    return root / "t.npz", lambda: read_tracks(root / "t.npz")


def predictions_case(root: Path) -> tuple[Path, Callable[[], object]]:
    answers = CategoryPredictions(["a"], ["b"], np.zeros((1, 2, 2)), np.zeros((1, 2)))
    write_predictions(root / "p.npz", Predictions("m", {"cat": answers}, 1))
    return root / "p.npz", lambda: read_predictions(root / "p.npz")


def summary_case(root: Path) -> tuple[Path, Callable[[], object]]:
    ratios = {"0.10": {"per_point": 0.5, "per_image": 0.25}}
    document = {
        "format": "asic-eval summary",
        "version": 1,
        "method": "m",
        "seed": 1,
        "protocol": {"name": "p", "aggregate": "per_point", "over_categories": "micro"},
        "categories": {name: {"questions": name, "pck": ratios} for name in ("cat", "dog")},
        "overall": {"micro": ratios},
    }
    (root / "s.json").write_text(json.dumps(document))
    return root / "s.json", lambda: read_summary(root / "s.json", alpha=0.1)


def run_summary_case(root: Path) -> tuple[Path, Callable[[], object]]:
    ratios = {"0.10": {"per_point": 0.5, "per_image": 0.25}}
    methods = {
        "m": {"pck": ratios, "cycle": {"0.10": {"2": {"end": 0.5, "every_hop": 0.5}}}},
        "n": {"grid_cycle": {"0.10": {"2": 0.5}}, "held_out": {"0.10": 0.5}},
    }
    document = {
        "format": "asic-summary",
        "version": 1,
        "protocol": "p, x",
        "collection": {"benchmark": "cub/a"},
        "methods": methods,
    }
    (root / "r.json").write_text(json.dumps(document))
    return root / "r.json", lambda: read_summary(root / "r.json", alpha=0.1)


def pair_list_case(root: Path) -> tuple[Path, Callable[[], object]]:
    (root / "l.txt").write_text("a.png b.png\nb.png a.png\n")
    return root / "l.txt", lambda: read_pair_list(root / "l.txt", {"a.png": 0, "b.png": 1})


def ap10k_case(part: str) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    def make(root: Path) -> tuple[Path, Callable[[], object]]:
        image = {"keypoints": [1, 2.5, 2] * 17, "bbox": [0, 1, 9.5, 8], "width": 40, "height": 30}
        paths = [root / "ImageAnnotation" / "f" / "cat" / f"{name}.json" for name in "ab"]
        pair = root / "PairAnnotation" / "test" / "a-b:cat.json"
        for path, document in (
            (paths[0], image),
            (paths[1], image),
            (pair, {"src_json_path": f"d/{paths[0].relative_to(root)}", "trg_json_path": str(paths[1])}),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document))
        return {"pair": pair, "image": paths[0]}[part], lambda: read_ap10k_pairs(root, "cat")

    return make


def acsm_case(root: Path) -> tuple[Path, Callable[[], object]]:
    scipy_io = pytest.importorskip("scipy.io")
    box = {"x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 40.0}
    record = {"rel_path": "001.A/a.jpg", "bbox": box, "parts": np.ones((3, 15)), "mask": np.zeros((5, 6), np.uint8)}
    scipy_io.savemat(root / "m.mat", {"images": record}, do_compression=True)
    return root / "m.mat", lambda: read_acsm_cub(root / "m.mat")


CASES = {
    "spair": spair_case,
    "spair image": spair_image_case,
    "spair layout": spair_layout_case,
    "cub images": cub_case("images.txt"),
    "cub boxes": cub_case("bounding_boxes.txt"),
    "cub labels": cub_case("image_class_labels.txt"),
    "cub names": cub_case("parts/parts.txt"),
    "cub points": cub_case("parts/part_locs.txt"),
    "image header": cub_case("image"),
    "coco": coco_case,
    "stanford dogs": dogs_case,
    "pf-pascal": pf_pascal_case,
    "pf-willow": pf_willow_case,
    "own csv": own_csv_case,
    "own json": own_json_case,
    "tracks": tracks_case,
    "predictions": predictions_case,
    "summary": summary_case,
    "run summary": run_summary_case,
    "pair list": pair_list_case,
    "ap10k pair": ap10k_case("pair"),
    "ap10k image": ap10k_case("image"),
    "acsm": acsm_case,
}


@pytest.mark.parametrize("name", CASES)
def test_broken_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    path, read = CASES[name](tmp_path)
    original = path.read_bytes()
    read()
    mutate = mutated_json if path.suffix == ".json" else mutated_bytes
    rng = random.Random(name)
    refused = 0
    for _ in range(MUTATIONS):
        path.unlink()  # emptying a file in place waits for the disk
        path.write_bytes(mutate(original, rng))
        try:
            read()
        except AnnotationError:
            refused += 1
    assert refused > MUTATIONS // 20


def test_never_a_traceback_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = draw_collection(0, num_images=2, size=32).benchmark
    write_spair_annotations(tmp_path, benchmark, "creature")
    answers = CategoryPredictions.of(benchmark, np.zeros((2, len(benchmark.keypoint_names), 2)))
    write_predictions(tmp_path / "p.npz", Predictions("m", {"creature": answers}))
    files = [tmp_path / "p.npz", next((tmp_path / "PairAnnotation" / "test").iterdir())]
    command = [
        "score",
        str(files[0]),
        "--benchmark",
        "spair",
        "--root",
        str(tmp_path),
        "--category",
        "creature",
        "--json",
    ]
    assert main(command) == 0
    capsys.readouterr()
    rng = random.Random(0)
    codes = set()
    for round_number in range(THROUGH_THE_COMMAND_LINE):
        path = files[round_number % 2]
        original = path.read_bytes()
        path.write_bytes((mutated_bytes if round_number % 2 == 0 else mutated_json)(original, rng))
        code = main(command)
        captured = capsys.readouterr()
        codes.add(code)
        if code == 2:
            assert captured.out == ""
            assert captured.err.startswith("error: ")
            assert captured.err.count("\n") == 1
        path.write_bytes(original)
    assert codes == {0, 2}


# What the command is told of each format's file, and of the folder it lies in.
BENCHMARKS: dict[str, Callable[[Path, Path], list[str]]] = {
    "spair image": lambda _, root: ["spair", "--root", str(root), "--category", "creature"],
    "spair layout": lambda _, root: ["spair", "--root", str(root), "--category", "creature"],
    "cub images": lambda _, root: ["cub", "--root", str(root), "--category", "001.A"],
    "cub points": lambda _, root: ["cub", "--root", str(root), "--category", "1"],
    "image header": lambda _, root: ["cub", "--root", str(root), "--category", "001.A"],
    "coco": lambda file, _: ["coco", "--annotations", str(file), "--category", "cat"],
    "stanford dogs": lambda _, root: ["stanford-dogs", "--root", str(root)],
    "pf-pascal": lambda file, root: ["pf-pascal", "--annotations", str(file), "--root", str(root)],
    "pf-willow": lambda file, root: ["pf-willow", "--annotations", str(file), "--root", str(root)],
    "own csv": lambda file, root: ["csv", "--annotations", str(file), "--root", str(root)],
    "own json": lambda file, _: ["json", "--annotations", str(file)],
    "tracks": lambda file, _: ["tracks", "--annotations", str(file)],
    "ap10k pair": lambda _, root: ["ap10k-pairs", "--root", str(root), "--category", "cat"],
    "ap10k image": lambda _, root: ["ap10k-pairs", "--root", str(root), "--category", "cat"],
    "acsm": lambda file, _: ["acsm-cub", "--annotations", str(file)],
}


@pytest.mark.parametrize("name", [*BENCHMARKS, "summary", "run summary"])
def test_no_format_gives_a_traceback_through_the_command_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, read = CASES[name](tmp_path)
    original = path.read_bytes()
    if name in BENCHMARKS:
        arguments = BENCHMARKS[name](path, tmp_path)
        benchmark = cast(KeypointBenchmark, read())
        perfect = np.nan_to_num(benchmark.points_image[benchmark.pairs[:, 1]])
        answers = CategoryPredictions.of(benchmark, perfect)
        names = {*arguments, "own", "tracks", "dog", "cub"}
        write_predictions(tmp_path / "answers.npz", Predictions("m", dict.fromkeys(names, answers)))
        command = ["score", str(tmp_path / "answers.npz"), "--benchmark", *arguments, "--missing", "miss"]
    else:
        command = ["table", str(path)]
    assert main(command) == 0
    capsys.readouterr()
    rng = random.Random(name)
    codes = set()
    for _ in range(EACH_THROUGH_THE_COMMAND_LINE):
        path.write_bytes((mutated_json if path.suffix == ".json" else mutated_bytes)(original, rng))
        codes.add(main(command))
        captured = capsys.readouterr()
        assert captured.err == "" or (captured.err.startswith("error: ") and captured.err.count("\n") == 1)
    assert codes <= {0, 2}
    assert 2 in codes
