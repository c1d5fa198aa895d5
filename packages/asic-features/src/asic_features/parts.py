"""Parts that the photos of a collection share, from clusters of descriptors."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from asic_features.crf import CrfSettings, mean_field
from asic_features.kmeans import assign, cluster, cluster_by_elbow
from asic_features.masks import tokens_to_square
from asic_flow.collection import TokenGrid, foreground_tokens

_EVERY = 20  # the elbow is found on so many fewer tokens
_LEAST_VOTES = 0.2  # share of the photos that must find a cluster on the object
_LEAST_COVER = 0.5  # share of a photo's tokens of a cluster that its mask must cover, for that photo's vote
_FIELD_CELL = 2  # side in pixels of the cells the field works on: a sixteenth of the work, 99 % of the pixels the same
_MOST_BACKGROUND = 14


def discover_parts(
    images: torch.Tensor,
    descriptors: torch.Tensor,
    masks: torch.Tensor,
    grid: TokenGrid,
    *,
    count: int = 4,
    seed: int = 0,
    field: CrfSettings | None = None,
) -> torch.Tensor:
    """Divide every object into parts that mean the same in all photos.

    The two stages of Amir et al., "Deep ViT features as dense visual descriptors" (2021), as ASIC (ICCV 2023) takes
    them: all tokens are clustered by the elbow and clusters voted foreground or background by the masks; foreground
    tokens are clustered again into parts. A pixel's cost for a part is the squared distance to its centre, for
    background that to the nearest background centre; a dense CRF draws the borders. The published votes hold a mean
    mask of 0.065 for enough, because those masks are stretched; here a mask must cover half of a cluster.

    Args:
        images: (N, S, S, 3) uint8.
        descriptors: (N, T, D) of unit length.
        masks: (N, S, S) uint8, probability of foreground times 255.
        grid: Where the tokens are.
        count: Number of parts.
        seed: Of the clustering.
        field: Kernels of the CRF, in model pixels.

    Returns:
        (N, S, S) uint8: 0 for background, 1 to ``count`` for parts. Never a part where the mask is empty.

    Raises:
        ValueError: Fewer foreground tokens than parts.
    """
    number, tokens, width = descriptors.shape
    size = images.shape[1]
    flat = descriptors.float().reshape(-1, width)
    foreground = foreground_tokens(masks, grid).flatten()
    first = cluster_by_elbow(flat[::_EVERY], most=_MOST_BACKGROUND, seed=seed)
    label, _ = assign(flat, first.centres)
    on_object = _vote(label.view(number, tokens), foreground.view(number, tokens), len(first.centres))
    candidates = foreground & on_object[label]
    if int(candidates.sum()) < count:
        candidates = foreground
    if int(candidates.sum()) < count:
        raise ValueError(f"expected at least {count} foreground tokens for {count} parts, got {int(candidates.sum())}")
    parts = cluster(flat[candidates], count, seed=seed).centres
    ground = first.centres[~on_object] if not bool(on_object.all()) else flat[~foreground].mean(dim=0, keepdim=True)
    field = field or CrfSettings()
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
        answers.append(whole.argmax(dim=0).to(torch.uint8) * bool(mask.amax() >= 128))
    return torch.stack(answers)


def _vote(label: torch.Tensor, foreground: torch.Tensor, clusters: int) -> torch.Tensor:
    """(K,) bool: whether enough of the photos find the cluster on their object."""
    member = functional.one_hot(label, clusters).float()
    size = member.sum(dim=1)
    covered = (member * foreground.unsqueeze(-1)).sum(dim=1) / size.clamp_min(1)
    votes = (covered > _LEAST_COVER) & (size > 0)
    return votes.float().mean(dim=0) >= _LEAST_VOTES
