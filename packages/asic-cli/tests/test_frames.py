from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# imageio-ffmpeg leaves the pipes of a process that has ended to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FEATURES = ("--size", 96, "--stride", 8, "--json")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blue square that moves 4 pixels to the right from each of 12 frames to the next."""
    writer = pytest.importorskip("imageio_ffmpeg").write_frames
    path = tmp_path_factory.mktemp("video") / "a clip: 1.mp4"
    made = writer(f"file:{path}", (96, 80), fps=6, macro_block_size=2, quality=9)
    made.send(None)
    for index in range(12):
        frame = np.full((80, 96, 3), (180, 170, 90), dtype=np.uint8)
        frame[30:50, 10 + 4 * index : 30 + 4 * index] = (20, 30, 200)
        made.send(frame.tobytes())
    made.close()
    return path


def test_every_third_frame_of_a_video(asic, video) -> None:
    command = ("features", video, "--every", 3, *FEATURES)
    plan = asic(*command, "--dry-run").json
    assert (plan["photos"], Path("asic-out").exists()) == (4, False)
    result = asic(*command)
    assert result.code == 0, result.err
    names = [f"{index:06d}.png" for index in (0, 3, 6, 9)]
    assert result.json["photos"] == names
    assert result.json["collection"] == "asic-out/a_clip_1"
    assert result.json["settings"]["source"] == {"kind": "folder", "video": "a clip: 1.mp4", "every": 3}
    for index, name in zip((0, 3, 6, 9), names, strict=True):
        blue = np.asarray(Image.open(Path("asic-out/a_clip_1-frames", name)))[40, :, 2] > 150
        assert abs(blue.nonzero()[0].mean() - (19.5 + 4 * index)) < 1
    again = asic(*command)
    assert again.json["reused"]
    assert "frames of" not in again.err
    assert asic("train", "asic-out/a_clip_1").code == 0


def test_other_frames_replace_those_that_were_there(asic, video) -> None:
    assert asic("features", video, "--out", "x", *FEATURES).json["photos"][-1] == "000011.png"
    frames = _contents(Path("x-frames"))
    late = ("--every", 5, "--fresh", "--masks", "nowhere")  # refused when the frames are decoded
    for other in (("--every", 5), ("--limit", 2), ("--every", 50), ("--every", 50, "--fresh"), late):
        result = asic("features", video, "--out", "x", *other, *FEATURES)
        assert result.code == 2, result.err
        assert _contents(Path("x-frames")) == frames
    another = Path(shutil.copy(video, "another.mp4"))
    with another.open("ab") as stream:
        stream.write(b"\0" * 8)
    result = asic("features", another, "--out", "x", *FEATURES)
    assert (result.code, "video_sha256: " in result.err) == (2, True)
    assert _contents(Path("x-frames")) == frames
    result = asic("features", video, "--out", "x", "--every", 5, "--limit", 2, "--fresh", *FEATURES)
    assert result.json["photos"] == ["000000.png", "000005.png"]
    assert sorted(path.name for path in Path("x-frames").glob("*.png")) == ["000000.png", "000005.png"]
    index = json.loads(Path("x-frames/frames.json").read_text())
    assert (index["every"], index["limit"]) == (5, 2)
    # Cut short by a crash, it is made again.
    without_frames = json.dumps({key: index[key] for key in ("video_sha256", "every", "limit")})
    for name, damage in (
        ("frames.json", ""),
        ("frames.json", "[]"),
        ("frames.json", without_frames),
        ("000005.png", "cut short"),
    ):
        Path("x-frames", name).write_text(damage)
        result = asic("features", video, "--out", "x", "--every", 5, "--limit", 2, *FEATURES)
        assert (result.json["reused"], "2 frames of" in result.err) == (True, True)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_no_video_is_told(asic, video, monkeypatch) -> None:
    for name, content in (("empty.mp4", b""), ("page.mp4", b"<html>"), ("cut.mp4", video.read_bytes()[:300])):
        Path(name).write_bytes(content)
        result = asic("features", name)
        assert (result.code, f"{name}: cannot be decoded as a video" in result.err) == (2, True), result.err
    shutil.copy(video, "clip.mp4")
    result = asic("features", "clip.mp4", "--limit", 2, "--every", 11)
    assert result.code == 0, result.err
    shutil.rmtree("asic-out")
    result = asic("features", "clip.mp4", "--every", 50)
    assert (result.code, "1 frame was taken, at least 2 are needed: lower --every" in result.err) == (2, True)
    result = asic("features", "clip.mp4", "--dataset", "cub")
    assert (result.code, "expected the root of the data set, got the video clip.mp4" in result.err) == (2, True)
    assert asic("features", "clip.mp4", "--species", 1).code == 2
    Path("mine-frames").mkdir()
    Path("mine-frames/diary.txt").write_text("")
    result = asic("features", "clip.mp4", "--out", "mine")
    assert (result.code, "mine-frames is not empty and holds no frames.json" in result.err) == (2, True)
    Path("file").write_text("")
    assert asic("features", "clip.mp4", "--out", "file/below").code == 3
    monkeypatch.setattr("asic_cli.frames._MOST_FRAMES", 5)
    result = asic("features", "clip.mp4")
    assert (result.code, "more than 5 frames would be taken: give --every K, from 3 on" in result.err) == (2, True)


def test_a_video_that_was_cut_short_is_told(asic, video, tmp_path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    whole = tmp_path / "whole.mkv"
    subprocess.run([ffmpeg, "-loglevel", "error", "-i", f"file:{video}", "-g", "1", whole], check=True)
    result = asic("features", whole, *FEATURES)
    assert (result.code, "cut short" in result.err) == (0, False), result.err
    (tmp_path / "half.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    result = asic("features", "half.mkv", *FEATURES)
    assert (result.code, "frames could be decoded of about 12; is the file cut short?" in result.err) == (0, True)


def test_without_a_decoder_the_extra_is_named(asic, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    result = asic("features", "clip.mp4")
    assert (result.code, "pip install 'asic-cli[video]'" in result.err, "--every K" in result.err) == (3, True, True)
