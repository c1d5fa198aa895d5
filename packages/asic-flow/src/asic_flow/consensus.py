"""What all photos agree each token shows and where it lies, and which place of another photo shows the same.

A foreground token is known by its descriptor d and by two canonical places: c^0 on maps that are not mirrored, c^1 on
mirrored ones. Token q of photo j answers point p of photo i by

    s(p, q) = <d_p, d_q> - weight * sum_f w_f r log(1 + |c_p^f - c_q^f|^2 / r) - h_i(q)

where w_f is in proportion to how far both photos' places of flag f are to be trusted. The last term,

    h_i(q) = (t / 2) log sum_{p in i} exp(s'(p, q) / t)        s' being s without it,

takes from a token half of what it has for all of photo i: hubs, which are near to everything, answer less, and as the
other half is the same for all q, the way back sees the same scores (as in cross-domain similarity local scaling:
Conneau et al., "Word translation without parallel data", 2018). Answers lie between tokens: around the best one, its
neighbours count by the softmax of their scores.

Photos vote on what a token shows and where it lies, first by their maps, then by what they agreed on. For that all of
it is taken, at the temperature u of that softmax:

    h_i(q) = u log sum_{p in i} exp(s'(p, q) / u)

exp((s' - h) / u) is then p's share of q among all of photo i, so a token answers those that have most of it and the
others find another one, and more votes lead back, on which way a little less is taken. Half of what the way there and
back misses is taken off a vote. What a photo hides would find an answer too, so its place takes no part, see
`standing`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from asic_flow.coarse import geman_mcclure
from asic_flow.collection import ImageCollection, TokenGrid
from asic_flow.config import AlignmentConfig
from asic_flow.cores import all_cores
from asic_flow.groups import rows_of_each
from asic_flow.run_folder import LEAST_FLAG_WEIGHT, NEIGHBOUR_TEMPERATURE
from asic_flow.sides import LEAST_SYMMETRY, SecondMaps, in_proportion
from asic_flow.tokens import ForegroundTokens, at_tokens

_HUB_TEMPERATURE = 0.1
_HUB_TOKENS = 1024  # of the source photo, at most
_HUBS_KEPT = 1 << 22  # values, 16 MB
# Of what a token has for all of a photo, how much is taken off on the way back to where a vote came from.
_RETURN_HUB_SHARE = 0.85
# A vote counts by how near, in tokens, it leads back to where it came from.
_RETURN_REACH = 1.5
# Canonical distances at which votes are doubted, falling, in residual scales.
_VOTE_SCALES = (12.0, 6.0, 3.0)
# What the place on a token's own map counts, in votes of one.
_OWN_VOTE = 0.1
# Of what a vote misses on its way back, how much is taken for an error of the vote.
_ROUND_TRIP = 0.5
# Geman-McClure scale of the canonical distance of answers that confirm a token, in residual scales.
_CONFIRMED_WITHIN = 2.0
# Photos of either flag that confirm places, at most, where no votes are at hand.
_CONFIRMING = 4
_QUERIES_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class ConsensusTokens:
    """The foreground tokens of all photos.

    Attributes:
        grid: Where a photo's tokens sit.
        image: (F,) int64, rising.
        token: (F,) int64, index into the grid.
        descriptors: (F, D) float32, unit length.
        places: (F, 2, 2) float32, canonical xy on maps that are not mirrored and on those that are.
        trust: (N, 2) float32, 0 to 1, how far a photo's places of either kind are to be trusted.
    """

    grid: TokenGrid
    image: Tensor
    token: Tensor
    descriptors: Tensor
    places: Tensor
    trust: Tensor

    @classmethod
    def on_maps(
        cls,
        collection: ImageCollection,
        tokens: ForegroundTokens,
        descriptors: Tensor,
        canonical: Tensor,
        second: SecondMaps,
        mirrored: Tensor,
    ) -> ConsensusTokens:
        """A collection's foreground tokens at (F, 2) places on maps of flags (N,), and where second maps take them."""
        other = torch.zeros(len(mirrored), len(collection.grid.centres_px()), 2)
        other[tokens.image, tokens.token] = canonical
        other[second.photo] = at_tokens(collection, second.maps)
        places = torch.stack((canonical, other[tokens.image, tokens.token]), 1)
        flipped = mirrored[tokens.image]
        places[flipped] = places[flipped].flip(1)
        return cls(collection.grid, tokens.image, tokens.token, descriptors, places, second.trust(mirrored))

    @cached_property
    def two_sided(self) -> Tensor:
        """(N,) bool: photos with maps of both flags that were fitted to them; see `asic_flow.sides`."""
        return (self.trust > LEAST_SYMMETRY).all(1)

    @cached_property
    def offsets(self) -> list[int]:
        """N + 1 rows: the first of each photo's tokens, and F."""
        counts = torch.bincount(self.image, minlength=len(self.trust))
        return [0, *counts.cumsum(0).tolist()]

    def rows(self, photo: int) -> slice:
        """The rows of a photo's tokens."""
        return slice(self.offsets[photo], self.offsets[photo + 1])

    @cached_property
    def centres_px(self) -> Tensor:
        """(F, 2): where the tokens lie, in model pixels."""
        return torch.from_numpy(self.grid.centres_px())[self.token]

    @cached_property
    def row_of(self) -> Tensor:
        """(N, rows + 2, cols + 2) int64: the row of every token of the grids and of a rim around; -1 for background."""
        table = torch.full((len(self.trust), self.grid.rows + 2, self.grid.cols + 2), -1)
        row, column = self.token // self.grid.cols, self.token % self.grid.cols
        table[self.image, row + 1, column + 1] = torch.arange(len(self.token))
        return table

    def at(self, points_px: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        """What is shown at points: the tokens around, bilinear between those of the foreground, else the nearest one.

        Args:
            points_px: (M, 2) xy in model pixels.
            photo: (M,) int64.

        Returns:
            (M, D) descriptors of unit length and (M, 2, 2) places; zeros where a photo has no foreground.
        """
        grid = self.grid
        limit = torch.tensor([grid.cols - 1.0, grid.rows - 1.0])
        position = ((points_px - grid.first) / grid.stride).clamp_min(0).minimum(limit)
        low = position.floor()
        x, y = (position - low).unbind(-1)
        column, row = (low.long() + 1).unbind(-1)
        rows = torch.stack([self.row_of[photo, row + down, column + right] for down in (0, 1) for right in (0, 1)], 1)
        weight = torch.stack(((1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x), 1) * (rows >= 0)
        for image in torch.unique(photo[weight.sum(1) < 0.05]).tolist():
            mine = self.rows(image)
            if mine.start < mine.stop:
                lost = torch.nonzero((weight.sum(1) < 0.05) & (photo == image))[:, 0]
                rows[lost, 0] = mine.start + torch.cdist(points_px[lost], self.centres_px[mine]).argmin(1)
                weight[lost] = torch.tensor([1.0, 0.0, 0.0, 0.0])
        if not len(self.image):
            return torch.zeros(len(rows), self.descriptors.shape[1]), torch.zeros(len(rows), 2, 2)
        rows, weight = rows.clamp_min(0), weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
        return normalize(averaged(self.descriptors, rows, weight), dim=1), averaged(self.places, rows, weight)

    def scores(
        self, descriptors: Tensor | None, places: Tensor, source: int, target: int, weight: float, scale: float
    ) -> Tensor:
        """(M, T): s' of (M, D) descriptors, or none, and (M, 2, 2) places of a source to the target's T tokens."""
        there = self.rows(target)
        score = (
            torch.zeros(len(places), there.stop - there.start)
            if descriptors is None
            else descriptors @ self.descriptors[there].T
        )
        for flag, counts in enumerate(self.flag_weights[source, target].tolist()):
            if counts > 0:
                mine, theirs = (field[:, flag] / scale**0.5 for field in (places, self.places[there]))
                score.sub_(squared_distances(mine, theirs).log1p_(), alpha=weight * scale * counts)
        return score

    @cached_property
    def flag_weights(self) -> Tensor:
        """(N, N, 2): what places of either kind count between two photos, 1 in all."""
        weight = self.trust[:, None] * self.trust
        weight = weight / weight.sum(2, keepdim=True)
        weight = torch.where(weight < LEAST_FLAG_WEIGHT, 0.0, weight)
        return weight / weight.sum(2, keepdim=True)

    def around_best(self, score: Tensor, target: int) -> tuple[Tensor, Tensor]:
        """(M, 9) rows of tokens, the best of (M, T) scores and its neighbours, and their shares, 1 in all."""
        there = self.rows(target)
        best = there.start + score.max(1).indices  # faster than argmax
        near = self._near[best]
        shown = near >= 0
        rows = torch.where(shown, near, best[:, None])
        value = torch.where(shown, score.gather(1, rows - there.start), -torch.inf)
        return rows, torch.softmax(value / NEIGHBOUR_TEMPERATURE, 1)

    @cached_property
    def _near(self) -> Tensor:
        """(F, 9) int64: rows of every token and its neighbours; -1 for background."""
        width = self.grid.cols + 2
        upper_left = self.token // self.grid.cols * width + self.token % self.grid.cols
        around = torch.cartesian_prod(torch.arange(3) * width, torch.arange(3)).sum(1)
        return self.row_of.flatten(1)[self.image[:, None], upper_left[:, None] + around]

    def answer(
        self, points_px: Tensor, source: Tensor, target: Tensor, config: AlignmentConfig, *, by_looks: bool = True
    ) -> Tensor:
        """Where points of photos lie in others.

        Args:
            points_px: (M, 2) xy in model pixels of the source photos.
            source: (M,) int64.
            target: (M,) int64.
            config: Settings.
            by_looks: Whether descriptors have a say, and hubs among them less; else places alone decide.

        Returns:
            (M, 2) xy in model pixels of the target photos, NaN where either photo has no foreground.
        """
        found = torch.full((len(points_px), 2), torch.nan)
        descriptors, places = self.at(points_px, source)
        count, shows = len(self.trust), torch.tensor(self.offsets).diff() > 0
        pair = torch.where(shows[source] & shows[target], source * count + target, -1)
        for number, mine in rows_of_each(pair.numpy()):
            if number < 0:
                continue
            here, there = divmod(number, count)
            hubs = self._hubs(here, there, config) if by_looks else 0.0
            for asked in torch.split(torch.from_numpy(mine), _QUERIES_AT_ONCE):
                looks = descriptors[asked] if by_looks else None
                score = self.scores(looks, places[asked], here, there, config.combine, config.combine_scale)
                rows, share = self.around_best(score.sub_(hubs), there)
                found[asked] = averaged(self.centres_px, rows, share)
        return found

    @cached_property
    def _known_hubs(self) -> dict[tuple[int, int, float, float], Tensor]:
        return {}

    def _hubs(self, source: int, target: int, config: AlignmentConfig) -> Tensor:
        """(T,): h of the target's tokens, over all tokens of the source or an even part of them."""
        known, asked = self._known_hubs, (source, target, config.combine, config.combine_scale)
        if asked not in known:
            if (len(known) + 1) * self.grid.rows * self.grid.cols > _HUBS_KEPT:
                known.clear()
            mine = self.rows(source)
            step = -(-(mine.stop - mine.start) // _HUB_TOKENS)
            some = slice(mine.start, mine.stop, step)
            known[asked] = half_of_all(self.scores(self.descriptors[some], self.places[some], *asked))
        return known[asked]


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """(M, T): between (M, 2) and (T, 2) places, 0 or more."""
    lengths = first.square().sum(1)[:, None] + second.square().sum(1)
    return torch.addmm(lengths, first, second.T, alpha=-2).clamp_min_(0)


def half_of_all(score: Tensor) -> Tensor:
    """(T,): h of (M, T) scores, see above, but for a constant."""
    return 0.5 * _HUB_TEMPERATURE * torch.logsumexp(score / _HUB_TEMPERATURE, 0)


def all_of_all(score: Tensor) -> tuple[Tensor, Tensor]:
    """(M,) and (T,): h of (M, T) scores' rows and columns where photos vote, see above.

    Both from one exponential, so of rows and columns that are 4 below the best score no more than that is told.
    """
    top = score.max()
    shared = torch.exp((score - top) / NEIGHBOUR_TEMPERATURE)
    rows, columns = (shared.sum(dim).clamp_min(1e-35).log() * NEIGHBOUR_TEMPERATURE + top for dim in (1, 0))
    return rows, columns


def averaged(field: Tensor, rows: Tensor, share: Tensor) -> Tensor:
    """(M, ...): (F, ...) values at (M, K) rows in these shares."""
    total: Tensor = embedding_bag(rows, field.flatten(1), mode="sum", per_sample_weights=share)
    return total.reshape(len(rows), *field.shape[1:])


def agree(
    tokens: ConsensusTokens, raw: Tensor, pairs: Tensor, config: AlignmentConfig, stands: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What the photos say of each other's tokens: every answer votes for the asking token's descriptor and places.

    A vote counts by how near it leads back and how similar the two tokens are, one for a place by how far that stands
    too, see `standing`. Voted descriptors are averages, over votes too, later ones counting more; voted places are
    robust averages around those on the maps, so that a few photos that take one leg for another do not move them in
    between. The next vote is asked by what the last one said.

    Args:
        tokens: The tokens on their photos' maps.
        raw: (F, D) float32, unit length: the tokens' descriptors before any averaging.
        pairs: (P, 2) int64, the pairs of photos that are compared.
        config: Settings.
        stands: (F, 2), how far places stand, where that is known; by the first vote if not.

    Returns:
        (F, D) float32 descriptors of unit length, and (F, 2, 2) places.
    """
    ballots, descriptors = _ask(tokens, raw, pairs, config, config.propose)
    if stands is None:
        stands = _standing(tokens, ballots, config)
    places = _tally(tokens, ballots, stands, config)
    for _ in range(config.votes - 1):
        told = replace(tokens, descriptors=descriptors, places=places)
        ballots, described = _ask(told, raw, pairs, config, config.combine)
        descriptors = normalize(descriptors + described, dim=1)
        places = _tally(tokens, ballots, stands, config)
    return descriptors, places


def standing(tokens: ConsensusTokens, config: AlignmentConfig) -> Tensor:
    """(F, 2), 0 to 1: how far a token's place on maps of either flag is asked where photos vote.

    On its own map a photo shows one side, and all of it stands. A photo that shows both sides has maps of both flags,
    but on each of them half of it lies where photos from the one side show nothing: what looks like it belongs to the
    other half. So such a place stands as far as photos from the one side confirm it, where there are any, and is itself
    moved as far as it stands. Where photos have no map of their own, they ask but are not asked, unless nobody has one.

    Asks only the pairs of photos that this takes, with a few photos of either flag to confirm.
    """
    photos = torch.arange(len(tokens.trust))
    own = [photos[~tokens.two_sided & (tokens.trust[:, flag] == 1)] for flag in (0, 1)]
    confirming = torch.cat([mine[:: -(-len(mine) // _CONFIRMING) or 1] for mine in own])
    pairs = torch.cartesian_prod(photos[tokens.two_sided], confirming)
    ballots, _ = _ask(tokens, tokens.descriptors, pairs, config, config.combine)
    return _standing(tokens, ballots, config)


@dataclass(frozen=True, eq=False)
class _Ballots:
    """Votes, one for every token and every photo that its photo is compared with.

    Attributes:
        row: (B,) int64, the token that asked.
        answer: (B,) int64, the token that answered, the best one of those that share in it.
        weight: (B,) float32, 0 to 1, by how near it leads back and how similar it is.
        places: (B, 2, 2) float32, where it says the asking token lies.
    """

    row: Tensor
    answer: Tensor
    weight: Tensor
    places: Tensor


def _ask(
    tokens: ConsensusTokens, raw: Tensor, pairs: Tensor, config: AlignmentConfig, weight: float
) -> tuple[_Ballots, Tensor]:
    """The votes, distance counting with this weight, and each token's descriptor by them, (F, D)."""
    joined = raw.clone()
    nothing = torch.zeros(0, dtype=torch.int64)
    parts = [(nothing, nothing, torch.zeros(0), torch.zeros(0, 2, 2))]
    with all_cores() as cores:
        answers = cores.map(partial(_ask_each_other, tokens, raw, config, weight), pairs.tolist())
        for asking, heard, best, counts, places in filter(None, answers):
            joined.index_add_(0, asking, heard)
            parts.append((asking, best, counts, places))
    return _Ballots(*(torch.cat(part) for part in zip(*parts, strict=True))), normalize(joined, dim=1)


def _ask_each_other(
    tokens: ConsensusTokens, raw: Tensor, config: AlignmentConfig, weight: float, pair: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    """Of the tokens of two photos: their rows, (M, D) what they hear, answers, weights and places; see `_Ballots`."""
    first, second = pair
    a, b = tokens.rows(first), tokens.rows(second)
    if a.start == a.stop or b.start == b.stop:
        return None
    score = tokens.scores(tokens.descriptors[a], tokens.places[a], first, second, weight, config.combine_scale)
    ways = tuple(zip((score, score.T), reversed(all_of_all(score)), (second, first), strict=True))
    there, back = (tokens.around_best(asked - hubs, photo) for asked, hubs, photo in ways)
    in_return = [tokens.around_best(asked - _RETURN_HUB_SHARE * hubs, photo) for asked, hubs, photo in ways]
    # The tokens of a, then those of b; what is asked on the way back, those of b, then those of a.
    asking = torch.cat((torch.arange(a.start, a.stop), torch.arange(b.start, b.stop)))
    answers = torch.cat((there[0], back[0])), torch.cat((there[1], back[1]))
    returns = torch.cat((in_return[1][0], in_return[0][0])), torch.cat((in_return[1][1], in_return[0][1]))
    answering = torch.cat((there[0] - b.start, back[0] + (b.stop - b.start - a.start)))
    missed_px, missed = (
        averaged(averaged(field, *returns), answering, answers[1]) - field[asking]
        for field in (tokens.centres_px, tokens.places)
    )
    kept = torch.exp(torch.linalg.vector_norm(missed_px, dim=1) / (-_RETURN_REACH * tokens.grid.stride))
    shown = averaged(raw, *answers)
    similarity = (raw[asking] * shown).sum(1).clamp_min(0)
    heard = (kept * similarity**config.consensus_power)[:, None] * shown
    similarity = (tokens.descriptors[asking] * averaged(tokens.descriptors, *answers)).sum(1).clamp_min(0)
    best = answers[0].gather(1, answers[1].max(1, keepdim=True).indices)[:, 0]
    places = averaged(tokens.places, *answers) - _ROUND_TRIP * missed
    return asking, heard, best, kept * similarity**config.agreement_power, places


def _standing(tokens: ConsensusTokens, ballots: _Ballots, config: AlignmentConfig) -> Tensor:
    """(F, 2): `standing`, by these votes."""
    one_sided = (tokens.trust == 1) & ~tokens.two_sided[:, None]
    shows = torch.tensor(tokens.offsets).diff()[:, None] > 0
    nobody = ~((one_sided | tokens.two_sided[:, None]) & shows).any(0)
    stands = (one_sided | nobody).float()[tokens.image]
    by_one_sided = stands[ballots.answer]
    near = geman_mcclure(
        (ballots.places - tokens.places[ballots.row]).square().sum(2), _CONFIRMED_WITHIN * config.residual_scale
    )
    asked = torch.zeros_like(stands).index_add_(0, ballots.row, by_one_sided)
    confirmed = torch.zeros_like(stands).index_add_(0, ballots.row, ballots.weight[:, None] * near * by_one_sided)
    confirmed = torch.where(asked > 0, confirmed / asked, 1.0)
    usual = (stands > 0) & (asked > 0)
    confirmed = in_proportion(confirmed, usual if usual.any() else asked > 0)
    return torch.where(tokens.two_sided[tokens.image, None], confirmed, stands)


def _tally(tokens: ConsensusTokens, ballots: _Ballots, stands: Tensor, config: AlignmentConfig) -> Tensor:
    """(F, 2, 2): where the votes say that tokens lie, as robust averages around their places on the maps."""
    hears = torch.where(tokens.two_sided[tokens.image, None], stands, 1.0)
    weight = ballots.weight[:, None] * stands[ballots.answer] * hears[ballots.row]
    places = tokens.places
    for scale in _VOTE_SCALES:
        squared = (ballots.places - places[ballots.row]).square().sum(2)
        counts = weight * geman_mcclure(squared, scale * config.residual_scale)
        total = torch.full(places.shape[:2], _OWN_VOTE).index_add_(0, ballots.row, counts)
        summed = (_OWN_VOTE * tokens.places).index_add_(0, ballots.row, counts[..., None] * ballots.places)
        places = summed / total[..., None]
    return places
