"""From photos to a collection: pictures, descriptors, saliency, masks and matches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from asic_features.backbones import Backbone, Facet
from asic_features.config import FeatureConfig
from asic_features.consistency import cycle_support, select, suppress
from asic_features.cosegment import recurrence
from asic_features.descriptors import VisionTransformer, token_grid
from asic_features.gradients import describe_gradients
from asic_features.images import (
    PhotoError,
    PhotoSource,
    Placement,
    UInt8Image,
    fit_photo,
    inside_photo,
    pixels_sha256,
    read_photo,
    render,
)
from asic_features.knn import match_photos
from asic_features.logbin import log_bin
from asic_features.masks import MaskError, appearance, find_user_masks, read_user_mask, saliency_masks
from asic_features.pairs import choose_pairs, summarise
from asic_features.pca import fit_components
from asic_features.saliency import attention_saliency, border_contrast
from asic_features.weights import locate_weights, sha256_of
from asic_flow.collection import ImageCollection, Photo, TokenGrid, foreground_tokens
from asic_flow.matches import MatchSet

Progress = Callable[[str, int, int], None]
_LOG = logging.getLogger(__name__)
_LEAST_PHOTOS = 2
_CYCLE_TOLERANCE = 0.05  # of the side


class PhotosError(ValueError):
    """Photos that cannot be used.

    Attributes:
        failures: Every one of them.
    """

    def __init__(self, message: str, failures: Sequence[PhotoError] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {failure}" for failure in failures)]))
        self.failures = tuple(failures)


@dataclass(frozen=True)
class _Prepared:
    photos: tuple[Photo, ...]
    images: torch.Tensor  # (N, S, S, 3) uint8
    inside: torch.Tensor  # (N, S, S) uint8
    user_masks: torch.Tensor | None  # (N, S, S) uint8


def extract_collection(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    *,
    progress: Progress | None = None,
    on_bad: Callable[[PhotoError], None] | None = None,
) -> tuple[ImageCollection, MatchSet]:
    """Prepare a collection of photos for alignment.

    Args:
        sources: At least two photos, with unique names.
        config: How.
        progress: Called with a stage's name, the steps done and the steps in all.
        on_bad: Called for each photo that cannot be read, which is then left out; None stops at bad photos, after
            all have been tried.

    Returns:
        The collection on the CPU, and the matches of all its pairs. ``settings`` holds every setting by name, the
        resolved block, facet and stride, and the sha256 of the weights.

    Raises:
        PhotosError: Fewer than two photos, equal names, or unreadable photos; each is named.
        MaskError: User masks are missing, or no photo shows any foreground.
        WeightsError: No usable weights; raised before any photo is read.
        ValueError: Settings the backbone does not have.
    """
    report = progress or _stay_silent
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        raise PhotosError(f"names of photos must differ; more than one {max(names, key=names.count)!r}")
    backbone, block, facet, stride = config.resolve()
    weights = locate_weights(config.backbone, config.weights)
    if isinstance(config.masks, Path):
        sources = find_user_masks(sources, config.masks)
    prepared = _prepare(sources, config, report, on_bad)
    grid = token_grid(config.size, backbone.patch, stride)
    if weights is None:
        saliency, masks, descriptors = _weight_free(prepared, config, grid, report)
    else:
        network = VisionTransformer(backbone, weights, stride=stride, device=config.device)
        saliency, masks, descriptors = _network(prepared, config, grid, network, (block, facet), report)
    if config.log_bin:
        descriptors = functional.normalize(log_bin(descriptors, grid), dim=-1)
    if not bool((masks >= 128).any()):
        raise MaskError("no foreground was found in any photo: give masks with --masks FOLDER, or use --masks none")
    for photo, mask in zip(prepared.photos, masks, strict=True):
        if not bool((mask >= 128).any()):
            _LOG.warning("%s: no object was found; it will have no matches", photo.path)
    report("matches", 0, 1)
    half = descriptors.half()
    matches = _match(half, saliency, foreground_tokens(masks, grid), grid, config)
    report("matches", 1, 1)
    collection = ImageCollection(
        photos=prepared.photos,
        images=prepared.images,
        masks=masks,
        descriptors=half,
        saliency=saliency,
        grid=grid,
        settings=_settings(config, backbone, block, facet, stride, weights),
    )
    return collection, matches


def _match(
    descriptors: torch.Tensor, saliency: torch.Tensor, foreground: torch.Tensor, grid: TokenGrid, config: FeatureConfig
) -> MatchSet:
    descriptors, saliency, foreground = (x.to(config.device) for x in (descriptors, saliency, foreground))
    pairs = choose_pairs(summarise(descriptors, foreground))
    matches = match_photos(descriptors, saliency, foreground, grid, pairs, candidates=config.candidates)
    if not config.least_support and not config.suppress_px:
        return matches
    support = cycle_support(matches, grid, tolerance_px=_CYCLE_TOLERANCE * config.size)
    trusted = support >= config.least_support
    # Confirmation by third photos tells right from wrong better than similarity, which breaks ties.
    confidence = (support + matches.score)[trusted]
    matches = select(matches, trusted)
    return suppress(matches, confidence, radius_px=config.suppress_px) if config.suppress_px else matches


def _stay_silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


def _settings(
    config: FeatureConfig, backbone: Backbone, block: int, facet: Facet, stride: int, weights: Path | None
) -> dict[str, Any]:
    return {
        "size": config.size,
        "fit": config.fit,
        "backbone": backbone.name,
        "weights_sha256": None if weights is None else sha256_of(weights),
        "block": block,
        "facet": facet,
        "stride": stride,
        "masks": str(config.masks),
        "candidates": config.candidates,
        "components": config.components,
        "log_bin": config.log_bin,
        "least_support": config.least_support,
        "suppress_px": config.suppress_px,
    }


def _prepare(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    report: Progress,
    on_bad: Callable[[PhotoError], None] | None,
) -> _Prepared:
    records: list[tuple[Photo, UInt8Image, UInt8Image, UInt8Image | None]] = []
    failures: list[PhotoError] = []
    for index, source in enumerate(sources):
        report("photos", index, len(sources))
        try:
            records.append(_read(source, config))
        except PhotoError as error:
            failures.append(error)
            if on_bad is not None:
                on_bad(error)
    report("photos", len(sources), len(sources))
    if failures and on_bad is None:
        raise PhotosError(f"{len(failures)} of {len(sources)} photos cannot be used:", failures)
    if len(records) < _LEAST_PHOTOS:
        raise PhotosError(f"expected at least {_LEAST_PHOTOS} photos, got {len(records)}", failures)
    photos, images, inside, masks = zip(*records, strict=True)
    user_masks = torch.from_numpy(np.stack(masks)) if isinstance(config.masks, Path) else None
    return _Prepared(photos, torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(inside)), user_masks)


def _read(source: PhotoSource, config: FeatureConfig) -> tuple[Photo, UInt8Image, UInt8Image, UInt8Image | None]:
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
    mask = _read_mask(source, (height, width), placement)
    return photo, render(pixels, placement), inside_photo((height, width), placement), mask


def _read_mask(source: PhotoSource, size_hw: tuple[int, int], placement: Placement) -> UInt8Image | None:
    return None if source.mask_path is None else read_user_mask(source.mask_path, size_hw, placement)


def _weight_free(
    prepared: _Prepared, config: FeatureConfig, grid: TokenGrid, report: Progress
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Saliency (N, T), masks (N, S, S) and descriptors (N, T, D).

    The masks come first: the descriptor takes each object's pose from them.
    """
    report("masks", 0, 1)
    colour, _ = appearance(prepared.images)
    cells = colour.shape[-1]
    inside = functional.interpolate(prepared.inside[:, None].float(), size=(cells, cells), mode="area")[:, 0] >= 128
    contrast = border_contrast(colour, inside)
    points = torch.from_numpy(grid.centres_px() + 0.5) / config.size * 2 - 1
    saliency = functional.grid_sample(contrast[:, None], points.expand(len(contrast), 1, -1, -1), align_corners=False)[
        :, 0, 0
    ]
    masks = _masks(prepared, config, grid, saliency, None)
    report("masks", 1, 1)
    total = len(masks)
    rows = []
    for index in range(total):
        report("descriptors", index, total)
        rows.append(describe_gradients(prepared.images[index : index + 1], masks[index : index + 1], grid))
    report("descriptors", total, total)
    return saliency.clamp(0, 1), masks, torch.cat(rows)


