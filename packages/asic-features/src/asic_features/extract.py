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
from asic_features.cosegment import recurrence
from asic_features.describe import Describer, Progress, SettingsError
from asic_features.descriptors import token_grid
from asic_features.grabcut import check_grabcut, tidy_masks
from asic_features.gradients import describe_gradients
from asic_features.images import PhotoError, PhotoSource, UInt8Image
from asic_features.logbin import log_bin
from asic_features.mask_networks import locate_mask_network
from asic_features.masks import MaskError, appearance, find_user_masks, saliency_masks
from asic_features.matching import Tokens, match_added, match_collection, match_share
from asic_features.parts import Augmented, augment, discover_parts
from asic_features.pca import fit_components
from asic_features.prepare import PhotosError, PreparedPhotos, prepare_photos
from asic_features.saliency import attention_saliency, border_contrast
from asic_features.weights import locate_weights, sha256_of
from asic_flow.collection import ImageCollection, TokenGrid, foreground_tokens, join_collections, take_photos
from asic_flow.cores import all_cores, torch_alone
from asic_flow.matches import MatchSet

__all__ = ["PhotosError", "SettingsError", "Shard", "extract_added", "extract_collection", "extract_shard"]

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
    describe_copies: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None  # pictures and masks; where parts are


@dataclass(frozen=True)
class _Extracted:
    prepared: PreparedPhotos
    described: _Described
    tokens: Tokens
    settings: dict[str, Any]

    def collection(self, parts: torch.Tensor | None) -> ImageCollection:
        return ImageCollection(
            photos=self.prepared.photos,
            images=self.prepared.images,
            masks=self.described.masks,
            descriptors=self.tokens.descriptors,
            saliency=self.described.saliency,
            grid=self.tokens.grid,
            settings=self.settings,
            parts=parts,
        )


@dataclass(frozen=True)
class Shard:
    """What one share of the work is, and how far it is done.

    Attributes:
        photos: Its photos, of which networks have said all that is needed.
        pairs: Its pairs, which are matched; None where networks had to be asked first.
    """

    photos: int
    pairs: int | None


@torch_alone()
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
            the same is asked again: after an interruption, or after ``extract_shard``. The descriptor without
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
    extracted = _extract(sources, config, report, on_bad, cache)
    prepared, described, tokens = extracted.prepared, extracted.described, extracted.tokens
    report("matches", 0, 1)
    matches = match_collection(tokens, config, cache)
    report("matches", 1, 1)
    return extracted.collection(_parts(prepared, config, tokens.grid, described, report)), matches


@torch_alone()
def extract_added(
    sources: Sequence[PhotoSource],
    companions: Sequence[PhotoSource],
    config: FeatureConfig,
    collection: ImageCollection,
    matches: MatchSet,
    *,
    progress: Progress | None = None,
) -> tuple[ImageCollection, MatchSet]:
    """Prepare photos that join a collection.

    Args:
        sources: One new photo or more.
        companions: Some of the collection's own pictures, which they are described with: co-segmentation wants to see
            what recurs.
        config: As the collection was made, less components, which are those of its own photos.
        collection: What they join.
        matches: The collection's.
        progress: As for ``extract_collection``.

    Returns:
        The new photos alone, and the matches of all: the collection's, then those of every new photo with all photos
        before it.

    Raises:
        PhotosError: As for ``extract_collection``; so are the others.
        ValueError: The descriptors do not fit the collection's.
    """
    report = progress or _stay_silent
    extracted = _extract([*companions, *sources], config, report, None, None)
    new = slice(len(companions), None)
    added = take_photos(extracted.collection(None), new)
    joined = join_collections(collection, added)
    mirrored = extracted.tokens.mirrored
    tokens = Tokens(
        joined.descriptors,
        None if mirrored is None else mirrored[new],
        joined.saliency,
        joined.foreground_tokens(),
        joined.grid,
    )
    report("matches", 0, 1)
    more = match_added(tokens, config, matches, len(added))
    report("matches", 1, 1)
    return added, more


