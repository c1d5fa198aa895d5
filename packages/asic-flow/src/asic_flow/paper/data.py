"""A collection as the training loop takes it: all of it on the device, and the draws of its batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from asic_flow.coarse import NormalisedMatches
from asic_flow.collection import ImageCollection
from asic_flow.grid import norm_to_pixel, pixel_to_token_norm
from asic_flow.kernels import warp_bilinear
from asic_flow.paper.augment import Augmentation
from asic_flow.paper.config import PaperConfig
from asic_flow.paper.device import sent
from asic_flow.paper.perceptual import PerceptualDistance
from asic_flow.paper.placement import Placement


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What steps read, made once. All of it is in the network's frame, [-1, 1].

    Attributes:
        images: (N, C, S, S) float32, what the network sees, of its side S, on the device: RGB in [0, 1], or components.
        masks: (N, S, S) float32, 1 on the object, on the device.
        targets: (N, C, S/2, S/2) float32 on the device: RGB in [-1, 1] and principal components of the descriptors, of
            unit variance on the object.
        target_masks: (N, S/2, S/2) float32 on the device.
        perceptual: the distance of images, if a VGG16 was given.
        perceptual_targets: features of the photos times their masks, by block; nothing without that.
        parts: (N, h, w) int64 on the device, the flow's size, 0 for no part; None where the collection has none.
        placement: of the photos in the frame.
        rows: of each pair of photos that has matches, first below second, its rows of the two below.
        points_a: (M, 2) float32 xy of the first ends, on the CPU.
        points_b: (M, 2) of the second ends.
    """

    images: Tensor
    masks: Tensor
    targets: Tensor
    target_masks: Tensor
    perceptual: PerceptualDistance | None
    perceptual_targets: list[Tensor]
    parts: Tensor | None
    placement: Placement
    rows: dict[tuple[int, int], tuple[int, int]]
    points_a: Tensor
    points_b: Tensor

    @classmethod
    def prepare(
        cls,
        collection: ImageCollection,
        matches: NormalisedMatches,
        placement: Placement,
        config: PaperConfig,
        device: torch.device,
        perceptual: PerceptualDistance | None = None,
    ) -> TrainingData:
        """Places and resizes photos and masks, and finds the components; `matches` are those that may be fitted."""
        seen = placement.pixels_seen(collection.size_hw)
        images = warp_bilinear(collection.images.permute(0, 3, 1, 2).float() / 255, seen)
        foreground = warp_bilinear(collection.foreground()[:, None].float(), seen, padding="zeros")
        side, half = config.side, config.side // 2
        small = _resized(images, half)
        components = _components(collection, config.components)

        def described(side: int) -> Tensor:
            placed = norm_to_pixel(placement.pixels_seen((side, side)), collection.size_hw)
            return warp_bilinear(components, pixel_to_token_norm(placed, collection.grid))

        of_tokens = described(half) if config.components else small[:, :0]
        target_masks = (_resized(foreground, half)[:, 0] >= 0.5).float().to(device)
        rgb = (small * 2 - 1).to(device)
        distance = None if perceptual is None else perceptual.to(device)
        parts = None if collection.parts is None else _parts(collection.parts, placement, config.field_side).to(device)
        return cls(
            images=(described(side) if config.network == "components" else _resized(images, side)).to(device),
            masks=(_resized(foreground, side)[:, 0] >= 0.5).float().to(device),
            targets=torch.cat((rgb, of_tokens.to(device)), 1),
            target_masks=target_masks,
            perceptual=distance,
            perceptual_targets=[] if distance is None else distance.features(rgb * target_masks[:, None]),
            parts=parts,
            placement=placement,
            **_filed(matches, placement),
        )

    def most_matches(self, config: PaperConfig) -> int:
        """The most matches of a pair that a step can draw."""
        return min(config.matches_per_pair, max((stop - start for start, stop in self.rows.values()), default=1))

    def with_matches(self, matches: NormalisedMatches) -> TrainingData:
        """The same photos with other matches."""
        return replace(self, **_filed(matches, self.placement))


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step is about; everything random in it was drawn on the CPU.

    Attributes:
        photos: (B,) int64, which photos.
        pairs: (P, 2) int64, rows of `photos`; of all processes' photos, one after the other, where a batch is shared.
        points_a: (P, K, 2) float32 xy in [-1, 1] of the matches' first ends.
        points_b: (P, K, 2) of their second ends.
        valid: (P, K) bool, false for padding.
        augmentation: of B copies.
        pair_scale: what a mean over the pairs is to be multiplied by.
    """

    photos: Tensor
    pairs: Tensor
    points_a: Tensor
    points_b: Tensor
    valid: Tensor
    augmentation: Augmentation
    pair_scale: float = 1.0

    def tensors(self) -> list[Tensor]:
        """All of its tensors, in one order."""
        both = (*vars(self).values(), *vars(self.augmentation).values())
        return [value for value in both if isinstance(value, Tensor)]

    def padded(self, count: int) -> Batch:
        """The batch with room for so many matches a pair."""
        filled = {
            name: torch.nn.functional.pad(value, [0, 0] * (value.ndim - 2) + [0, count - value.shape[1]])
            for name, value in (("points_a", self.points_a), ("points_b", self.points_b), ("valid", self.valid))
        }
        return replace(self, **filled)  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {**sent(tensors, device), "augmentation": self.augmentation.to(device)}
        return replace(self, **moved)

    def share(self, rank: int, world: int) -> Batch:
        """What process `rank` of `world` does of a batch: some of the photos, and some of the pairs of all photos.

        Raises:
            ValueError: The photos do not split evenly.
        """
        if len(self.photos) % world:
            raise ValueError(f"{world} processes need a multiple of {world} photos a step, got {len(self.photos)}")
        mine = torch.arange(len(self.photos)).chunk(world)[rank]
        # Pairs without matches fill up the last shares; the mean over pairs is made good for them.
        share = -(-len(self.pairs) // world)
        filled = torch.arange(share * world).clamp_max(len(self.pairs) - 1)
        real = torch.arange(share * world) < len(self.pairs)
        pairs = slice(rank * share, (rank + 1) * share)
        rows = filled[pairs]
        return Batch(
            self.photos[mine],
            self.pairs[rows],
            self.points_a[rows],
            self.points_b[rows],
            self.valid[rows] & real[pairs, None],
            self.augmentation.take(mine),
            self.pair_scale * share * world / len(self.pairs),
        )


def draw_batch(data: TrainingData, config: PaperConfig, generator: torch.Generator) -> Batch:
    """Draws photos without replacement, their pairs, and their augmentation."""
    count = config.photos_drawn(len(data.images))
    photos = torch.randperm(len(data.images), generator=generator)[:count]
    numbers = torch.arange(count)
    pairs = torch.combinations(numbers) if config.all_pairs else numbers.reshape(-1, 2)
    # Matches are filed under their photos in rising order.
    swapped = photos[pairs[:, 0]] > photos[pairs[:, 1]]
    pairs = torch.where(swapped[:, None], pairs.flip(1), pairs)
    chosen = []
    for pair in photos[pairs].tolist():
        start, stop = data.rows.get((pair[0], pair[1]), (0, 0))
        rows = torch.arange(start, stop)
        if len(rows) > config.matches_per_pair:
            rows = rows[torch.randperm(len(rows), generator=generator)[: config.matches_per_pair]]
        chosen.append(rows)
    longest = max(1, *map(len, chosen))
    rows = torch.stack([torch.cat((rows, rows.new_full((longest - len(rows),), -1))) for rows in chosen])
    drawn = Augmentation.draw(len(photos), jitter=config.jitter, bend=config.bend, generator=generator)
    valid = rows >= 0
    points_a, points_b = (
        torch.where(valid[..., None], points[rows.clamp_min(0)], 0.0) for points in (data.points_a, data.points_b)
    )
    return Batch(photos, pairs, points_a, points_b, valid, drawn)


def _components(collection: ImageCollection, count: int) -> Tensor:
    """(N, count, rows, cols): foreground's principal components, of unit variance there, within 3 deviations."""
    foreground = collection.foreground_tokens()
    values = collection.descriptors[foreground].double()
    mean = values.mean(0)
    variance, basis = torch.linalg.eigh((values - mean).T @ (values - mean) / max(1, len(values)))
    kept = min(count, len(variance))
    basis = basis[:, len(variance) - kept :] / variance[len(variance) - kept :].clamp_min(1e-9).sqrt()
    projected = (collection.descriptors.float() - mean.float()) @ basis.float()
    limited: Tensor = projected.clamp(-3, 3).transpose(1, 2)
    return limited.reshape(len(collection), kept, collection.grid.rows, collection.grid.cols)


def _filed(matches: NormalisedMatches, placement: Placement) -> dict[str, Any]:
    """Matches in the frame, and which rows are those of which pair."""
    rows: dict[tuple[int, int], tuple[int, int]] = {}
    for row, pair in enumerate(zip(matches.image_a.tolist(), matches.image_b.tolist(), strict=True)):
        rows[pair] = (rows.get(pair, (row, row))[0], row + 1)
    return {
        "rows": rows,
        "points_a": placement.apply(matches.points_a.float(), matches.image_a),
        "points_b": placement.apply(matches.points_b.float(), matches.image_b),
    }


def _parts(labels: Tensor, placement: Placement, side: int) -> Tensor:
    """(N, side, side) int64: the (N, H, W) labels of the pixels nearest to what a field's pixels show; 0 outside."""
    height, width = labels.shape[1:]
    seen = norm_to_pixel(placement.pixels_seen((side, side)), (height, width)).round().long()
    column, row = seen.unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    photo = torch.arange(len(labels))[:, None, None]
    return labels[photo, row.clamp(0, height - 1), column.clamp(0, width - 1)].long() * inside


def _resized(images: Tensor, side: int) -> Tensor:
    return interpolate(images, (side, side), mode="bilinear", align_corners=True, antialias=True)
