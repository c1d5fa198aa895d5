# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Canonical look-up in Triton: tiles of all foreground pixels, or buckets of canonical space when those are many.

Distances are squared in float32; among equal ones the lowest pixel wins, so answers are bit-stable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE_POINTS = 32
TILE_PIXELS = 64
TILE_WARPS = 4
BUCKET_LANES = 64
BUCKET_WARPS = 1
# Foreground pixels an image from which buckets are used, and how many should share one.
BUCKETS_FROM = 4096
PIXELS_A_BUCKET = 8

NOTHING = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def _in_basin(o_pixels, centre, width, radius):
    """Whether pixels lie within a radius of a centre pixel of the image."""
    down = o_pixels // width - centre // width
    across = o_pixels % width - centre % width
    return (down * down + across * across).to(tl.float32) <= radius * radius


@triton.jit
def tile_search_kernel(
    p_pixel,
    p_distance,
    p_points,
    p_images,
    p_starts,
    p_coordinates,
    p_pixels,
    p_centres,
    num_points,
    width,
    radius,
    BASIN: tl.constexpr,
    TILE_POINTS: tl.constexpr,
    TILE_PIXELS: tl.constexpr,
):
    """Compare a tile of points with every foreground pixel of one image."""
    i_set = tl.program_id(1).to(tl.int64)
    i_image = tl.load(p_images + i_set)
    begin = tl.load(p_starts + i_image)
    count = (tl.load(p_starts + i_image + 1) - begin).to(tl.int32)
    p_coordinates += begin * 2
    p_pixels += begin
    # of shape [TILE_POINTS]
    o_points = tl.program_id(0) * TILE_POINTS + tl.arange(0, TILE_POINTS)
    m_points = o_points < num_points
    x = tl.load(p_points + (i_set * num_points + o_points) * 2, mask=m_points, other=0.0)
    y = tl.load(p_points + (i_set * num_points + o_points) * 2 + 1, mask=m_points, other=0.0)
    if BASIN:
        centre = tl.load(p_centres + i_set * num_points + o_points, mask=m_points, other=0).to(tl.int32)
    o_lanes = tl.arange(0, TILE_PIXELS)
    # of shape [TILE_POINTS, TILE_PIXELS] every lane keeps its own best, so that nothing is reduced inside the loop.
    best = tl.full([TILE_POINTS, TILE_PIXELS], float("inf"), tl.float32)
    best_start = tl.zeros([TILE_POINTS, TILE_PIXELS], tl.int32)
    for start in range(0, count, TILE_PIXELS):
        m_pixels = start + o_lanes < count
        pixel_x = tl.load(p_coordinates + (start + o_lanes) * 2, mask=m_pixels, other=float("inf"))
        pixel_y = tl.load(p_coordinates + (start + o_lanes) * 2 + 1, mask=m_pixels, other=0.0)
        across = x[:, None] - pixel_x[None, :]
        down = y[:, None] - pixel_y[None, :]
        squared = across * across + down * down
        if BASIN:
            o_pixels = tl.load(p_pixels + start + o_lanes, mask=m_pixels, other=0)
            squared = tl.where(_in_basin(o_pixels[None, :], centre[:, None], width, radius), float("inf"), squared)
        closer = squared < best
        best = tl.where(closer, squared, best)
        best_start = tl.where(closer, start, best_start)
    nearest = tl.min(best, 1)
    position = tl.min(tl.where(best == nearest[:, None], best_start + o_lanes[None, :], count), 1)
    m_found = m_points & (nearest < float("inf"))
    pixel = tl.load(p_pixels + position, mask=m_found, other=-1)
    tl.store(p_pixel + i_set * num_points + o_points, pixel.to(tl.int64), mask=m_points)
    tl.store(p_distance + i_set * num_points + o_points, tl.sqrt(nearest), mask=m_points)


