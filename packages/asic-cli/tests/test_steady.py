"""A drawn creature that runs and turns before the camera, and maps of its frames made steady."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asic_cli.__main__ import main
from asic_cli.steady import steady
from asic_eval.benchmarks.creature import Pose, anatomy
from asic_eval.benchmarks.painting import Canvas, Noise, draw_coat
from asic_flow.alignment import Alignment
from asic_flow.sides import SecondMaps

FRAMES, SIDE, SOURCE = 14, 112, 7


@dataclass(frozen=True)
class Video:
    folder: Path
    run: Path
    alignment: Alignment
    poses: tuple[Pose, ...]


def _draw(folder: Path) -> tuple[Pose, ...]:
    """One round of a smooth motion; the background changes from frame to frame, as a camera's does."""
    parts = anatomy(np.random.default_rng(0))
    coat = draw_coat(np.random.default_rng(1))
    rest = Pose(parts, [np.zeros(len(part.joints)) for part in parts], np.eye(2), np.zeros(2))
    bounds = [rest.bounds(part, 0.0) for part in range(len(parts))]
    low, high = np.min([low for low, _ in bounds], axis=0), np.max([high for _, high in bounds], axis=0)
    unit = 2 / (high - low).max()
    canonical_scale = np.array([[unit, unit], -unit * (low + high) / 2])
    phases = np.random.default_rng(2).uniform(0, 2 * np.pi, (len(parts), 4))
    poses = []
    folder.mkdir()
    for frame in range(FRAMES):
        now = 2 * np.pi * frame / FRAMES
        bends = [
            np.array([0.5 * joint.limit * np.sin(now + phase) for joint, phase in zip(part.joints, own, strict=False)])
            for part, own in zip(parts, phases, strict=True)
        ]
        turn, size = 0.25 * np.sin(now), 0.62 * SIDE / (high - low).max() * (1 + 0.08 * np.sin(now + 1))
        matrix = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = SIDE / 2 + SIDE * np.array([0.1 * np.sin(now), 0.05 * np.cos(now)])
        pose = Pose(parts, bends, matrix, middle - matrix @ ((low + high) / 2))
        canvas = Canvas(SIDE, np.random.default_rng(3))
        canvas.background(np.random.default_rng(4))
        canvas.creature(pose, rest, canonical_scale, coat, Noise(np.random.default_rng(5)))
        Image.fromarray(canvas.finish(np.random.default_rng(10 + frame))).save(folder / f"{frame:03d}.png")
        poses.append(pose)
    return tuple(poses)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Video:
    folder = tmp_path_factory.mktemp("video")
    poses = _draw(folder / "frames")
    assert main(["features", str(folder / "frames"), "--out", str(folder / "c"), "--size", "112", "--stride", "8"]) == 0
    assert main(["train", str(folder / "c"), "--out", str(folder / "run")]) == 0
    return Video(folder / "frames", folder / "run", Alignment.load(folder / "run"), poses)


def _errors(alignment: Alignment, poses: tuple[Pose, ...]) -> np.ndarray:
    """(frames, points, 2): where points of one frame are carried to, less where they truly are, in pixels."""
    rows, columns = np.nonzero(alignment.foreground[SOURCE].numpy())
    chosen = np.random.default_rng(0).permutation(len(rows))[:120]
    points_px = np.stack((columns, rows), 1)[chosen].astype(np.float64)
    part_of, material = poses[SOURCE].find(alignment.photos[SOURCE].to_image(points_px))
    points_px, material, part_of = points_px[part_of >= 0], material[part_of >= 0], part_of[part_of >= 0]
    canonical = alignment.places_on_maps(torch.from_numpy(points_px).float(), torch.full((len(points_px),), SOURCE))
    errors = []
    for frame, pose in enumerate(poses):
        truth = np.concatenate([pose.place(part, place[None]) for part, place in zip(part_of, material, strict=True)])
        found = alignment.photos[frame].to_image(alignment.look_up(canonical, frame)[0].numpy())
        errors.append(found - truth)
    return np.stack(errors)


def _flicker(errors: np.ndarray) -> float:
    """The mean change of the error's change from frame to frame, in pixels: nothing for what moves evenly."""
    return float(np.hypot(*np.moveaxis(np.diff(errors, n=2, axis=0), 2, 0)).mean())


def test_what_is_carried_trembles_less_and_lies_no_further_off(video: Video) -> None:
    before = _errors(video.alignment, video.poses)
    after = _errors(steady(video.alignment, 4), video.poses)
    assert _flicker(before) > 1.5
    assert _flicker(after) < 0.35 * _flicker(before)
    assert np.hypot(*np.moveaxis(after, 2, 0)).mean() < np.hypot(*np.moveaxis(before, 2, 0)).mean()


