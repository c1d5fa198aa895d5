from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asic_cli.evaluate import mean_of
from asic_cli.scores import FolderScorer, KeypointScorer, choose_cycles, skipping_nan
from asic_eval import ImageKeypoints, KeypointBenchmark, all_pairs, get_protocol, questions_of
from asic_flow.alignment import DEFAULT_METHOD, Alignment
from asic_flow.baselines import nearest_neighbour
from asic_flow.collection import load_collection

ALPHAS = {"0.05", "0.10"}
METHODS = ["box_copy", "nearest_neighbour", "mls", "canonical", "consensus", "combined"]


@pytest.fixture
def summary(demo: Path) -> dict:
    return json.loads((demo / "run" / "summary.json").read_text())


@pytest.mark.parametrize("source", [None, "x", {}, {"kind": "nope"}, {"kind": 5}])
def test_a_collection_that_names_no_data_set_is_told(asic, unscored, source) -> None:
    index = unscored.with_name("collection") / "collection.json"
    document = json.loads(index.read_text())
    document["settings"]["source"] = source
    index.write_text(json.dumps(document))
    result = asic("eval", "collection")
    assert (result.code, "collection.json, field 'settings.source.kind': expected one of cub, spair" in result.err) == (
        2,
        True,
    ), result.err


def test_truth_without_the_boxes_that_its_protocol_asks_for_is_told(asic, unscored) -> None:
    truth, index = (unscored.with_name("collection") / name for name in ("truth.json", "collection.json"))
    document = json.loads(truth.read_text())
    document["images"][0]["box_xyxy"] = None
    truth.write_text(json.dumps(document))
    collection = json.loads(index.read_text())
    collection["settings"]["truth_sha256"] = hashlib.sha256(truth.read_bytes()).hexdigest()
    index.write_text(json.dumps(collection))
    result = asic("eval", "collection")
    assert (result.code, "truth.json: threshold 'box': expected a box" in result.err) == (2, True), result.err


def test_a_run_of_other_photos_than_its_collections_is_told(asic, unscored) -> None:
    document = json.loads((unscored / "config.json").read_text())
    document["photos"][0]["path"] = "other.png"
    (unscored / "config.json").write_text(json.dumps(document))
    for command in ("eval", "view"):
        result = asic(command, unscored)
        assert (result.code, "config.json, field 'photos': expected those of" in result.err) == (2, True), result.err


def test_the_shape_of_a_summary_with_truth(summary) -> None:
    assert (summary["default"], summary["preset"], summary["seed"]) == (DEFAULT_METHOD, "fast", 0)
    assert summary["protocol"].startswith("spair-official")
    assert "all 90 2-cycles, all 720 3-cycles" in summary["protocol"]
    assert list(summary["methods"]) == METHODS
    for scores in summary["methods"].values():
        assert set(scores["pck"]) == set(scores["cycle"]) == ALPHAS
        for alpha in ALPHAS:
            assert set(scores["pck"][alpha]) == {"per_point", "per_image"}
            assert set(scores["cycle"][alpha]) == {"2", "3"}
            for k in "23":
                assert set(scores["cycle"][alpha][k]) == {"end", "every_hop"}
    assert len(summary["alignment"]["support"]) == summary["collection"]["photos"] == 10


def test_the_alignment_beats_the_baselines(summary) -> None:
    score = {name: scores["pck"]["0.10"]["per_point"] for name, scores in summary["methods"].items()}
    assert score["box_copy"] < 0.3
    assert score["combined"] > score["nearest_neighbour"] + 0.1
    assert summary["alignment"]["mask_iou_after"] > summary["alignment"]["mask_iou_before"] + 0.1
    assert summary["alignment"]["collapsed"] == []


def test_scores_are_those_of_the_library(demo, summary) -> None:
    collection, _ = load_collection(demo / "collection")
    truth = KeypointBenchmark.from_json(json.loads((demo / "collection" / "truth.json").read_text()), file="truth")
    assert summary["collection"]["questions"] == questions_of(truth)
    alignment = Alignment.load(demo / "run")
    protocol = get_protocol("spair-official")
    for name in ("nearest_neighbour", "combined"):
        predicted = np.full((len(truth.pairs), len(truth.keypoint_names), 2), np.nan)
        for row, (source, target) in enumerate(truth.pairs):
            asked = truth.asked[row]
            points = truth.images[source].points_image[asked]
            if name == "combined":
                predicted[row, asked] = alignment.transfer(points, source, target).points_image
            else:
                one = (np.full(len(points), photo) for photo in (source, target))
                predicted[row, asked] = nearest_neighbour(collection)(points, *one)
        counts = protocol.score(predicted, truth)
        index = protocol.alphas.index(0.10)
        assert summary["methods"][name]["pck"]["0.10"]["per_point"] == pytest.approx(counts.per_point()[index])
        assert summary["methods"][name]["pck"]["0.10"]["per_image"] == pytest.approx(counts.per_image()[index])