@torch_alone()
def extract_shard(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    cache: Path,
    index: int,
    count: int,
    *,
    progress: Progress | None = None,
    on_bad: Callable[[PhotoError], None] | None = None,
) -> Shard:
    """Do one share of the work, so that ``extract_collection`` finds it done.

    What networks say of every ``count``-th photo comes first. Given again once all shares have done that, the share's
    pairs are matched: those of which every ``count``-th photo is the first; what is still missing of other shares is
    made as well. Any number of processes may do so at once with the same folder. What ``extract_collection`` then makes
    is, byte by byte on the same kind of machine, what it makes alone.

    Args:
        sources: All photos of the collection.
        config: As for the whole collection.
        cache: The folder that all shares fill.
        index: The share, counted from 0.
        count: How many shares there are.
        progress: As for ``extract_collection``.
        on_bad: As for ``extract_collection``.

    Returns:
        What the share is, and how far it is done.

    Raises:
        PhotosError: As for ``extract_collection``, of the share's own photos to begin with.
        WeightsError: No usable weights.
    """
    report = progress or _stay_silent
    own = sources[index::count]
    photos, misses = _ask_networks(own, config, report, on_bad, cache)
    if misses:
        return Shard(photos, None)
    if not own:
        return Shard(0, 0)
    tokens = _extract(sources, config, report, on_bad, cache).tokens
    report("matches", 0, 1)
    pairs = match_share(tokens, config, cache, index, count)
    report("matches", 1, 1)
    return Shard(photos, pairs)


def _ask_networks(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    report: Progress,
    on_bad: Callable[[PhotoError], None] | None,
    cache: Path,
) -> tuple[int, int]:
    """Keeps what networks say of some photos; how many photos they are, and how many answers were not there yet."""
    weights = locate_weights(config.backbone, config.weights)
    masks = _open_mask_network(config, cache)
    if weights is None and masks is None:
        return len(sources), 0
    alone = config if masks else replace(config, masks="none", grabcut=False)
    prepared = prepare_photos(sources, alone, report, on_bad, least=0, mask_network=masks)
    misses = masks.cache.misses if masks and masks.cache else 0
    if weights is not None and len(prepared.photos):
        describer = Describer(config, weights, report, cache)
        for images in [prepared.images, *([prepared.images.flip(2)] if config.mirror_test else [])]:
            describer.fill_caches(images)
        misses += sum(cache.misses for cache in describer.caches.values())
    return len(prepared.photos), misses


def _extract(
    sources: Sequence[PhotoSource],
    config: FeatureConfig,
    report: Progress,
    on_bad: Callable[[PhotoError], None] | None,
    cache: Path | None,
) -> _Extracted:
    """Everything but matches and parts."""
    resolved = config.resolve()
    weights = locate_weights(config.backbone, config.weights)
    if isinstance(config.masks, Path):
        sources = find_user_masks(sources, config.masks)
    if config.grabcut:
        check_grabcut()
    network = _open_mask_network(config, cache)
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
    settings = _settings(config, resolved, weights) | {"masks_sha256": network.sha256 if network else None}
    tokens = Tokens(descriptors, mirrored, saliency, foreground_tokens(masks, grid), grid)
    return _Extracted(prepared, described, tokens, settings)


