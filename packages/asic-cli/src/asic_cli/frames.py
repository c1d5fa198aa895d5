"""Frames of a video, as photos in a folder of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asic_cli.console import Stages, say, warn
from asic_cli.errors import InputError, MachineError
from asic_cli.folder import INDEX_FILES, differences, is_whole, read_files_index, refuse_other_settings, writing
from asic_cli.photo_sets import LEAST_PHOTOS, PhotoSet, Selection, refuse_flags
from asic_features.images import PhotoSource
from asic_features.weights import sha256_of
from asic_flow import atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"})
_MOST_FRAMES = 1000
_MOSTLY = 0.9  # of the frames that a header announces
_FRAME = re.compile(r"\d{6}\.png")


def is_video(path: Path) -> bool:
    """Whether a path is a video file, by its suffix."""
    return path.suffix.lower() in _VIDEOS and path.is_file()


@contextmanager
def find_frames(
    video: Path, selection: Selection, beside: Path, *, decode: bool, fresh: bool = False
) -> Iterator[PhotoSet]:
    """Every so many-th frame of a video.

    The frames are written to `<collection>-frames`, where they are found again by the video's content; nothing else
    reads the video. Those of another video, or taken by other flags, are replaced with `fresh` only, and when the block
    that makes something of the new ones has ended well.

    Args:
        video: The file.
        selection: Which frames.
        beside: The collection's folder.
        decode: Whether to write them; otherwise they are named as far as the video's header tells.
        fresh: Decode again whatever is there.

    Raises:
        InputError: Flags do not fit a video, it cannot be decoded, it has too few or too many frames, or the frames'
            folder holds other frames or somebody's files.
        MachineError: No decoder is installed, or the folder cannot be written.
    """
    if selection.dataset is not None:
        raise InputError(f"--dataset {selection.dataset}: expected the root of the data set, got the video {video}")
    refuse_flags(selection, "a video", "species", "category", "split")
    folder = beside.with_name(f"{beside.name}-frames")

    def photos(files: Mapping[str, Path]) -> PhotoSet:
        return PhotoSet(
            title=video.stem,
            source={"kind": "folder", "video": video.name, "every": selection.every},
            sources=tuple(PhotoSource(path, name) for name, path in files.items()),
            boxes={},
            truth=None,
        )

    if not decode:
        yield photos({name: folder / name for name in _guess(video, selection)})
        return
    index = folder / INDEX_FILES["frames"]
    wanted = {"video_sha256": sha256_of(video), "every": selection.every, "limit": selection.limit}
    with ExitStack() as held:
        held.enter_context(writing(folder, "frames"))
        digests = None if fresh else _find_made(folder, wanted)
        if digests is None:
            staging = held.enter_context(atomic.Staging())
            digests = _stage_frames(staging, video, selection, folder)
            _check_count(video, selection, len(digests))
            staged = {name: staging.staged(folder / name) for name in digests}
            stale = [path for path in folder.iterdir() if _FRAME.fullmatch(path.name) and path.name not in digests]
            staging.seal(index, json.dumps(wanted | {"frames": digests}, indent=1).encode(), stale)
            say(f"{folder}: {len(digests)} frames of {video.name}")
            if index.exists():
                yield photos(staged)
                staging.commit()
                return
            staging.commit()
        held.close()
        yield photos({name: folder / name for name in digests})


def _guess(video: Path, selection: Selection) -> list[str]:
    with closing(_decode(video)) as frames:
        header = next(frames)
    count = max(1, round(header["duration"] * header["fps"]))
    names = [_name(index) for index in range(0, count, selection.every)][: selection.limit]
    _check_count(video, selection, len(names))
    return names


def _find_made(folder: Path, wanted: dict[str, Any]) -> dict[str, str] | None:
    """The sha256 of frames that an earlier command took by the same flags, by name, if all of them are whole."""
    stored = read_files_index(folder / INDEX_FILES["frames"], "frames")
    if stored is None or not all(_FRAME.fullmatch(name) for name in stored["frames"]):
        return None
    frames: dict[str, str] = stored.pop("frames")
    refuse_other_settings(folder, differences(stored, wanted))
    if all(is_whole(folder / name, digest) for name, digest in frames.items()):
        return frames
    warn(f"{folder} is damaged: a frame is missing or has changed; decoding again")
    return None


def _check_count(video: Path, selection: Selection, count: int) -> None:
    if count < LEAST_PHOTOS:
        remedy = ": lower --every" if selection.every > 1 else ""
        raise InputError(f"{video}: {count} frame was taken, at least {LEAST_PHOTOS} are needed{remedy}")


def _stage_frames(staging: atomic.Staging, video: Path, selection: Selection, folder: Path) -> dict[str, str]:
    """The sha256 of every frame's file by its name."""
    from PIL import Image

    digests: dict[str, str] = {}
    with closing(_decode(video)) as frames, Stages() as stages:
        header = next(frames)
        total = max(1, round(header["duration"] * header["fps"]))
        index = -1
        for index, pixels in enumerate(frames):
            stages("frames", min(index, total), total)
            if index % selection.every:
                continue
            if len(digests) == _MOST_FRAMES:
                least = -(-total // _MOST_FRAMES)
                raise InputError(
                    f"{video}: more than {_MOST_FRAMES} frames would be taken: give --every K, from {least} on, or "
                    "--limit N"
                )
            buffer = BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
            digests[_name(index)] = staging.add(folder / _name(index), buffer.getvalue())
            if len(digests) == selection.limit:
                return digests
    if index + 1 < _MOSTLY * total:
        warn(f"{video}: {index + 1} frames could be decoded of about {total}; is the file cut short?")
    return digests


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
