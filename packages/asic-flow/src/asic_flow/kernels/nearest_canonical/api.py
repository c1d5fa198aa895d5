"""Canonical look-up: validation, dispatch, refinement and confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asic_flow.kernels.dispatch import Implementation, load_implementation
from asic_flow.kernels.finite import all_finite
from asic_flow.kernels.nearest_canonical.search import Search
from asic_flow.kernels.nearest_canonical.subpixel import tangents


@dataclass(frozen=True)
class CanonicalNeighbours:
    """Where canonical points lie in images.

    Attributes:
        points_px: (I, P, 2) float32 xy in each image's pixels; NaN in an image without foreground.
        distance: (I, P) float32 canonical distance that remains there; infinite in an image without foreground.
        ratio: (I, P) float32 canonical distance of the nearest pixel over that of the nearest one outside its basin:
            near 0 when the answer is unique, near 1 when another part of the image answers as well (both at distance
            0 count as 1). `None` when no basin was asked for.
        visible: (I, P) bool, whether the distance is within the limit.
    """

    points_px: Tensor
    distance: Tensor
    ratio: Tensor | None
    visible: Tensor


class CanonicalIndex:
    """Canonical maps prepared for look-ups: build once for a collection, ask often.

    Args:
        maps: (N, H, W, 2) float32 canonical coordinates of every pixel, finite on the foreground.
        foreground: (N, H, W) bool.
        impl: `"auto"` takes Triton on CUDA and KD-trees on the CPU; a named one never falls back.

    Raises:
        ValueError: shapes or devices that do not fit, or foreground coordinates that are not finite.
        TypeError: dtypes that do not fit.
    """

    @torch.no_grad()
    def __init__(self, maps: Tensor, foreground: Tensor, *, impl: Implementation = "auto") -> None:
        if maps.ndim != 4 or maps.shape[-1] != 2 or 0 in maps.shape[1:3]:
            raise ValueError(f"maps must be (N, H, W, 2) with pixels, got shape {tuple(maps.shape)}; put xy last")
        if maps.dtype != torch.float32:
            raise TypeError(f"maps must be float32, got {maps.dtype}; 16 bits cannot tell neighbouring pixels apart")
        if foreground.shape != maps.shape[:3]:
            raise ValueError(
                f"foreground must be {tuple(maps.shape[:3])}, got {tuple(foreground.shape)}; one flag a pixel"
            )
        if foreground.dtype != torch.bool:
            raise TypeError(f"foreground must be bool, got {foreground.dtype}; threshold the mask first")
        if foreground.device != maps.device:
            raise ValueError(f"foreground must be on {maps.device} with the maps, got {foreground.device}; use .to()")
        module = load_implementation("nearest_canonical", impl, maps.device)
        maps = maps.detach().contiguous()
        foreground = foreground.contiguous()
        self._tangents = tangents(maps, foreground)
        if not all_finite(self._tangents.coordinates):
            raise ValueError(
                "maps must be finite on the foreground, got NaN or infinite coordinates; mask those pixels out"
            )
        self._search: Search = module.build(maps, foreground)

    def __len__(self) -> int:
        return len(self._tangents.rows)

    @torch.no_grad()
    def nearest(
        self,
        points: Tensor,
        *,
        images: Sequence[int] | None = None,
        max_distance: float = 0.1,
        basin_px: float | None = None,
    ) -> CanonicalNeighbours:
        """Find canonical points in images: the nearest foreground pixel, then one Newton step between pixels.

        Exact; among equal distances the lowest pixel (row by row) wins. Not differentiable. Bit-stable.

        Args:
            points: (P, 2) float32 canonical points to find in every image, or (I, P, 2) for one set an image.
            images: the I images to search; all by default.
            max_distance: canonical distance up to which a point counts as visible; 0.1 is a twentieth of the side.
            basin_px: radius in pixels of the neighbourhood that counts as the same answer; `None` skips the ratio.

        Raises:
            ValueError: shapes, devices, images or limits that do not fit, or points that are not finite.
            TypeError: points that are not float32.
        """
        chosen = list(range(len(self))) if images is None else list(images)
        if not all(0 <= image < len(self) for image in chosen):
            raise ValueError(f"images must be within 0 to {len(self) - 1}, got {chosen}; count from 0")
        if points.ndim not in (2, 3) or points.shape[-1] != 2 or (points.ndim == 3 and len(points) != len(chosen)):
            expected = f"(P, 2) or ({len(chosen)}, P, 2)"
            raise ValueError(f"points must be {expected}, got shape {tuple(points.shape)}; give one set an image")
        if points.dtype != torch.float32:
            raise TypeError(f"points must be float32, got {points.dtype}; convert them with .float()")
        if points.device != self._tangents.rows.device:
            raise ValueError(
                f"points must be on {self._tangents.rows.device} with the maps, got {points.device}; use .to()"
            )
        if not all_finite(points):
            raise ValueError("points must be finite, got NaN or infinite ones; drop absent points before the look-up")
        if not max_distance >= 0 or (basin_px is not None and not basin_px >= 0):
            raise ValueError(
                f"max_distance and basin_px must be 0 or more, got {max_distance} and {basin_px}; mind NaN"
            )
        queries = points.expand(len(chosen), -1, -1).contiguous()
        pixel, distance = self._search.search(queries, chosen)
        place, remaining = self._tangents.refine(queries, chosen, pixel)
        remaining.nan_to_num_(nan=torch.inf)
        ratio = None
        if basin_px is not None:
            _, second = self._search.search(queries, chosen, (pixel, basin_px))
            ratio = torch.where(second > 0, distance / second, 1).where(pixel >= 0, torch.nan)
        return CanonicalNeighbours(place, remaining, ratio, remaining <= max_distance)


def nearest_canonical(
    points: Tensor,
    maps: Tensor,
    foreground: Tensor,
    *,
    max_distance: float = 0.1,
    basin_px: float | None = None,
    impl: Implementation = "auto",
) -> CanonicalNeighbours:
    """Find canonical points in all images in one call; see `CanonicalIndex`, which serves many calls.

    >>> rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    >>> maps = torch.stack((columns, rows), -1)[None] / 4
    >>> found = nearest_canonical(torch.tensor([[0.3, 0.5]]), maps, torch.ones(1, 4, 4, dtype=torch.bool))
    >>> [round(value, 3) for value in found.points_px[0, 0].tolist()]
    [1.2, 2.0]
    """
    index = CanonicalIndex(maps, foreground, impl=impl)
    return index.nearest(points, max_distance=max_distance, basin_px=basin_px)
