"""Photos read, placed and drawn in the model's square: several at once, each kept or refused by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asic_features.config import FeatureConfig
from asic_features.images import (
    PhotoError,
    PhotoSource,
    Placement,
    UInt8Image,
    fit_photo,
    inside_photo,
    pixels_sha256,
    read_photo,
    read_pixel_count,
    render,
    render_mask,
)
from asic_features.masks import box_mask, network_mask, read_user_mask
from asic_flow.collection import Photo

LEAST_PHOTOS = 2
# Decoding takes some twelve bytes a pixel for a moment. Photos above this are decoded one after the other.
_LARGE = 16_000_000
_large_photo = threading.Lock()


class PhotosError(ValueError):
    """Photos that cannot be used.

    Attributes:
        failures: Every one of them.
    """

    def __init__(self, message: str, failures: Sequence[PhotoError] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {failure}" for failure in failures)]))
        self.failures = tuple(failures)


@dataclass(frozen=True)
class PreparedPhotos:
    """N photos as the model sees them.

    Attributes:
        photos: Their records.
        images: (N, S, S, 3) uint8.
        inside: (N, S, S) uint8, 255 where the photo is.
        given_masks: (N, S, S) uint8 from pictures, boxes or a network, or None.
    """

    photos: tuple[Photo, ...]
    images: torch.Tensor
    inside: torch.Tensor
    given_masks: torch.Tensor | None


def prepare_photos(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    report: Callable[[str, int, int], None],
    on_bad: Callable[[PhotoError], None] | None,
    *,
    least: int = LEAST_PHOTOS,
    mask_network: Callable[[UInt8Image], UInt8Image] | None = None,
) -> PreparedPhotos:
    """Read photos and their masks in ``config.workers`` threads; the answer does not depend on their number.

    Args:
        sources: The photos, with unique names.
        config: How they are placed.
        report: Called with the stage ``photos``, the photos done and all photos.
        on_bad: See ``extract_collection``.
        least: How many are needed.
        mask_network: Gives the mask (h, w) uint8 of a picture (h, w, 3), where ``config`` wants one; called from any
            of the threads.

    Raises:
        PhotosError: Equal names, unreadable photos, or too few.
    """
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        raise PhotosError(f"names of photos must differ; more than one {max(names, key=names.count)!r}")
    records: list[_Record] = []
    failures: list[PhotoError] = []
    with _reading(sources, config, mask_network) as futures:
        for index, future in enumerate(futures):
            report("photos", index, len(sources))
            try:
                records.append(future.result())
            except PhotoError as error:
                failures.append(error)
                if on_bad is not None:
                    on_bad(error)
    report("photos", len(sources), len(sources))
    if failures and on_bad is None:
        raise PhotosError(f"{len(failures)} of {len(sources)} photos cannot be used:", failures)
    if len(records) < least:
        raise PhotosError(f"expected at least {least} photos, got {len(records)}", failures)
    if not records:
        blank = torch.zeros(0, config.size, config.size, dtype=torch.uint8)
        return PreparedPhotos((), blank.unsqueeze(-1).expand(-1, -1, -1, 3), blank, None)
    photos, images, inside, masks = zip(*records, strict=True)
    given = None if masks[0] is None else torch.from_numpy(np.stack(masks))
    return PreparedPhotos(photos, torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(inside)), given)


_Record = tuple[Photo, UInt8Image, UInt8Image, UInt8Image | None]


_Network = Callable[[UInt8Image], UInt8Image]


@contextmanager
def _reading(
    sources: Sequence[PhotoSource], config: FeatureConfig, network: _Network | None
) -> Iterator[list[Future[_Record]]]:
    pool = ThreadPoolExecutor(config.workers, thread_name_prefix="photos")
    try:
        yield [pool.submit(_read, source, config, network) for source in sources]
    finally:
        # Whoever stops early does not wait for photos that nobody wants any more.
        pool.shutdown(cancel_futures=True)


def _read(source: PhotoSource, config: FeatureConfig, network: _Network | None) -> _Record:
    with _large_photo if read_pixel_count(source.path) > _LARGE else nullcontext():
        return _read_placed(source, config, network)


def _read_placed(source: PhotoSource, config: FeatureConfig, network: _Network | None) -> _Record:
    pixels = read_photo(source.path)
    height, width = pixels.shape[:2]
    if source.size_hw is not None and source.size_hw != (height, width):
        raise PhotoError(
            source.path,
            f"is {width} x {height} pixels, its annotation says {source.size_hw[1]} x {source.size_hw[0]}: "
            "restore the data set's own file",
        )
    try:
        placement = fit_photo((height, width), config.size, config.fit, source.box_xyxy)
    except ValueError as error:
        raise PhotoError(source.path, str(error)) from error
    photo = Photo(
        path=source.name,
        pixels_sha256=pixels_sha256(pixels),
        size_hw=(height, width),
        scale_xy=placement.scale_xy,
        offset_xy=placement.offset_xy,
        box_xyxy=source.box_xyxy,
    )
    mask = _give_mask(source, pixels, placement, config, network)
    return photo, render(pixels, placement), inside_photo((height, width), placement), mask


def _give_mask(
    source: PhotoSource, pixels: UInt8Image, placement: Placement, config: FeatureConfig, network: _Network | None
) -> UInt8Image | None:
    size_hw = pixels.shape[0], pixels.shape[1]
    if isinstance(config.masks, Path) and source.mask_path is not None:
        return read_user_mask(source.mask_path, size_hw, placement)
    if config.masks == "box":
        box = source.object_xyxy or source.box_xyxy
        if box is None:
            raise PhotoError(
                source.path, "has no box to take as its mask: use masks 'cosegment', or a data set's boxes"
            )
        return render_mask(box_mask(box, size_hw), placement)
    return None if network is None else network_mask(pixels, placement, network)
