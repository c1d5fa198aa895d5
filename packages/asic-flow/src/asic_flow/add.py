"""Photos placed in an existing canonical space: their maps are fitted, everybody else's stay as they are."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.functional import normalize

from asic_flow.alignment import Alignment
from asic_flow.coarse import place_photo
from asic_flow.collection import ImageCollection, join_collections, take_photos
from asic_flow.config import AlignmentConfig
from asic_flow.consensus import ConsensusTokens, agree, standing
from asic_flow.cores import torch_alone
from asic_flow.dense import fit_photo, render_maps
from asic_flow.sides import SecondMaps, carried_symmetry, carry
from asic_flow.spline import SplineGrid
from asic_flow.tokens import ForegroundTokens, at_tokens, held_out_tokens, thinning
from asic_flow.train import AlignmentError, FittedMaps, nearness


@torch.no_grad()
@torch_alone()
def add_photos(alignment: Alignment, collection: ImageCollection, added: ImageCollection) -> Alignment:
    """Places photos in a canonical space.

    Each is matched with the consensus descriptors of all photos that are there, placed by a robust affine map, and
    fitted in rounds of guided re-matching, as a whole collection is, but alone; the others then vote where its tokens
    lie, on maps of either flag. New photos do not see each other.

    Args:
        alignment: The canonical space.
        collection: What was aligned.
        added: One photo or more, prepared with the same settings.

    Returns:
        An alignment of all photos, the new ones last. Nothing about the others has changed.

    Raises:
        AlignmentError: A new photo has no foreground, or none of the others has.
        ValueError: The collections do not fit together, or `collection` is not what was aligned.
    """
    if [photo.path for photo in collection.photos] != [photo.path for photo in alignment.photos]:
        raise ValueError("collection: expected the photos that were aligned, got others; load it from the run's path")
    joined = join_collections(collection, added)
    known = _KnownTokens.of(alignment, joined)
    mean = collection.descriptors.float().mean((0, 1))
    result = alignment
    for index in range(len(added)):
        one = take_photos(added, slice(index, index + 1))
        foreground = ForegroundTokens.of(one)
        held = held_out_tokens(joined)[len(collection) + index][None]
        fitting = ForegroundTokens.of(one, thinning(joined, alignment.config.tokens_per_image), without=held)
        if not len(foreground.image):
            raise AlignmentError(f"{one.photos[0].path}: no object was found in it, so that there is nothing to place")
        if not len(fitting.image):  # of so few tokens none is held out, nor left out by thinning
            fitting = foreground
        result = _append(result, _place(one, foreground, fitting, known, mean, alignment))
    return result


@dataclasses.dataclass(frozen=True, eq=False)
class _KnownTokens:
    """The tokens of the photos that are there, those that may be fitted to.

    Attributes:
        descriptors: (F, D) float32 consensus descriptors.
        canonical: (F, 2).
        photos: the rows of each photo that has any.
        stands: (G, 2), of all tokens of the alignment, how far their places are asked; see `consensus.standing`.
    """

    descriptors: Tensor
    canonical: Tensor
    photos: list[Tensor]
    stands: Tensor

    @classmethod
    def of(cls, alignment: Alignment, joined: ImageCollection) -> _KnownTokens:
        """Takes the tokens from an alignment, thinned as a fit thins them, without those held out."""
        count = len(alignment)
        chosen = ForegroundTokens.of(
            joined, thinning(joined, alignment.config.tokens_per_image), without=held_out_tokens(joined)
        )
        kept = torch.zeros(len(joined), len(joined.grid.centres_px()), dtype=torch.bool)
        kept[chosen.image, chosen.token] = True
        rows = torch.nonzero(kept[alignment.token_image, alignment.token])[:, 0]
        image, token = alignment.token_image[rows], alignment.token[rows]
        canonical = at_tokens(joined, alignment.maps)[image, token]
        photos = [torch.nonzero(image == photo)[:, 0] for photo in range(count)]
        if not len(rows):
            raise AlignmentError("no photo of the alignment has foreground; there is nothing to place others by")
        shown = [mine for mine in photos if len(mine)]
        stands = standing(alignment.tokens, alignment.config)
        return cls(alignment.descriptors[rows].float(), canonical, shown, stands)


def _place(
    one: ImageCollection,
    foreground: ForegroundTokens,
    fitting: ForegroundTokens,
    known: _KnownTokens,
    mean: Tensor,
    alignment: Alignment,
) -> Alignment:
    """An alignment of the one photo, in the canonical space of the known tokens."""
    config = alignment.config
    described = normalize(one.descriptors[0].float() - mean, dim=1)
    raw, points = described[fitting.token], fitting.points_norm
    row, partner, score = _matches(raw, None, known, 0.0)
    coarse = place_photo(points[row], known.canonical[partner], score.clamp_min(0), config.coarse_scales)
    grid = SplineGrid(config.cells)
    reference = grid.from_affine(coarse.affine.float())[0]
    coefficients, joined = reference, raw
    index, basis = grid.basis(points)
    for _ in range(config.rounds):
        placed = (coefficients[index] * basis[..., None]).sum(1)
        row, partner, score = _matches(joined, placed, known, config.guide)
        weight = score.clamp_min(0) ** config.agreement_power
        coefficients = fit_photo(
            coefficients,
            reference,
            points[row],
            known.canonical[partner],
            weight,
            grid,
            config.residual_scale,
            config.stiffness,
        )
        placed = (coefficients[index] * basis[..., None]).sum(1)
        joined, _ = _joined_by_partners(raw, placed, known, config)
    index, basis = grid.basis(foreground.points_norm)
    placed = (coefficients[index] * basis[..., None]).sum(1)
    raw = described[foreground.token]
    joined, confidence = _joined_by_partners(raw, placed, known, config)
    mine = ConsensusTokens.on_maps(one, foreground, joined, placed, SecondMaps.none(one.size_hw), coarse.mirrored)
    descriptors, places = _voted(alignment, known, mine, raw)
    maps = render_maps(grid, coefficients[None], one.size_hw)
    second = SecondMaps.none(one.size_hw)
    if len(alignment.second.photo):
        there = places[:, 1 - int(coarse.mirrored[0])]
        carried = carry(coefficients, foreground.points_norm, there, torch.ones(len(there)), grid, config)
        second_map = render_maps(grid, carried[None], one.size_hw)
        second = SecondMaps(torch.tensor([0]), second_map, carried_symmetry(coarse.support))
    fitted = FittedMaps(maps, second, coarse.mirrored, coarse.support, foreground, descriptors, places, confidence)
    return Alignment.of(one, fitted, config)


def _voted(alignment: Alignment, known: _KnownTokens, mine: ConsensusTokens, raw: Tensor) -> tuple[Tensor, Tensor]:
    """The new photo's consensus descriptors and places, by the votes of all that are there."""
    there, count = alignment.tokens, len(alignment)
    everything = ConsensusTokens(
        there.grid,
        torch.cat((there.image, mine.image + count)),
        torch.cat((there.token, mine.token)),
        torch.cat((there.descriptors, mine.descriptors)),
        torch.cat((there.places, mine.places)),
        torch.cat((there.trust, mine.trust)),
    )
    pairs = torch.stack((torch.arange(count), torch.full((count,), count)), 1)
    once = dataclasses.replace(alignment.config, votes=1)  # the others have agreed already, and stay where they are
    stands = torch.cat((known.stands, (mine.trust == 1).float()[mine.image]))
    voted = agree(everything, torch.cat((there.descriptors, raw)), pairs, once, stands)
    descriptors, places = (values[len(there.image) :] for values in voted)
    return descriptors, places