@triton.jit
def bucket_search_kernel(
    p_pixel,
    p_distance,
    p_points,
    p_images,
    p_starts,
    p_coordinates,
    p_pixels,
    p_centres,
    p_boxes,
    num_points,
    width,
    radius,
    side,
    BASIN: tl.constexpr,
    LANES: tl.constexpr,
):
    """Search the buckets of one image around one point, in growing squares, until no other can hold a nearer pixel."""
    i_set = tl.program_id(0).to(tl.int64) // num_points
    i_point = tl.program_id(0).to(tl.int64)
    i_image = tl.load(p_images + i_set)
    p_own = p_starts + i_image * side * side
    left = tl.load(p_boxes + i_image * 4)
    top = tl.load(p_boxes + i_image * 4 + 1)
    cell_x = tl.load(p_boxes + i_image * 4 + 2)
    cell_y = tl.load(p_boxes + i_image * 4 + 3)
    x = tl.load(p_points + i_point * 2)
    y = tl.load(p_points + i_point * 2 + 1)
    centre = 0
    if BASIN:
        centre = tl.load(p_centres + i_point).to(tl.int32)
    # Clamped as numbers first: a far point's bucket need not fit an integer.
    column = tl.floor(tl.minimum(tl.maximum((x - left) / cell_x, 0.0), side - 1.0)).to(tl.int32)
    row = tl.floor(tl.minimum(tl.maximum((y - top) / cell_y, 0.0), side - 1.0)).to(tl.int32)
    o_lanes = tl.arange(0, LANES)
    # Squared distance in the upper half, pixel in the lower: the least key is the nearest pixel, the lowest of equals.
    best = tl.full([LANES], NOTHING, tl.int64)
    nearest = NOTHING
    reach = 1
    searching = True
    while searching:
        first_column = tl.maximum(column - reach, 0)
        last_column = tl.minimum(column + reach, side - 1)
        first_row = tl.maximum(row - reach, 0)
        last_row = tl.minimum(row + reach, side - 1)
        for i_row in range(first_row, last_row + 1):
            begin = tl.load(p_own + i_row * side + first_column)
            end = tl.load(p_own + i_row * side + last_column + 1)
            for start in range(begin, end, LANES):
                m_lanes = start + o_lanes < end
                across = x - tl.load(p_coordinates + (start + o_lanes) * 2, mask=m_lanes, other=0.0)
                down = y - tl.load(p_coordinates + (start + o_lanes) * 2 + 1, mask=m_lanes, other=0.0)
                o_pixels = tl.load(p_pixels + start + o_lanes, mask=m_lanes, other=0)
                squared = across * across + down * down
                key = (squared.to(tl.int32, bitcast=True).to(tl.int64) << 32) | o_pixels.to(tl.int64)
                if BASIN:
                    m_lanes = m_lanes & (_in_basin(o_pixels, centre, width, radius) == 0)
                best = tl.minimum(best, tl.where(m_lanes, key, NOTHING))
        nearest = tl.min(best, 0)
        # Pixels outside the square lie beyond one of its sides; a side on the edge of all buckets has none beyond.
        beyond = tl.where(first_column > 0, x - (left + first_column * cell_x), float("inf"))
        beyond = tl.minimum(
            beyond, tl.where(last_column < side - 1, left + (last_column + 1) * cell_x - x, float("inf"))
        )
        beyond = tl.minimum(beyond, tl.where(first_row > 0, y - (top + first_row * cell_y), float("inf")))
        beyond = tl.minimum(beyond, tl.where(last_row < side - 1, top + (last_row + 1) * cell_y - y, float("inf")))
        # The margin covers the rounding by which a pixel may sit in the bucket next to its own.
        beyond = tl.maximum(beyond - 0.01 * tl.minimum(cell_x, cell_y), 0.0)
        reached = (nearest >> 32).to(tl.int32).to(tl.float32, bitcast=True)
        whole = (first_column == 0) & (last_column == side - 1) & (first_row == 0) & (last_row == side - 1)
        known = (nearest != NOTHING) & (reached <= beyond * beyond)
        searching = (whole == 0) & (known == 0)
        reach = reach * 2 + 1
    found = nearest != NOTHING
    distance = tl.sqrt(tl.where(found, nearest >> 32, 0).to(tl.int32).to(tl.float32, bitcast=True))
    tl.store(p_pixel + i_point, tl.where(found, nearest & 0xFFFFFFFF, -1))
    tl.store(p_distance + i_point, tl.where(found, distance, float("inf")))


