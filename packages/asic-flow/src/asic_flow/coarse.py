"""The coarse stage: for each photo a mirror flag and an invertible affine map into canonical space.

Pairs of photos vote, the collection decides. Every pair gets a robust similarity with and without mirroring; flags,
rotations, scales and shifts are then synchronised over the collection (eigenvectors and Laplacian systems), and
affine maps are refined on all matches at once through the matrix exponential, which keeps each of them invertible.

Photos that no chain of matches joins are groups of their own, each with its own frame: so several collections, their
photos numbered on, are aligned in one batch as each of them would be alone.

All of it is small, so it runs on the CPU in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

CANONICAL_RADIUS = 0.5
"""The root-mean-square distance of foreground from the origin of canonical space: the gauge."""

_PAIR_SCALES = (0.6, 0.45, 0.3, 0.2)
_PAIR_ZOOM = (0.5, 2.0)
_LEAST_TOLD = 1e-3  # what pairs of one or two matches count beside full ones
_PLACE_SCALES = (0.3, 0.22, 0.15, 0.1)
_PLACE_ZOOM = (0.15, 2.0)
_PLACEMENTS = 3
_STEPS_PER_SCALE = 3
_DAMPING = 1e-2
_HOLD = 45.0
_MAX_ASPECT = 3.0


@dataclass(frozen=True)
class NormalisedMatches:
    """Matches as the solvers take them.

    Attributes:
        image_a: (M,) int64.
        image_b: (M,) int64.
        points_a: (M, 2) xy in [-1, 1] of the first image.
        points_b: (M, 2) xy in [-1, 1] of the second image.
        weight: (M,) 0 or more.
    """

    image_a: Tensor
    image_b: Tensor
    points_a: Tensor
    points_b: Tensor
    weight: Tensor


@dataclass(frozen=True)
class CoarseAlignment:
    """What the coarse stage found.

    Attributes:
        affine: (N, 2, 3) float64, `u = affine @ (x, y, 1)` from [-1, 1] of a photo to canonical space.
        mirrored: (N,) bool, whether the photo is seen mirrored; the determinant of its affine map is then negative.
        support: (N,) float64, 0 to 1, the share of a photo's match weight that agrees with the others. A photo far
            below the rest does not belong to the collection.
    """

    affine: Tensor
    mirrored: Tensor
    support: Tensor


def geman_mcclure(squared: Tensor, scale: float) -> Tensor:
    """The weight of a squared residual under the Geman-McClure loss, `(s^2 / (s^2 + r^2))^2`, 0 to 1.

    Source: Geman and McClure, "Statistical methods for tomographic image reconstruction", 1987.
    """
    return (scale**2 / (scale**2 + squared)) ** 2


def align_coarsely(
    matches: NormalisedMatches,
    num_images: int,
    foreground_image: Tensor,
    foreground_norm: Tensor,
    scales: tuple[float, ...],
) -> CoarseAlignment:
    """Finds a mirror flag and an affine map for every photo from matches alone.

    Args:
        matches: Of any pairs of photos; wrong ones are expected.
        num_images: N.
        foreground_image: (F,) int64, the photo of each foreground point.
        foreground_norm: (F, 2) xy in [-1, 1]: the points that set the scale of canonical space.
        scales: Geman-McClure scales of the affine refinement, canonical distances, falling.

    Returns:
        The coarse alignment in the canonical gauge: of each group of photos that matches join, the foreground is
        centred with root-mean-square radius 0.5, the mean photo upright and most photos not mirrored. Photos without a
        match keep the identity's shape.
    """
    matches = NormalisedMatches(
        matches.image_a, matches.image_b, matches.points_a.double(), matches.points_b.double(), matches.weight.double()
    )
    votes = _vote(matches, num_images)
    group = _groups(matches, num_images)
    sign, votes = _synchronise_mirrors(votes, group)
    transform = _synchronise_similarities(votes, sign, group)
    points = _homogeneous(foreground_norm.double())
    transform = _gauge(transform, group, foreground_image, points)
    for _ in range(_PLACEMENTS):
        transform = _gauge(_place_among_others(transform, matches, num_images), group, foreground_image, points)
    similarity = transform
    for scale in scales:
        for _ in range(_STEPS_PER_SCALE):
            transform = _refine(transform, similarity, matches, scale, foreground_image, points)
    transform = _gauge(_limit_aspect(transform), group, foreground_image, points)
    residual, _, _ = _residuals(transform, matches)
    agreement = geman_mcclure(residual.square().sum(1), scales[-1]) * matches.weight
    support = _per_image(agreement, matches, num_images) / _per_image(matches.weight, matches, num_images).clamp_min(
        1e-12
    )
    return CoarseAlignment(transform[:, :2], torch.linalg.det(transform[:, :2, :2]) < 0, support)


def place_photo(points: Tensor, canonical: Tensor, weight: Tensor, scales: tuple[float, ...]) -> CoarseAlignment:
    """Finds one photo's mirror flag and affine map from correspondences whose canonical places are known.

    A robust similarity, mirrored or not, then an affine map held to it with the weight of `_HOLD` correspondences.

    Args:
        points: (M, 2) xy in [-1, 1] of the photo.
        canonical: (M, 2) where they should go; wrong ones are expected.
        weight: (M,) 0 or more.
        scales: Geman-McClure scales of the affine refinement, canonical distances, falling.

    Returns:
        The coarse alignment of this one photo.
    """
    points, canonical, weight = points.double(), canonical.double(), weight.double()
    group = torch.zeros(len(points), dtype=torch.int64)
    score, rotation, shift = _robust_similarities(group, 1, points, canonical, weight, _PLACE_SCALES, _PLACE_ZOOM)
    mirror = (score[:, 1] > score[:, 0]).long()[:, None]
    sign = torch.where(mirror[:, 0] > 0, -1.0, 1.0).double()
    similarity = _similarity(rotation.gather(1, mirror)[:, 0], shift.gather(1, mirror)[:, 0], sign)
    design, transform = _homogeneous(points), similarity
    for scale in scales:
        for _ in range(_STEPS_PER_SCALE):
            placed = design @ transform[0, :2].T
            trusted = geman_mcclure((placed - canonical).square().sum(1), scale) * weight
            held = weight * (_HOLD / weight.sum().clamp_min(1e-12))
            normal = design.T @ ((trusted + held)[:, None] * design) + 1e-9 * torch.eye(3, dtype=torch.float64)
            wanted = trusted[:, None] * canonical + held[:, None] * (design @ similarity[0, :2].T)
            transform = transform.clone()
            transform[0, :2] = torch.linalg.solve(normal, design.T @ wanted).T
    transform = _limit_aspect(transform)
    residual = (design @ transform[0, :2].T - canonical).square().sum(1)
    support = (geman_mcclure(residual, scales[-1]) * weight).sum() / weight.sum().clamp_min(1e-12)
    return CoarseAlignment(transform[:, :2], torch.linalg.det(transform[:, :2, :2]) < 0, support[None])


def place_both_ways(
    image: Tensor, num_images: int, points: Tensor, canonical: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Robust similarities of photos, unmirrored and mirrored, from correspondences whose canonical places are known.

    Args:
        image: (M,) int64, the photo of each correspondence.
        num_images: N.
        points: (M, 2) xy in [-1, 1] of the photo.
        canonical: (M, 2) where they should go; wrong ones are expected.
        weight: (M,) 0 or more.

    Returns:
        (N, 2) scores, 0 to 1, and (N, 2, 2, 3) maps: without mirroring first. A photo without correspondences scores 0.
    """
    score, rotation, shift = _robust_similarities(
        image, num_images, points.double(), canonical.double(), weight.double(), _PLACE_SCALES, _PLACE_ZOOM
    )
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).expand(num_images, 2)
    both = _similarity(rotation.flatten(), shift.flatten(), signs.flatten())
    return score, both[:, :2].reshape(num_images, 2, 2, 3)


