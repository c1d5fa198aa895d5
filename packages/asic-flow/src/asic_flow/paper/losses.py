"""The losses of the published recipe, one function each.

Each returns the mean over a batch of every photo's or pair's own mean, so that equal shares of a batch average to the
loss of the whole. Flows are canonical xy; images, masks and flows are on grids in [-1, 1] with corners aligned.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, smooth_l1_loss

from asic_flow.coarse import CANONICAL_RADIUS
from asic_flow.kernels import contrast_points, warp_bilinear
from asic_flow.paper.perceptual import PerceptualDistance

_PUBLISHED_SIDE = 256
_CYCLE_SPREAD = 0.02


def reconstruction(painted: Tensor, photo: Tensor, mask: Tensor) -> Tensor:
    """Distance of the canonical image, as a photo's flow shows it, from the photo: `sum m |c(F) - x| / sum m`.

    Stands for `perceptual` where no VGG16 is given. The channels are RGB and principal components of descriptors.

    Args:
        painted: (B, C, h, w) canonical image sampled at the flow.
        photo: (B, C, h, w) what the photo has there.
        mask: (B, h, w) 1 on the object.
    """
    return _masked_mean((painted - photo).abs().mean(1), mask)


def perceptual(painted: Tensor, mask: Tensor, target: list[Tensor], distance: PerceptualDistance) -> Tensor:
    """The published reconstruction: distance of `m c(F)` from `m x` between features of a VGG16, or LPIPS.

    Args:
        painted: (B, 3, h, w) RGB of the canonical image sampled at the flow, in [-1, 1].
        mask: (B, h, w) 1 on the object.
        target: Features of the photos times their masks, see `PerceptualDistance.features`.
        distance: Between features.
    """
    return distance.between(distance.features(painted * mask[:, None]), target).mean()


def matches(ends_a: Tensor, ends_b: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of a match's true partner among all partners, from both ends; see `contrast_points`.

    Positions are first centred and scaled so that the pair's ends have a root-mean-square radius of 0.5. As published,
    the loss falls when the whole map is stretched, whatever the matches say.

    Args:
        ends_a: (P, K, 2) canonical positions of the first ends of P pairs' matches.
        ends_b: (P, K, 2) of the second ends.
        valid: (P, K) bool, false for padding; a pair may have no match at all.
        temperature: canonical distance at that scale.
    """
    both, weight = torch.cat((ends_a, ends_b), 1), valid.repeat(1, 2)[..., None].to(ends_a.dtype)
    total = weight.sum(1, keepdim=True).clamp_min(1)
    centre = (both * weight).sum(1, keepdim=True) / total
    spread = ((both - centre).square() * weight).sum((1, 2), keepdim=True) / total
    scale = CANONICAL_RADIUS * torch.rsqrt(spread + 1e-12)
    ends_a, ends_b = (ends_a - centre) * scale, (ends_b - centre) * scale
    return _masked_mean(contrast_points(ends_a, ends_b, valid=valid, temperature=temperature), valid)


def match_distance(ends_a: Tensor, ends_b: Tensor, valid: Tensor, scale: float) -> Tensor:
    """Geman-McClure distance of a match's two ends: `r^2 / (s^2 + r^2)`, 0 to 1; ours, not published.

    Args:
        ends_a: (P, K, 2).
        ends_b: (P, K, 2).
        valid: (P, K) bool.
        scale: s, canonical distance.
    """
    squared = (ends_a - ends_b).square().sum(-1)
    return _masked_mean(squared / (scale**2 + squared), valid)


def total_variation(displacement: Tensor) -> Tensor:
    """Mean Huber loss (1.0) of the differences of neighbouring displacements.

    Differences are taken as if the field had 256 pixels a side, so that the published weight means the same slopes at
    every resolution.

    Args:
        displacement: (B, 2, h, w), canonical distance.
    """
    total = displacement.new_zeros(())
    for axis in (2, 3):
        difference = displacement.diff(dim=axis) * ((displacement.shape[axis] - 1) / (_PUBLISHED_SIDE - 1))
        total = total + smooth_l1_loss(difference, torch.zeros_like(difference)) / 2
    return total