def _network(
    prepared: _Prepared,
    config: FeatureConfig,
    grid: TokenGrid,
    network: VisionTransformer,
    request: tuple[int, Facet],
    report: Progress,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Saliency (N, T), masks (N, S, S) and descriptors (N, T, D) of unit length."""
    total, done, batch = len(prepared.images), 0, config.batch
    tokens, attention = [], []
    while done < total:
        report("descriptors", done, total)
        try:
            described = network(prepared.images[done : done + batch], [request], with_cls_attention=True)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2
            _LOG.warning("the device's memory ran out: going on with %d photos at once", batch)
            continue
        tokens.append(functional.normalize(described.facets[0], dim=-1).cpu())
        attention.append(described.cls_attention.cpu())
        done += batch
    saliency = attention_saliency(torch.cat(attention), network.blank_attention(config.size).cpu())
    descriptors = torch.cat(tokens)
    if network.backbone.removes_noise:
        directions = network.noise_directions(config.size, request).cpu()
        descriptors = functional.normalize(descriptors - descriptors @ directions @ directions.T, dim=-1)
    report("descriptors", total, total)
    shared = config.masks == "cosegment" and total > 1
    masks = _masks(prepared, config, grid, saliency, descriptors, recurrence(descriptors, grid) if shared else None)
    if config.components is not None:
        descriptors = fit_components(iter(descriptors), config.components).project(descriptors)
    return saliency, masks, descriptors


def _masks(
    prepared: _Prepared,
    config: FeatureConfig,
    grid: TokenGrid,
    saliency: torch.Tensor,
    descriptors: torch.Tensor | None,
    recurring: torch.Tensor | None = None,
) -> torch.Tensor:
    if prepared.user_masks is not None:
        return prepared.user_masks
    if config.masks == "none":
        return prepared.inside
    return saliency_masks(
        prepared.images,
        prepared.inside,
        saliency,
        grid,
        descriptors=descriptors,
        recurring=recurring,
        shared=config.masks == "cosegment",
    )
