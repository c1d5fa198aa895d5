"""From photos to a collection: pictures, descriptors, saliency, masks and matches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from asic_features.cache import DescriptionCache
from asic_features.config import FeatureConfig, Resolved, one_or_several
from asic_features.consistency import count_support, select, suppress
from asic_features.cosegment import recurrence
from asic_features.describe import Describer, Progress, SettingsError
from asic_features.descriptors import token_grid
from asic_features.grabcut import check_grabcut, tidy_masks
from asic_features.gradients import describe_gradients
from asic_features.images import PhotoError, PhotoSource, UInt8Image
from asic_features.knn import match_photos
from asic_features.logbin import log_bin
from asic_features.mask_networks import locate_mask_network
from asic_features.masks import MaskError, appearance, find_user_masks, saliency_masks
from asic_features.mirror import better_of, unmirror
from asic_features.pairs import choose_pairs, summarise
from asic_features.parts import Augmented, augment, discover_parts
from asic_features.pca import fit_components
from asic_features.prepare import PhotosError, PreparedPhotos, prepare_photos
from asic_features.saliency import attention_saliency, border_contrast
from asic_features.weights import locate_weights, sha256_of
from asic_flow.collection import ImageCollection, TokenGrid, foreground_tokens
from asic_flow.matches import MatchSet

__all__ = ["PhotosError", "SettingsError", "describe_shard", "extract_collection"]

_LOG = logging.getLogger(__name__)
# Masks and parts change little where tokens lie closer, and memory would grow with their number.
_MOST_TOKENS_A_SIDE = 64


@dataclass(frozen=True)
class _Described:
    saliency: torch.Tensor  # (N, T) float32
    masks: torch.Tensor  # (N, S, S) uint8
    descriptors: torch.Tensor  # (N, T, D) float16
    mirrored: torch.Tensor | None  # (N, T, D) float16, of the mirrored photos, by their own tokens
    part_tokens: torch.Tensor | None  # (N, T, E) float16, what parts are told by
    augmented: Augmented | None


def extract_collection(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    *,
    progress: Progress | None = None,
    on_bad: Callable[[PhotoError], None] | None = None,
    cache: Path | None = None,
) -> tuple[ImageCollection, MatchSet]:
    """Prepare a collection of photos for alignment.

    Args:
        sources: At least two photos, with unique names.
        config: How.
        progress: Called with a stage's name, the steps done and the steps in all.
        on_bad: Called for each photo that cannot be read, which is then left out; None stops at bad photos, after
            all have been tried.
        cache: A folder in which a network's answer about each photo is kept as soon as it is there, and found when
            the same is asked again: after an interruption, or after ``describe_shard``. The descriptor without
            weights is not kept, as it follows from all photos' masks.

    Returns:
        The collection on the CPU, and the matches of all its pairs. ``settings`` holds every setting by name, the
        resolved block, facet and stride, and the sha256 of the weights.

    Raises:
        PhotosError: Fewer than two photos, equal names, or unreadable photos; each is named.
        MaskError: User masks are missing, or no photo shows any foreground.
        WeightsError: No usable weights; raised before any photo is read.
        ExtraError: Masks are asked for that need a library which is not installed.
        SettingsError: More components than a descriptor is wide.
        ValueError: Settings the backbone does not have.
    """
    report = progress or _stay_silent
    resolved = config.resolve()
    weights = locate_weights(config.backbone, config.weights)
    if isinstance(config.masks, Path):
        sources = find_user_masks(sources, config.masks)
    if config.grabcut:
        check_grabcut()
    network, masks_sha256 = _open_mask_network(config, cache)
    prepared = prepare_photos(sources, config, report, on_bad, mask_network=network)
    grid = token_grid(config.size, resolved.backbone.patch, resolved.stride)
    if weights is None:
        described = _weight_free(prepared, config, grid, report)
    else:
        described = _network(prepared, config, grid, Describer(config, weights, report, cache))
    masks, saliency = described.masks, described.saliency
    if not bool((masks >= 128).any()):
        raise MaskError("no foreground was found in any photo: give masks with --masks FOLDER, or use --masks none")
    for photo, mask in zip(prepared.photos, masks, strict=True):
        if not bool((mask >= 128).any()):
            _LOG.warning("%s: no object was found; it will have no matches", photo.path)
    descriptors = _bin(described.descriptors, grid) if config.log_bin else described.descriptors
    mirrored = described.mirrored
    if mirrored is not None and config.log_bin:
        mirrored = _bin(mirrored, grid)
    report("matches", 0, 1)
    matches = _match(descriptors, mirrored, saliency, foreground_tokens(masks, grid), grid, config)
    report("matches", 1, 1)
    collection = ImageCollection(
        photos=prepared.photos,
        images=prepared.images,
        masks=masks,
        descriptors=descriptors,
        saliency=saliency,
        grid=grid,
        settings=_settings(config, resolved, weights) | {"masks_sha256": masks_sha256},
        parts=None if config.parts is None else _parts(prepared, config, grid, described, report),
    )
    return collection, matches


def describe_shard(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    cache: Path,
    *,
    progress: Progress | None = None,
    on_bad: Callable[[PhotoError], None] | None = None,
) -> int:
    """Describe some of a collection's photos, so that ``extract_collection`` finds them described.

    Any number of processes may do so at once with the same folder; what ``extract_collection`` then makes is, byte by
    byte on the same kind of machine, what it makes alone.

    Args:
        sources: The photos.
        config: As for the whole collection.
        cache: The folder that all share.
        progress: As for ``extract_collection``.
        on_bad: As for ``extract_collection``.

    Returns:
        How many photos were described.

    Raises:
        PhotosError: Equal names or unreadable photos.
        WeightsError: No usable weights.
        ValueError: The backbone needs none, so that there is nothing to share out.
    """
    report = progress or _stay_silent
    weights = locate_weights(config.backbone, config.weights)
    if weights is None:
        raise ValueError(f"{config.backbone!r} has no work to share out: shards are for networks")
    prepared = prepare_photos(sources, replace(config, masks="none"), report, on_bad, least=0)
    if len(prepared.photos):
        describer = Describer(config, weights, report, cache)
        describer.describe(prepared.images)
        if config.mirror_test:
            describer.describe(prepared.images.flip(2))
    return len(prepared.photos)


def _match(
    descriptors: torch.Tensor,
    mirrored: torch.Tensor | None,
    saliency: torch.Tensor,
    foreground: torch.Tensor,
    grid: TokenGrid,
    config: FeatureConfig,
) -> MatchSet:
    descriptors, saliency, foreground = (x.to(config.device) for x in (descriptors, saliency, foreground))
    pairs = choose_pairs(summarise(descriptors, foreground), neighbours=config.neighbours)
    matches = match_photos(descriptors, saliency, foreground, grid, pairs, candidates=config.candidates)
    if mirrored is not None:
        turned, found = unmirror(mirrored, grid, config.size)
        count = len(descriptors)
        other = match_photos(
            torch.cat([descriptors, turned.to(config.device)]),
            saliency.repeat(2, 1),
            torch.cat([foreground, foreground & found.to(config.device)]),
            grid,
            [(a, b + count) for a, b in pairs],
            candidates=config.candidates,
        )
        matches = better_of(matches, other)
    matches = count_support(matches, grid, config.size)
    matches = select(matches, matches.support >= config.least_support)
    return suppress(matches, radius_px=config.suppress_px) if config.suppress_px else matches


def _bin(descriptors: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """(N, T, 17 D) float16 of unit length, photo by photo."""
    return torch.stack(
        [functional.normalize(log_bin(one[None].float(), grid)[0], dim=-1).half() for one in descriptors]
    )


def _parts(
    prepared: PreparedPhotos, config: FeatureConfig, grid: TokenGrid, described: _Described, report: Progress
) -> torch.Tensor:
    report("parts", 0, 1)
    tokens = described.descriptors if described.part_tokens is None else described.part_tokens
    thinned, thin_grid = _thin(tokens, grid)
    augmented = described.augmented
    if augmented is not None:
        augmented = Augmented(_thin(augmented.descriptors, grid)[0], augmented.masks)
    parts = discover_parts(
        prepared.images,
        thinned,
        described.masks,
        thin_grid,
        count=config.parts or 0,
        stages=config.part_stages,
        augmented=augmented,
    )
    report("parts", 1, 1)
    return parts


def _thin(tokens: torch.Tensor, grid: TokenGrid) -> tuple[torch.Tensor, TokenGrid]:
    """Every k-th row and column of (N, T, ...) tokens, so that no more than 64 a side are left."""
    step = -(-max(grid.rows, grid.cols) // _MOST_TOKENS_A_SIDE)
    if step == 1:
        return tokens, grid
    maps = tokens.view(len(tokens), grid.rows, grid.cols, *tokens.shape[2:])[:, ::step, ::step]
    return maps.flatten(1, 2), TokenGrid(maps.shape[1], maps.shape[2], grid.stride * step, grid.first)


def _stay_silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


def _settings(config: FeatureConfig, resolved: Resolved, weights: Path | None) -> dict[str, Any]:
    return {
        "size": config.size,
        "fit": config.fit,
        "backbone": resolved.backbone.name,
        "weights_sha256": None if weights is None else sha256_of(weights),
        "block": one_or_several(resolved.blocks),
        "facet": one_or_several(resolved.facets),
        "stride": resolved.stride,
        "masks": str(config.masks),
        "grabcut": config.grabcut,
        "candidates": config.candidates,
        "neighbours": config.neighbours,
        "mirror_test": config.mirror_test,
        "components": config.components,
        "log_bin": config.log_bin,
        "least_support": config.least_support,
        "suppress_px": config.suppress_px,
        "parts": config.parts,
        "part_stages": config.part_stages,
        "precision": config.precision,
    }


def _weight_free(prepared: PreparedPhotos, config: FeatureConfig, grid: TokenGrid, report: Progress) -> _Described:
    """The masks come first: the descriptor takes each object's pose from them."""
    report("masks", 0, 1)
    colour, _ = appearance(prepared.images)
    cells = colour.shape[-1]
    inside = functional.interpolate(prepared.inside[:, None].float(), size=(cells, cells), mode="area")[:, 0] >= 128
    contrast = border_contrast(colour, inside)
    points = torch.from_numpy(grid.centres_px() + 0.5) / config.size * 2 - 1
    saliency = functional.grid_sample(contrast[:, None], points.expand(len(contrast), 1, -1, -1), align_corners=False)[
        :, 0, 0
    ]
    masks = _given_masks(prepared, config)
    if masks is None:
        shared = config.masks == "cosegment"
        masks = saliency_masks(prepared.images, prepared.inside, saliency, grid, shared=shared)
        masks = tidy_masks(prepared.images, masks) if config.grabcut else masks
    report("masks", 1, 1)
    descriptors = _describe_gradients(prepared.images, masks, grid, report)
    mirrored = _describe_gradients(prepared.images.flip(2), masks.flip(2), grid, report) if config.mirror_test else None
    augmented = None
    if config.parts is not None:
        images, copied_masks = augment(prepared.images, masks)
        augmented = Augmented(_describe_gradients(images, copied_masks, grid, report), copied_masks)
    return _Described(saliency.clamp(0, 1), masks, descriptors, mirrored, None, augmented)