def test_even_motion_is_left_as_it_is(run: Path) -> None:
    alignment = Alignment.load(run)
    height, width = alignment.size_hw
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    time = torch.arange(5.0)[:, None, None]
    # A disc that speeds up to the right and rises.
    across, along = x - 30 - 2 * time - 0.5 * time**2, y - 60 + 3 * time
    moving = replace(
        alignment,
        maps=torch.stack((across, along), -1) / 24,
        foreground=torch.hypot(across, along) < 22,
        confidence=torch.full_like(alignment.confidence, 0.7),
        mirrored=torch.zeros(5, dtype=torch.bool),
        second=SecondMaps.none((height, width)),
    )
    smooth = steady(moving, 2)
    inside = torch.hypot(across, along) < 18
    assert float((smooth.maps - moving.maps)[inside].abs().max() * 24) < 0.25
    torch.testing.assert_close(smooth.confidence[inside], moving.confidence[inside], atol=0.02, rtol=0)
    # One frame that is off by three pixels is brought back most of the way.
    maps = moving.maps.clone()
    maps[2, ..., 0] += 3 / 24
    mended = steady(replace(moving, maps=maps), 2)
    assert float(((mended.maps - moving.maps)[2][inside[2]] * 24).abs().mean()) < 1.1


def test_frames_that_fit_both_ways_are_mapped_as_most_are(run: Path) -> None:
    alignment = Alignment.load(run)
    second = SecondMaps(torch.tensor([2]), alignment.maps[2:3] * torch.tensor([-1.0, 1.0]), torch.tensor([0.9]))
    two_sided = replace(alignment, mirrored=torch.tensor([True, True, False, True, True]), second=second)
    turned = steady(two_sided, 1)
    assert turned.mirrored.tolist() == [True] * 5
    assert not len(turned.second.photo)
    same = replace(two_sided, mirrored=torch.ones(5, dtype=torch.bool), second=SecondMaps.none(alignment.size_hw))
    same.maps[2].copy_(second.maps[0])
    torch.testing.assert_close(turned.maps, steady(same, 1).maps)


def test_a_frame_from_the_other_side_is_left_alone(run: Path) -> None:
    alignment = replace(Alignment.load(run), second=SecondMaps.none((96, 96)))
    flags = torch.tensor([True, True, False, True, True])
    turned = steady(replace(alignment, mirrored=flags), 2)
    torch.testing.assert_close(turned.maps[2], alignment.maps[2], atol=2e-3, rtol=0)
    along = steady(replace(alignment, mirrored=torch.ones(5, dtype=torch.bool)), 2)
    assert float((along.maps[2] - alignment.maps[2]).abs().mean()) > 0.01


def test_reach_must_be_a_frame(video: Video) -> None:
    with pytest.raises(ValueError, match="reach must be 1 frame or more, got 0"):
        steady(video.alignment, 0)


@pytest.fixture
def layer(tmp_path: Path, video: Video) -> Path:
    """A magenta disc on the creature's trunk in one frame."""
    x0, y0 = video.poses[SOURCE].place(0, np.array([[0.5, 0.0, 0.0]]))[0]
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[np.hypot(x - x0, y - y0) < 6] = (255, 0, 200, 255)
    Image.fromarray(pixels).save(tmp_path / "layer.png")
    return tmp_path / "layer.png"


def test_a_layer_follows_the_creature_through_the_video(asic, video, layer, tmp_path) -> None:
    paint = ("--kind", "edit", "--source", video.folder / f"{SOURCE:03d}.png", "--layer", layer)
    tracks = {}
    for reach in (0, 4):
        result = asic("animate", video.run, "--out", f"{reach}.webp", *paint, "--fps", 10, "--steady", reach)
        assert (result.code, result.out) == (0, f"{reach}.webp\n"), result.err
        places = []
        with Image.open(tmp_path / f"{reach}.webp") as picture:
            assert (picture.n_frames, picture.size) == (FRAMES, (SIDE, SIDE))
            for frame in range(FRAMES):
                picture.seek(frame)
                shown = np.asarray(picture.convert("RGB")).astype(int)
                rows, columns = np.nonzero((shown[..., 0] > 190) & (shown[..., 1] < 90) & (shown[..., 2] > 140))
                truth = video.poses[frame].place(0, np.array([[0.5, 0.0, 0.0]]))[0]
                places.append(np.array([columns.mean(), rows.mean()]) - truth)
        tracks[reach] = np.stack(places)[:, None]
        assert np.hypot(*np.moveaxis(tracks[reach], 2, 0)).mean() < 4
    assert _flicker(tracks[4]) < 0.6 * _flicker(tracks[0])


def test_what_an_edit_needs_is_named(asic, video, layer, run, tmp_path) -> None:
    result = asic("animate", video.run, "--out", "a.gif", "--kind", "edit")
    assert (result.code, "expected all three or none" in result.err) == (2, True)
    result = asic("animate", video.run, "--out", "a.gif", "--layer", layer)
    assert (result.code, "expected all three or none" in result.err) == (2, True)
    result = asic("animate", run, "--out", "a.gif", "--kind", "edit", "--source", "absent.png", "--layer", layer)
    assert (result.code, "expected one of the run's 5 photos" in result.err) == (2, True)
    assert not (tmp_path / "a.gif").exists()


def test_photos_of_several_sizes_are_no_video(asic, video, layer, monkeypatch) -> None:
    photos = (replace(video.alignment.photos[0], size_hw=(SIDE, SIDE + 2)), *video.alignment.photos[1:])
    monkeypatch.setattr(Alignment, "load", lambda _: replace(video.alignment, photos=photos))
    paint = ("--kind", "edit", "--source", video.folder / f"{SOURCE:03d}.png", "--layer", layer)
    result = asic("animate", video.run, "--out", "a.gif", *paint)
    assert (result.code, "expected frames of one size" in result.err) == (2, True)
