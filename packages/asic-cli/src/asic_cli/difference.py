"""Where two runs on the same photos answer differently."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from asic_flow.alignment import Alignment
from asic_flow.grid import pixel_to_norm
from asic_flow.kernels import warp_bilinear

GRID_SIDE = 32


@dataclass(frozen=True, eq=False)
class Difference:
    """How far apart the answers of two runs are, in shares of the model frame's longer side.

    Attributes:
        by_place: (N, 32, 32), the median over all other photos of the distance between both runs' counterparts of
            that place; NaN where the first run sees no object.
        by_photo: (N,) means of these; NaN for a photo without an object.
    """

    by_place: Tensor
    by_photo: Tensor


def in_frame_of(alignment: Alignment, frame: Alignment) -> Alignment:
    """A run's maps as if its photos had been placed like another run's.

    Args:
        alignment: The run.
        frame: Another, of the same photos in the same order, perhaps at another size or cut otherwise.

    Raises:
        ValueError: The photos differ.
    """
    ours, theirs = ([(photo.path, photo.pixels_sha256) for photo in run.photos] for run in (frame, alignment))
    if ours != theirs:
        lone = sorted(f"{path} is in one only" for path, _ in set(ours) ^ set(theirs)) or ["they are in another order"]
        raise ValueError(f"expected two runs of the same photos, but {lone[0]}")
    height, width = frame.size_hw
    y, x = np.mgrid[:height, :width]
    pixels = np.stack((x, y), -1)
    points = torch.from_numpy(
        np.stack(
            [there.to_model(here.to_image(pixels)) for here, there in zip(frame.photos, alignment.photos, strict=True)]
        )
    ).float()
    norm = pixel_to_norm(points, alignment.size_hw)
    inside = (norm.abs() <= 1).all(-1)
    second = alignment.second
    return replace(
        alignment,
        photos=frame.photos,
        maps=_moved(alignment.maps, norm),
        second=replace(second, maps=_moved(second.maps, norm[second.photo])),
        confidence=warp_bilinear(alignment.confidence[:, None].contiguous(), norm)[:, 0] * inside,
        foreground=(warp_bilinear(alignment.foreground[:, None].float(), norm)[:, 0] > 0.5) & inside,
    )


def compare_answers(first: Alignment, second: Alignment) -> Difference:
    """Carries a grid of places of every photo to all others by both runs' canonical maps.

    Args:
        first: A run.
        second: Another, in the first one's frame; see `in_frame_of`.
    """
    count, (height, width) = len(first), first.size_hw
    rows = ((torch.arange(GRID_SIDE) + 0.5) * height / GRID_SIDE).long()
    columns = ((torch.arange(GRID_SIDE) + 0.5) * width / GRID_SIDE).long()
    by_place = torch.full((count, GRID_SIDE, GRID_SIDE), torch.nan)
    for photo in range(count):
        shown = first.foreground[photo][rows][:, columns]
        apart = torch.full((count, int(shown.sum())), torch.nan)
        for other in set(range(count)) - {photo}:
            answers = []
            for run in (first, second):
                here, there = run.maps_between(photo, other)
                answers.append(run.look_up(run.numbered_map(here)[rows][:, columns][shown], there)[0])
            apart[other] = (answers[0] - answers[1]).norm(dim=-1) / max(height, width)
        by_place[photo][shown] = apart.nanmedian(0).values
    return Difference(by_place, by_place.flatten(1).nanmean(1))


def _moved(maps: Tensor, norm: Tensor) -> Tensor:
    """(N, H, W, 2) maps read at normalised points."""
    return warp_bilinear(maps.permute(0, 3, 1, 2).contiguous(), norm).permute(0, 2, 3, 1).contiguous()
