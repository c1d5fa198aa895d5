"""Second maps, so that left stays left between photos that are mapped with opposite mirror flags.

A photo seen from the other side is mapped mirrored, so that what points left points right. Mirroring also exchanges the
sides: the near leg of a dog that faces left goes where one that faces right has its near leg, but the one is the left
leg and the other the right. Points should travel on maps that are both mirrored or both not, so photos get a second map
of the other flag.

- A photo that shows both sides at once, a face from the front, say, fits the collection both ways: its second map is
  fitted to the others as its own was.
- To any other photo those bridge. A point of it lies on a bridge's map of the photo's own flag, and the bridge's other
  map says where the same point lies on the other flag's maps. It is heard as far as photos of that flag show the same
  there: legs are seen from either side, but a flank's place on the maps that show the other flank is nobody's. Where
  bridges are few, or not confirmed, the photo's second map stays its own map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from asic_flow.coarse import NormalisedMatches, geman_mcclure, place_both_ways
from asic_flow.config import AlignmentConfig
from asic_flow.dense import SplinePoints, fit_photo, render_maps
from asic_flow.partners import find_partners, mutual_matches
from asic_flow.run_folder import choose_maps, trust_in_places
from asic_flow.spline import SplineGrid
from asic_flow.tokens import ForegroundTokens

# How well a photo fits the other way, as a share of how well it fits its own way, at least, to show both sides.
LEAST_SYMMETRY = 0.8
# Canonical distances, falling, at which places that come over bridges are doubted, in residual scales.
_CARRY_SCALES = (4.0, 2.0, 1.0)
# A photo that fits badly either way shows nothing of sides; share of the median photo's score.
_LEAST_SCORE = 0.5
# How broad a photo's matched points lie, as a share of how long: what lies on a line is its own mirror image.
_LEAST_BREADTH = 0.1
# Of what usually confirms a place, the share that is enough.
_ENOUGH = 0.25
# What a photo says for its points staying where they are, counted in bridges that say otherwise.
_OWN_WORD = 2.0


@dataclass(frozen=True, eq=False)
class SecondMaps:
    """Maps of the opposite mirror flag.

    Attributes:
        photo: (S,) int64, rising: the photos that have one.
        maps: (S, H, W, 2) float32, canonical xy of every pixel.
        symmetry: (S,) float32, how well the photo fits this way, as a share of how well it fits its own way; of a map
            that came over bridges 0.8 times the photo's support, which is below any of the others.
    """

    photo: Tensor
    maps: Tensor
    symmetry: Tensor

    @classmethod
    def none(cls, size_hw: tuple[int, int]) -> SecondMaps:
        """No photo has one."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0, *size_hw, 2), torch.zeros(0))

    def trust(self, mirrored: Tensor) -> Tensor:
        """(N, 2) float32, see `asic_flow.run_folder.trust_in_places`."""
        return torch.from_numpy(trust_in_places(mirrored.numpy(), self.photo.numpy(), self.symmetry.numpy()))

    def choose(self, mirrored: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The maps by which points travel from photos to photos.

        Args:
            mirrored: (N,) bool, the flags of the photos' own maps.
            source: (M,) int64.
            target: (M,) int64.

        Returns:
            Two (M,) int64, see `asic_flow.run_folder.choose_maps`.
        """
        arrays = (tensor.numpy() for tensor in (mirrored, self.photo, self.symmetry, source, target))
        from_map, to_map = choose_maps(*arrays)
        return torch.from_numpy(from_map), torch.from_numpy(to_map)


@dataclass(frozen=True, eq=False)
class PlacedTokens:
    """The tokens that maps were fitted to, with what is needed to fit further maps to them.

    Attributes:
        tokens: F foreground tokens.
        points: The same, on the spline grid.
        descriptors: (F, D) float32, unit length.
        coefficients: (N, K, 2) float32, the photos' own maps.
        mirrored: (N,) bool, their flags.
        pairs: (P, 2) int64, the pairs of photos that are compared.
        grid: The spline grid.
        config: Settings.
    """

    tokens: ForegroundTokens
    points: SplinePoints
    descriptors: Tensor
    coefficients: Tensor
    mirrored: Tensor
    pairs: Tensor
    grid: SplineGrid
    config: AlignmentConfig

    @cached_property
    def canonical(self) -> Tensor:
        """(F, 2): the tokens on their photos' own maps."""
        return self.points.canonical(self.coefficients)

    def of_photo(self, image: int, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """(F,) bool, the photo's tokens, and where (K, 2) coefficients take them."""
        mine = self.tokens.image == image
        weights = self.points.weight[mine][..., None]
        return mine, (coefficients[self.points.index[mine]] * weights).sum(1)

    def matches_of(self, image: int, canonical: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mutual partners of the photo's tokens, guided by `canonical`: (M,) rows, (M,) partners, (M,) weights."""
        found = find_partners(self.descriptors, canonical, self.tokens, pairs, self.config.guide)
        ends, weight = mutual_matches(self.descriptors, found, self.config.agreement_power)
        row, partner = torch.where(self.tokens.image[ends[:, :1]] == image, ends, ends.flip(1)).unbind(1)
        return row, partner, weight


def carried_symmetry(support: Tensor) -> Tensor:
    """The symmetry of second maps that came over bridges, of photos of such support; see `SecondMaps`."""
    return LEAST_SYMMETRY * support.float()


def in_proportion(confirmed: Tensor, usual: Tensor) -> Tensor:
    """How far places are confirmed, in proportion to what is usual.

    Args:
        confirmed: (...,), 0 or more.
        usual: (...,) bool, the places whose median is what is usual; a quarter of it is enough.

    Returns:
        (...,), 0 to 1.
    """
    enough = _ENOUGH * confirmed[usual].median() if usual.any() else confirmed.new_ones(())
    return (confirmed / enough.clamp_min(1e-6)).clamp_max(1)


def fit_second_maps(
    matches: NormalisedMatches,
    heard: NormalisedMatches,
    placed: PlacedTokens,
    support: Tensor,
    size_hw: tuple[int, int],
) -> SecondMaps:
    """Fits second maps, the photos' own maps held where they are; none where no photo shows both sides.

    Args:
        matches: The matches, all counting alike.
        heard: The same, weighted as the coarse stage heard them; both have to say that a photo shows both sides.
        placed: The tokens on the photos' own maps.
        support: (N,), see `CoarseAlignment`.
        size_hw: Height and width of the maps, in pixels.

    Returns:
        The second maps.
    """
    count = len(placed.coefficients)
    canonical_a, canonical_b = (
        SplinePoints.prepare(placed.grid, image, xy.float()).canonical(placed.coefficients)
        for image, xy in ((matches.image_a, matches.points_a), (matches.image_b, matches.points_b))
    )
    image = torch.cat((matches.image_a, matches.image_b))
    points = torch.cat((matches.points_a, matches.points_b))
    canonical = torch.cat((canonical_b, canonical_a))
    (score, similarity), (score_alike, _) = (
        place_both_ways(image, count, points, canonical, said.weight.repeat(2)) for said in (heard, matches)
    )
    own = placed.mirrored.long()[:, None]
    symmetry = _ratio(score, own).minimum(_ratio(score_alike, own))
    fits = score.gather(1, 1 - own) >= _LEAST_SCORE * score.gather(1, own).median()
    shows_both = (symmetry >= LEAST_SYMMETRY) & fits[:, 0] & _have_breadth(image, count, points)
    reference = placed.grid.from_affine(similarity[torch.arange(count), (~placed.mirrored).long()].float())
    fitted = {
        image: _fit_mirrored(image, reference[image], placed) for image in torch.nonzero(shows_both)[:, 0].tolist()
    }
    if not fitted:
        return SecondMaps.none(size_hw)
    found = fitted | _carry_over(fitted, placed)
    photo = torch.tensor(sorted(found))
    symmetry = torch.where(shows_both, symmetry, carried_symmetry(support))
    maps = render_maps(placed.grid, torch.stack([found[image] for image in photo.tolist()]), size_hw)
    return SecondMaps(photo, maps, symmetry[photo])


def _have_breadth(image: Tensor, count: int, points: Tensor) -> Tensor:
    """(N,) bool: whether photos' matched points (M, 2) spread in two directions."""
    number = torch.bincount(image, minlength=count).clamp_min(1).double()
    centre = torch.zeros(count, 2, dtype=torch.float64).index_add_(0, image, points.double()) / number[:, None]
    offset = points - centre[image]
    products = offset[:, :, None] * offset[:, None, :]
    spread = torch.zeros(count, 2, 2, dtype=torch.float64).index_add_(0, image, products) / number[:, None, None]
    breadth, length = torch.linalg.eigvalsh(spread).clamp_min(0).sqrt().unbind(1)
    broad: Tensor = (length > 0) & (breadth >= _LEAST_BREADTH * length)
    return broad


def _ratio(score: Tensor, own: Tensor) -> Tensor:
    """(N,) float32: the other flag's (N, 2) score over that of the (N, 1) own flag."""
    return (score.gather(1, 1 - own) / score.gather(1, own).clamp_min(1e-9))[:, 0].float()


def _fit_mirrored(image: int, reference: Tensor, placed: PlacedTokens) -> Tensor:
    """(K, 2): rounds of guided re-matching with all the others and fitting, from `reference`."""
    config = placed.config
    canonical = placed.canonical.clone()
    with_others = placed.pairs[(placed.pairs == image).any(1)]
    coefficients = reference
    for _ in range(config.rounds):
        mine, there = placed.of_photo(image, coefficients)
        canonical[mine] = there
        row, partner, weight = placed.matches_of(image, canonical, with_others)
        coefficients = fit_photo(
            coefficients,
            reference,
            placed.tokens.points_norm[row],
            canonical[partner],
            weight,
            placed.grid,
            config.residual_scale,
            config.stiffness,
        )
    return coefficients


def _carry_over(fitted: dict[int, Tensor], placed: PlacedTokens) -> dict[int, Tensor]:
    """(K, 2) second maps of the photos that have none but are compared with some that have, which bridge."""
    config, grid, own = placed.config, placed.grid, placed.canonical
    # By flag: where tokens lie on maps of this flag. Only those of bridges are known on both.
    on_flag = [own.clone(), own.clone()]
    for bridge, coefficients in fitted.items():
        mine, there = placed.of_photo(bridge, coefficients)
        on_flag[int(not placed.mirrored[bridge])][mine] = there
    is_bridge = torch.zeros(len(placed.coefficients), dtype=torch.bool)
    is_bridge[list(fitted)] = True
    confirmed = [_confirmed(placed, places, is_bridge, bool(flag)) for flag, places in enumerate(on_flag)]
    carried = {}
    for image in torch.nonzero(~is_bridge)[:, 0].tolist():
        over = placed.pairs[(placed.pairs == image).any(1) & is_bridge[placed.pairs].any(1)]
        if not len(over):
            continue
        flag = int(placed.mirrored[image])
        here, there = on_flag[flag], on_flag[1 - flag]
        row, partner, weight = placed.matches_of(image, here, over)
        weight = weight * geman_mcclure((here[row] - here[partner]).square().sum(1), config.residual_scale)
        mine = torch.nonzero(placed.tokens.image == image)[:, 0]
        own_word = _OWN_WORD * weight.sum() / (len(over) * max(1, len(mine)))
        weight = weight * confirmed[1 - flag][partner]
        points = placed.tokens.points_norm[torch.cat((row, mine))]
        canonical = torch.cat((there[partner], own[mine]))
        weight = torch.cat((weight, own_word.expand(len(mine))))
        carried[image] = carry(placed.coefficients[image], points, canonical, weight, grid, config)
    return carried


def carry(
    own: Tensor, points_norm: Tensor, canonical: Tensor, weight: Tensor, grid: SplineGrid, config: AlignmentConfig
) -> Tensor:
    """(K, 2): a second map, fitted to where points should lie on it, the farther ones doubted more and more.

    Args:
        own: (K, 2), the photo's own map, from which it starts.
        points_norm: (M, 2).
        canonical: (M, 2), where they should lie.
        weight: (M,).
        grid: The spline grid.
        config: Settings.
    """
    carried = own
    for scale in _CARRY_SCALES:
        doubt = scale * config.residual_scale
        carried = fit_photo(carried, own, points_norm, canonical, weight, grid, doubt, config.stiffness)
    return carried


def _confirmed(placed: PlacedTokens, places: Tensor, is_bridge: Tensor, mirrored: bool) -> Tensor:
    """(F,), 0 to 1: how far photos of a flag that show one side confirm the places of bridges' tokens on this flag.

    By the mean, over such photos, of the weight of a mutual match there, guided by the places, in proportion to what it
    is for tokens of such photos. 1 where there are none, so that nobody could confirm.
    """
    first, second = placed.pairs.unbind(1)
    shows_one = ~is_bridge & (placed.mirrored == mirrored)
    across = placed.pairs[(is_bridge[first] & shows_one[second]) | (shows_one[first] & is_bridge[second])]
    found = find_partners(placed.descriptors, places, placed.tokens, across, placed.config.guide)
    ends, weight = mutual_matches(placed.descriptors, found, placed.config.agreement_power)
    apart = (places[ends[:, 0]] - places[ends[:, 1]]).square().sum(1)
    weight = weight * geman_mcclure(apart, placed.config.residual_scale)
    total = torch.zeros(len(places)).index_add_(0, ends.flatten(), weight.repeat_interleave(2))
    asked = torch.bincount(across.flatten(), minlength=len(placed.mirrored))[placed.tokens.image]
    confirmed = torch.where(asked > 0, total / asked, 1.0)
    return in_proportion(confirmed, shows_one[placed.tokens.image] & (asked > 0))