def _bin(descriptors: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """(N, T, 17 D) float16 of unit length, photo by photo."""
    return torch.stack(
        [functional.normalize(log_bin(one[None].float(), grid)[0], dim=-1).half() for one in descriptors]
    )


def _parts(
    prepared: PreparedPhotos, config: FeatureConfig, grid: TokenGrid, described: _Described, report: Progress
) -> torch.Tensor | None:
    if config.parts is None or described.describe_copies is None:
        return None
    images, masks = augment(prepared.images, described.masks)
    copies = described.describe_copies(images, masks)
    report("parts", 0, 1)
    tokens = described.descriptors if described.part_tokens is None else described.part_tokens
    thinned, thin_grid = _thin(tokens, grid)
    parts = discover_parts(
        prepared.images,
        thinned,
        described.masks,
        thin_grid,
        count=config.parts,
        stages=config.part_stages,
        augmented=Augmented(_thin(copies, grid)[0], masks),
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
        "scales": list(config.scales),
        "masks": str(config.masks),
        "grabcut": config.grabcut,
        "candidates": config.candidates,
        "top_k": config.top_k,
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
    return _Described(
        saliency.clamp(0, 1),
        masks,
        descriptors,
        mirrored,
        part_tokens=None,
        describe_copies=lambda images, masks: _describe_gradients(images, masks, grid, report),
    )


def _describe_gradients(images: torch.Tensor, masks: torch.Tensor, grid: TokenGrid, report: Progress) -> torch.Tensor:
    """(N, T, D) float16."""

    def describe(index: int) -> torch.Tensor:
        return describe_gradients(images[index : index + 1], masks[index : index + 1], grid).half()

    rows = []
    report("descriptors", 0, len(images))
    with all_cores() as cores:
        for row in cores.map(describe, range(len(images))):
            rows.append(row)
            report("descriptors", len(rows), len(images))
    return torch.cat(rows)


def _network(prepared: PreparedPhotos, config: FeatureConfig, grid: TokenGrid, describer: Describer) -> _Described:
    # First of all, while there are no descriptors in memory yet.
    blank = describer.network.blank_attention(config.size).cpu()
    said = describer.describe(prepared.images)
    part_tokens = describer.part_tokens(said)
    saliency = attention_saliency(said.attention, blank)
    masks = _given_masks(prepared, config)
    if masks is None:
        # By one facet, so that the same masks are found whatever joins it.
        thinned, thin_grid = _thin(said.facets[0], grid)
        shared = config.masks == "cosegment"
        masks = saliency_masks(
            prepared.images,
            prepared.inside,
            _thin(saliency, grid)[0],
            thin_grid,
            descriptors=thinned,
            recurring=recurrence(thinned, thin_grid) if shared and len(saliency) > 1 else None,
            shared=shared,
        )
        masks = tidy_masks(prepared.images, masks) if config.grabcut else masks
    descriptors = describer.join(prepared.images, said)
    mirrored = None
    if config.mirror_test:
        turned = prepared.images.flip(2)
        mirrored = describer.join(turned, describer.describe(turned))
    # Without parts the network's memory is given back here.
    describe_copies = None if config.parts is None else lambda images, _: describer.describe_for_parts(images)
    if config.components is not None:
        basis = fit_components(iter(descriptors), config.components)
        descriptors = torch.stack([basis.project(one).half() for one in descriptors])
        mirrored = None if mirrored is None else torch.stack([basis.project(one).half() for one in mirrored])
    return _Described(saliency, masks, descriptors, mirrored, part_tokens, describe_copies)


def _given_masks(prepared: PreparedPhotos, config: FeatureConfig) -> torch.Tensor | None:
    """Masks that were given with the photos, or all of every photo; None where masks are to be found."""
    return prepared.inside if config.masks == "none" else prepared.given_masks


class _MaskAnswers:
    """What a salient-object network says of pictures, kept as descriptions are.

    Attributes:
        sha256: Of the network's file.
        cache: Where answers are kept, or None.
    """

    def __init__(self, config: FeatureConfig, folder: Path | None) -> None:
        from asic_features.onnx_masks import MaskNetwork

        name = str(config.masks)
        file = locate_mask_network(name, config.mask_weights)
        self._network = MaskNetwork(name, file)
        self.sha256 = sha256_of(file)
        settings = {"masks": name, "mask_weights_sha256": self.sha256}
        self.cache = None if folder is None else DescriptionCache(folder, settings)

    def __call__(self, pixels: UInt8Image) -> UInt8Image:
        if self.cache is None:
            return self._network(pixels)
        key = self.cache.key("mask", torch.from_numpy(pixels.copy()))
        found = self.cache.load(key)
        if found is None:
            found = {"mask": torch.from_numpy(self._network(pixels))}
            self.cache.save(key, found)
        mask: UInt8Image = found["mask"].numpy()
        return mask


def _open_mask_network(config: FeatureConfig, cache: Path | None) -> _MaskAnswers | None:
    return _MaskAnswers(config, cache) if config.needs_mask_network else None
