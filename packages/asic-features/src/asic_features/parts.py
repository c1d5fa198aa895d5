"""Parts that the photos of a collection share, from clusters of descriptors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from asic_features.config import PartStages
from asic_features.crf import CrfSettings, mean_field
from asic_features.kmeans import assign, cluster, cluster_by_elbow
from asic_features.masks import MaskError, tokens_to_square
from asic_flow.collection import FOREGROUND_THRESHOLD, TokenGrid, foreground_tokens

_EVERY = 20  # the elbow is found on so many fewer tokens
_LEAST_VOTES = 0.2  # share of the photos that must find a cluster on the object
_LEAST_COVER = 0.5  # share of a photo's tokens of a cluster that its mask must cover, for that photo's vote
_FIELD_CELL = 2  # side in pixels of the cells the field works on: a sixteenth of the work, 99 % of the pixels the same
_MOST_CLUSTERS = 14
_SECOND_ELBOW = 0.94
_LEAST_SCALE = 0.9  # of an augmentation's crop


@dataclass(frozen=True)
class Augmented:
    """Changed copies of the photos, which join the clustering and nothing else.

    Attributes:
        descriptors: (A, T, D) of unit length.
        masks: (A, S, S) uint8.
    """

    descriptors: torch.Tensor
    masks: torch.Tensor


def augment(images: torch.Tensor, masks: torch.Tensor, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One changed copy of each photo: a square crop of 0.9 to 1 of its side, every other one mirrored at random.

    Args:
        images: (N, S, S, 3) uint8.
        masks: (N, S, S) uint8.
        seed: Of the crops and of what is mirrored.

    Returns:
        Images and masks of the shapes given.
    """
    size = images.shape[1]
    draws = torch.rand(len(images), 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    copies, shapes = [], []
    for image, mask, (scale, across, down, flip) in zip(images, masks, draws.tolist(), strict=True):
        side = round(size * (_LEAST_SCALE + (1 - _LEAST_SCALE) * scale))
        left, top = round(across * (size - side)), round(down * (size - side))
        both = torch.cat([image.permute(2, 0, 1), mask[None]]).float()[None, :, top : top + side, left : left + side]
        both = functional.interpolate(both, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        whole = both[0].round().clamp(0, 255).to(torch.uint8)
        whole = whole.flip(-1) if flip >= 0.5 else whole
        copies.append(whole[:3].permute(1, 2, 0))
        shapes.append(whole[3])
    return torch.stack(copies), torch.stack(shapes)


def discover_parts(
    images: torch.Tensor,
    descriptors: torch.Tensor,
    masks: torch.Tensor,
    grid: TokenGrid,
    *,
    count: int = 4,
    stages: PartStages = 2,
    augmented: Augmented | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """Divide every object into parts that mean the same in all photos.

    The stages of Amir et al., "Deep ViT features as dense visual descriptors" (2021), as ASIC (ICCV 2023) takes
    them: all tokens are clustered by the elbow and clusters voted foreground or background by the masks. With two
    stages foreground tokens are then clustered into parts. With three they are clustered by an elbow first, and only
    the clusters that every photo with an object shows go into the parts, the others to the background: for few photos
    with much that distracts. A pixel's cost for a part is the squared distance to its centre, for background that to
    the nearest background centre; a dense CRF draws the borders. The published votes hold a mean mask of 0.065 for
    enough, because those masks are stretched; here a mask must cover half of a cluster.

    Args:
        images: (N, S, S, 3) uint8.
        descriptors: (N, T, D) of unit length.
        masks: (N, S, S) uint8, probability of foreground times 255.
        grid: Where the tokens are.
        count: Number of parts.
        stages: 2 or 3.
        augmented: Copies that join the clustering, or None.
        seed: Of the clustering.

    Returns:
        (N, S, S) uint8: 0 for background, 1 to ``count`` for parts, all of them within the mask.

    Raises:
        MaskError: Fewer foreground tokens than parts.
    """
    number = len(descriptors)
    size = images.shape[1]
    everything = descriptors if augmented is None else torch.cat([descriptors, augmented.descriptors])
    all_masks = masks if augmented is None else torch.cat([masks, augmented.masks])
    flat = everything.float().flatten(0, 1)
    foreground = foreground_tokens(all_masks, grid)
    first = cluster_by_elbow(flat[::_EVERY], most=_MOST_CLUSTERS, seed=seed)
    label = assign(flat, first.centres)[0].view(foreground.shape)
    on_object = _vote(label[:number], foreground[:number], len(first.centres))
    ground = first.centres[~on_object]
    candidates = foreground & on_object[label]
    if stages == 3 and int(candidates.sum()) >= count:
        candidates, distracting = _keep_shared(flat, candidates, masks, number, seed)
        ground = torch.cat([ground, distracting])
    if int(candidates.sum()) < count:
        candidates = foreground
    if int(candidates.sum()) < count:
        raise MaskError(f"expected at least {count} foreground tokens for {count} parts, got {int(candidates.sum())}")
    parts = cluster(flat[candidates.flatten()], count, seed=seed).centres
    if not len(ground):
        # Nothing to tell background by: the tokens off the object, or the origin where there is none.
        outside = flat[~foreground.flatten()]
        ground = outside.sum(dim=0, keepdim=True) / max(1, len(outside))
    field = CrfSettings()
    shrunk = replace(field, smooth_px=field.smooth_px / _FIELD_CELL, bilateral_px=field.bilateral_px / _FIELD_CELL)
    cells = size // _FIELD_CELL
    small = functional.interpolate(images.permute(0, 3, 1, 2).float(), size=(cells, cells), mode="area")
    small = small.round().to(torch.uint8).permute(0, 2, 3, 1)
    answers = []
    for image, mask, rows in zip(small, masks, descriptors.float(), strict=True):
        distance = torch.cdist(rows, torch.cat([ground, parts])).square()
        cost = torch.cat([distance[:, : len(ground)].amin(dim=1, keepdim=True), distance[:, len(ground) :]], dim=1)
        maps = tokens_to_square(cost.T.reshape(count + 1, grid.rows, grid.cols), grid, size, cells)
        share = mean_field(image, maps, shrunk)
        whole = functional.interpolate(share[None], size=(size, size), mode="bilinear", align_corners=False)[0]
        answers.append(whole.argmax(dim=0).to(torch.uint8) * (mask >= FOREGROUND_THRESHOLD))
    return torch.stack(answers)


def _keep_shared(
    flat: torch.Tensor, candidates: torch.Tensor, masks: torch.Tensor, number: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The candidates (A, T) in clusters that every photo with an object shows, and the other clusters' centres."""
    rows = candidates.flatten().nonzero()[:, 0]
    second = cluster_by_elbow(flat[rows], most=_MOST_CLUSTERS, ratio=_SECOND_ELBOW, seed=seed)
    photo = rows // candidates.shape[1]
    shown = torch.zeros(len(candidates), len(second.centres), dtype=torch.bool, device=flat.device)
    shown[photo, second.label] = True
    has_object = masks.flatten(1).amax(dim=1) >= FOREGROUND_THRESHOLD
    shared = shown[:number][has_object].all(dim=0)
    kept = torch.zeros_like(candidates).flatten()
    kept[rows] = shared[second.label]
    return kept.view_as(candidates), second.centres[~shared]


def _vote(label: torch.Tensor, foreground: torch.Tensor, clusters: int) -> torch.Tensor:
    """(K,) bool: whether enough of the photos find the cluster on their object."""
    member = functional.one_hot(label, clusters).float()
    size = member.sum(dim=1)
    covered = (member * foreground.unsqueeze(-1)).sum(dim=1) / size.clamp_min(1)
    votes = (covered > _LEAST_COVER) & (size > 0)
    return votes.float().mean(dim=0) >= _LEAST_VOTES
