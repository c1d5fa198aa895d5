"""Photos on disk, and where each lands in a square of model pixels."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Fit = Literal["pad", "crop", "stretch"]
FITS: tuple[Fit, ...] = ("pad", "crop", "stretch")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
# Pillow registers over forty decoders; its recent vulnerabilities sit in the ones nobody keeps photos in.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_BOX_MARGIN = 0.05
_LANCZOS_LOBES = 3
_ROWS_AT_ONCE = 16

UInt8Image = npt.NDArray[np.uint8]


class PhotoError(Exception):
    """A photo that cannot be used.

    Attributes:
        path: The file.
        reason: What is wrong with it and what to do.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class PhotoSource:
    """One photo to read.

    Attributes:
        path: The file.
        name: Path relative to the collection's root, with forward slashes; unique in a collection.
        box_xyxy: Object box in the photo's pixels: it covers columns x0 .. x1 - 1 and rows y0 .. y1 - 1. None
            takes the whole photo.
        mask_path: A picture of the photo's size whose bright pixels are the object, or None.
        object_xyxy: The object's box where masks are boxes, in the same terms as ``box_xyxy``, or None.
        size_hw: The size its annotation states, or None; a different size is an error.
    """

    path: Path
    name: str
    box_xyxy: tuple[float, float, float, float] | None = None
    mask_path: Path | None = None
    size_hw: tuple[int, int] | None = None
    object_xyxy: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Placement:
    """The window of a photo that fills the square of model pixels.

    A pixel's centre is its integer coordinate, so the window spans columns ``left - 0.5`` to
    ``left + width - 0.5`` of the photo; it may reach beyond the photo.

    Attributes:
        left: First column.
        top: First row.
        width: Columns covered.
        height: Rows covered.
        size: Side of the square in model pixels.
    """

    left: float
    top: float
    width: float
    height: float
    size: int

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Model pixels per photo pixel."""
        return self.size / self.width, self.size / self.height

    @property
    def offset_xy(self) -> tuple[float, float]:
        """Model position of the photo's pixel (0, 0): ``points_px = points_image * scale_xy + offset_xy``."""
        scale_x, scale_y = self.scale_xy
        return (0.5 - self.left) * scale_x - 0.5, (0.5 - self.top) * scale_y - 0.5


def list_photos(folder: Path) -> tuple[PhotoSource, ...]:
    """Every photo below a folder, by suffix, sorted by relative path.

    Hidden files and folders, pipes and devices are passed over, links to folders are not followed.

    Args:
        folder: Where to look, at any depth.

    Raises:
        PhotoError: The folder is missing, is a file, cannot be listed, or a name is not valid UTF-8.
    """
    if not folder.is_dir():
        raise PhotoError(folder, "is a file, expected a folder" if folder.exists() else "this folder does not exist")
    sources = []
    for path in _walk(folder):
        check_name(path)
        sources.append(PhotoSource(path, path.relative_to(folder).as_posix()))
    return tuple(sorted(sources, key=lambda source: source.name))


def check_name(path: Path) -> None:
    """Makes sure that a path can be written to files of text.

    Raises:
        PhotoError: It is not valid UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise PhotoError(Path(ascii(str(path))), "its name is not valid UTF-8: rename it") from error


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise PhotoError(Path(error.filename), f"cannot be listed: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES and not _waits(path):
                yield path


def _waits(path: Path) -> bool:
    """Whether a path is a pipe, a socket or a device, of which reading may never end; a broken link is none."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_photo(path: Path) -> UInt8Image:
    """Read a photo as 8-bit RGB.

    EXIF orientation is applied, 16-bit pixels are scaled, transparency is laid over white, and of an animation
    the first frame is taken.

    Args:
        path: A JPEG, PNG, WebP, TIFF or BMP file, whatever its suffix says.

    Returns:
        (H, W, 3) uint8.

    Raises:
        PhotoError: No such file, not an image, damaged, or larger than Pillow's limit against decompression bombs.
    """
    return np.asarray(_to_rgb(path, _decode(path)), dtype=np.uint8)


def read_mask(path: Path) -> UInt8Image:
    """Read a mask: opacity where the file has an alpha channel or a transparent colour, else brightness.

    Returns:
        (H, W) uint8, 255 where the object is.

    Raises:
        PhotoError: As ``read_photo``.
    """
    picture = _decode(path)
    if picture.has_transparency_data:
        return np.asarray(picture.convert("RGBA").getchannel("A"), dtype=np.uint8)
    return np.asarray(_to_rgb(path, picture).convert("L"), dtype=np.uint8)


def pixels_sha256(photo: UInt8Image) -> str:
    """Hash of a photo's shape and pixels: the same for a renamed or losslessly rewritten file."""
    digest = hashlib.sha256(repr(photo.shape).encode())
    digest.update(np.ascontiguousarray(photo).data)
    return digest.hexdigest()


