"""Frames of a video, as photos in a folder of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asic_cli.console import Stages, say
from asic_cli.errors import InputError, MachineError, explain_os_error
from asic_cli.photo_sets import LEAST_PHOTOS, PhotoSet, Selection, refuse_flags
from asic_features.images import PhotoSource
from asic_features.weights import sha256_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"})
_INDEX = "frames.json"
_MOST_FRAMES = 1000
_FRAME = re.compile(r"\d{6}\.png")


def is_video(path: Path) -> bool:
    """Whether a path is a video file, by its suffix."""
    return path.suffix.lower() in _VIDEOS and path.is_file()


def find_frames(video: Path, selection: Selection, beside: Path, *, decode: bool, fresh: bool = False) -> PhotoSet:
    """Every so many-th frame of a video.

    The frames are written to `<collection>-frames`, where they are found again by the video's content; nothing else
    reads the video.

    Args:
        video: The file.
        selection: Which frames.
        beside: The collection's folder.
        decode: Whether to write them; otherwise they are named as far as the video's header tells.
        fresh: Decode again even if they are there.

    Raises:
        InputError: Flags do not fit a video, it cannot be decoded, it has too few or too many frames, or the frames'
            folder holds somebody's files.
        MachineError: No decoder is installed, or the folder cannot be written.
    """
    if selection.dataset is not None:
        raise InputError(f"--dataset {selection.dataset}: expected the root of the data set, got the video {video}")
    refuse_flags(selection, "a video", "species", "category", "split")
    folder = beside.with_name(f"{beside.name}-frames")
    names = _write(video, selection, folder, fresh) if decode else _guess(video, selection)
    if len(names) < LEAST_PHOTOS:
        raise InputError(f"{video}: {len(names)} frame was taken, at least {LEAST_PHOTOS} are needed: lower --every")
    return PhotoSet(
        title=video.stem,
        source={"kind": "folder", "video": video.name, "every": selection.every},
        sources=tuple(PhotoSource(folder / name, name) for name in names),
        boxes={},
        truth=None,
    )


def _guess(video: Path, selection: Selection) -> list[str]:
    with closing(_decode(video)) as frames:
        header = next(frames)
    count = max(1, round(header["duration"] * header["fps"]))
    return [_name(index) for index in range(0, count, selection.every)][: selection.limit]


def _write(video: Path, selection: Selection, folder: Path, fresh: bool) -> list[str]:
    wanted = {"video_sha256": sha256_of(video), "every": selection.every, "limit": selection.limit}
    try:
        stored = _stored(folder)
        names = [str(name) for name in stored.get("frames", [])]
        if not fresh and stored == wanted | {"frames": names} and all((folder / name).is_file() for name in names):
            return names
        folder.mkdir(parents=True, exist_ok=True)
        # The folder is ours from now on, but without names it is not whole.
        (folder / _INDEX).write_text(json.dumps(wanted))
        for path in folder.iterdir():
            if _FRAME.fullmatch(path.name):
                path.unlink()
        names = _write_frames(video, selection, folder)
        (folder / _INDEX).write_text(json.dumps(wanted | {"frames": names}))
    except OSError as error:
        raise MachineError(f"cannot write {folder}: {explain_os_error(error)}") from error
    return names


def _stored(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        return {}
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if names and _INDEX not in names:
        raise InputError(f"{folder} is not empty and holds no {_INDEX}; choose another --out")
    try:
        stored = json.loads((folder / _INDEX).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _write_frames(video: Path, selection: Selection, folder: Path) -> list[str]:
    from PIL import Image

    from asic_flow.atomic import write_bytes

    names: list[str] = []
    with closing(_decode(video)) as frames, Stages() as stages:
        header = next(frames)
        total = max(1, round(header["duration"] * header["fps"]))
        for index, pixels in enumerate(frames):
            stages("frames", min(index, total), total)
            if index % selection.every:
                continue
            if len(names) == _MOST_FRAMES:
                least = -(-total // _MOST_FRAMES)
                raise InputError(
                    f"{video}: more than {_MOST_FRAMES} frames would be taken: give --every K, from {least} on, or "
                    "--limit N"
                )
            buffer = BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
            write_bytes(folder / _name(index), buffer.getvalue())
            names.append(_name(index))
            if len(names) == selection.limit:
                break
    say(f"{folder}: {len(names)} frames of {video.name}")
    return names


def _name(index: int) -> str:
    return f"{index:06d}.png"


def _decode(video: Path) -> Generator[Any]:
    """The header, then (H, W, 3) uint8 frames."""
    try:
        from imageio_ffmpeg import read_frames
    except ImportError:
        raise MachineError(
            "no decoder for videos is installed: pip install 'asic-cli[video]', or write the frames to a folder and "
            "give that with --every K for every K-th frame"
        ) from None
    # Neither a name with a colon nor a playlist's content may lead anywhere else.
    safe = ["-protocol_whitelist", "file"]
    try:
        with closing(read_frames(f"file:{video}", input_params=safe)) as frames:
            header = next(frames)
            width, height = header["size"]
            yield header
            for frame in frames:
                yield _as_pixels(frame, height, width)
    # ffmpeg's words are parsed by guess: what it says of a broken file ends in errors of many types.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise InputError(f"{video}: cannot be decoded as a video ({reason})") from error


def _as_pixels(frame: bytes, height: int, width: int) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3)