@pytest.mark.parametrize(("protocol", "end"), [("box-per-point", 1.0), ("spair-per-point", 0.0)])
def test_cycles_take_the_border_as_the_protocol_does(protocol: str, end: float) -> None:
    images = tuple(ImageKeypoints(name, (100, 100), (0, 0, 100, 100), [[50, 50]], [True]) for name in "ab")
    benchmark = KeypointBenchmark("two", ("p",), images, all_pairs(2))
    # Off by 5 after one hop and by 10 after two; the tolerance is 10.
    scores = KeypointScorer(benchmark, get_protocol(protocol), 0).score(
        lambda points, _s, _t: points + np.array([5.0, 0.0])
    )
    assert scores["cycle"]["0.10"]["2"] == {"end": end, "every_hop": (1.0 + end) / 2}


def test_boxes_reach_the_baseline_though_the_whole_photo_is_shown(demo) -> None:
    collection, _ = load_collection(demo / "collection")
    assert all(photo.box_xyxy is not None for photo in collection.photos)
    assert {photo.scale_xy for photo in collection.photos} == {(1.0, 1.0)}


def test_several_runs_have_a_mean_in_which_each_counts_alike(asic, demo, summary, tmp_path) -> None:
    shutil.copytree(demo / "collection", tmp_path / "collection")
    one = asic("eval", demo / "run", tmp_path / "collection", "--json")
    assert one.code == 0, one.err
    assert [run["folder"] for run in one.json["runs"]] == [str(demo / "run"), str(tmp_path / "collection")]
    assert one.json["runs"][0]["methods"] == summary["methods"]
    # A collection alone has baselines, and these are the same.
    assert list(one.json["mean"]["methods"]) == METHODS[:3]
    assert one.json["mean"]["default"] is None
    for method in METHODS[:3]:
        found = one.json["mean"]["methods"][method]["pck"]["0.10"]["per_point"]
        assert found == pytest.approx(summary["methods"][method]["pck"]["0.10"]["per_point"])
    table = asic("eval", demo / "run", tmp_path / "collection")
    assert "mean of 2, percent" in table.out
    assert "each run counting alike" in table.out


def test_a_mean_is_taken_number_by_number_and_only_where_all_runs_have_one() -> None:
    def summary(score: float, cycle: float | None, default: str = "combined") -> dict:
        scores = {"pck": {"0.10": {"per_point": score}}, "cycle": {"0.10": {"3": {"end": cycle}}}}
        return {"protocol": "spair-official, all 2-cycles", "default": default, "methods": {"combined": scores}}

    mean = mean_of([summary(0.2, 0.4), summary(0.6, 0.8)])
    assert mean is not None
    assert mean["default"] == "combined"
    assert mean["methods"]["combined"]["pck"]["0.10"]["per_point"] == pytest.approx(0.4)
    assert mean["methods"]["combined"]["cycle"]["0.10"]["3"]["end"] == pytest.approx(0.6)
    mean = mean_of([summary(0.2, 0.4), summary(0.6, None, "canonical")])
    assert mean is not None
    assert mean["default"] is None
    assert mean["methods"]["combined"]["cycle"]["0.10"]["3"]["end"] is None


def test_different_protocols_have_no_mean(asic, demo, run) -> None:
    result = asic("eval", demo / "run", run, "--json")
    assert result.code == 0
    assert result.json["mean"] is None
    assert "no mean is told of scores by different protocols" in result.err


def test_a_run_given_twice_is_refused(asic, run) -> None:
    result = asic("eval", run, run)
    assert result.code == 2
    assert "given twice" in result.err


def test_a_folder_of_photos_has_no_pck(asic, run) -> None:
    result = asic("eval", run, "--json")
    assert result.code == 0, result.err
    assert result.json == json.loads((run / "summary.json").read_text())
    assert list(result.json["methods"]) == METHODS
    for scores in result.json["methods"].values():
        assert scores["pck"] is None
        assert set(scores["grid_cycle"]) == set(scores["held_out"]) == ALPHAS
    assert result.json["methods"]["box_copy"]["grid_cycle"]["0.10"] == {"2": 1.0, "3": 1.0}
    assert (run / "report.html").read_text().startswith("<!")
    table = asic("eval", run)
    assert "held out" in table.out
    assert "combined *" in table.out
    assert str(run / "report.html") in table.out


def test_a_collection_alone_has_its_baselines(asic, demo, tmp_path) -> None:
    few = ("--limit", 4, "--size", 96, "--stride", 8)
    spair = ("--dataset", "spair", "--category", "creature")
    assert asic("features", demo / "photos", *spair, *few, "--out", "x").code == 0
    result = asic("eval", "x", "--json")
    assert [result.json[key] for key in ("default", "alignment", "preset", "seed")] == [None] * 4
    assert list(result.json["methods"]) == METHODS[:3]
    assert result.json["methods"]["box_copy"]["pck"]["0.10"]["per_point"] > 0
    assert not (tmp_path / "x" / "report.html").exists()
    assert "every hop" in asic("eval", "x").out


