"""The collection folder on disk, read and written without torch.

A collection folder holds `collection.json`, `descriptors.safetensors`, `saliency.safetensors`, `matches.safetensors`,
`images/*.png`, `masks/*.png` and, where parts were asked for, `parts/*.png`. `collection.json` is written last and
names the sha256 of every other file, so a folder without it is unfinished and a folder with it is whole.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from asic_flow.atomic import Staging
from asic_flow.indexed_folder import IndexedFolder
from asic_flow.matches import MatchSet

FORMAT_VERSION = 2
INDEX_FILE = "collection.json"
_MOST = 100_000  # rows, columns and pixels of a grid
FOREGROUND_THRESHOLD = 128
"""A mask stores a probability times 255; a pixel is foreground from here on."""


class CollectionError(ValueError):
    """A collection folder that cannot be used; the message names the file and the field."""


_FOLDER = IndexedFolder(
    INDEX_FILE, "asic-collection", FORMAT_VERSION, "`asic features` (or `asic add`)", CollectionError
)


@dataclass(frozen=True)
class Photo:
    """One photo and how it was placed in the model's frame.

    Attributes:
        path: The photo's path relative to the collection's source, with forward slashes.
        pixels_sha256: sha256 of the RGB pixels after the EXIF orientation was applied.
        size_hw: Height and width of the original, in pixels.
        scale_xy: `points_px = points_image * scale_xy + offset_xy`.
        offset_xy: See `scale_xy`; in model pixels.
        box_xyxy: The object's box in the original photo, columns x0 to x1 - 1 and rows y0 to y1 - 1, or None.
    """

    path: str
    pixels_sha256: str
    size_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]
    box_xyxy: tuple[float, float, float, float] | None

    def to_model(self, points_image: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Takes (..., 2) points from the original photo to model pixels."""
        return np.asarray(points_image, np.float64) * self.scale_xy + self.offset_xy

    def to_image(self, points_px: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Takes (..., 2) points from model pixels to the original photo; the inverse of `to_model`."""
        return (np.asarray(points_px, np.float64) - self.offset_xy) / self.scale_xy


@dataclass(frozen=True)
class TokenGrid:
    """Where a photo's descriptors sit: token (row i, column j) is centred at `first + stride * (j, i)` model pixels."""

    rows: int
    cols: int
    stride: float
    first: float

    def centres_px(self) -> NDArray[np.float32]:
        """(rows * cols, 2) float32: the xy centres in model pixels, row by row."""
        x = self.first + self.stride * np.arange(self.cols)
        y = self.first + self.stride * np.arange(self.rows)
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class CollectionArrays:
    """An `asic_flow.collection.ImageCollection` in NumPy's arrays: what a collection folder holds.

    Attributes:
        photos: N records.
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W) uint8, probability of foreground times 255.
        descriptors: (N, T, D) float16, unit length, T = rows * cols of `grid`.
        saliency: (N, T) float32, 0 to 1.
        grid: Where the T tokens sit.
        settings: Every setting the collection was made with, JSON values only.
        parts: (N, H, W) uint8, 0 for background and 1 to K for parts that all photos share, or None.
    """

    photos: tuple[Photo, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    descriptors: NDArray[np.float16]
    saliency: NDArray[np.float32]
    grid: TokenGrid
    settings: dict[str, Any]
    parts: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the model's frame, in pixels."""
        return int(self.images.shape[1]), int(self.images.shape[2])


def check_fields(collection: Any) -> None:
    """Checks what a collection's arrays, or tensors, are.

    Raises:
        ValueError: One is of another type or shape than it should be.
    """
    count, tokens = len(collection.photos), collection.grid.rows * collection.grid.cols
    size_hw = tuple(collection.images.shape[1:3])
    for field, dtype, shape in (
        ("images", "uint8", (count, *size_hw, 3)),
        ("masks", "uint8", (count, *size_hw)),
        ("descriptors", "float16", (count, tokens, collection.descriptors.shape[-1])),
        ("saliency", "float32", (count, tokens)),
        ("parts", "uint8", (count, *size_hw)),
    ):
        array = getattr(collection, field)
        if array is None and field == "parts":
            continue
        found = str(array.dtype).removeprefix("torch.")
        if found != dtype or tuple(array.shape) != shape:
            raise ValueError(
                f"collection, field {field!r}: expected {dtype} of {shape}, got {found} of {tuple(array.shape)}"
            )


def write_collection(
    folder: Path,
    collection: CollectionArrays,
    matches: MatchSet,
    beside: Mapping[str, bytes] | None = None,
    staging: Staging | None = None,
) -> str:
    """Writes a collection folder; see `IndexedFolder.write`.

    Args:
        folder: Created where missing. Files of an earlier collection of this version that this one lacks are removed.
        collection: What to write.
        matches: Its matches.
        beside: Further files by name, which belong to the collection.
        staging: Where all of it is to wait until that is committed; None to commit at once.

    Returns:
        The collection's identity: the sha256 of `collection.json`.

    Raises:
        OSError: The folder cannot be written, or the disk is full; what it held before is still there.
    """
    pictures = {"images": collection.images, "masks": collection.masks}
    if collection.parts is not None:
        pictures["parts"] = collection.parts
    stems = [f"{index:03d}-{_safe_stem(photo.path)}.png" for index, photo in enumerate(collection.photos)]
    contents = {
        "descriptors.safetensors": save({"descriptors": np.ascontiguousarray(collection.descriptors)}),
        "saliency.safetensors": save({"saliency": np.ascontiguousarray(collection.saliency)}),
        "matches.safetensors": matches.to_bytes(),
    }
    for name, array in pictures.items():
        contents |= {f"{name}/{stem}": _png(array[index]) for index, stem in enumerate(stems)}
    document = {
        "settings": collection.settings,
        "grid": asdict(collection.grid),
        "photos": [{**asdict(photo), "picture": stem} for photo, stem in zip(collection.photos, stems, strict=True)],
    }
    return _FOLDER.write(folder, document, contents | dict(beside or {}), staging)


def read_index(folder: Path) -> dict[str, Any]:
    """Reads `collection.json` and nothing else.

    Raises:
        CollectionError: No index, or none that this version reads.
    """
    return _FOLDER.read_index(folder)


def identity(folder: Path) -> str:
    """The sha256 of `collection.json`, which names the content of every other file."""
    read_index(folder)
    return hashlib.sha256((folder / INDEX_FILE).read_bytes()).hexdigest()


def read_collection(folder: Path) -> tuple[CollectionArrays, MatchSet]:
    """Reads a collection folder and checks every file that it takes against its recorded sha256.

    Further files that were written with it, `beside` in `write_collection`, are neither read nor checked.

    Raises:
        CollectionError: A file is missing, changed, or not what the index says.
    """
    document = read_index(folder)
    path = folder / INDEX_FILE
    try:
        digests = dict(document["sha256"])
        photos = tuple(read_photo(record) for record in document["photos"])
        pictures = [str(record["picture"]) for record in document["photos"]]
        grid = read_grid(document["grid"])
        settings = dict(document["settings"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CollectionError(f"{path}: malformed field: {error!r}") from error
    try:
        descriptors, saliency = (
            _FOLDER.read_arrays(folder, f"{name}.safetensors", digests)[name] for name in ("descriptors", "saliency")
        )
        matches = MatchSet.from_arrays(_FOLDER.read_arrays(folder, "matches.safetensors", digests))
        images = np.stack([_pixels(folder, f"images/{name}", digests) for name in pictures])
        masks = np.stack([_pixels(folder, f"masks/{name}", digests) for name in pictures])
        parts = None
        if any(name.startswith("parts/") for name in digests):
            parts = np.stack([_pixels(folder, f"parts/{name}", digests) for name in pictures])
        collection = CollectionArrays(
            photos=photos,
            images=images,
            masks=masks,
            descriptors=descriptors,
            saliency=saliency,
            grid=grid,
            settings=settings,
            parts=parts,
        )
    except CollectionError:
        raise
    except (KeyError, ValueError, TypeError) as error:
        raise CollectionError(f"{folder}: {error}") from error
    if len(matches.pairs) and int(matches.pairs.max()) >= len(photos):
        raise CollectionError(
            f"{folder / 'matches.safetensors'}, field 'pairs': expected indices below {len(photos)}, "
            f"got {matches.pairs.max()}"
        )
    return collection, matches


def read_photo(record: Mapping[str, Any]) -> Photo:
    """Builds a photo from its JSON record.

    Raises KeyError, TypeError, ValueError or OverflowError where a field is off.
    """
    box = record["box_xyxy"]
    height, width = (int(value) for value in record["size_hw"])
    scale_x, scale_y = (float(value) for value in record["scale_xy"])
    offset_x, offset_y = (float(value) for value in record["offset_xy"])
    if min(height, width) < 1 or min(scale_x, scale_y) <= 0:
        raise ValueError(f"photo {record['path']!r}: expected positive size_hw and scale_xy")
    if not np.isfinite([scale_x, scale_y, offset_x, offset_y]).all():
        raise ValueError(f"photo {record['path']!r}: expected finite scale_xy and offset_xy")
    if box is not None:
        left, top, right, bottom = (float(value) for value in box)
        box = left, top, right, bottom
    return Photo(
        path=str(record["path"]),
        pixels_sha256=str(record["pixels_sha256"]),
        size_hw=(height, width),
        scale_xy=(scale_x, scale_y),
        offset_xy=(offset_x, offset_y),
        box_xyxy=box,
    )


def read_grid(record: Mapping[str, Any]) -> TokenGrid:
    """Builds a grid from its JSON record.

    Raises KeyError, TypeError, ValueError or OverflowError where a field is off.
    """
    grid = TokenGrid(int(record["rows"]), int(record["cols"]), float(record["stride"]), float(record["first"]))
    if not (
        1 <= grid.rows <= _MOST and 1 <= grid.cols <= _MOST and 0 < grid.stride <= _MOST and abs(grid.first) <= _MOST
    ):
        raise ValueError(f"grid: expected 1 to {_MOST} rows and cols, and a stride and first likewise, got {grid}")
    return grid


def _pixels(folder: Path, name: str, digests: Mapping[str, str]) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(_FOLDER.read_file(folder, name, digests)), formats=("PNG",)) as picture:
            return np.asarray(picture)
    except (OSError, SyntaxError) as error:
        raise CollectionError(f"{folder / name}: {error}") from error


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def _safe_stem(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem)[:60]
