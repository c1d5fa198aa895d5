from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asic_cli.errors import Stopped
from asic_flow.alignment import Alignment
from asic_flow.collection import load_collection, save_collection
from asic_flow.matches import OF_MATCHES
from asic_flow.paper.checkpoint import CHECKPOINT_FILE, NETWORK_FILE
from asic_flow.paper.training import Training
from asic_flow.run_folder import read_run_file
from asic_flow.run_log import RunLog

INDEX = "config.json"


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


def test_the_same_command_again_finds_all_done(asic, collection, copied) -> None:
    result = asic("train", collection, "--out", copied, "--json")
    assert (result.code, result.json["reused"]) == (0, True)
    assert len(result.json["support"]) == 5
    assert "already done" in result.err


def test_a_moved_collection_is_still_the_same(asic, collection, copied, tmp_path) -> None:
    moved = shutil.copytree(collection, tmp_path / "moved")
    assert asic("train", moved, "--out", copied, "--json").json["reused"]


def test_the_run_lies_beside_its_collection(asic, collection, tmp_path, monkeypatch) -> None:
    copied = shutil.copytree(collection, tmp_path / "x")
    result = asic("train", "x", "--preset", "fast")
    assert (result.code, result.out) == (0, "x-run\n")
    assert json.loads((tmp_path / "x-run" / INDEX).read_text())["collection"]["path"] == "../x"
    monkeypatch.chdir(copied)
    assert asic("train", ".", "--json").json["reused"]


def test_other_settings_stop_with_their_differences_and_fresh_starts_over(asic, collection, copied) -> None:
    result = asic("train", collection, "--out", copied, "--seed", 7)
    assert (result.code, "seed: 0 in the folder, now 7" in result.err) == (2, True)
    result = asic("train", collection, "--out", copied, "--seed", 7, "--fresh", "--json")
    assert (result.code, result.json["reused"]) == (0, False)
    assert json.loads((copied / INDEX).read_text())["seed"] == 7


@pytest.mark.parametrize("name", ["canonical_maps.safetensors", INDEX])
def test_a_damaged_file_is_noticed_and_made_again(asic, collection, copied, run, name) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:-1])
    result = asic("train", collection, "--out", copied, "--json")
    assert (result.code, result.json["reused"]) == (0, False)
    assert "making it again" in result.err
    for path in ("canonical_maps.safetensors", "consensus.safetensors"):
        assert (copied / path).read_bytes() == (run / path).read_bytes()


@pytest.mark.parametrize("collection_field", [5, None, {}])
def test_a_run_that_names_no_collection_is_one_of_another(asic, collection, copied, collection_field) -> None:
    index = json.loads((copied / INDEX).read_text())
    (copied / INDEX).write_text(json.dumps({**index, "collection": collection_field}))
    result = asic("train", collection, "--out", copied)
    assert (result.code, "collection.identity: None in the folder, now" in result.err) == (2, True), result.err


def test_a_damaged_collection_is_an_error_that_names_the_file(asic, collection, tmp_path) -> None:
    broken = shutil.copytree(collection, tmp_path / "broken")
    (broken / "matches.safetensors").write_bytes(b"")
    result = asic("train", broken)
    assert (result.code, "matches.safetensors" in result.err) == (2, True)
    assert not (tmp_path / "broken-run").exists()
    result = asic("train", "nowhere")
    assert (result.code, "nowhere: no collection.json" in result.err) == (2, True)


def test_zero_matches(asic, collection, tmp_path) -> None:
    photos, matches = load_collection(collection)
    empty = replace(
        matches,
        offsets=np.zeros_like(matches.offsets),
        **{name: getattr(matches, name)[:0] for name in OF_MATCHES},
    )
    save_collection(tmp_path / "empty", photos, empty)
    result = asic("train", "empty")
    assert (result.code, "no two photos match" in result.err) == (2, True)


def test_a_photo_that_does_not_belong_is_pointed_out(asic, collection, tmp_path) -> None:
    photos, matches = load_collection(collection)
    generator = np.random.default_rng(0)
    other = (matches.pairs[matches.pair_of_match()] == 0).any(axis=1)
    scrambled = matches.xy_a.copy()
    scrambled[other] = generator.permutation(scrambled[other])
    noise = torch.from_numpy(generator.standard_normal(photos.descriptors[0].shape).astype(np.float32))
    descriptors = photos.descriptors.clone()
    descriptors[0] = torch.nn.functional.normalize(noise, dim=-1).half()
    save_collection(tmp_path / "x", replace(photos, descriptors=descriptors), replace(matches, xy_a=scrambled))
    assert "warning: 0.png: only" in asic("train", "x").err


def test_a_seed_that_no_generator_takes_is_refused(asic, collection) -> None:
    result = asic("train", collection, "--out", "x", *PAPER, "--seed", 2**63)
    assert (result.code, "--seed" in result.err) == (2, True)