def test_two_photos_have_no_third(asic, photos) -> None:
    asic("features", photos, "--size", 96, "--limit", 2, "--out", "x")
    result = asic("eval", "x", "--json")
    scores = result.json["methods"]["nearest_neighbour"]
    assert scores["held_out"] is None
    assert scores["grid_cycle"]["0.10"]["3"] is None
    assert scores["grid_cycle"]["0.10"]["2"] > 0
    assert "need three photos" in result.json["protocol"]
    assert " - " in asic("eval", "x").out


def test_a_run_moves_with_its_collection_and_not_without(asic, collection, run, tmp_path) -> None:
    shutil.copytree(run, tmp_path / "run")
    result = asic("eval", "run")
    assert (result.code, "run: its collection is no longer at" in result.err) == (2, True)
    copied = shutil.copytree(collection, tmp_path / "collection")
    assert asic("eval", "run", "--json").code == 0
    index = copied / "collection.json"
    index.write_text(index.read_text().replace("cosegment", "saliency"))
    result = asic("eval", "run")
    assert (result.code, "has changed since" in result.err) == (2, True)


def test_truth_that_is_not_the_collections_is_refused(asic, demo, tmp_path) -> None:
    copied = shutil.copytree(demo / "collection", tmp_path / "x")
    truth = copied / "truth.json"
    truth.write_text(truth.read_text().replace("creature/000", "creature/001"))
    result = asic("eval", "x")
    assert (result.code, "truth.json: the content is not what was recorded" in result.err) == (2, True)
    truth.unlink()
    result = asic("eval", "x")
    assert (result.code, "truth.json: No such file" in result.err) == (2, True)
    command = ("features", demo / "photos", "--dataset", "spair", "--category", "creature", "--out", "x", "--json")
    assert not asic(*command).json["reused"]
    assert truth.read_bytes() == (demo / "collection" / "truth.json").read_bytes()


def test_what_is_neither_is_refused(asic, tmp_path) -> None:
    result = asic("eval", tmp_path)
    assert (result.code, "expected a folder that `asic train` or `asic features` wrote" in result.err) == (2, True)
    (tmp_path / "config.json").write_text('{"format": "asic-run", "version": 2, "sha256": {}}')
    result = asic("eval", tmp_path)
    assert (result.code, "field 'collection'" in result.err) == (2, True)


def test_few_cycles_are_all_travelled_and_many_are_drawn() -> None:
    assert choose_cycles(20, 3, 10_000, 0).chosen is None
    assert choose_cycles(20, 3, 10_000, 0).text == "all 6840 3-cycles"
    drawn = choose_cycles(50, 3, 10_000, 4)
    assert drawn.chosen.shape == (10_000, 3)
    assert drawn.text == "10000 of 117600 3-cycles drawn with seed 4"
    assert choose_cycles(2, 3, 10, 0) is None


def test_points_that_were_lost_stay_lost() -> None:
    moved = skipping_nan(lambda points, *_: points + 1)
    answer = moved(np.array([[1.0, 2.0], [np.nan, 0.0]]), np.zeros(2, int), np.zeros(2, int))
    np.testing.assert_array_equal(answer, [[2.0, 3.0], [np.nan, np.nan]])


def test_held_out_matches_go_through_a_third_photo(collection) -> None:
    photos, matches = load_collection(collection)
    # All matches say that nothing moves, so the identity is right and a shift by a tenth of the photo a hop is not.
    still = replace(matches, xy_b=matches.xy_a.copy())
    scorer = FolderScorer(photos, still, seed=0)
    hops = []

    def stay(points, source, target):
        hops.append((source, target))
        return points

    assert scorer.score(stay)["held_out"] == {"0.05": 1.0, "0.10": 1.0}
    (source, third), (again, target) = hops[-2:]
    assert (third == again).all()
    assert ((source != third) & (third != target) & (source != target)).all()
    assert set(third) == set(range(5))
    # 120-pixel photos: two hops of 4 px are 8 px, within 0.10 x 120 and beyond 0.05 x 120.
    assert scorer.score(lambda points, *_: points + np.array([4, 0]))["held_out"] == {"0.05": 0.0, "0.10": 1.0}
    assert scorer.score(lambda points, *_: points * np.nan)["held_out"] == {"0.05": 0.0, "0.10": 0.0}
    assert FolderScorer(photos, still, seed=1).score(stay)["grid_cycle"]["0.05"] == {"2": 1.0, "3": 1.0}


def test_only_held_out_matches_are_asked(collection) -> None:
    from asic_flow.train import held_out_matches

    photos, matches = load_collection(collection)
    scorer = FolderScorer(photos, matches, seed=0)
    count = int(held_out_matches(photos, matches).sum())
    assert 0 < count < len(matches)
    assert f"{2 * count} held-out" in scorer.describe() or f"{count} held-out" in scorer.describe()