def _decode(path: Path) -> Image.Image:
    if _waits(path):
        raise PhotoError(path, "is a pipe or a device, expected a file")
    try:
        with _bombs_are_errors(), Image.open(path, formats=_FORMATS) as file:
            file.seek(0)
            file.load()
            return ImageOps.exif_transpose(file) or file
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PhotoError(path, f"is larger than {_megapixels()} megapixels: shrink it") from error
    except UnidentifiedImageError as error:
        raise PhotoError(path, _what_it_is(path)) from error
    except FileNotFoundError as error:
        raise PhotoError(path, "this file does not exist") from error
    except MemoryError:
        raise
    # Decoders meet hostile bytes with OSError, SyntaxError, struct.error, ValueError, KeyError and more.
    except Exception as error:
        raise PhotoError(path, f"cannot be decoded, the file is damaged ({error})") from error


def read_pixel_count(path: Path) -> int:
    """Number of pixels that a file's header states, without decoding them; 0 for what ``read_photo`` would refuse."""
    if _waits(path):
        return 0
    try:
        with _bombs_are_errors(), Image.open(path, formats=_FORMATS) as file:
            return file.width * file.height
    except MemoryError:
        raise
    except Exception:  # ``read_photo`` says what it is
        return 0


_decoding = threading.Lock()
_decoders: list[warnings.catch_warnings[None]] = []  # one entry a thread, all the same


@contextmanager
def _bombs_are_errors() -> Iterator[None]:
    """Turns Pillow's warning about decompression bombs into an error, and its other warnings off.

    Filters belong to the whole process: the first of several threads sets them and the last restores them.
    """
    with _decoding:
        filters = warnings.catch_warnings()
        if not _decoders:
            filters.__enter__()
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        _decoders.append(filters if not _decoders else _decoders[0])
    try:
        yield
    finally:
        with _decoding:
            last = _decoders.pop()
            if not _decoders:
                last.__exit__(None, None, None)


def _megapixels() -> int:
    return round((Image.MAX_IMAGE_PIXELS or 0) / 1e6)


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(256).lstrip().lower()
    if not head:
        return "is empty: fetch it again"
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<svg")):
        return "is a web page or an SVG drawing, not a photo: fetch it again"
    return "is no JPEG, PNG, WebP, TIFF or BMP image: convert it"