def equivariance(flow_of_warped: Tensor, flow: Tensor, warp: Tensor, mask: Tensor) -> Tensor:
    """L1 of the flow of a warped photo against the warped flow: `sum m |F'(p) - F(T(p))| / sum m`.

    Both sides have gradients, which is what comparing each with the other held fixed amounts to.

    Args:
        flow_of_warped: (B, 2, h, w), F'.
        flow: (B, 2, h, w), F of the photo itself.
        warp: (B, h, w, 2), T: where each pixel of the warped photo shows the photo.
        mask: (B, h, w), the object in the frame of the warped photo.
    """
    carried = warp_bilinear(flow, warp)
    inside = (warp.abs().amax(-1) <= 1).to(mask.dtype)
    return _masked_mean((flow_of_warped - carried).abs().sum(1), mask * inside)


def mask(painted: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of the canonical mask, as a photo's flow shows it, against the photo's.

    Args:
        painted: (B, h, w) logits sampled at the flow.
        target: (B, h, w), 0 or 1.
    """
    return binary_cross_entropy_with_logits(painted, target)


def parts(flow: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """L1 of each pixel's canonical position to the centroid of its part, which is held fixed.

    Args:
        flow: (B, h, w, 2).
        labels: (B, h, w) int64, 0 for no part, else 1 to K.
        centroids: (K, 2) canonical xy.
    """
    theirs = torch.cat((centroids.new_zeros(1, 2), centroids.detach()))[labels]
    return _masked_mean((flow - theirs).abs().sum(-1), labels > 0)


def cycle(ends_a: Tensor, ends_b: Tensor, points_a: Tensor, valid: Tensor) -> Tensor:
    """Distance by which points miss themselves when carried to the other photo's points and back; ours.

    Both ways are soft choices of the nearest in canonical space, `softmax_j(-|u_i - v_j|^2 / 2 s^2)` with s^2 = 0.02;
    the miss `|p_back - p|` is measured in the photo, so that contracting canonical space does not pay.

    Args:
        ends_a: (P, K, 2).
        ends_b: (P, K, 2).
        points_a: (P, K, 2) the first ends in their photo, in [-1, 1].
        valid: (P, K) bool.
    """
    logits = (ends_a[:, :, None] - ends_b[:, None]).square().sum(-1) / -_CYCLE_SPREAD / 2
    # A pair without any match chooses among its padding, and is masked at the end.
    closed = ~valid & valid.any(1, keepdim=True)
    there = logits.masked_fill(closed[:, None], -torch.inf).softmax(2)
    back = logits.transpose(1, 2).masked_fill(closed[:, None], -torch.inf).softmax(2)
    missed = there @ (back @ points_a) - points_a
    return _masked_mean((missed.square().sum(-1) + 1e-8).sqrt(), valid)


def folds(flow: Tensor, mask: Tensor) -> Tensor:
    """How far the map turns over: the mean of `max(0, -det J)` on the object, 1 where a photo is mirrored; ours.

    Args:
        flow: (B, h, w, 2).
        mask: (B, h, w), 1 on the object.
    """
    height, width = flow.shape[1:3]
    along_x = flow[:, :-1].diff(dim=2) * ((width - 1) / 2)
    along_y = flow[:, :, :-1].diff(dim=1) * ((height - 1) / 2)
    area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    return _masked_mean(relu(-area), mask[:, :-1, :-1])


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the batch of each sample's mean where `mask` counts; a sample without any is 0."""
    weight = mask.to(values.dtype)
    inner = tuple(range(1, values.ndim))
    return ((values * weight).sum(inner) / weight.sum(inner).clamp_min(1)).mean()
