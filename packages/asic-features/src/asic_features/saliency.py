"""How likely each place shows the object, judged from one photo alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_BORDER_BAND = 1 / 16  # share of the side that counts as border
_COLOUR_WINDOW = 8.0  # width of the kernel density in L*a*b* units
_LIGHTNESS_WEIGHT = 0.6  # lightness varies more than colour within one background
_CENTRE_WIDTH = 0.35  # of the photo's width and height
_LEAST_DENSITY = 1e-3
_DISTANCES_AT_ONCE = 1 << 22  # 16 MB
_BLANK_FLOOR = 0.3


def cls_attention(
    query: torch.Tensor, key: torch.Tensor, *, prefix: int, heads: Sequence[int] | None = None
) -> torch.Tensor:
    """Attention of the CLS token to every patch, without the other rows of the attention matrix.

    Args:
        query: (B, heads, D) of the CLS token.
        key: (B, heads, prefix + T, D) of all tokens, the patches last.
        prefix: Number of CLS and register tokens.
        heads: Heads to average; None for all.

    Returns:
        (B, T) float32, mean over heads, times T: 1 where the attention is as if spread evenly over the patches.
    """
    scores = torch.einsum("bhd,bhtd->bht", query.float(), key.float()) * query.shape[-1] ** -0.5
    rows = scores.softmax(dim=-1)[:, :, prefix:]
    if heads is not None:
        rows = rows[:, list(heads)]
    attention: torch.Tensor = rows.mean(dim=1) * rows.shape[-1]
    return attention


def attention_saliency(attention: torch.Tensor, blank: torch.Tensor) -> torch.Tensor:
    """Saliency from CLS attention, relative to what the same place gets where there is nothing to see.

    Networks attend to some places, corners above all, whatever the photo shows; ``blank`` takes that out. Nothing is
    stretched to fill a range: a photo without object gets no salient token by force.

    Args:
        attention: (B, T) from ``cls_attention``.
        blank: (T,) the mean over images without content.

    Returns:
        (B, T) in [0, 1]: r / (1 + r) of the ratio r = attention / (0.3 + blank).
    """
    ratio = attention / (_BLANK_FLOOR + blank)
    return ratio / (1 + ratio)


def border_contrast(lab: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Saliency without weights: colours rare along the photo's border, favouring its centre.

    Photos are taken of things, so that the border mostly shows background (the boundary prior of Wei et al.,
    "Geodesic saliency using background priors", 2012).

    Args:
        lab: (B, 3, G, G) colours.
        inside: (B, G, G) bool, where the photo is; padding is not its border.

    Returns:
        (B, G, G) in [0, 1], 0 outside.
    """
    weight = torch.tensor([_LIGHTNESS_WEIGHT, 1.0, 1.0], device=lab.device).view(3, 1, 1)
    return torch.stack([_contrast(colours, there) for colours, there in zip(lab * weight, inside, strict=True)])


def _contrast(colours: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    rows, columns = inside.any(dim=1).nonzero()[:, 0], inside.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        return torch.zeros(inside.shape, device=colours.device)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    band = max(1, round(_BORDER_BAND * inside.shape[0]))
    border = torch.zeros_like(inside)
    border[top:bottom, left:right] = True
    border[top + band : bottom - band, left + band : right - band] = False
    values = colours.flatten(1).T
    seen = values[border.flatten()]
    density = values.new_empty(len(values))
    some = max(1, _DISTANCES_AT_ONCE // len(seen))
    # Each mean in its place: results between the distances of one part and the next would fragment the heap.
    for part, mean in zip(torch.split(values, some), torch.split(density, some), strict=True):
        mean.copy_(torch.cdist(part, seen).square_().div_(-2 * _COLOUR_WINDOW**2).exp_().mean(dim=1))
    rarity = (density + _LEAST_DENSITY).log() / torch.tensor(_LEAST_DENSITY).log()
    rarity = rarity.clamp(0, 1).view(inside.shape)
    y = (torch.arange(inside.shape[0], device=colours.device) - (top + bottom - 1) / 2) / (bottom - top)
    x = (torch.arange(inside.shape[1], device=colours.device) - (left + right - 1) / 2) / (right - left)
    centred = torch.exp(-(y[:, None].square() + x[None].square()) / (2 * _CENTRE_WIDTH**2))
    return rarity * centred * inside
