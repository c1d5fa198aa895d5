"""Foreground masks: the user's own, or found in the photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from asic_features.colour import blur, light_gradient, to_lab
from asic_features.config import MASK_SOURCES
from asic_features.cosegment import cosegment, outline, seed_scores
from asic_features.images import (
    SUFFIXES,
    PhotoError,
    PhotoSource,
    Placement,
    UInt8Image,
    pixels_of_box,
    read_mask,
    render_mask,
)
from asic_flow.collection import TokenGrid
from asic_flow.grid import pixel_to_token_norm

_CELL = 4  # side in pixels of the places that are told apart
_KEY_RIDGE = 1.0
_COLOUR_RIDGE = 1.0
# A collection's photos with an object reach 1.5 or more, photos without it stay below 1.1 (CUB, dogs, DreamBooth).
_LEAST_EVIDENCE = 1.25
_LEAST_SALIENCY = 0.1
_RECURRENCE = 1.25  # of the first guess from recurrence, beside that from saliency
_LEAST_SHARE = 0.002  # of the photo: smaller masks are taken as no object


class MaskError(ValueError):
    """Masks that cannot be used, or no foreground anywhere; the message says what to do."""


def find_user_masks(sources: Sequence[PhotoSource], folder: Path) -> tuple[PhotoSource, ...]:
    """Give each photo its mask: the file of the same relative name, any image suffix, below a folder.

    Args:
        sources: The photos.
        folder: Where the masks are.

    Returns:
        The photos with ``mask_path`` set.

    Raises:
        MaskError: The folder is missing, or photos have no mask; all of them are named.
    """
    if not folder.is_dir():
        raise MaskError(f"masks folder {folder} does not exist; without a folder masks are {', '.join(MASK_SOURCES)}")
    found, missing = [], []
    for source in sources:
        path = _mask_file(folder, source.name)
        if path is None:
            missing.append(source.name)
        found.append(replace(source, mask_path=path))
    if missing:
        raise MaskError(
            f"masks folder {folder} has no picture for {len(missing)} of {len(sources)} photos: {', '.join(missing)}; "
            "a mask has its photo's relative name, with any image suffix"
        )
    return tuple(found)


def _mask_file(folder: Path, name: str) -> Path | None:
    same_stem = (folder / name).parent
    stem = Path(name).stem
    if not same_stem.is_dir():
        return None
    candidates = [path for path in same_stem.iterdir() if path.stem == stem and path.suffix.lower() in SUFFIXES]
    # The photo's own suffix first, so that a.jpg and a.png beside each other have masks of their own.
    return min(candidates, key=lambda path: (path.suffix != Path(name).suffix, path.name), default=None)


def read_user_mask(path: Path, size_hw: tuple[int, int], placement: Placement) -> UInt8Image:
    """A user's mask in model pixels.

    Args:
        path: The picture.
        size_hw: Its photo's size.
        placement: Its photo's placement.

    Returns:
        (size, size) uint8.

    Raises:
        PhotoError: It cannot be read, or has not its photo's size.
    """
    mask = read_mask(path)
    if mask.shape != size_hw:
        raise PhotoError(
            path,
            f"is a mask of {mask.shape[1]} x {mask.shape[0]} pixels, its photo has {size_hw[1]} x {size_hw[0]}: "
            "save it in the photo's size",
        )
    return render_mask(mask, placement)


def box_mask(box_xyxy: tuple[float, float, float, float], size_hw: tuple[int, int]) -> UInt8Image:
    """A photo's mask (H, W) uint8 that is all of a box."""
    mask = np.zeros(size_hw, dtype=np.uint8)
    mask[pixels_of_box(box_xyxy, size_hw)] = 255
    return mask


def network_mask(pixels: UInt8Image, placement: Placement, network: Callable[[UInt8Image], UInt8Image]) -> UInt8Image:
    """A network's mask in model pixels.

    The network sees what the model sees of the photo, in the photo's own pixels and without what continues its edge.

    Args:
        pixels: (H, W, 3) uint8, the photo.
        placement: Its placement.
        network: Gives the mask (h, w) uint8 of a picture (h, w, 3).

    Returns:
        (size, size) uint8.
    """
    size_hw = pixels.shape[0], pixels.shape[1]
    window = (placement.left, placement.top, placement.left + placement.width, placement.top + placement.height)
    shown = pixels_of_box(window, size_hw)
    mask = np.zeros(size_hw, dtype=np.uint8)
    mask[shown] = network(pixels[shown])
    return render_mask(mask, placement)