@dataclass(frozen=True)
class _Votes:
    """For every pair (first, second) and mirror hypothesis: the similarity `q = rotation * p + shift`."""

    first: Tensor
    second: Tensor
    score: Tensor  # (P, 2)
    rotation: Tensor  # (P, 2) complex
    shift: Tensor  # (P, 2) complex


def _vote(matches: NormalisedMatches, num_images: int) -> _Votes:
    pair, row = torch.unique(matches.image_a * num_images + matches.image_b, return_inverse=True)
    score, rotation, shift = _robust_similarities(
        row, len(pair), matches.points_a, matches.points_b, matches.weight, _PAIR_SCALES, _PAIR_ZOOM
    )
    # Any two matches fit a similarity exactly, so only what they do not take up says anything.
    told = (1 - 2 / torch.bincount(row, minlength=len(pair)).double()).clamp_min(_LEAST_TOLD)
    return _Votes(pair // num_images, pair % num_images, score * told[:, None], rotation, shift)


def _groups(matches: NormalisedMatches, num_images: int) -> Tensor:
    """(N,) int64: the same for photos that a chain of matches joins, the lowest of their numbers."""
    counts = matches.weight > 0
    ends = torch.stack((matches.image_a[counts], matches.image_b[counts]))
    lowest = torch.arange(num_images)
    while True:
        joined = lowest.scatter_reduce(0, ends.flatten(), lowest[ends.flip(0)].flatten(), "amin")
        joined = joined[joined]
        if torch.equal(joined, lowest):
            return lowest
        lowest = joined


def _leading_eigenvectors(hermitian: Tensor, group: Tensor) -> Tensor:
    """(N,): of an (N, N) matrix, which is 0 between groups, each group's own leading eigenvector."""
    leading = torch.empty(len(hermitian), dtype=hermitian.dtype)
    for number in torch.unique(group).tolist():
        mine = torch.nonzero(group == number)[:, 0]
        leading[mine] = torch.linalg.eigh(hermitian[mine[:, None], mine]).eigenvectors[:, -1]
    return leading


def _robust_similarities(
    group: Tensor,
    num_groups: int,
    source: Tensor,
    target: Tensor,
    weight: Tensor,
    scales: tuple[float, ...],
    zoom: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """For each group of correspondences, the best similarity without and with mirroring the source first.

    Args:
        group: (M,) int64, the group of each correspondence.
        num_groups: G.
        source: (M, 2).
        target: (M, 2).
        weight: (M,).
        scales: Geman-McClure scales of the annealed fit, in the target's units, falling.
        zoom: Bounds of the similarity's scale.

    Returns:
        Scores (G, 2), 0 to 1; complex rotations (G, 2) with scale; complex shifts (G, 2).
    """
    total = partial(_summed, owner=group, count=num_groups)
    goal = torch.complex(*target.unbind(-1))
    mass = total(weight).clamp_min(1e-12)
    scores, rotations, shifts = [], [], []
    for mirror in (False, True):
        point = torch.complex(*source.unbind(-1))
        point = -point.conj() if mirror else point
        best = torch.full((num_groups,), -1.0, dtype=torch.float64)
        best_rotation = torch.ones(num_groups, dtype=point.dtype)
        best_shift = torch.zeros(num_groups, dtype=point.dtype)
        # Four starts a quarter turn apart: from any of them the annealed fit reaches the rotations around it.
        for quarter in range(4):
            rotation = torch.full((num_groups,), 1j**quarter * (zoom[0] * zoom[1]) ** 0.5, dtype=point.dtype)
            shift = torch.zeros(num_groups, dtype=point.dtype)
            for scale in scales:
                residual = (goal - rotation[group] * point - shift[group]).abs().square()
                trusted = geman_mcclure(residual, scale) * weight
                norm = total(trusted).clamp_min(1e-12)
                point_mean, goal_mean = total(trusted * point) / norm, total(trusted * goal) / norm
                centred = point - point_mean[group]
                spread = total(trusted * centred.abs().square()).clamp_min(1e-12)
                found = total(trusted * centred.conj() * (goal - goal_mean[group])) / spread
                length = found.abs()
                # A single correspondence has no direction: the rotation stays as it was.
                rotation = torch.where(length > 1e-9, found / length.clamp_min(1e-9) * length.clamp(*zoom), rotation)
                shift = goal_mean - rotation * point_mean
            residual = (goal - rotation[group] * point - shift[group]).abs().square()
            score = total(weight * scales[-1] ** 2 / (scales[-1] ** 2 + residual)) / mass
            better = score > best
            best = torch.where(better, score, best)
            best_rotation = torch.where(better, rotation, best_rotation)
            best_shift = torch.where(better, shift, best_shift)
        scores.append(best)
        rotations.append(best_rotation)
        shifts.append(best_shift)
    return torch.stack(scores, 1), torch.stack(rotations, 1), torch.stack(shifts, 1)


def _place_among_others(transform: Tensor, matches: NormalisedMatches, num_images: int) -> Tensor:
    """Places every photo anew where its matches with all the others, at their present places, want it.

    A photo whose pairs were too weak to vote its flag or angle right is put right by the collection as a whole.
    """
    _, end_a, end_b = _residuals(transform, matches)
    image = torch.cat((matches.image_a, matches.image_b))
    score, rotation, shift = _robust_similarities(
        image,
        num_images,
        torch.cat((matches.points_a, matches.points_b)),
        torch.cat((end_b, end_a))[:, :2],
        matches.weight.repeat(2),
        _PLACE_SCALES,
        _PLACE_ZOOM,
    )
    mirror = (score[:, 1] > score[:, 0]).long()[:, None]
    sign = torch.where(mirror[:, 0] > 0, -1.0, 1.0).double()
    placed = _similarity(rotation.gather(1, mirror)[:, 0], shift.gather(1, mirror)[:, 0], sign)
    matched = torch.bincount(image, minlength=num_images) > 0
    return torch.where(matched[:, None, None], placed, transform)


def _similarity(rotation: Tensor, shift: Tensor, sign: Tensor) -> Tensor:
    """(N, 3, 3) real matrices of `p -> rotation * p' + shift`, where p' is p with its x times `sign`."""
    transform = torch.zeros(len(rotation), 3, 3, dtype=torch.float64)
    transform[:, 0, 0], transform[:, 0, 1] = rotation.real * sign, -rotation.imag
    transform[:, 1, 0], transform[:, 1, 1] = rotation.imag * sign, rotation.real
    transform[:, 0, 2], transform[:, 1, 2] = shift.real, shift.imag
    transform[:, 2, 2] = 1
    return transform


def _synchronise_mirrors(votes: _Votes, group: Tensor) -> tuple[Tensor, _Votes]:
    """Signs +1 and -1 from the leading eigenvectors of the votes, and each pair's transform between unmirrored photos.

    Source: Singer, "Angular synchronization by eigenvectors and semidefinite programming", 2011, for the group Z_2.
    """
    ballot = torch.zeros(len(group), len(group), dtype=torch.float64)
    ballot[votes.first, votes.second] = votes.score[:, 0] - votes.score[:, 1]
    sign = torch.where(_leading_eigenvectors(ballot + ballot.T, group) < 0, -1.0, 1.0).double()
    sign = torch.where(_summed(sign, group, len(group))[group] < 0, -sign, sign)
    mirror = (sign[votes.first] != sign[votes.second]).long()[:, None]
    score, rotation, shift = (field.gather(1, mirror)[:, 0] for field in (votes.score, votes.rotation, votes.shift))
    # Seen in a mirrored second photo, q' = -conj(q): the rotation is conjugated and the shift mirrored.
    flipped = sign[votes.second] < 0
    rotation = torch.where(flipped, rotation.conj(), rotation)
    shift = torch.where(flipped, -shift.conj(), shift)
    return sign, _Votes(votes.first, votes.second, score, rotation, shift)


def _synchronise_similarities(votes: _Votes, sign: Tensor, group: Tensor) -> Tensor:
    """(N, 3, 3) similarities into one frame a group: angles by eigenvector, log scales and shifts by least squares."""
    num_images = len(group)
    first, second, weight = votes.first, votes.second, votes.score.square()
    angle = torch.zeros(num_images, num_images, dtype=votes.rotation.dtype)
    angle[first, second] = votes.rotation / votes.rotation.abs() * weight
    leading = _leading_eigenvectors(angle + angle.conj().T, group)
    leading = torch.where(leading.abs() < 1e-9, torch.ones_like(leading), leading)
    turn = leading / leading.abs()

    laplacian = torch.zeros(num_images, num_images, dtype=torch.float64)
    laplacian.index_put_((first, first), weight, accumulate=True)
    laplacian.index_put_((second, second), weight, accumulate=True)
    laplacian.index_put_((first, second), -weight, accumulate=True)
    laplacian.index_put_((second, first), -weight, accumulate=True)
    # A constant a group is free in both systems; pinning their means to zero makes them definite, and the last term
    # keeps them so where votes hardly count.
    together = (group[:, None] == group).double()
    laplacian = laplacian + together / together.sum(1) + 1e-9 * torch.eye(num_images, dtype=torch.float64)

    def solve(difference: Tensor) -> Tensor:
        right = torch.zeros(num_images, dtype=difference.dtype)
        right.index_add_(0, first, weight * difference)
        right.index_add_(0, second, -weight * difference)
        solution: Tensor = torch.linalg.solve(laplacian.to(difference.dtype), right)
        return solution

    turn = turn * solve(votes.rotation.abs().log()).exp()
    shift = solve(turn[second] * votes.shift)
    return _similarity(turn, shift, sign)


def _refine(
    transform: Tensor,
    similarity: Tensor,
    matches: NormalisedMatches,
    scale: float,
    foreground_image: Tensor,
    foreground: Tensor,
) -> Tensor:
    """One step: least squares for the Lie algebra element of each map, applied through the matrix exponential.

    Each map is also held to its similarity at the photo's foreground, with the weight of `_HOLD` matches. Wrong
    matches pull both ends towards the middle; with few photos, or an object that looks alike from both sides, nothing
    else keeps a map from being squeezed along the axis they disagree on.
    """
    num_images = len(transform)
    residual, end_a, end_b = _residuals(transform, matches)
    weight = geman_mcclure(residual.square().sum(1), scale) * matches.weight
    normal = torch.zeros(num_images * num_images, 3, 3, dtype=torch.float64)
    gradient = torch.zeros(num_images, 3, 2, dtype=torch.float64)
    for rows, row_end, row_sign in ((matches.image_a, end_a, 1.0), (matches.image_b, end_b, -1.0)):
        gradient.index_add_(0, rows, -row_sign * (weight[:, None] * row_end)[:, :, None] * residual[:, None, :])
        for cols, col_end, col_sign in ((matches.image_a, end_a, 1.0), (matches.image_b, end_b, -1.0)):
            block = (row_sign * col_sign * weight[:, None] * row_end)[:, :, None] * col_end[:, None, :]
            normal.index_add_(0, rows * num_images + cols, block)
    placed = (transform[foreground_image] @ foreground[..., None])[..., 0]
    offset = (placed - (similarity[foreground_image] @ foreground[..., None])[..., 0])[:, :2]
    share = _HOLD / torch.bincount(foreground_image, minlength=num_images).clamp_min(1).double()
    held = (share[foreground_image, None] * placed)[:, :, None]
    gradient.index_add_(0, foreground_image, -held * offset[:, None, :])
    normal.index_add_(0, foreground_image * (num_images + 1), held * placed[:, None, :])
    full = normal.reshape(num_images, num_images, 3, 3).transpose(1, 2).reshape(3 * num_images, 3 * num_images)
    mass = _per_image(weight, matches, num_images).clamp_min(1e-6)
    full = full + torch.diag(_DAMPING * mass.repeat_interleave(3))
    step = torch.linalg.solve(full, gradient.reshape(3 * num_images, 2)).reshape(num_images, 3, 2)
    algebra = torch.zeros(num_images, 3, 3, dtype=torch.float64)
    algebra[:, :2] = step.transpose(1, 2)
    refined: Tensor = torch.linalg.matrix_exp(algebra) @ transform
    return refined


def _residuals(transform: Tensor, matches: NormalisedMatches) -> tuple[Tensor, Tensor, Tensor]:
    end_a = (transform[matches.image_a] @ _homogeneous(matches.points_a)[..., None])[..., 0]
    end_b = (transform[matches.image_b] @ _homogeneous(matches.points_b)[..., None])[..., 0]
    return (end_a - end_b)[:, :2], end_a, end_b


def _limit_aspect(transform: Tensor) -> Tensor:
    """Keeps the ratio of an affine map's singular values in bounds: a sliver is a wrong fit, never a view."""
    left, singular, right = torch.linalg.svd(transform[:, :2, :2])
    mean = singular.prod(1, keepdim=True).sqrt()
    bounded = singular.clamp(mean / _MAX_ASPECT**0.5, mean * _MAX_ASPECT**0.5)
    limited = transform.clone()
    limited[:, :2, :2] = left @ torch.diag_embed(bounded) @ right
    return limited


def _gauge(transform: Tensor, group: Tensor, foreground_image: Tensor, points: Tensor) -> Tensor:
    """Of each group, centres the foreground, sets its radius, and turns the mean photo upright."""
    owner, count = group[foreground_image], len(group)
    mapped = (transform[foreground_image] @ points[..., None])[:, :2, 0]
    share = (1 / torch.bincount(foreground_image, minlength=len(transform)).clamp_min(1).double())[foreground_image]
    weight = (share / _summed(share, owner, count)[owner])[:, None]
    centre = _summed(weight * mapped, owner, count)
    radius = _summed(weight * (mapped - centre[owner]).square(), owner, count).sum(1).sqrt()
    zoom = torch.where(radius > 1e-9, CANONICAL_RADIUS / radius, 1.0)
    # The rotation nearest to a map, mirroring taken off, has the angle of (a + d, c - b).
    sign = torch.linalg.det(transform[:, :2, :2]).sign()
    cosine = transform[:, 0, 0] * sign + transform[:, 1, 1]
    sine = transform[:, 1, 0] * sign - transform[:, 0, 1]
    turn = _summed(torch.complex(cosine, sine), group, count)
    turn = torch.where(turn.abs() > 1e-9, turn / turn.abs(), 1.0)
    upright = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    linear = torch.stack((turn.real, turn.imag, -turn.imag, turn.real), 1).reshape(-1, 2, 2) * zoom[:, None, None]
    upright[:, :2, :2] = linear
    upright[:, :2, 2] = -(linear @ centre[..., None])[..., 0]
    gauged: Tensor = upright[group] @ transform
    return gauged


def _summed(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """(count, ...): sums of (M, ...) values over the owners (M,) that they have."""
    return torch.zeros(count, *values.shape[1:], dtype=values.dtype).index_add_(0, owner, values)


def _homogeneous(points: Tensor) -> Tensor:
    return torch.cat((points, torch.ones_like(points[..., :1])), -1)


def _per_image(values: Tensor, matches: NormalisedMatches, num_images: int) -> Tensor:
    return (
        torch.zeros(num_images, dtype=values.dtype)
        .index_add_(0, matches.image_a, values)
        .index_add_(0, matches.image_b, values)
    )