def _describe_gradients(images: torch.Tensor, masks: torch.Tensor, grid: TokenGrid, report: Progress) -> torch.Tensor:
    """(N, T, D) float16."""
    rows = []
    for index in range(len(images)):
        report("descriptors", index, len(images))
        rows.append(describe_gradients(images[index : index + 1], masks[index : index + 1], grid).half())
    report("descriptors", len(images), len(images))
    return torch.cat(rows)


def _network(prepared: PreparedPhotos, config: FeatureConfig, grid: TokenGrid, describer: Describer) -> _Described:
    # First of all, while there are no descriptors in memory yet.
    blank = describer.network.blank_attention(config.size).cpu()
    descriptors, attention, part_tokens = describer.describe(prepared.images)
    saliency = attention_saliency(attention, blank)
    masks = _given_masks(prepared, config)
    if masks is None:
        thinned, thin_grid = _thin(descriptors, grid)
        shared = config.masks == "cosegment"
        masks = saliency_masks(
            prepared.images,
            prepared.inside,
            _thin(saliency, grid)[0],
            thin_grid,
            descriptors=thinned,
            recurring=recurrence(thinned, thin_grid) if shared and len(descriptors) > 1 else None,
            shared=shared,
        )
        masks = tidy_masks(prepared.images, masks) if config.grabcut else masks
    mirrored = describer.describe(prepared.images.flip(2))[0] if config.mirror_test else None
    augmented = None
    if config.parts is not None:
        images, copied_masks = augment(prepared.images, masks)
        augmented = Augmented(describer.describe_for_parts(images), copied_masks)
    if config.components is not None:
        basis = fit_components(iter(descriptors), config.components)
        descriptors = torch.stack([basis.project(one).half() for one in descriptors])
        mirrored = None if mirrored is None else torch.stack([basis.project(one).half() for one in mirrored])
    return _Described(saliency, masks, descriptors, mirrored, part_tokens, augmented)


def _given_masks(prepared: PreparedPhotos, config: FeatureConfig) -> torch.Tensor | None:
    """Masks that were given with the photos, or all of every photo; None where masks are to be found."""
    return prepared.inside if config.masks == "none" else prepared.given_masks


def _open_mask_network(
    config: FeatureConfig, cache: Path | None
) -> tuple[Callable[[UInt8Image], UInt8Image] | None, str | None]:
    """The salient-object network, whose answers are kept as descriptions are, and its file's sha256."""
    if not config.needs_mask_network:
        return None, None
    from asic_features.onnx_masks import MaskNetwork

    name = str(config.masks)
    file = locate_mask_network(name, config.mask_weights)
    network, digest = MaskNetwork(name, file), sha256_of(file)
    if cache is None:
        return network, digest
    answers = DescriptionCache(cache, {"masks": name, "mask_weights_sha256": digest})

    def ask(pixels: UInt8Image) -> UInt8Image:
        key = answers.key(torch.from_numpy(pixels.copy()), ["mask"])
        found = answers.load(key)
        if found is None:
            found = {"mask": torch.from_numpy(network(pixels))}
            answers.save(key, found)
        mask: UInt8Image = found["mask"].numpy()
        return mask

    return ask, digest