def test_devices_and_presets(asic, collection, monkeypatch) -> None:
    assert asic("train", collection, "--preset", "best").code == 2
    assert asic("train", collection, "--device", "cuda:99").code == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    result = asic("train", collection, "--device", "cuda", "--out", "x")
    assert (result.code, "takes seconds on the CPU" in result.err) == (3, True)


PAPER = ("--preset", "paper-small", "--steps", 4, "--device", "cpu")


def log_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_log_tells_rounds_and_how_held_out_matches_agree(run) -> None:
    lines = log_of(run)
    assert [line["round"] for line in lines[:-1]] == [1, 2, 3, 4, 5, 6]
    assert all(0 < line["residual"] < 0.5 and 0 < line["held_out"] <= 1 and line["matches"] for line in lines[:-1])
    assert lines[-1]["stage"] == "done"
    assert 0 < lines[-1]["held_out"] <= 1


def test_a_trained_run_is_a_run_like_any_other(asic, collection, tmp_path) -> None:
    result = asic("train", collection, "--out", "x", *PAPER)
    assert (result.code, result.out) == (0, "x\n"), result.err
    assert json.loads((tmp_path / "x" / INDEX).read_text())["paper"]["steps"] == 4
    lines = log_of(tmp_path / "x")
    assert [line["step"] for line in lines if "step" in line] == [4]
    assert set(lines[0]["losses"]) == {"reconstruction", "matches", "total_variation", "equivariance", "mask"}
    (tmp_path / "points.csv").write_text("source,x,y,target\n0.png,60,61.5,3.png\n")
    assert asic("transfer", "x", "--points", "points.csv").code == 0
    assert asic("eval", "x", "--json").json["methods"]["canonical"]["grid_cycle"]
    assert asic("train", collection, "--out", "x", *PAPER, "--json").json["reused"]
    other = asic("train", collection, "--out", "x", "--preset", "paper-small", "--steps", 5)
    assert (other.code, "paper.steps: 4 in the folder, now 5" in other.err) == (2, True)
    other = asic("train", collection, "--out", "x")
    assert (other.code, "preset: 'paper-small' in the folder, now 'fast'" in other.err) == (2, True)