def _scores(mine: Tensor, placed: Tensor | None, theirs: Tensor, known: _KnownTokens, guide: float) -> Tensor:
    score = mine @ known.descriptors[theirs].T
    return score if placed is None else score - guide * torch.cdist(placed, known.canonical[theirs]).square()


def _matches(mine: Tensor, placed: Tensor | None, known: _KnownTokens, guide: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual best partners in every known photo: rows of `mine`, rows of the known tokens, cosine similarity."""
    rows, partners = [], []
    for theirs in known.photos:
        score = _scores(mine, placed, theirs, known, guide)
        best, back = score.argmax(1), score.argmax(0)
        mutual = torch.nonzero(back[best] == torch.arange(len(mine)))[:, 0]
        rows.append(mutual)
        partners.append(theirs[best[mutual]])
    row, partner = torch.cat(rows), torch.cat(partners)
    return row, partner, (mine[row] * known.descriptors[partner]).sum(1)


def _joined_by_partners(
    mine: Tensor, placed: Tensor, known: _KnownTokens, config: AlignmentConfig
) -> tuple[Tensor, Tensor]:
    """Consensus descriptors of the new photo's tokens and the share of photos that agree with where they lie."""
    total, confidence = mine.clone(), torch.zeros(len(mine))
    for theirs in known.photos:
        best = theirs[_scores(mine, placed, theirs, known, config.guide).argmax(1)]
        similarity = (mine * known.descriptors[best]).sum(1, keepdim=True).clamp_min(0)
        total += similarity**config.consensus_power * known.descriptors[best]
        confidence += nearness((placed - known.canonical[best]).square().sum(1), config)
    return normalize(total, dim=1), confidence / len(known.photos)


def _append(alignment: Alignment, one: Alignment) -> Alignment:
    return dataclasses.replace(
        alignment,
        photos=alignment.photos + one.photos,
        maps=torch.cat((alignment.maps, one.maps)),
        confidence=torch.cat((alignment.confidence, one.confidence)),
        foreground=torch.cat((alignment.foreground, one.foreground)),
        mirrored=torch.cat((alignment.mirrored, one.mirrored)),
        support=torch.cat((alignment.support, one.support)),
        token_image=torch.cat((alignment.token_image, one.token_image + len(alignment))),
        token=torch.cat((alignment.token, one.token)),
        descriptors=torch.cat((alignment.descriptors, one.descriptors)),
        places=torch.cat((alignment.places, one.places)),
        second=SecondMaps(
            torch.cat((alignment.second.photo, one.second.photo + len(alignment))),
            torch.cat((alignment.second.maps, one.second.maps)),
            torch.cat((alignment.second.symmetry, one.second.symmetry)),
        ),
    )
