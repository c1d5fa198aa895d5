from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asic_cli.animate import _gif, _webp
from asic_cli.runs import load_run
from asic_cli.scenes import Stage, _stops, morph, set_up, tour
from asic_cli.viewer.canonical import wheel_colours

SIDE, GAP = 64, 6


@pytest.fixture(scope="module")
def loaded(run):
    return load_run(run)


@pytest.fixture(scope="module")
def stage(loaded) -> Stage:
    return set_up(loaded.collection, loaded.alignment, SIDE, limit=8)


def _tiles(frame: np.ndarray) -> list[np.ndarray]:
    """The tiles of a sheet of five photos and the average: two rows of three."""
    height, width = frame.shape[:2]
    assert (height, width) == (2 * (SIDE + GAP) + GAP, 3 * (SIDE + GAP) + GAP)
    corners = [GAP + place * (SIDE + GAP) for place in range(3)]
    return [frame[top : top + SIDE, left : left + SIDE].astype(float) for top in corners[:2] for left in corners]


def test_the_morph_starts_with_the_photos_and_comes_back(stage) -> None:
    frames = list(morph(stage, 10))
    assert len(frames) == 10
    for tile, image in zip(_tiles(frames[0]), stage.images, strict=False):
        np.testing.assert_allclose(tile, image.permute(1, 2, 0).numpy(), atol=0.51)
    np.testing.assert_array_equal(frames[3], frames[7])
    assert np.abs(frames[3].astype(int) - frames[5]).max() > 50


def test_the_morph_ends_in_canonical_space(stage) -> None:
    tiles = _tiles(list(morph(stage, 10))[5])
    errors = []
    for tile, image, canonical, shown in zip(tiles, stage.images, stage.canonical, stage.foreground, strict=False):
        rows, columns = torch.nonzero(shown).unbind(1)
        x, y = stage.to_tile(canonical[rows, columns]).round().long().clamp(0, SIDE - 1).unbind(1)
        errors.append(np.abs(tile[y, x] - image[:, rows, columns].T.numpy()).mean(1))
    assert np.median(np.concatenate(errors)) < 8
    assert (_corner(tiles) == 244).all()


def _corner(tiles: list[np.ndarray]) -> np.ndarray:
    return np.stack([tile[0, 0] for tile in tiles])


def test_the_tour_marks_the_same_place_on_all(loaded, stage) -> None:
    frames = list(tour(stage, 21))
    plain = [image.permute(1, 2, 0).numpy() for image in stage.images]
    marked = 0
    for frame in frames[2::3]:
        *tiles, last = _tiles(frame)
        # The mark's colour is that of its place, so the average says where the tour is.
        for tile, image, canonical, sure in zip(tiles, plain, stage.canonical, stage.confidence, strict=True):
            colours = wheel_colours(canonical.numpy(), stage.wheel_radius).astype(float)
            here = (np.abs(tile - colours).max(2) < 12) & (np.abs(tile - image).max(2) > 25) & (sure.numpy() > 0.5)
            marked += bool(here.sum() > 3)
        assert (last != 244).any()
    assert marked > 10
    del loaded


def test_the_tour_stops_well_within_the_object(stage) -> None:
    """Every stop is some photo's pixel with nothing but object around it."""
    for stop in _stops(stage):
        photo, row, column = torch.nonzero((stage.canonical == stop).all(-1))[0].tolist()
        around = stage.foreground[photo, row - 2 : row + 3, column - 2 : column + 3]
        assert (around.shape, bool(around.all())) == ((5, 5), True)


def test_a_gif_keeps_marks_and_paper_and_leaves_out_what_stays(stage, tmp_path) -> None:
    frames = list(tour(stage, 24))
    (tmp_path / "a.gif").write_bytes(_gif(iter(frames), 10))
    stills = list(_gif(iter(frames[:1]), 10))
    assert (tmp_path / "a.gif").stat().st_size < 6 * len(stills)
    few = _gif(iter([np.full((8, 8, 3), level, np.uint8) for level in (0, 255, 0)]), 10)
    assert (few[10] & 7) == 7  # a table of 256 colours, as the last one is transparent
    with Image.open(io.BytesIO(few)) as picture:
        for number, level in enumerate((0, 255, 0)):
            picture.seek(number)
            assert (np.asarray(picture.convert("RGB")) == level).all()
    with Image.open(tmp_path / "a.gif") as picture:
        for number, frame in enumerate(frames):
            picture.seek(number)
            found = np.asarray(picture.convert("RGB")).astype(int)
            paper = (frame == 244).all(2)
            assert paper.mean() > 0.1
            flat = paper & np.roll(paper, 1, 0) & np.roll(paper, -1, 0) & np.roll(paper, 1, 1) & np.roll(paper, -1, 1)
            assert (found[flat] == 244).all()
            error = np.abs(found - frame)
            assert error.mean() < 6
            # Marks are the most colourful there is.
            colourful = np.ptp(frame.astype(int), axis=2) > 90
            assert np.median(error[colourful]) < 16