def test_a_training_that_is_stopped_goes_on_and_ends_the_same(asic, collection, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(Training.run.__kwdefaults__, "save_seconds", 0)
    assert asic("train", collection, "--out", "whole", *PAPER).code == 0
    advance, steps = Training.advance, []

    def interrupt(training: Training) -> object:
        steps.append(training.step)
        if steps == [0, 1, 2]:
            raise Stopped(signal.SIGINT)
        return advance(training)

    monkeypatch.setattr(Training, "advance", interrupt)
    stopped = asic("train", collection, "--out", "x", *PAPER)
    assert (stopped.code, "To go on from what is finished: asic train" in stopped.err) == (130, True)
    assert not (tmp_path / "x" / INDEX).exists()
    other = asic("train", collection, "--out", "x", *PAPER, "--seed", 1)
    assert (other.code, "made with other settings (seed)" in other.err) == (2, True)
    assert asic("train", collection, "--out", "x", *PAPER).code == 0
    assert steps == [0, 1, 2, 2, 3]
    assert torch.equal(Alignment.load(tmp_path / "x").maps, Alignment.load(tmp_path / "whole").maps)
    steps.clear()
    assert asic("train", collection, "--out", "x", *PAPER, "--fresh").code == 130
    assert steps == [0, 1, 2]
    assert torch.equal(Alignment.load(tmp_path / "x").maps, Alignment.load(tmp_path / "whole").maps)


def test_starting_over_keeps_what_is_there_until_its_end_and_goes_on_when_stopped(
    asic, collection, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(Training.run.__kwdefaults__, "save_seconds", 0)
    assert asic("train", collection, "--out", "x", "--preset", "paper-small", "--steps", 2).code == 0
    network = read_run_file(tmp_path / "x", NETWORK_FILE)
    log = (tmp_path / "x" / "log.jsonl").read_bytes()
    advance, steps = Training.advance, []

    def interrupt(training: Training) -> object:
        steps.append(training.step)
        if steps in ([0], [0, 0, 1, 2]):
            raise Stopped(signal.SIGINT)
        return advance(training)

    monkeypatch.setattr(Training, "advance", interrupt)
    command = ("train", collection, "--out", "x", *PAPER, "--fresh")
    for _ in range(2):
        stopped = asic(*command)
        given = shlex.join(map(str, command))
        assert (stopped.code, stopped.err.endswith(f"To go on from what is finished: asic {given}\n")) == (130, True)
        assert read_run_file(tmp_path / "x", NETWORK_FILE) == network
        assert (tmp_path / "x" / "log.jsonl").read_bytes() == log
    ended = asic(*command)
    assert (ended.code, "going on after step 2" in ended.err) == (0, True)
    assert steps == [0, 0, 1, 2, 2, 3]
    assert read_run_file(tmp_path / "x", NETWORK_FILE) != network
    assert not (tmp_path / "x" / CHECKPOINT_FILE).exists()
    assert log_of(tmp_path / "x")[-1]["stage"] == "done"
    assert (tmp_path / "x" / "log.jsonl").read_bytes() != log
    assert not (tmp_path / "x" / "unfinished-log.jsonl").exists()
    # A network that is lost is made again.
    (tmp_path / "x" / NETWORK_FILE).unlink()
    again = asic(*command[:-1])
    assert (again.code, "network.safetensors: " in again.err) == (0, True)
    assert read_run_file(tmp_path / "x", NETWORK_FILE)
    # What cannot be gone on with is no hindrance.
    (tmp_path / "x" / CHECKPOINT_FILE).write_bytes(b"damaged")
    assert asic(*command).code == 0
    assert steps[10:] == [0, 1, 2, 3]


def test_what_was_left_undone_when_a_run_was_written_is_done_by_the_next_command(
    asic, collection, tmp_path, monkeypatch
) -> None:
    def stop(_: Path) -> None:
        raise Stopped(signal.SIGINT)

    assert asic("train", collection, "--out", "x", *PAPER).code == 0
    with monkeypatch.context() as patched:
        patched.setattr(RunLog, "finish", stop)
        assert asic("train", collection, "--out", "x", *PAPER, "--seed", 1, "--fresh").code == 130
    assert (tmp_path / "x" / CHECKPOINT_FILE).exists()
    assert asic("train", collection, "--out", "x", *PAPER, "--seed", 1, "--json").json["reused"]
    assert not (tmp_path / "x" / CHECKPOINT_FILE).exists()
    assert not (tmp_path / "x" / "unfinished-log.jsonl").exists()
    assert [line["step"] for line in log_of(tmp_path / "x") if "step" in line] == [4]


def test_steps_and_processes_are_for_presets_that_train(asic, collection, monkeypatch) -> None:
    result = asic("train", collection, "--steps", 5)
    assert (result.code, "the preset fast trains no network" in result.err) == (2, True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = asic("train", collection)
    assert (result.code, "start it as one process, without torchrun" in result.err) == (2, True)


def test_torchrun_gives_the_losses_of_one_process(asic, draw, tmp_path) -> None:
    draw(tmp_path / "photos", [f"{index}.png" for index in range(4)])
    assert asic("features", "photos", "--out", "set", "--size", "96", "--stride", "8").code == 0
    assert asic("train", "set", "--out", "alone", *PAPER).code == 0
    torchrun = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "asic_cli",
    )
    command = [*torchrun, *map(str, ("train", "set", "--out", "both", *PAPER, "--json"))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["reused"] is False
    refused = subprocess.run([*command, "--seed", "1"], capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode != 0
    assert "made with other settings" in refused.stderr
    assert "this is a bug" not in refused.stderr
    assert "2 processes" in ended.stderr
    alone, both = ([line for line in log_of(tmp_path / name) if "step" in line] for name in ("alone", "both"))
    assert [line["step"] for line in both] == [line["step"] for line in alone]
    for one, other in zip(alone, both, strict=True):
        assert other["losses"] == pytest.approx(one["losses"], rel=2e-2)
    maps = [Alignment.load(tmp_path / name).maps for name in ("alone", "both")]
    torch.testing.assert_close(*maps, atol=0.02, rtol=0)


def test_networks_are_chosen(asic, collection, tmp_path) -> None:
    chosen = ("--network", "coordinates", "--canonical", "network")
    assert asic("train", collection, "--out", "x", *PAPER, *chosen).code == 0
    paper = json.loads((tmp_path / "x" / INDEX).read_text())["paper"]
    assert (paper["network"], paper["canonical"], paper["steps"]) == ("coordinates", "network", 4)
    refused = asic("train", collection, "--canonical", "network")
    assert (refused.code, "--canonical: the preset fast trains no network" in refused.err) == (2, True)


def test_weights_of_a_vgg16_are_read_from_the_files_that_are_named(asic, collection, tmp_path) -> None:
    convolutions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    state = {f"features.{number}.weight": torch.rand(2, 2 if number else 3, 3, 3) for number in convolutions}
    torch.save({**state, **{f"features.{number}.bias": torch.zeros(2) for number in convolutions}}, tmp_path / "vgg")
    torch.save({f"lin{number}.model.1.weight": torch.rand(1, 2, 1, 1) for number in range(5)}, tmp_path / "heads")
    both = ("--vgg", "vgg", "--lpips", "heads")
    assert asic("train", collection, "--out", "x", *PAPER, *both).code == 0
    assert len(json.loads((tmp_path / "x" / INDEX).read_text())["perceptual"]) == 2
    other = asic("train", collection, "--out", "x", *PAPER)
    assert (other.code, "perceptual: [" in other.err) == (2, True)
    result = asic("train", collection, *PAPER, "--vgg", "heads")
    assert (result.code, "expected a tensor 'features.0.weight'" in result.err) == (2, True)
    assert "give its file with --vgg" in asic("train", collection, *PAPER, "--lpips", "heads").err
    assert "the preset fast trains no network" in asic("train", collection, "--vgg", "vgg").err
