from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asic_cli.add import _feature_config
from asic_flow.alignment import Alignment
from asic_flow.collection import load_collection, save_collection


@pytest.fixture
def new(draw, tmp_path: Path) -> Path:
    """A creature of the same species that the run has not seen."""
    return draw(tmp_path / "more", [f"{index}.png" for index in range(7)]) / "6.png"


def test_a_run_with_one_more_photo_is_a_run_like_any_other(asic, run, new, tmp_path) -> None:
    result = asic("add", run, new, "--out", "x", "--json")
    assert result.code == 0, result.err
    assert result.json["added"] == ["6.png"]
    assert result.json["placing_seconds"] < 1
    before, after = Alignment.load(run), Alignment.load(tmp_path / "x")
    assert torch.equal(after.maps[:5], before.maps)
    assert json.loads((tmp_path / "x" / "config.json").read_text())["collection"]["path"] == "../x-collection"
    collection, matches = load_collection(tmp_path / "x-collection")
    assert len(collection) == 6
    assert sorted({int(pair[0]) for pair in matches.pairs if pair[1] == 5}) == [0, 1, 2, 3, 4]
    (tmp_path / "points.csv").write_text("source,x,y,target\n6.png,60,61,3.png\n")
    assert asic("transfer", "x", "--points", "points.csv").code == 0
    assert asic("eval", "x").code == 0
    assert (tmp_path / "x" / "report.html").read_text("utf-8").count('class="tile" data-photo="') == 6


def test_the_same_again_finds_all_done_and_other_photos_stop(asic, run, new) -> None:
    assert asic("add", run, new, "--out", "x").out == "x\n"
    assert asic("add", run, new, "--out", "x", "--json").json["reused"]
    other = Path(shutil.copy(new.with_name("5.png"), new.with_name("other.png")))
    result = asic("add", run, other, "--out", "x")
    assert (result.code, "made with other settings" in result.err) == (2, True)
    assert asic("add", run, other, "--out", "x", "--fresh", "--json").json["added"] == ["other.png"]


def test_what_was_added_can_be_edited_where_both_folders_are_given(asic, run, photos, new, tmp_path) -> None:
    assert asic("add", run, new, "--out", "x").code == 0
    layer = np.zeros((120, 120, 4), np.uint8)
    layer[50:60, 50:60] = (255, 0, 200, 255)
    Image.fromarray(layer).save("layer.png")
    edit = ("edit", "x", "--layer", "layer.png", "--out", "edited")
    result = asic(*edit, "--source", photos / "0.png")
    assert (result.code, f"{photos / '6.png'}: this photo of the run is missing; give the folder" in result.err) == (
        2,
        True,
    )
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(new, alone)
    for source, folders in (
        (photos / "0.png", [alone]),
        (alone / "6.png", [photos]),
        ("0.png", [photos, alone]),
        ("6.png", [alone, photos]),
    ):
        flags = [word for folder in folders for word in ("--photos", folder)]
        result = asic(*edit, "--source", source, *flags)
        assert result.code == 0, result.err
        assert len(list((tmp_path / "edited").glob("*.png"))) == 6


