"""Aligning a collection: coarse maps from its matches, then rounds of guided re-matching and dense fitting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asic_flow.coarse import NormalisedMatches, align_coarsely
from asic_flow.collection import ImageCollection
from asic_flow.config import AlignmentConfig
from asic_flow.consensus import ConsensusTokens, agree
from asic_flow.cores import torch_alone
from asic_flow.dense import SplinePoints, fit_dense, remove_drift, render_maps
from asic_flow.grid import pixel_to_norm
from asic_flow.matches import MatchSet
from asic_flow.partners import as_normalised, consensus, find_partners, mutual_matches
from asic_flow.sides import PlacedTokens, SecondMaps, fit_second_maps
from asic_flow.spline import SplineGrid
from asic_flow.tokens import ForegroundTokens, at_tokens, held_out_tokens, thinning

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""


def stay_silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that reports nothing."""
    del stage, done, total


@dataclass(frozen=True)
class Round:
    """What one round of re-matching and fitting ended with.

    Attributes:
        number: From 1.
        matches: What the maps were fitted to.
        distances: Takes matches to the (M,) canonical distances between their ends under the round's maps.
    """

    number: int
    matches: NormalisedMatches
    distances: Callable[[NormalisedMatches], Tensor]


Observe = Callable[[Round], None]
"""Called after every round."""


class AlignmentError(ValueError):
    """A collection that cannot be aligned: no foreground, or no match."""


def held_out_matches(collection: ImageCollection, matches: MatchSet) -> NDArray[np.bool_]:
    """(M,) bool: the matches with an end on a held-out token; maps are fitted to the others only."""
    held = held_out_tokens(collection).numpy()
    grid = collection.grid
    pair = matches.pair_of_match()
    out = np.zeros(len(matches), bool)
    for side, xy in enumerate((matches.xy_a, matches.xy_b)):
        column, row = np.clip(np.rint((xy - grid.first) / grid.stride), 0, [grid.cols - 1, grid.rows - 1]).astype(int).T
        out |= held[matches.pairs[pair, side], row * grid.cols + column]
    return out


@dataclass(frozen=True, eq=False)
class FittedMaps:
    """What alignment found, by whatever recipe.

    Attributes:
        maps: (N, H, W, 2) float32, canonical xy of every pixel, foreground centred with root-mean-square radius 0.5.
        second: Maps of the opposite flag, of photos that show both sides.
        mirrored: (N,) bool.
        support: (N,) float64, 0 to 1; see `CoarseAlignment`.
        tokens: All foreground tokens.
        descriptors: (F, D) float32, unit length: each token's consensus descriptor.
        places: (F, 2, 2) float32: each token's consensus places, see `asic_flow.consensus`.
        confidence: (F,) float32, 0 to 1: the share of other photos in which the token's best partner lies where the
            maps say.
    """

    maps: Tensor
    second: SecondMaps
    mirrored: Tensor
    support: Tensor
    tokens: ForegroundTokens
    descriptors: Tensor
    places: Tensor
    confidence: Tensor


@torch_alone()
def fit(
    collection: ImageCollection,
    matches: MatchSet,
    config: AlignmentConfig,
    *,
    progress: Progress = stay_silent,
    observe: Observe | None = None,
) -> FittedMaps:
    """Aligns a collection.

    Args:
        collection: Two photos or more with descriptors and masks.
        matches: Matches of its pairs; only those with both ends on the foreground are used.
        config: Settings.
        progress: Told of every stage and round.
        observe: Shown what every round ended with.

    Raises:
        AlignmentError: Fewer than two photos, no foreground, or no match with both ends on it.
    """
    if len(collection) < 2:
        raise AlignmentError(f"expected at least two photos to align, got {len(collection)}")
    foreground = ForegroundTokens.of(collection)
    if not len(foreground.image):
        raise AlignmentError("no photo has foreground; pass masks of your own, or --masks none to use whole photos")
    progress("coarse", 0, 1)
    kept = ~held_out_matches(collection, matches)
    first = normalised_matches(collection, matches, kept)
    if not len(first.image_a):
        raise AlignmentError("no two photos match; are they of one kind of object?")
    heard = normalised_matches(collection, matches.doubted(config.unconfirmed), kept)
    coarse = align_coarsely(heard, len(collection), foreground.image, foreground.points_norm, config.coarse_scales)
    progress("coarse", 1, 1)

    step = thinning(collection, config.tokens_per_image)
    tokens = ForegroundTokens.of(collection, step, without=held_out_tokens(collection))
    centred = centred_descriptors(collection, foreground)
    raw = centred[_rows(foreground, tokens, collection)]
    pairs = torch.from_numpy(matches.pairs).long()
    grid = SplineGrid(config.cells)
    reference = grid.from_affine(coarse.affine.float())
    points = SplinePoints.prepare(grid, tokens.image, tokens.points_norm)
    coefficients, descriptors = reference, raw
    for round_index in range(config.rounds):
        progress("rounds", round_index, config.rounds)
        found = find_partners(descriptors, points.canonical(coefficients), tokens, pairs, config.guide)
        ends, agreement = mutual_matches(descriptors, found, config.agreement_power)
        coefficients = fit_dense(
            coefficients, reference, points, ends, agreement, grid, config.residual_scale, config.stiffness
        )
        coefficients = remove_drift(coefficients, reference, points, grid)
        found = find_partners(raw, points.canonical(coefficients), tokens, pairs, config.guide)
        descriptors = consensus(raw, found, config.consensus_power)
        if observe is not None:
            guided = as_normalised(tokens, ends, agreement)
            observe(Round(round_index + 1, guided, partial(_distances, grid, coefficients)))
    progress("rounds", config.rounds, config.rounds)
    placed = PlacedTokens(tokens, points, descriptors, coefficients, coarse.mirrored, pairs, grid, config)
    second = fit_second_maps(first, heard, placed, coarse.support, collection.size_hw)
    progress("consensus", 0, 1)
    canonical = SplinePoints.prepare(grid, foreground.image, foreground.points_norm).canonical(coefficients)
    described = _describe(collection, foreground, centred, pairs, canonical, second, coarse.mirrored, config)
    progress("consensus", 1, 1)
    maps = render_maps(grid, coefficients, collection.size_hw)
    return FittedMaps(maps, second, coarse.mirrored, coarse.support, foreground, *described)


