"""The published reconstruction distance, between features of a VGG16 whose weights lie in a local file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, normalize, relu

from asic_flow.state_dict import StateDictError, read_state_dict
from asic_flow.train import AlignmentError

# Numbers of the convolutions in torchvision's `vgg16().features`, block by block; a maximum over 2 x 2 lies between.
_BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PerceptualWeightsError(AlignmentError):
    """A file of weights that cannot be used; the message names it and the tensor."""


class PerceptualDistance:
    """Distances between images in the space of a VGG16's features, each block's last ones, unit length in channels.

    With the heads of LPIPS each block's squared differences are weighed by channel; without, all channels count the
    same. Nothing of it is trained. Source: Zhang et al., "The unreasonable effectiveness of deep features as a
    perceptual metric", CVPR 2018.
    """

    def __init__(self, blocks: list[list[tuple[Tensor, Tensor]]], heads: list[Tensor], sha256: list[str]) -> None:
        """Takes weights and biases of the convolutions, block by block, and the (C,) channel weights of each block.

        Args:
            blocks: (C', C, 3, 3) weights and (C',) biases.
            heads: (C',) of each block's last convolution.
            sha256: Of the files they come from.
        """
        self._blocks, self._heads, self.sha256 = blocks, heads, sha256
        device = heads[0].device
        self._mean, self._deviation = (torch.tensor(v, device=device)[:, None, None] for v in (_MEAN, _DEVIATION))

    @classmethod
    def read(cls, vgg: Path, lpips: Path | None = None) -> PerceptualDistance:
        """Reads the weights; nothing in the files is run.

        Args:
            vgg: State dictionary of torchvision's VGG16, as `.pth` or `.safetensors`: `features.0.weight` and so on, of
                whatever training.
            lpips: The heads of LPIPS 0.1 for it: `lin0.model.1.weight` to `lin4.model.1.weight`.

        Raises:
            PerceptualWeightsError: A file is missing, damaged, or of something else.
        """
        tensors, sha256 = _tensors(vgg)
        blocks: list[list[tuple[Tensor, Tensor]]] = []
        channels = 3
        for numbers in _BLOCKS:
            blocks.append([])
            for number in numbers:
                weight = _tensor(tensors, vgg, f"features.{number}.weight", (None, channels, 3, 3))
                channels = len(weight)
                blocks[-1].append((weight, _tensor(tensors, vgg, f"features.{number}.bias", (channels,))))
        widths = [len(block[-1][1]) for block in blocks]
        if lpips is None:
            return cls(blocks, [torch.ones(width) for width in widths], [sha256])
        tensors, of_heads = _tensors(lpips)
        heads = [
            _tensor(tensors, lpips, f"lin{number}.model.1.weight", (1, width, 1, 1)).flatten()
            for number, width in enumerate(widths)
        ]
        return cls(blocks, heads, [sha256, of_heads])

    def to(self, device: torch.device) -> PerceptualDistance:
        """The same on a device."""
        blocks = [[(weight.to(device), bias.to(device)) for weight, bias in block] for block in self._blocks]
        return PerceptualDistance(blocks, [head.to(device) for head in self._heads], self.sha256)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, C, h, w) features of each block, unit length in channels, of (B, 3, H, W) images in [-1, 1]."""
        signal = ((images + 1) / 2 - self._mean) / self._deviation
        found = []
        for number, block in enumerate(self._blocks):
            signal = signal if number == 0 else max_pool2d(signal, 2)
            for weight, bias in block:
                signal = relu(conv2d(signal, weight, bias, padding=1))
            found.append(normalize(signal, dim=1, eps=1e-6))
        return found

    def between(self, one: list[Tensor], other: list[Tensor]) -> Tensor:
        """(B,) distances: over the blocks, the sum of `mean_p sum_c w_c (f_c - g_c)^2`."""
        total = torch.zeros((), device=one[0].device)
        for head, ours, theirs in zip(self._heads, one, other, strict=True):
            total = total + ((ours - theirs).square() * head[:, None, None]).sum(1).mean((1, 2))
        return total


def _tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        found = read_state_dict(path)
    except StateDictError as error:
        raise PerceptualWeightsError(str(error)) from error
    with path.open("rb") as stream:
        return found, hashlib.file_digest(stream, "sha256").hexdigest()


def _tensor(tensors: dict[str, Tensor], path: Path, name: str, shape: tuple[int | None, ...]) -> Tensor:
    found = tensors.get(name)
    expected = "x".join("any" if length is None else str(length) for length in shape)
    if not isinstance(found, Tensor):
        raise PerceptualWeightsError(f"{path}: expected a tensor {name!r} of {expected}, got none")
    if found.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, found.shape, strict=True)):
        raise PerceptualWeightsError(f"{path}, tensor {name!r}: expected {expected}, got {tuple(found.shape)}")
    return found.float()