@pytest.mark.parametrize(
    "damage", ["x/config.json", "x/consensus.safetensors", "x-collection", "x-collection/collection.json"]
)
def test_what_is_damaged_is_made_again(asic, run, new, tmp_path, damage) -> None:
    assert asic("add", run, new, "--out", "x").code == 0
    files = [path for path in tmp_path.glob("x*/**/*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    damaged = tmp_path / damage
    shutil.rmtree(damaged) if damaged.is_dir() else damaged.write_bytes(b"damaged")
    result = asic("add", run, new, "--out", "x", "--json")
    assert (result.code, "making it again" in result.err, result.json["reused"]) == (0, True, False)
    assert {path: path.read_bytes() for path in files} == before


def test_another_collection_in_the_way_stays(asic, run, collection, new, tmp_path) -> None:
    shutil.copytree(collection, tmp_path / "x-collection")
    before = (tmp_path / "x-collection" / "collection.json").read_bytes()
    for flags in ((), ("--fresh",)):
        result = asic("add", run, new, "--out", "x", *flags)
        assert (result.code, "x-collection holds a collection that `asic add` did not write" in result.err) == (2, True)
        assert (tmp_path / "x-collection" / "collection.json").read_bytes() == before


def test_the_annotated_points_stay_and_are_asked_for_again(asic, unscored, draw, tmp_path) -> None:
    photo = draw(tmp_path / "more", ["a.png", "new.png"]) / "new.png"
    assert asic("add", unscored, photo, "--out", "x").code == 0
    before, after = asic("eval", unscored, "--json").json, asic("eval", "x", "--json").json
    assert before["collection"]["questions"] == after["collection"]["questions"]
    canonical = [summary["methods"]["canonical"]["pck"] for summary in (before, after)]
    assert canonical[0] == canonical[1]  # nobody else's map has changed
    assert asic("view", "x").code == 0
    page = (tmp_path / "x" / "report.html").read_text("utf-8")
    assert page.count('class="tile" data-photo="') == 11
    assert asic("compare", "x", "x", "--out", "both.html").code == 0


def test_matches_are_kept_as_the_collection_keeps_its_own(asic, photos, new, tmp_path) -> None:
    settings = ("--size", 96, "--stride", 8, "--mirror-test", "--least-support", 1, "--suppress-px", 6)
    assert asic("features", photos, "--out", "c", *settings).code == 0
    assert asic("train", "c", "--out", "r").code == 0
    assert asic("add", "r", new, "--out", "x").code == 0
    # All six at once: the pairs with the new photo, which both have, keep matches by the same rules.
    together = shutil.copytree(photos, tmp_path / "together")
    shutil.copy(new, together)
    assert asic("features", together, "--out", "d", *settings).code == 0
    added, whole = load_collection(tmp_path / "x-collection")[1], load_collection(tmp_path / "d")[1]
    for matches in (added, whole):
        of_new = matches.pairs[matches.pair_of_match(), 1] == 5
        assert of_new.sum() > 10
        assert matches.support[of_new].min() >= 1
        for row in np.flatnonzero(matches.pairs[:, 1] == 5):
            xy = matches.of_pairs(row, row + 1).xy_a
            assert len(xy) < 2 or np.linalg.norm(xy[:, None] - xy + 1e9 * np.eye(len(xy))[..., None], axis=2).min() > 6


def test_what_cannot_be_added_is_told(asic, run, photos, new, tmp_path) -> None:
    result = asic("add", run, photos / "0.png")
    assert (result.code, "0.png: a photo of that name is there already" in result.err) == (2, True)
    result = asic("add", run, new, "--out", run)
    assert (result.code, "is the run itself" in result.err) == (2, True)
    assert asic("add", run, tmp_path / "nowhere.png", "--out", "x").code == 2
    bad = tmp_path / os.fsdecode(b"m\xff.png")
    shutil.copy(new, bad)
    result = asic("add", run, bad, "--out", "x")
    assert (result.code, "its name is not valid UTF-8" in result.err) == (2, True)
    assert not (tmp_path / "x" / "config.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": 8}, "principal components of its own photos"),
        ({"backbone": "no_such"}, "the collection's settings: "),
        ({"scales": None}, "the collection's settings: "),
        ({"top_k": None}, "the collection's settings: "),
        ({"stride": 4}, "collection.json, field 'settings': token grid: expected"),
        ({"log_bin": True}, "collection.json, field 'settings': descriptors' width: expected"),
    ],
)
def test_settings_that_new_photos_cannot_meet(asic, collection, new, tmp_path, settings, message) -> None:
    made, matches = load_collection(collection)
    save_collection(tmp_path / "c", replace(made, settings=made.settings | settings), matches)
    assert asic("train", "c").code == 0
    result = asic("add", "c-run", new)
    assert (result.code, message in result.err) == (2, True), result.err


def test_masks_of_the_users_own_are_replaced_by_cosegmentation(asic, collection, new, tmp_path) -> None:
    made, matches = load_collection(collection)
    save_collection(tmp_path / "c", replace(made, settings=made.settings | {"masks": "folder"}), matches)
    assert asic("train", "c").code == 0
    result = asic("add", "c-run", new)
    assert (result.code, "found by co-segmentation" in result.err, result.out) == (
        0,
        True,
        f"{tmp_path / 'c-run-added'}\n",
    )


def test_how_masks_and_descriptors_were_made_is_kept(collection) -> None:
    settings = load_collection(collection)[0].settings | {"precision": "bfloat16", "grabcut": True}
    config = _feature_config(settings | {"masks": "saliency"}, None, None, "cpu")
    assert (config.masks, config.grabcut, config.precision) == ("saliency", True, "bfloat16")
    config = _feature_config(settings | {"masks": "box"}, None, None, "cpu")
    assert (config.masks, config.grabcut) == ("cosegment", False)  # new photos have no boxes


def test_a_network_describes_new_photos_as_it_did_the_others(asic, photos, network, tmp_path) -> None:
    joined = ("--block", "3,8", "--facet", "key,token", "--scales", "64")
    settings = ("--size", 96, "--stride", 16, "--masks", "none", *joined, *network)
    assert asic("features", photos, "--out", "c", *settings).code == 0
    assert asic("train", "c").code == 0
    shutil.copy(photos / "3.png", tmp_path / "again.png")
    result = asic("add", "c-run", "again.png", "--out", "x", "--weights", network[-1])
    assert result.code == 0, result.err
    descriptors = load_collection(tmp_path / "x-collection")[0].descriptors
    torch.testing.assert_close(descriptors[5], descriptors[3], atol=2e-3, rtol=0)
    assert not torch.allclose(descriptors[5], descriptors[4], atol=2e-3)