@torch_alone()
def describe_maps(
    collection: ImageCollection,
    matches: MatchSet,
    maps: Tensor,
    mirrored: Tensor,
    support: Tensor,
    config: AlignmentConfig,
) -> FittedMaps:
    """Joins maps that another recipe made with the consensus descriptors and the confidence that they give.

    Args:
        collection: The photos.
        matches: Whose pairs of photos are compared.
        maps: (N, H, W, 2) float32, see `FittedMaps`.
        mirrored: (N,) bool.
        support: (N,).
        config: Settings of re-matching.
    """
    foreground = ForegroundTokens.of(collection)
    canonical = at_tokens(collection, maps)[foreground.image, foreground.token]
    pairs = torch.from_numpy(matches.pairs).long()
    centred = centred_descriptors(collection, foreground)
    second = SecondMaps.none(collection.size_hw)
    described = _describe(collection, foreground, centred, pairs, canonical, second, mirrored, config)
    return FittedMaps(maps, second, mirrored, support, foreground, *described)


def _distances(grid: SplineGrid, coefficients: Tensor, matches: NormalisedMatches) -> Tensor:
    ends = ((matches.image_a, matches.points_a), (matches.image_b, matches.points_b))
    a, b = (SplinePoints.prepare(grid, image, points.float()).canonical(coefficients) for image, points in ends)
    distances: Tensor = torch.linalg.vector_norm(a - b, dim=1)
    return distances


def _describe(
    collection: ImageCollection,
    foreground: ForegroundTokens,
    raw: Tensor,
    pairs: Tensor,
    canonical: Tensor,
    second: SecondMaps,
    mirrored: Tensor,
    config: AlignmentConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Consensus descriptors, consensus places and confidence of all foreground tokens, from where maps take them."""
    found = find_partners(raw, canonical, foreground, pairs, config.guide)
    agrees = nearness((canonical[found.row] - canonical[found.partner]).square().sum(1), config)
    partners = torch.bincount(pairs.flatten(), minlength=len(collection)).clamp_min(1)
    confidence = torch.zeros(len(raw)).index_add_(0, found.row, agrees) / partners[foreground.image]
    joined = consensus(raw, found, config.consensus_power)
    on_maps = ConsensusTokens.on_maps(collection, foreground, joined, canonical, second, mirrored)
    return *agree(on_maps, raw, pairs, config), confidence


def nearness(squared: Tensor, config: AlignmentConfig) -> Tensor:
    """How far places at squared canonical distances agree, from 1 where they are the same towards 0."""
    return config.residual_scale**2 / (config.residual_scale**2 + squared)


def centred_descriptors(collection: ImageCollection, tokens: ForegroundTokens) -> Tensor:
    """(F, D) float32: descriptors less the mean of all tokens of the collection, unit length."""
    mean = collection.descriptors.float().mean((0, 1))
    return torch.nn.functional.normalize(collection.descriptors[tokens.image, tokens.token].float() - mean, dim=1)


def _rows(all_tokens: ForegroundTokens, subset: ForegroundTokens, collection: ImageCollection) -> Tensor:
    per_image = collection.grid.rows * collection.grid.cols
    keys = all_tokens.image * per_image + all_tokens.token
    return torch.searchsorted(keys, subset.image * per_image + subset.token)


def normalised_matches(collection: ImageCollection, matches: MatchSet, kept: NDArray[np.bool_]) -> NormalisedMatches:
    """The matches that (M,) `kept` marks and that have both ends on the foreground, as the solvers take them."""
    pair = matches.pair_of_match()
    ends_px = [torch.from_numpy(xy) for xy in (matches.xy_a, matches.xy_b)]
    images = [torch.from_numpy(matches.pairs[pair, side].astype(np.int64)) for side in (0, 1)]
    foreground = collection.foreground()
    height, width = collection.size_hw
    inside = torch.from_numpy(kept)
    for image, xy in zip(images, ends_px, strict=True):
        column, row = xy.round().long().unbind(-1)
        inside = inside & foreground[image, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    weight = torch.from_numpy(matches.score).clamp_min(0)[inside]
    norm = [pixel_to_norm(xy[inside], collection.size_hw) for xy in ends_px]
    return NormalisedMatches(images[0][inside], images[1][inside], norm[0], norm[1], weight)
