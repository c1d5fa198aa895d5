"""What is trained: the flow network and the canonical image, their losses on a batch, and the maps they give."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from asic_flow.kernels import warp_bilinear
from asic_flow.paper import losses
from asic_flow.paper.augment import bend_points, recolour, spline_basis, yiq_matrices
from asic_flow.paper.config import PaperConfig
from asic_flow.paper.coordinates import CoordinateNetwork
from asic_flow.paper.data import Batch, TrainingData
from asic_flow.paper.network import FlowNetwork, flow_of, identity_grid
from asic_flow.paper.placement import Placement
from asic_flow.paper.synchronised import average, gather

_PHOTOS_AT_ONCE = 8
_CODE = 16  # values that tell a photo to the network that does not see it
_CENTROID_KEPT = 0.9  # of the weight of earlier steps


class PaperModel(nn.Module):
    """The flow network and the learnable canonical image.

    Attributes:
        reduced: whether the network computes in bfloat16, its weights and what it returns staying float32.
    """

    reduced = False

    def __init__(self, config: PaperConfig, channels: int, num_photos: int, num_parts: int, seed: int) -> None:
        """Draws the first weights from a generator of their own.

        Args:
            config: Settings.
            channels: Channels of a photo's target, RGB and components; the canonical image has one more, the mask's
                logit.
            num_photos: Photos of the collection.
            num_parts: Parts of the collection, 0 for none.
            seed: Of the weights.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network: FlowNetwork | CoordinateNetwork
            if config.network == "coordinates":
                self.network = CoordinateNetwork(2, width=128, depth=4, skips=(2,), frequencies=4, code=_CODE)
                nn.init.zeros_(self.network.head.weight)
                nn.init.zeros_(self.network.head.bias)
                self.codes = nn.Parameter(0.1 * torch.randn(num_photos, _CODE))
            else:
                seen = channels - 3 if config.network == "components" else 3
                self.network = FlowNetwork(config.width, quarter=config.head == "quarter", channels=seen)
            if config.canonical == "network":
                self.painter = CoordinateNetwork(channels + 1, width=64, depth=8, skips=(4, 7), frequencies=6)
            else:
                side = config.canonical_side
                self.canonical = nn.Parameter(0.1 * torch.randn(channels + 1, side, side))
        self.config = config
        self.basis: Tensor
        self.centroids: Tensor
        self.centroid_weight: Tensor
        self.register_buffer("centroids", torch.zeros(num_parts, 2))
        self.register_buffer("centroid_weight", torch.zeros(num_parts, 1))
        self.register_buffer("basis", spline_basis(self.field_size, torch.device("cpu")), persistent=False)
        self.yiq: Tensor
        self.register_buffer("yiq", yiq_matrices(), persistent=False)

    @property
    def field_size(self) -> tuple[int, int]:
        """Height and width of the flow."""
        return self.config.field_side, self.config.field_side

    def seen(self, images: Tensor) -> Tensor:
        """(B, C, S, S) as `TrainingData.images` holds it to what the network takes: RGB in [-1, 1], or components."""
        return images if self.config.network == "components" else images * 2 - 1

    def displace(self, images: Tensor, photos: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, h, w) float32 displacements of a field's pixels, and the (B, h, w, 2) canonical xy they take them to.

        Args:
            images: (B, C, S, S) as `TrainingData.images` holds them.
            photos: (B,) int64, which photos they are, for the network that does not look at them.
        """
        if self.config.network == "coordinates":
            size = self.field_size
            grid = identity_grid(size, images.device).expand(len(photos), -1, -1, -1)
            code = self.codes[photos][:, None, None].expand(-1, *size, -1)
            displacement: Tensor = self.network(grid, code).permute(0, 3, 1, 2)
            return displacement, flow_of(displacement)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.reduced):
            displacement = self.network(self.seen(images))
        displacement = displacement.float().contiguous()
        return displacement, flow_of(displacement)

    def losses(self, data: TrainingData, batch: Batch) -> dict[str, Tensor]:
        """The losses whose weight is not 0, by name, not weighted yet.

        Raises:
            FloatingPointError: On the CPU, where the kernels refuse such points, a displacement is not finite.
        """
        weights, photos = self.config.weights, batch.photos
        count, side = len(photos), (self.config.side, self.config.side)
        images, masks = data.images[photos], data.masks[photos]
        looks = self.config.network != "coordinates"
        warped_too = looks and bool(weights.equivariance or weights.mask)
        if warped_too:
            bent = bend_points(self.basis, batch.augmentation.bend, self.field_size)
            at_pixels = _spread(bent, side)
            copies = warp_bilinear(images, at_pixels)
            coloured = self.config.network == "rgb"
            images = torch.cat((images, recolour(copies, batch.augmentation, self.yiq) if coloured else copies))
        displacement, flow = self.displace(images, photos)
        if displacement.device.type == "cpu" and not bool(torch.isfinite(displacement).all()):
            raise FloatingPointError("the network's displacement")
        own = flow[:count]
        # The same with xy as channels, as samples are taken of it, of the photos and of their copies.
        grid = identity_grid(self.field_size, displacement.device).permute(2, 0, 1).contiguous()
        moved = torch.split(displacement, count)
        channels = [half + grid for half in moved]
        small = _shrunk(masks, self.field_size)
        found: dict[str, Tensor] = {}
        if weights.reconstruction:
            half, mask = self.config.side // 2, data.target_masks[photos]
            painted = self._paint(own, (half, half), slice(0, -1))
            if data.perceptual is None:
                found["reconstruction"] = losses.reconstruction(painted, data.targets[photos], mask)
            else:
                features = [block[photos] for block in data.perceptual_targets]
                found["reconstruction"] = losses.perceptual(painted[:, :3], mask, features, data.perceptual)
        if weights.matches or weights.match_distance or weights.cycle:
            every = gather(channels[0])
            ends_a, ends_b = (
                warp_bilinear(every[rows], points).transpose(1, 2).contiguous()
                for rows, points in zip(batch.pairs.unbind(1), (batch.points_a, batch.points_b), strict=True)
            )
            of_pairs: dict[str, Tensor] = {}
            if weights.matches:
                of_pairs["matches"] = losses.matches(ends_a, ends_b, batch.valid, self.config.temperature)
            if weights.match_distance:
                scale = self.config.distance_scale
                of_pairs["match_distance"] = losses.match_distance(ends_a, ends_b, batch.valid, scale)
            if weights.cycle:
                of_pairs["cycle"] = losses.cycle(ends_a, ends_b, batch.points_a, batch.valid)
            found |= {name: batch.pair_scale * value for name, value in of_pairs.items()}
        if weights.parts and data.parts is not None:
            labels = data.parts[photos]
            self._move_centroids(own.detach(), labels)
            found["parts"] = losses.parts(own, labels, self.centroids)
        if weights.total_variation:
            found["total_variation"] = losses.total_variation(moved[0])
        if weights.folds:
            found["folds"] = losses.folds(own, small)
        inside = small
        if warped_too:
            warped_mask = (warp_bilinear(masks[:, None], bent)[:, 0] >= 0.5).float()
            if weights.equivariance:
                found["equivariance"] = losses.equivariance(channels[1], channels[0], bent, warped_mask)
            inside = torch.cat((small, warped_mask))
        if weights.mask:
            logits = self._paint(flow, self.field_size, slice(-1, None))[:, 0]
            found["mask"] = losses.mask(logits, inside)
        return found

    @torch.no_grad()
    def maps(self, images: Tensor, placement: Placement, size_hw: tuple[int, int]) -> Tensor:
        """(N, H, W, 2) canonical xy of every pixel of photos, in evaluation mode, on the CPU.

        Args:
            images: (N, C, S, S) as `TrainingData.images` holds them: of all photos, or of any that the network sees.
            placement: Theirs.
            size_hw: H and W.
        """
        was_training = self.training
        self.eval()
        chunks = torch.split(torch.arange(len(images), device=images.device), _PHOTOS_AT_ONCE)
        moved = torch.cat([self.displace(images[chunk], chunk)[0].cpu() for chunk in chunks])
        self.train(was_training)
        places = placement.places_of_pixels(size_hw)
        return places + warp_bilinear(moved, places).permute(0, 2, 3, 1)

    @torch.no_grad()
    def picture(self) -> NDArray[np.uint8]:
        """(side, side, 3) uint8: the canonical image's RGB, white where its mask says that there is no object."""
        side = (self.config.canonical_side, self.config.canonical_side)
        painted = self._paint(identity_grid(side, self.centroids.device)[None], side, slice(None))[0]
        colour, inside = (painted[:3] + 1) / 2, painted[-1:].sigmoid()
        shown = (colour * inside + 1 - inside).clamp(0, 1).mul(255).round().to(torch.uint8)
        return shown.permute(1, 2, 0).cpu().numpy()

    @torch.no_grad()
    def _move_centroids(self, flow: Tensor, labels: Tensor) -> None:
        """Takes a batch into the running centroids of parts; one that no photo shows stays where it is."""
        flat = labels.flatten()
        sums = flow.new_zeros(len(self.centroids) + 1, 3)
        sums.index_add_(0, flat, torch.cat((flow, torch.ones_like(flow[..., :1])), -1).reshape(-1, 3))
        sums = average(sums[1:])
        kept = _CENTROID_KEPT * self.centroid_weight
        total = kept + sums[:, 2:]
        moved = (kept * self.centroids + sums[:, :2]) / total.clamp_min(1e-9)
        self.centroids.copy_(torch.where(sums[:, 2:] > 0, moved, self.centroids))
        self.centroid_weight.copy_(torch.where(sums[:, 2:] > 0, total, self.centroid_weight))

    def _paint(self, flow: Tensor, size_hw: tuple[int, int], channels: slice) -> Tensor:
        """(B, C, h, w): the canonical image as photos' flows show it."""
        if self.config.canonical == "network":
            colours: Tensor = self.painter(_spread(flow, size_hw))
            return colours.permute(0, 3, 1, 2)[:, channels]
        other = None if flow.shape[1:3] == size_hw else size_hw
        return warp_bilinear(self.canonical[channels].contiguous(), flow.contiguous(), size_hw=other)


def total_loss(found: dict[str, Tensor], config: PaperConfig) -> Tensor:
    """The weighted sum."""
    terms = [getattr(config.weights, name) * value for name, value in found.items()]
    return torch.stack(terms).sum()


def _spread(points: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """A (B, h, w, 2) field at another resolution, corners aligned."""
    if points.shape[1:3] == size_hw:
        return points
    field = points.permute(0, 3, 1, 2)
    return interpolate(field, size_hw, mode="bilinear", align_corners=True).permute(0, 2, 3, 1).contiguous()


def _shrunk(masks: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(B, h, w), 0 or 1: (B, S, S) masks at a field's pixels."""
    if masks.shape[1:] == size_hw:
        return masks
    grid = identity_grid(size_hw, masks.device).expand(len(masks), -1, -1, -1)
    return (warp_bilinear(masks[:, None], grid)[:, 0] >= 0.5).float()
