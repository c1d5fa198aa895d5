"""Second maps, for photos that show their object from both sides.

A photo seen from the other side is mapped mirrored, so that what points left points right. Where a photo shows both
sides at once, a face from the front, say, mirroring also exchanges them: the left ear goes where other photos have
their right one. Such a photo fits the collection both ways, so it gets both maps. Points then travel between two photos
on maps that are both mirrored or both not, wherever there are such; left stays left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.coarse import NormalisedMatches, place_both_ways
from asic_flow.config import AlignmentConfig
from asic_flow.dense import SplinePoints, fit_photo, render_maps
from asic_flow.partners import find_partners
from asic_flow.spline import SplineGrid
from asic_flow.tokens import ForegroundTokens

_LEAST_SYMMETRY = 0.8
# A photo that fits badly either way shows nothing of sides; share of the median photo's score.
_LEAST_SCORE = 0.5


@dataclass(frozen=True, eq=False)
class SecondMaps:
    """Maps of the opposite mirror flag.

    Attributes:
        photo: (S,) int64, rising: the photos that have one.
        maps: (S, H, W, 2) float32, canonical xy of every pixel.
        symmetry: (S,) float32, how well the photo fits this way, as a share of how well it fits the way it is mapped.
    """

    photo: Tensor
    maps: Tensor
    symmetry: Tensor

    @classmethod
    def none(cls, size_hw: tuple[int, int]) -> SecondMaps:
        """No photo has one."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0, *size_hw, 2), torch.zeros(0))

    def choose(self, mirrored: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The maps by which points travel from photos to photos.

        Args:
            mirrored: (N,) bool, the flags of the photos' own maps.
            source: (M,) int64.
            target: (M,) int64.

        Returns:
            Two (M,) int64: the photo's number for its own map, N + s for the second map s. Where the flags of two
            photos differ, the one of higher symmetry changes its map, if it can.
        """
        count = len(mirrored)
        row = torch.full((count,), -1)
        row[self.photo] = torch.arange(len(self.photo))
        symmetry = torch.zeros(count)
        symmetry[self.photo] = self.symmetry
        differ = (mirrored[source] != mirrored[target]) & ((row[source] >= 0) | (row[target] >= 0))
        at_source = symmetry[source] >= symmetry[target]
        return (
            torch.where(differ & at_source, count + row[source], source),
            torch.where(differ & ~at_source, count + row[target], target),
        )


def fit_second_maps(
    matches: NormalisedMatches,
    tokens: ForegroundTokens,
    points: SplinePoints,
    descriptors: Tensor,
    coefficients: Tensor,
    mirrored: Tensor,
    pairs: Tensor,
    grid: SplineGrid,
    config: AlignmentConfig,
    size_hw: tuple[int, int],
) -> SecondMaps:
    """Fits a second map to every photo that fits nearly as well the other way round, the others held where they are.

    Args:
        matches: The matches that the coarse stage took.
        tokens: F foreground tokens.
        points: The same, on the spline grid.
        descriptors: (F, D) float32, unit length.
        coefficients: (N, K, 2) float32, the photos' own maps.
        mirrored: (N,) bool, their flags.
        pairs: (P, 2) int64, the pairs of photos that are compared.
        grid: The spline grid.
        config: Settings.
        size_hw: Height and width of the maps, in pixels.

    Returns:
        The second maps.
    """
    count = len(coefficients)
    canonical_a, canonical_b = (
        SplinePoints.prepare(grid, image, xy.float()).canonical(coefficients)
        for image, xy in ((matches.image_a, matches.points_a), (matches.image_b, matches.points_b))
    )
    score, similarity = place_both_ways(
        torch.cat((matches.image_a, matches.image_b)),
        count,
        torch.cat((matches.points_a, matches.points_b)),
        torch.cat((canonical_b, canonical_a)),
        matches.weight.repeat(2),
    )
    own = mirrored.long()[:, None]
    own_score, other_score = score.gather(1, own)[:, 0], score.gather(1, 1 - own)[:, 0]
    symmetry = (other_score / own_score.clamp_min(1e-9)).float()
    photo = torch.nonzero((symmetry >= _LEAST_SYMMETRY) & (other_score >= _LEAST_SCORE * own_score.median()))[:, 0]
    if not len(photo):
        return SecondMaps.none(size_hw)
    reference = grid.from_affine(similarity[torch.arange(count), (~mirrored).long()].float())
    canonical = points.canonical(coefficients)
    fitted = [
        _fit_one(int(image), reference[image], tokens, points, descriptors, canonical, pairs, grid, config)
        for image in photo
    ]
    return SecondMaps(photo, render_maps(grid, torch.stack(fitted), size_hw), symmetry[photo])


def _fit_one(
    image: int,
    reference: Tensor,
    tokens: ForegroundTokens,
    points: SplinePoints,
    descriptors: Tensor,
    canonical: Tensor,
    pairs: Tensor,
    grid: SplineGrid,
    config: AlignmentConfig,
) -> Tensor:
    """(K, 2): rounds of guided re-matching with all the others and fitting, from `reference`."""
    mine = tokens.image == image
    with_others = pairs[(pairs == image).any(1)]
    placed = canonical.clone()
    coefficients = reference
    for _ in range(config.rounds):
        placed[mine] = (coefficients[points.index[mine]] * points.weight[mine][..., None]).sum(1)
        found = find_partners(descriptors, placed, tokens, with_others, config.guide)
        ends = torch.stack((found.row[found.mutual], found.partner[found.mutual]), 1)
        ends = torch.where((tokens.image[ends[:, :1]] == image), ends, ends.flip(1))
        row, partner = ends.unbind(1)
        weight = (descriptors[row] * descriptors[partner]).sum(1).clamp_min(0) ** config.agreement_power
        coefficients = fit_photo(
            coefficients,
            reference,
            tokens.points_norm[row],
            canonical[partner],
            weight,
            grid,
            config.residual_scale,
            config.stiffness,
        )
    return coefficients
