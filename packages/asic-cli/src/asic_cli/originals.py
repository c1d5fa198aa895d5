"""The photos that a run was made from, found again on disk and checked to be the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asic_cli.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asic_flow.collection import Photo


@dataclass(frozen=True)
class Originals:
    """A run's photos on disk.

    Attributes:
        files: Where each lies.
        photos: The run's records.
    """

    files: tuple[Path, ...]
    photos: tuple[Photo, ...]

    def read(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: one photo as it is on disk, after its EXIF orientation.

        Raises:
            PhotoError: It is gone or cannot be read.
            InputError: Its pixels are not those that the run was made from.
        """
        from asic_features.images import pixels_sha256, read_photo

        pixels = read_photo(self.files[index])
        if pixels_sha256(pixels) != self.photos[index].pixels_sha256:
            raise InputError(
                f"{self.files[index]}: its pixels are not those that the run was made from; "
                "bring the original back, or run `asic features` and `asic train` again"
            )
        return pixels


def find_originals(photos: tuple[Photo, ...], source: Path, folders: Sequence[Path]) -> tuple[Originals, int]:
    """Finds all photos of a run by one of them.

    Args:
        photos: The run's records; their paths are relative to the folder that `asic features` was given, or to the
            data set's folder of images, and those of photos that were added later are names alone.
        source: One photo: its file, or with `folders` its path below one of them or the last part of it.
        folders: Where photos are looked for, the first ones first, after what is left of `source` when the photo's own
            path is taken away.

    Returns:
        The photos, every one of which exists, and which of them `source` is.

    Raises:
        InputError: `source` is none of the run's photos, or more than one, or a photo is missing.
    """
    parts = next((source.relative_to(folder) for folder in folders if source.is_relative_to(folder)), source).parts
    ends = [index for index, photo in enumerate(photos) if _ends_with(parts, Path(photo.path).parts)]
    if not ends and folders:
        ends = [index for index, photo in enumerate(photos) if Path(photo.path).name == source.name == str(source)]
    # Of `a/b.jpg` and `b.jpg` the longer is meant.
    longest = max((len(Path(photos[index].path).parts) for index in ends), default=0)
    ends = [index for index in ends if len(Path(photos[index].path).parts) == longest]
    if len(ends) != 1:
        known = ", ".join(photo.path for photo in photos[:3])
        found = "none" if not ends else f"{len(ends)}"
        raise InputError(
            f"--source {source}: expected one of the run's {len(photos)} photos ({known}, ...), got {found}"
        )
    rest = source.parts[: len(source.parts) - longest]
    roots = [Path(*rest), *folders] if rest or not folders else folders
    files = []
    for photo in photos:
        places = [root / photo.path for root in roots]
        files.append(next((place for place in places if place.is_file()), places[0]))
        if not files[-1].is_file():
            raise InputError(
                f"{files[-1]}: this photo of the run is missing; give the folder that it was read from with --photos, "
                "which may be given several times"
            )
    return Originals(tuple(files), photos), ends[0]


def picture_name(photos: tuple[Photo, ...], index: int, suffix: str) -> str:
    """A file name for a picture of a photo: its number and stem, so that two of one stem never collide."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(photos[index].path).stem)[:60]
    return f"{index:03d}-{stem}{suffix}"


def _ends_with(parts: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return len(parts) >= len(end) and parts[len(parts) - len(end) :] == end
