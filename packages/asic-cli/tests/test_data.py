"""`asic data verify`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from asic_cli import data

PASCAL = "source_image,target_image,class,XA,YA,XB,YB\n"


def checks(result) -> dict[str, tuple[object, object, bool]]:
    return {check["what"]: (check["expected"], check["found"], check["passed"]) for check in result.json["checks"]}


def test_cub(asic, draw, tmp_path, monkeypatch) -> None:
    root = tmp_path / "CUB_200_2011"
    draw(root / "images" / "001.A", ["a.png", "b.png"])
    (root / "parts").mkdir()
    (root / "classes.txt").write_text("1 001.A\n")
    (root / "images.txt").write_text("1 001.A/a.png\n2 001.A/b.png\n3 001.A/gone.png\n")
    (root / "image_class_labels.txt").write_text("1 1\n2 1\n3 1\n")
    (root / "train_test_split.txt").write_text("1 1\n2 1\n3 0\n")
    (root / "bounding_boxes.txt").write_text("1 1 1 9 9\n2 1 1 9 9\n")
    (root / "parts" / "parts.txt").write_text("1 left eye\n")
    (root / "parts" / "part_locs.txt").write_text("1 1 2 3 1\n")
    archive = tmp_path / "CUB_200_2011.tgz"
    archive.write_bytes(b"archive")
    result = asic("data", "verify", root, "--json")
    found = checks(result)
    assert result.code == 2
    assert result.json["dataset"] == "cub"
    assert found["classes"] == (200, 1, False)
    assert found["rows of image_class_labels.txt"] == (3, 3, True)
    assert found["rows of bounding_boxes.txt"] == (3, 2, False)
    assert found["photos that annotations name"] == (11_788, 3, False)
    assert found["photos that are there"] == (3, 2, False)
    assert found["md5 of CUB_200_2011.tgz"][2] is False
    assert "missing or no image: 001.A/gone.png" in asic("data", "verify", root).err
    monkeypatch.setattr(
        "asic_cli.data._ARCHIVES_MD5", {archive.name: hashlib.md5(b"archive", usedforsecurity=False).hexdigest()}
    )
    assert checks(asic("data", "verify", root, "--json"))["md5 of CUB_200_2011.tgz"][2] is True


def test_spair(asic, demo) -> None:
    result = asic("data", "verify", demo / "photos", "--json")
    found = checks(result)
    assert (result.code, result.json["dataset"]) == (2, "spair")
    assert found["pairs of test"][:2] == (12_234, 90)
    assert found["photos that annotations name"] == (1_800, 10, False)
    assert found["photos that are there"] == (10, 10, True)
    assert "5 of 6 checks failed" in result.err


def test_dogs_pass_where_all_photos_are_there(asic, draw, tmp_path) -> None:
    draw(tmp_path / "dogs" / "Images" / "n1-pug", ["a.png", "b.png"])
    entries = [{"img_path": f"n1-pug/{name}.png"} for name in "aba"]
    (tmp_path / "dogs" / "StanfordExtra_v12.json").write_text(json.dumps(entries))
    result = asic("data", "verify", "dogs")
    assert (result.code, "dogs: stanford_dogs: all that it names is there" in result.err) == (0, True)
    (tmp_path / "dogs" / "Images" / "n1-pug" / "a.png").write_text("<html>")
    result = asic("data", "verify", "dogs")
    assert (result.code, "n1-pug/a.png" in result.err) == (2, True)


def test_proposal_flow(asic, draw, tmp_path, monkeypatch) -> None:
    draw(tmp_path / "pf", ["a.png", "b.png"])
    (tmp_path / "pf" / "test_pairs_pf_pascal.csv").write_text(PASCAL + "a.png,b.png,8,1,2,3,4\n")
    monkeypatch.setattr("asic_cli.data._PF_PASCAL_PAIRS", {"test": 1})
    assert asic("data", "verify", "pf").code == 0
    (tmp_path / "pf" / "test_pairs_pf.csv").write_text(",".join(map(str, range(42))) + "\n" + "a.png,b.png" + ",1" * 40)
    found = checks(asic("data", "verify", "pf", "--dataset", "pf_willow", "--json"))
    assert found["pairs of test_pairs_pf.csv"] == (900, 1, False)


def test_ap10k(asic, draw, tmp_path) -> None:
    draw(tmp_path / "ap" / "data", ["1.png", "2.png", "3.png"])
    (tmp_path / "ap" / "annotations").mkdir()
    for split, name in (("train", "1.png"), ("val", "2.png"), ("test", "3.png")):
        document = {"images": [{"file_name": name}], "categories": [{}] * 54}
        (tmp_path / "ap" / "annotations" / f"ap10k-{split}-split1.json").write_text(json.dumps(document))
    found = checks(asic("data", "verify", "ap", "--json"))
    assert found["species"] == (54, 54, True)
    assert found["photos that annotations name"] == (10_015, 3, False)
    assert found["photos that are there"] == (3, 3, True)


def test_counts_that_nobody_states_are_not_called_whole(asic, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(data._CHECKS, "stanford_dogs", lambda _: [data.Check("photos", None, 25)])
    result = asic("data", "verify", tmp_path, "--dataset", "stanford_dogs")
    assert (result.code, "how much that should be is not stated" in result.err) == (0, True), result.err
    assert "as expected" not in result.out


def test_what_cannot_be_checked(asic, tmp_path) -> None:
    result = asic("data", "verify", tmp_path / "nowhere")
    assert (result.code, "expected the folder of a data set" in result.err) == (2, True)
    result = asic("data", "verify", tmp_path)
    assert (result.code, "no data set is known by these files" in result.err) == (2, True)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "ap10k-test-split1.json").write_text("{")
    result = asic("data", "verify", tmp_path)
    assert (result.code, "ap10k-train-split1.json" in result.err) == (2, True)


@pytest.mark.real_data
def test_a_part_of_cub_is_told_from_the_whole(asic, real_data: Path) -> None:
    found = checks(asic("data", "verify", real_data / "CUB_200_2011", "--json"))
    assert found["photos that are there"] == (238, 238, True)
    assert found["photos that annotations name"] == (11_788, 238, False)