def _to_rgb(path: Path, picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Pillow's own conversion clips at 255.
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise PhotoError(path, f"has 32-bit pixels up to {values.max()}: save it with 8 or 16 bits")
        shrunk = np.empty(values.shape, dtype=np.uint8)
        for row, wide in zip(shrunk, values, strict=True):  # row by row: a large photo is not widened as a whole
            row[:] = (wide.astype(np.int64) + 128) // 257
        return Image.fromarray(shrunk).convert("RGB")
    if picture.mode == "F":
        values = np.asarray(picture)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise PhotoError(path, "has floating-point pixels outside [0, 1]: save it with 8 or 16 bits")
        return Image.fromarray(np.round(values * 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def fit_photo(
    size_hw: tuple[int, int],
    size: int,
    fit: Fit = "pad",
    box_xyxy: tuple[float, float, float, float] | None = None,
) -> Placement:
    """Window of a photo that is shown to the model.

    Args:
        size_hw: The photo's size.
        size: Side of the model's square in pixels.
        fit: Without a box: ``pad`` shows all of it with its aspect kept, ``crop`` the central square, ``stretch``
            all of it with its aspect lost.
        box_xyxy: Object box as in ``PhotoSource``. It is grown by 5 % of its width and height on each side, made
            square about its centre and rounded (the crop of ACSM, Kulkarni et al. 2020); ``fit`` is then unused.

    Raises:
        ValueError: Unknown fit, or a box without area or outside the photo.
    """
    height, width = size_hw
    if box_xyxy is not None:
        left, top, right, bottom = box_xyxy
        if not (left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0):
            raise ValueError(
                f"box {box_xyxy} of a photo of {width} x {height} pixels: expected x0 < x1, y0 < y1 inside"
            )
        side = max(1, round((1 + 2 * _BOX_MARGIN) * max(right - left, bottom - top)))
        return Placement(round((left + right - side) / 2), round((top + bottom - side) / 2), side, side, size)
    if fit == "pad":
        side = max(height, width)
        return Placement((width - side) // 2, (height - side) // 2, side, side, size)
    if fit == "crop":
        side = min(height, width)
        return Placement((width - side) // 2, (height - side) // 2, side, side, size)
    if fit == "stretch":
        return Placement(0, 0, width, height, size)
    raise ValueError(f"unknown fit {fit!r}: expected one of {', '.join(FITS)}")


def render(photo: UInt8Image, placement: Placement) -> UInt8Image:
    """Photo as the model sees it: Lanczos resampling; beyond the photo its edge pixels go on.

    In double precision: products are added up in an order that goes by the number of threads, and in single precision
    one pixel in a hundred thousand would be a level off between a laptop and a server.

    Args:
        photo: (H, W, 3) uint8.
        placement: From ``fit_photo``.

    Returns:
        (size, size, 3) uint8.
    """
    height, width = photo.shape[:2]
    columns, first_column = _resampling(width, placement.left, placement.width, placement.size)
    rows, first_row = _resampling(height, placement.top, placement.height, placement.size)
    window = photo[first_row : first_row + rows.shape[1], first_column : first_column + columns.shape[1]]
    squeezed = _weigh_rows(rows, window.reshape(len(window), -1)).reshape(len(rows), -1, 3)
    channels = [squeezed[:, :, channel] @ columns.T for channel in range(3)]
    return np.clip(np.round(np.stack(channels, axis=-1)), 0, 255).astype(np.uint8)


def _weigh_rows(weights: npt.NDArray[np.float64], pixels: UInt8Image) -> npt.NDArray[np.float64]:
    """The product of weights (size, H) and pixels (H, W), some rows at a time, whose weights lie close together."""
    answer = np.zeros((len(weights), pixels.shape[1]))
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        block = weights[start : start + _ROWS_AT_ONCE]
        used = np.flatnonzero(block.any(axis=0))
        if len(used):
            taken = slice(used[0], used[-1] + 1)
            answer[start : start + _ROWS_AT_ONCE] = block[:, taken] @ pixels[taken].astype(np.float64)
    return answer


def render_mask(mask: UInt8Image, placement: Placement) -> UInt8Image:
    """Mask as the model sees it: each model pixel is the share of its area that is object; none beyond the photo.

    Args:
        mask: (H, W) uint8 of the photo's size.
        placement: The photo's.

    Returns:
        (size, size) uint8.
    """
    height, width = mask.shape
    rows = _coverage(height, placement.top, placement.height, placement.size)
    columns = _coverage(width, placement.left, placement.width, placement.size)
    return np.clip(np.round(_weigh_rows(rows, mask) @ columns.T), 0, 255).astype(np.uint8)


def pixels_of_box(box_xyxy: tuple[float, float, float, float], size_hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a photo that lie in a box, rounded to whole pixels; one of each at least."""
    (height, width), (left, top, right, bottom) = size_hw, box_xyxy
    first_row, first_column = (int(np.clip(round(x), 0, side - 1)) for x, side in ((top, height), (left, width)))
    rows = slice(first_row, max(first_row + 1, min(round(bottom), height)))
    return rows, slice(first_column, max(first_column + 1, min(round(right), width)))


def inside_photo(size_hw: tuple[int, int], placement: Placement) -> UInt8Image:
    """255 on model pixels that show the photo, 0 on those that only continue its edge.

    Returns:
        (size, size) uint8.
    """
    height, width = size_hw
    rows = _coverage(height, placement.top, placement.height, placement.size).sum(axis=1)
    columns = _coverage(width, placement.left, placement.width, placement.size).sum(axis=1)
    return np.clip(np.round(255 * np.outer(rows, columns)), 0, 255).astype(np.uint8)


def _resampling(length: int, start: float, extent: float, size: int) -> tuple[npt.NDArray[np.float64], int]:
    """Lanczos weights (size, taps) from the photo's pixels ``first`` .. ``first + taps - 1``, and ``first``.

    Pixels beyond the photo give their weight to the edge pixel, so nothing is ever padded in memory.
    """
    step = extent / size
    spread = max(1.0, step)
    centres = start - 0.5 + (np.arange(size) + 0.5) * step
    reach = _LANCZOS_LOBES * spread
    first, last = int(np.floor(centres[0] - reach)), int(np.ceil(centres[-1] + reach))
    low, high = int(np.clip(first, 0, length - 1)), int(np.clip(last, 0, length - 1))
    taps = np.ceil(centres - reach)[:, None] + np.arange(int(2 * reach) + 1)
    distance = (taps - centres[:, None]) / spread
    values = np.sinc(distance) * np.sinc(distance / _LANCZOS_LOBES) * (np.abs(distance) <= _LANCZOS_LOBES)
    values /= values.sum(axis=1, keepdims=True)
    weights = np.zeros((size, high - low + 1), dtype=np.float64)
    np.add.at(weights, (np.arange(size)[:, None], np.clip(taps, low, high).astype(np.int64) - low), values)
    return weights, low


def _coverage(length: int, start: float, extent: float, size: int) -> npt.NDArray[np.float64]:
    """(size, length) weights of area averaging: the share of each model pixel that each photo pixel covers."""
    step = extent / size
    edges = start + np.arange(size + 1) * step
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: npt.NDArray[np.float64] = np.clip(overlap, 0, None) / step
    return weights
