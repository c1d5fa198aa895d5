"""A layer painted on one photo, carried to the others at their own resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, avg_pool2d, max_pool2d

from asic_flow.alignment import VISIBLE_DISTANCE, Alignment
from asic_flow.grid import pixel_to_norm
from asic_flow.kernels import warp_bilinear
from asic_flow.train import nearness

Blend = Callable[[Tensor, Tensor, Tensor], Tensor]

_TORN_STEP_PX = 6.0
_SOFT_EDGE = (0.3, 0.7)
# The coarsest band of a pyramid reaches this far.
_MARGIN_PX = 96
_PIXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class _Field:
    """Of every model pixel of a target: where it comes from, and how far that is to be believed.

    Attributes:
        source_px: (H, W, 2) model pixel of the source photo.
        opacity: (H, W), 0 to 1: 0 where the source does not show the place, or nobody is sure of it.
        foreground: (H, W) float, 1 on the object.
    """

    source_px: Tensor
    opacity: Tensor
    foreground: Tensor


class Propagation:
    """Carries a layer from one photo to the others by canonical maps, left and right kept apart as `Travel` does.

    Args:
        alignment: The maps.
        source: The photo that was painted on.
        layer: (h, w, 4) uint8 RGBA in the source photo's own frame, at its size or any other of the same shape.
        least_confidence: Confidence below which nothing is painted; from twice that on, all of it is.

    Raises:
        ValueError: The source has no foreground, so nothing can be carried from it.
    """

    def __init__(self, alignment: Alignment, source: int, layer: NDArray[np.uint8], least_confidence: float) -> None:
        if not bool(alignment.foreground[source].any()):
            path = alignment.photos[source].path
            raise ValueError(f"{path}: expected a photo with an object to carry from, but its mask is empty")
        self._alignment = alignment
        self._source = source
        self._layer = layer
        self._least = least_confidence

    def onto(self, target: int, photo: NDArray[np.uint8], blend: Blend) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: a photo with the layer on it.

        Args:
            target: Which photo.
            photo: (H, W, 3) uint8, its own pixels.
            blend: How, as `asic_cli.blend.over`.
        """
        if target == self._source:
            layer = _resized(self._layer, photo.shape[1], photo.shape[0])
            box = _box_of(layer[..., 3] > 0, photo.shape[:2])
            return _blended(photo, box, _premultiplied(layer)[:, box[0] : box[1], box[2] : box[3]], blend)
        field = self._field(target)
        box = self._painted_box(field, target, photo.shape[:2])
        if box[0] >= box[1] or box[2] >= box[3]:
            return photo.copy()
        return _blended(photo, box, self._carried(field, target, box), blend)

    def _field(self, target: int) -> _Field:
        alignment = self._alignment
        height, width = alignment.size_hw
        here, there = alignment.maps_between(self._source, target)
        found, distance = alignment.look_up(alignment.numbered_map(there).reshape(-1, 2), here)
        source_px, distance = found.reshape(height, width, 2), distance.reshape(height, width)
        foreground = alignment.foreground[target].float()
        column, row = source_px.round().long().unbind(-1)
        at_source = alignment.confidence[self._source][row.clamp(0, height - 1), column.clamp(0, width - 1)]
        sure = (at_source * _spread(alignment.confidence[target], foreground)).clamp_min(0).sqrt()
        sure = sure * nearness(distance.square(), alignment.config) * (distance <= VISIBLE_DISTANCE["canonical"])
        opacity = ((sure - self._least) / max(self._least, 1e-6)).clamp(0, 1)
        return _Field(source_px, opacity, foreground)

    def _painted_box(self, field: _Field, target: int, size_hw: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of what may change, in the target photo's own pixels."""
        source, photo = self._alignment.photos[self._source], self._alignment.photos[target]
        alpha = torch.from_numpy(self._layer[..., 3].astype(np.float32))[None]
        rows, columns = (
            max(1, min(round(length * scale), have))
            for length, scale, have in zip(source.size_hw, source.scale_xy[::-1], alpha.shape[1:], strict=True)
        )
        # No thin line is lost: a cell has the greatest opacity of what it covers, and of its neighbours.
        cells = max_pool2d(adaptive_max_pool2d(alpha, (rows, columns)), 5, 1, 2)
        place = torch.from_numpy(source.to_image(field.source_px.numpy())).float()
        size = torch.tensor([source.size_hw[1], source.size_hw[0]])
        norm = pixel_to_norm(
            (place + 0.5) / size * torch.tensor([columns, rows]) - 0.5, (max(rows, 2), max(columns, 2))
        )
        touched = warp_bilinear(cells, norm[None], padding="zeros")[0, 0] * field.opacity * field.foreground > 0
        here = torch.nonzero(max_pool2d(touched[None].float(), 5, 1, 2)[0])
        if not len(here):
            return 0, 0, 0, 0
        corners = photo.to_image(np.stack((here.amin(0).flip(0).numpy(), here.amax(0).flip(0).numpy())))
        (left, top), (right, bottom) = np.floor(corners[0]) - _MARGIN_PX, np.ceil(corners[1]) + _MARGIN_PX
        return (
            int(max(top, 0)),
            int(min(bottom + 1, size_hw[0])),
            int(max(left, 0)),
            int(min(right + 1, size_hw[1])),
        )

    def _carried(self, field: _Field, target: int, box: tuple[int, int, int, int]) -> Tensor:
        """(4, h, w) premultiplied RGBA, 0 to 1, in a box of the target photo."""
        top, bottom, left, right = box
        source, photo = self._alignment.photos[self._source], self._alignment.photos[target]
        layer = self._layer_for(field, target)
        planes = torch.cat((field.source_px.permute(2, 0, 1), torch.stack((field.opacity, field.foreground))))
        torn = _torn(field.source_px)
        place_of = torch.tensor([layer.shape[2] / source.size_hw[1], layer.shape[1] / source.size_hw[0]])
        rows_at_once = max(1, _PIXELS_AT_ONCE // (right - left))
        strips = []
        for start in range(top, bottom, rows_at_once):
            y, x = np.mgrid[start : min(start + rows_at_once, bottom), left:right]
            here_px = torch.from_numpy(photo.to_model(np.stack((x, y), -1))).float()
            read = _read(planes, here_px)
            nearest = planes[:2, *_nearest(here_px, planes.shape[1:])]
            broken = _read(torn[None].float(), here_px)[0] > 0
            from_px = torch.where(broken, nearest, read[:2]).permute(1, 2, 0)
            at = torch.from_numpy(source.to_image(from_px.numpy())).float()
            colour = _read(layer, (at + 0.5) * place_of - 0.5, padding="zeros")
            low, high = _SOFT_EDGE
            edge = ((read[3] - low) / (high - low)).clamp(0, 1)
            limit = torch.tensor(planes.shape[:0:-1]) - 0.5
            seen = ((here_px >= -0.5) & (here_px <= limit)).all(-1)
            strips.append(colour * read[2] * edge * seen)
        return torch.cat(strips, 1)

    def _layer_for(self, field: _Field, target: int) -> Tensor:
        """The layer, premultiplied, shrunk where the target shows the object smaller, so that fine lines stay."""
        source, photo = self._alignment.photos[self._source], self._alignment.photos[target]
        across, along = field.source_px.diff(dim=1)[:-1], field.source_px.diff(dim=0)[:, :-1]
        area = (across[..., 0] * along[..., 1] - across[..., 1] * along[..., 0]).abs()
        inside = field.foreground[:-1, :-1] * (field.opacity[:-1, :-1] > 0) > 0
        grows = float(area[inside].median()) ** 0.5 if bool(inside.any()) else 1.0
        height, width = self._layer.shape[:2]
        ratio = grows * photo.scale_xy[0] / source.scale_xy[0] * width / source.size_hw[1]
        if ratio <= 1:
            return _premultiplied(self._layer)
        return _premultiplied(_resized(self._layer, max(2, round(width / ratio)), max(2, round(height / ratio))))


def _blended(
    photo: NDArray[np.uint8], box: tuple[int, int, int, int], layer: Tensor, blend: Blend
) -> NDArray[np.uint8]:
    top, bottom, left, right = box
    out = photo.copy()
    part = torch.from_numpy(out[top:bottom, left:right]).permute(2, 0, 1).float()
    mixed = blend(part, layer[:3] * 255, layer[3:])
    out[top:bottom, left:right] = mixed.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return out


def _premultiplied(layer: NDArray[np.uint8]) -> Tensor:
    """(4, h, w) float32, 0 to 1."""
    rgba = torch.from_numpy(layer).permute(2, 0, 1).float() / 255
    return torch.cat((rgba[:3] * rgba[3:], rgba[3:]))


def _resized(layer: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    if layer.shape[:2] == (height, width):
        return layer
    return np.array(Image.fromarray(layer).resize((width, height), Image.Resampling.LANCZOS))


def _box_of(mask: NDArray[np.bool_], size_hw: tuple[int, ...]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        max(int(rows[0]) - _MARGIN_PX, 0),
        min(int(rows[-1]) + _MARGIN_PX + 1, size_hw[0]),
        max(int(columns[0]) - _MARGIN_PX, 0),
        min(int(columns[-1]) + _MARGIN_PX + 1, size_hw[1]),
    )


def _read(planes: Tensor, points_px: Tensor, padding: str = "border") -> Tensor:
    """(C, h, w): bilinear samples of (C, H, W) planes at (h, w, 2) pixels."""
    height, width = planes.shape[1:]
    return warp_bilinear(
        planes, pixel_to_norm(points_px, (height, width))[None], padding="zeros" if padding == "zeros" else "border"
    )[0]


def _nearest(points_px: Tensor, size_hw: torch.Size) -> tuple[Tensor, Tensor]:
    column, row = points_px.round().long().unbind(-1)
    return row.clamp(0, size_hw[0] - 1), column.clamp(0, size_hw[1] - 1)


def _torn(source_px: Tensor) -> Tensor:
    """(H, W) bool: pixels whose neighbours come from elsewhere, so that nothing lies between them."""
    torn = torch.zeros(source_px.shape[:2], dtype=torch.bool)
    across = source_px.diff(dim=1).norm(dim=-1) > _TORN_STEP_PX
    along = source_px.diff(dim=0).norm(dim=-1) > _TORN_STEP_PX
    torn[:, :-1] |= across
    torn[:, 1:] |= across
    torn[:-1] |= along
    torn[1:] |= along
    return torn


def _spread(values: Tensor, foreground: Tensor) -> Tensor:
    """Values that hold on the foreground, carried on a few pixels beyond it."""
    total, share = (avg_pool2d(plane[None], 5, 1, 2)[0] for plane in (values * foreground, foreground))
    return torch.where(foreground > 0, values, total / share.clamp_min(1e-6))