def test_photos_are_chosen_evenly_and_those_without_an_object_left_out(loaded) -> None:
    foreground = loaded.alignment.foreground.clone()
    foreground[2] = False
    alignment = replace(loaded.alignment, foreground=foreground)
    assert len(set_up(loaded.collection, alignment, 32, limit=9).images) == 4
    two = set_up(loaded.collection, alignment, 32, limit=2)
    every = set_up(loaded.collection, alignment, 32, limit=4)
    torch.testing.assert_close(two.images, every.images[[0, 3]])
    with pytest.raises(ValueError, match="every mask is empty"):
        set_up(loaded.collection, replace(alignment, foreground=foreground & False), 32, limit=9)


@pytest.mark.parametrize(("name", "kind"), [("below/a.gif", "GIF"), ("a.WEBP", "WEBP")])
def test_pictures_that_move(asic, run, tmp_path, name, kind) -> None:
    result = asic("animate", run, "--out", name, "--seconds", 1, "--fps", 8, "--side", 32, "--kind", "tour")
    assert (result.code, result.out) == (0, f"{name}\n"), result.err
    seconds, least = _shown(tmp_path / name)
    assert (seconds, least >= 20) == (1, True)
    with Image.open(tmp_path / name) as picture:
        assert (picture.format, picture.n_frames) == (kind, 8)
        assert picture.info["loop"] == 0
        assert picture.size == (3 * 38 + 6, 2 * 38 + 6)


@pytest.mark.parametrize(
    ("fps", "encode", "seconds"), [(60, _gif, 1.2), (24, _gif, 2.5), (60, _webp, 1), (7, _gif, 60 / 7)]
)
def test_a_round_takes_as_long_as_its_frames_say(tmp_path, fps, encode, seconds) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), np.uint8)
    (tmp_path / "a").write_bytes(encode(iter(frames), fps))
    found, least = _shown(tmp_path / "a")
    assert found == pytest.approx(seconds, abs=0.006)
    assert least >= (20 if encode is _gif else 16)  # viewers show frames of less for a tenth of a second


def _shown(path: Path) -> tuple[float, float]:
    """Seconds that a moving picture takes, and milliseconds of its shortest frame."""
    durations = []
    with Image.open(path) as picture:
        for frame in range(picture.n_frames):
            picture.seek(frame)
            picture.load()
            durations.append(picture.info["duration"])
    return sum(durations) / 1000, min(durations)


def test_a_video(asic, run, tmp_path) -> None:
    reader = pytest.importorskip("imageio_ffmpeg")
    result = asic("animate", run, "--out", "a.mp4", "--seconds", 1, "--fps", 8, "--side", 32)
    assert result.code == 0, result.err
    frames, seconds = reader.count_frames_and_secs(str(tmp_path / "a.mp4"))
    assert (frames, seconds) == (8, 1)


def test_without_an_encoder_the_extra_is_named(asic, run, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    result = asic("animate", run, "--out", "a.mp4", "--side", 32)
    assert (result.code, "pip install 'asic-cli[video]'" in result.err) == (3, True)
    assert not (tmp_path / "a.mp4").exists()


def test_other_kinds_of_files_are_refused(asic, run) -> None:
    result = asic("animate", run, "--out", "a.avi")
    assert (result.code, "expected a file ending in .gif, .webp, .mp4" in result.err) == (2, True)


def test_a_run_without_objects_is_refused(asic, run, monkeypatch) -> None:
    def refuse(*_: object) -> Stage:
        raise ValueError("every mask is empty")

    monkeypatch.setattr("asic_cli.scenes.set_up", refuse)
    result = asic("animate", run, "--out", "a.gif")
    assert (result.code, "every mask is empty" in result.err) == (2, True)
