"""The object that all photos of a collection share, told from their backgrounds.

Saliency points at the object in most photos, but misses parts of it and takes in other things; what recurs from photo
to photo is the object too. What the two point at together is taken as the first labelling of a linear discriminant
(Fisher, 1936) between foreground and background over the whole collection, whose answer is the next labelling, and so
on: what is salient in some photos is then found in all. A last discriminant for each photo's own colours draws the
outline.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from asic_features.colour import blur
from asic_flow.collection import TokenGrid

_ROUNDS = 3
_STEEPNESS = 3.0  # from scores of unit spread to probabilities
_BINS = 128
_RIM = 2  # tokens
_OTHERS = 8  # photos


def cosegment(
    features: torch.Tensor, scores: torch.Tensor, inside: torch.Tensor, *, ridge: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spread a first guess over a collection by what the places look like.

    Args:
        features: (N, R, C, D) of every place.
        scores: (N, R, C) first guess from ``seed_scores``: positive where the object is thought to be.
        inside: (N, R, C) bool, where photos are.
        ridge: Added to the variance of each feature, as a share of the mean variance.

    Returns:
        (N, R, C) scores of unit spread, and (N,) evidence: how far a photo's best place lies on the object's side by
        its features alone, in units of their spread over the collection.
    """
    weight = inside.float()
    probability = torch.sigmoid(_STEEPNESS * scores) * weight
    for _ in range(_ROUNDS):
        found = _discriminant(features.flatten(0, 2), probability.flatten(), weight.flatten(), ridge)
        found = _smooth(_unit_spread(found.view_as(scores)))
        answer = _smooth(scores) + found
        probability = torch.sigmoid(_STEEPNESS * answer) * weight
    return _unit_spread(answer), (found * weight).flatten(1).amax(dim=1)


def outline(features: torch.Tensor, scores: torch.Tensor, inside: torch.Tensor, *, ridge: float) -> torch.Tensor:
    """Redraw each photo's scores along its own edges: ``cosegment`` for each photo by itself.

    Args:
        features: (N, R, C, D), the photo's own colours.
        scores: (N, R, C) of unit spread.
        inside: (N, R, C) bool.
        ridge: As in ``cosegment``.

    Returns:
        (N, R, C) probability of foreground, 0 outside.
    """
    photos = zip(features, scores, inside, strict=True)
    answers = [cosegment(photo[None], score[None], there[None], ridge=ridge)[0] for photo, score, there in photos]
    return torch.sigmoid(_STEEPNESS * torch.cat(answers)) * inside


def seed_scores(saliency: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """First guess from saliency: smoothed, each photo's threshold by Otsu (1979) taken off, unit spread over all.

    Args:
        saliency: (N, R, C) in [0, 1].
        inside: (N, R, C) bool.
    """
    smooth = _smooth(saliency)
    thresholds = torch.stack([_otsu(values[there]) for values, there in zip(smooth, inside, strict=True)])
    return _unit_spread(smooth - thresholds.view(-1, 1, 1))


def recurrence(descriptors: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """How well each place is found again in other photos: what they share is the object, not its surroundings.

    The mean, over the better half of at most eight other photos, of a token's best cosine similarity there. Tokens at
    the photos' rim neither ask nor answer: networks mark the rim, so it would be found again everywhere.

    Args:
        descriptors: (N, T, D), two photos or more.
        grid: Where the tokens are.

    Returns:
        (N, rows, cols); the rim has its photo's lowest value.
    """
    count = len(descriptors)
    centred = functional.normalize(descriptors.float() - descriptors.float().mean(dim=(0, 1)), dim=-1)
    rim = min(_RIM, (min(grid.rows, grid.cols) - 1) // 2)
    places = centred.view(count, grid.rows, grid.cols, -1)
    inner = places[:, rim : grid.rows - rim, rim : grid.cols - rim]
    flat = inner.flatten(1, 2)
    step = max(1, (count - 1) // _OTHERS)
    found = torch.empty(flat.shape[:2], device=flat.device)
    for index in range(count):
        others = [(index + 1 + turn * step) % count for turn in range(min(_OTHERS, count - 1))]
        best = torch.stack([(flat[index] @ flat[other].T).amax(dim=1) for other in others])
        found[index] = best.topk((len(others) + 1) // 2, dim=0).values.mean(dim=0)
    whole = found.amin(dim=1).view(-1, 1, 1).repeat(1, grid.rows, grid.cols)
    whole[:, rim : grid.rows - rim, rim : grid.cols - rim] = found.view(inner.shape[:3])
    return whole


def _discriminant(
    features: torch.Tensor, probability: torch.Tensor, weight: torch.Tensor, ridge: float
) -> torch.Tensor:
    """(S,) signed distances from the plane that best tells places of high from places of low probability."""
    object_weight = weight * probability
    ground_weight = weight * (1 - probability)
    object_mean = object_weight @ features / object_weight.sum().clamp_min(1e-6)
    ground_mean = ground_weight @ features / ground_weight.sum().clamp_min(1e-6)
    centred = features - (probability[:, None] * object_mean + (1 - probability[:, None]) * ground_mean)
    scatter = (centred * weight[:, None]).T @ centred / weight.sum().clamp_min(1)
    scatter.diagonal().add_(ridge * scatter.diagonal().mean() + 1e-12)
    normal = torch.linalg.solve(scatter, object_mean - ground_mean)
    distances: torch.Tensor = features @ normal - normal @ (object_mean + ground_mean) / 2
    return distances


def _smooth(maps: torch.Tensor) -> torch.Tensor:
    return blur(maps[:, None], 1.0)[:, 0]


def _unit_spread(scores: torch.Tensor) -> torch.Tensor:
    return scores / scores.std().clamp_min(1e-6)


def _otsu(values: torch.Tensor) -> torch.Tensor:
    """Threshold with the largest variance between the two sides; the middle of a gap that holds no value."""
    if not len(values):
        return torch.tensor(0.0)
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return torch.tensor(high)
    counts = torch.histc(values, _BINS, low, high)
    centres = low + (torch.arange(_BINS, device=values.device) + 0.5) * (high - low) / _BINS
    below = counts.cumsum(0)
    sum_below = (counts * centres).cumsum(0)
    total, mean = below[-1], sum_below[-1]
    between = (mean * below / total - sum_below).square() / (below * (total - below)).clamp_min(1)
    best = between[:-1] >= between[:-1].max() * (1 - 1e-6)
    return centres[:-1][best].mean()
