"""Maps of a video's frames, made steady: what is carried by them moves with the object and does not tremble."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from asic_cli.viewer.canonical import CanonicalWindow, open_window
from asic_flow.alignment import Alignment
from asic_flow.grid import pixel_to_norm
from asic_flow.kernels import warp_bilinear
from asic_flow.sides import SecondMaps

_COARSER = 3
_LEAST_WEIGHT = 1e-3
# Ties a way to standing still where too few frames show a place; small beside one sure frame.
_TIE = 1e-3
_ROUNDS = 2


@torch.no_grad()
def steady(alignment: Alignment, reach: int) -> Alignment:
    """Smooths maps over time.

    Every place of canonical space makes its way through the frames that show it. Each frame's place on that way is
    fitted anew by a weighted quadratic through the frames around it, so that even motion and its acceleration stay, and
    the frame's map is bent accordingly. Confidence is averaged along the same ways.

    Args:
        alignment: Maps of frames, in their order in time.
        reach: How many frames before and after count, less and less.

    Returns:
        The same photos with other maps and confidence. A frame that has a second map is given the one whose mirror flag
        most frames share; no second maps are left, so that no frame is carried to by another map than its neighbours.

    Raises:
        ValueError: `reach` is below 1.

    Source: Savitzky and Golay, "Smoothing and differentiation of data by simplified least squares procedures", 1964;
        Cleveland, "Robust locally weighted regression", 1979, for the weights.
    """
    if reach < 1:
        raise ValueError(f"reach must be 1 frame or more, got {reach}; leave the maps as they are instead")
    alignment = _facing_one_way(alignment)
    window = open_window(alignment.arrays)
    places, weight, sureness = _ways(alignment, window)
    offset = torch.zeros_like(places)
    smooth_sureness = torch.zeros_like(sureness)
    for frame in range(len(alignment)):
        near = range(max(0, frame - reach), min(len(alignment), frame + reach + 1))
        kernel = torch.tensor([(1 - (abs(other - frame) / (reach + 1)) ** 3) ** 3 for other in near])
        # A photo of the other flag shows the object from the other side, so no way leads on from there.
        kernel = kernel * (alignment.mirrored[list(near)] == alignment.mirrored[frame])
        time = torch.tensor([float(other - frame) / reach for other in near])
        share = weight[list(near)] * kernel[:, None, None]
        offset[frame] = _fitted(places[list(near)], share, time) - places[frame]
        seen = (weight[list(near)] > 0) * kernel[:, None, None]
        smooth_sureness[frame] = (sureness[list(near)] * seen).sum(0) / seen.sum(0).clamp_min(1e-6)
    offset = _spread(offset * weight[..., None], weight)
    maps, confidence = alignment.maps, alignment.confidence
    for _ in range(_ROUNDS):
        maps = _bent(alignment.maps, _read_window(offset, window, maps))
    shown = _read_window(
        _spread(smooth_sureness[..., None] * (weight[..., None] > 0), (weight > 0).float()), window, maps
    )
    confidence = shown[..., 0].clamp(0, 1) * alignment.foreground
    return replace(alignment, maps=maps, confidence=confidence)


def _facing_one_way(alignment: Alignment) -> Alignment:
    """Frames that could be mapped either way, mapped as most frames are."""
    common = bool(alignment.mirrored.float().mean() > 0.5)
    maps, mirrored = alignment.maps.clone(), alignment.mirrored.clone()
    for row, photo in enumerate(alignment.second.photo.tolist()):
        if bool(mirrored[photo]) != common:
            maps[photo], mirrored[photo] = alignment.second.maps[row], common
    return replace(alignment, maps=maps, mirrored=mirrored, second=SecondMaps.none(alignment.size_hw))


def _ways(alignment: Alignment, window: CanonicalWindow) -> tuple[Tensor, Tensor, Tensor]:
    """(N, h, w, 2) model pixels of canonical places, (N, h, w) their weights, 0 where unseen, and their confidence."""
    every = (slice(None), slice(None, None, _COARSER), slice(None, None, _COARSER))
    places, visible = torch.from_numpy(window.points_px[every]), torch.from_numpy(window.visible[every])
    norm = pixel_to_norm(places, alignment.size_hw)
    sureness = warp_bilinear(alignment.confidence[:, None].contiguous(), norm.contiguous())[:, 0]
    weight = (sureness + _LEAST_WEIGHT) * visible
    return places, weight, sureness


def _fitted(places: Tensor, share: Tensor, time: Tensor) -> Tensor:
    """(h, w, 2): weighted quadratics through places (F, h, w, 2) at times (F,), at time 0."""
    powers = torch.stack([time**power for power in range(3)])
    normal = torch.einsum("fhw,if,jf->hwij", share, powers, powers)
    right = torch.einsum("fhw,if,fhwk->hwik", share, powers, places)
    tie = torch.diag(torch.tensor([1e-9, _TIE, _TIE]))
    solved: Tensor = torch.linalg.solve(normal + tie, right)[..., 0, :]
    return solved


def _spread(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted means (N, h, w, C) over neighbours, so that what borders on unseen places is as its surroundings."""
    total = avg_pool2d(values.permute(0, 3, 1, 2), 5, 1, 2)
    return (total / avg_pool2d(weight[:, None], 5, 1, 2).clamp_min(1e-6)).permute(0, 2, 3, 1)


def _read_window(values: Tensor, window: CanonicalWindow, maps: Tensor) -> Tensor:
    """(N, H, W, C): values (N, h, w, C) on a window's coarser grid, at the canonical places of all pixels."""
    left, top, right, bottom = window.box_xyxy
    height, width = window.visible.shape[1:]
    rows, columns = values.shape[1:3]
    # The coarser grid starts with the window's first pixel and ends up to two before its last.
    span = torch.tensor([(columns - 1) * _COARSER / (width - 1), (rows - 1) * _COARSER / (height - 1)])
    size = torch.tensor([right - left, bottom - top]) * span
    norm = (maps - torch.tensor([left, top])) / size * 2 - 1
    return warp_bilinear(values.permute(0, 3, 1, 2).contiguous(), norm.contiguous()).permute(0, 2, 3, 1)


def _bent(maps: Tensor, offset: Tensor) -> Tensor:
    """(N, H, W, 2): maps read where each pixel lay before it was moved by an offset in pixels."""
    height, width = maps.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    norm = pixel_to_norm(torch.stack((x, y), -1) - offset, (height, width))
    return warp_bilinear(maps.permute(0, 3, 1, 2).contiguous(), norm.contiguous()).permute(0, 2, 3, 1).contiguous()