def saliency_masks(
    images: torch.Tensor,
    inside: torch.Tensor,
    saliency: torch.Tensor,
    grid: TokenGrid,
    *,
    descriptors: torch.Tensor | None = None,
    recurring: torch.Tensor | None = None,
    shared: bool,
) -> torch.Tensor:
    """Masks from what is salient, drawn along each photo's own edges.

    Args:
        images: (N, S, S, 3) uint8.
        inside: (N, S, S) uint8, 255 where the photo is.
        saliency: (N, T) in [0, 1] on the tokens of ``grid``.
        grid: Where the tokens are.
        descriptors: (N, T, D) of the tokens, or None to tell places apart by colour and texture.
        recurring: (N, rows, cols) from ``recurrence``, or None to start from saliency alone.
        shared: Whether the whole collection votes on what the object is (co-segmentation), or each photo stands for
            itself.

    Returns:
        (N, S, S) uint8, probability of foreground times 255; all 0 for a photo in which no object was found.
    """
    size = images.shape[1]
    cells = size // _CELL
    colour, texture = appearance(images)
    cells_inside = _to_cells(inside[:, None].float(), cells)[:, 0] >= 128
    centres = torch.from_numpy(grid.centres_px()).to(images.device).round().long().clamp(0, size - 1)
    tokens_inside = (inside[:, centres[:, 1], centres[:, 0]] >= 128).view(-1, grid.rows, grid.cols)
    shows_object = saliency.amax(dim=1) >= _LEAST_SALIENCY
    scores = seed_scores(saliency.view(-1, grid.rows, grid.cols), tokens_inside)
    if recurring is not None:
        scores = scores + _RECURRENCE * seed_scores(recurring, tokens_inside)
    if shared and descriptors is not None:
        tokens = functional.normalize(descriptors.float(), dim=-1).view(-1, grid.rows, grid.cols, descriptors.shape[-1])
        scores, evidence = cosegment(tokens, scores, tokens_inside, ridge=_KEY_RIDGE)
        shows_object &= evidence >= _LEAST_EVIDENCE
    scores = tokens_to_square(scores, grid, size, cells)
    if shared and descriptors is None:
        places = _second_order(torch.cat([colour, texture], dim=1), per_photo=False)
        scores, _ = cosegment(places, scores / scores.std().clamp_min(1e-6), cells_inside, ridge=_COLOUR_RIDGE)
    own = _second_order(torch.cat([colour, texture], dim=1), per_photo=True)
    scores = scores / scores.flatten(1).std(dim=1).view(-1, 1, 1).clamp_min(1e-6)
    probability = outline(own, scores, cells_inside, ridge=_COLOUR_RIDGE)
    masks = functional.interpolate(probability[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    masks = (masks * inside).to(torch.uint8)  # cut off, so that undecided (one half) is no foreground
    share = (masks >= 128).float().mean(dim=(1, 2))
    masks[~shows_object | (share < _LEAST_SHARE)] = 0
    return masks


def appearance(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour (N, 3, G, G) and log gradient length (N, 1, G, G) on a grid of 4-pixel cells."""
    lab = to_lab(images)
    cells = images.shape[1] // _CELL
    length, _ = light_gradient(lab)
    texture = blur(_to_cells(length, cells), 1.0).clamp_min(0.01).log()
    return blur(_to_cells(lab, cells), 0.7), texture


def tokens_to_square(values: torch.Tensor, grid: TokenGrid, size: int, cells: int) -> torch.Tensor:
    """Bilinear values at the centres of ``cells`` x ``cells`` equal cells from values at tokens.

    Args:
        values: (N, rows, cols).
        grid: Where the tokens are, in a square of ``size`` pixels.
        size: Side in pixels.
        cells: Cells a side.

    Returns:
        (N, cells, cells); beyond the outermost tokens their values continue.
    """
    centres = (torch.arange(cells, device=values.device) + 0.5) * size / cells - 0.5
    points_px = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    points = pixel_to_token_norm(points_px, grid).expand(len(values), -1, -1, -1)
    return functional.grid_sample(values[:, None].float(), points, padding_mode="border", align_corners=True)[:, 0]


def _to_cells(maps: torch.Tensor, cells: int) -> torch.Tensor:
    return functional.interpolate(maps, size=(cells, cells), mode="area")


def _second_order(maps: torch.Tensor, *, per_photo: bool) -> torch.Tensor:
    """(N, G, G, D): the maps in units of their spread, and their products, so that a plane can enclose a colour."""
    dims = (1, 2) if per_photo else (0, 1, 2)
    places = _standard(maps.permute(0, 2, 3, 1), dims).clamp(-3, 3)
    first, second = torch.triu_indices(places.shape[-1], places.shape[-1])
    return _standard(torch.cat([places, places[..., first] * places[..., second]], dim=-1), dims)


def _standard(places: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    mean = places.mean(dim=dims, keepdim=True)
    return (places - mean) / places.std(dim=dims, keepdim=True).clamp_min(1e-6)