@dataclass(frozen=True)
class FlatSearch:
    """Foreground pixels of all images, one after the other.

    Attributes:
        coordinates: (Q, 2) float32 canonical coordinates, by image, then bucket, then pixel.
        pixels: (Q,) int32 their pixels.
        starts: where each image (no buckets) or bucket begins, and the end; int64.
        boxes: (N, 4) float32 corner of each image's buckets and the size of one; `None` without buckets.
        side: buckets an axis.
        width: of the images, in pixels.
    """

    coordinates: Tensor
    pixels: Tensor
    starts: Tensor
    boxes: Tensor | None
    side: int
    width: int

    def search(
        self, points: Tensor, images: list[int], basin: tuple[Tensor, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return pixel and distance of the nearest foreground pixel, as `Search` says."""
        num_sets, num_points, _ = points.shape
        pixel = torch.empty(num_sets, num_points, dtype=torch.int64, device=points.device)
        distance = torch.empty(num_sets, num_points, device=points.device)
        if pixel.numel() == 0:
            return pixel, distance
        chosen = torch.tensor(images, dtype=torch.int64, device=points.device)
        centres, radius = (None, 0.0) if basin is None else (basin[0].contiguous(), float(basin[1]))
        shared = (pixel, distance, points, chosen, self.starts, self.coordinates, self.pixels, centres)
        if self.boxes is None:
            tile_search_kernel[triton.cdiv(num_points, TILE_POINTS), num_sets](
                *shared,
                num_points,
                self.width,
                radius,
                BASIN=basin is not None,
                TILE_POINTS=TILE_POINTS,
                TILE_PIXELS=TILE_PIXELS,
                num_warps=TILE_WARPS,
                enable_fp_fusion=True,
            )
        else:
            bucket_search_kernel[(num_sets * num_points,)](
                *shared,
                self.boxes,
                num_points,
                self.width,
                radius,
                self.side,
                BASIN=basin is not None,
                LANES=BUCKET_LANES,
                num_warps=BUCKET_WARPS,
                enable_fp_fusion=True,
            )
        return pixel, distance


def build(maps: Tensor, foreground: Tensor) -> FlatSearch:
    """Return the search over maps (N, H, W, 2) with foreground (N, H, W), in buckets when those hold many pixels."""
    num_images, width = len(maps), maps.shape[2]
    image, pixel = foreground.flatten(1).nonzero().unbind(1)
    coordinates = maps.flatten(1, 2)[image, pixel]
    if len(pixel) < BUCKETS_FROM * num_images or num_images == 0:
        boundaries = torch.arange(num_images + 1, device=maps.device)
        starts = torch.searchsorted(image, boundaries)
        return FlatSearch(coordinates, pixel.to(torch.int32), starts, None, 0, width)
    side = max(1, math.isqrt(len(pixel) // (num_images * PIXELS_A_BUCKET)))
    shown = foreground[..., None]
    low = torch.where(shown, maps, torch.inf).amin((1, 2))
    high = torch.where(shown, maps, -torch.inf).amax((1, 2))
    empty = ~foreground.any(2).any(1)[:, None]
    cell = torch.where(empty, 1, (high - low) / side).clamp(min=1e-12)
    low = torch.where(empty, 0, low)
    bucket = ((coordinates - low[image]) / cell[image]).floor().long().clamp(0, side - 1)
    key = image * side**2 + bucket[:, 1] * side + bucket[:, 0]
    order = key.argsort(stable=True)
    starts = torch.searchsorted(key[order], torch.arange(num_images * side**2 + 1, device=maps.device))
    boxes = torch.cat((low, cell), 1).contiguous()
    return FlatSearch(coordinates[order], pixel[order].to(torch.int32), starts, boxes, side, width)
