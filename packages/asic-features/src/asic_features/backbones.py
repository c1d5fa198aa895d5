"""The descriptors ASIC knows by a short name. Reads no weights and imports neither torch nor timm."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

Facet = Literal["key", "query", "value", "token"]
FACETS: tuple[Facet, ...] = ("key", "query", "value", "token")

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Backbone:
    """One descriptor and the settings it is best used with.

    Attributes:
        name: The short name, or timm's own name.
        timm_name: timm's model and tag; empty for the descriptor without weights.
        patch: Side of a token's patch in pixels.
        depth: Number of blocks.
        block: Block whose facet describes a token, counted from 0.
        facet: What is read from that block.
        stride: Distance between neighbouring tokens in pixels.
        mean: Subtracted from RGB in [0, 1].
        std: Divides RGB after the mean.
        licence: Licence of the weights.
        saliency_heads: Heads of the last block whose CLS attention is averaged; None for all.
        removes_noise: Whether the directions that images of pure noise share are taken out (DINOv3).
        revision: Commit of the hub's repository to fetch; None for the newest.
        sha256: Checksum of the weights at that commit; None where none is known.
    """

    name: str
    timm_name: str
    patch: int
    depth: int
    block: int
    facet: Facet
    stride: int
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    licence: str = "apache-2.0"
    saliency_heads: tuple[int, ...] | None = None
    removes_noise: bool = False
    revision: str | None = None
    sha256: str | None = None

    @property
    def needs_weights(self) -> bool:
        """Whether a file of weights must be at hand."""
        return bool(self.timm_name)


def _dino(name: str, size: str, patch: int, heads: tuple[int, ...] | None = None) -> Backbone:
    # ASIC (ICCV 2023) matches with the keys of block 9.
    return Backbone(
        name, f"vit_{size}_patch{patch}_224.dino", patch, 12, 9, "key", max(4, patch // 2), saliency_heads=heads
    )


def _dinov2(name: str, size: str, depth: int, registers: bool = False) -> Backbone:
    # The last block's tokens; DINOv2's keys match badly (block 9 key 25.2 against block 11 token 55.7 on SPair-71k).
    timm_name = f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
    return Backbone(name, timm_name, 14, depth, depth - 1, "token", 7)


def _dinov3(name: str, size: str, depth: int) -> Backbone:
    timm_name = f"vit_{size}_patch16_dinov3.lvd1689m"
    return Backbone(name, timm_name, 16, depth, depth - 1, "token", 8, licence="dinov3-license", removes_noise=True)


WEIGHT_FREE = "gradients"

# Of the hub's model.safetensors, as public repositories that pin it state them, two or more the same checksum. None are
# known so for the others.
_PINS = {
    "dinov2_vits14": (
        "4610ca143709d58a633b6397a74412c2c3842454",
        "04d27f3400d059fc0cfd7d17dd1909a75bf3ea8fb3eeb48b97cb99e57ee20081",
    ),
    "dinov2_vitb14": (
        "4685c99dabffe5affac90bd99dbffd25801ae58d",
        "55cbb5d887b336d430e649c277b85a1429e724871f9d02ac16203235886d8c7b",
    ),
    "dinov2_vitl14": (
        "4741e1cafbf45415e77074bb0cb42dba76c8684a",
        "0424a5d1b515278cba3c6640ccbeaacc41de59d3a93df0dd5e494285eea2b355",
    ),
    "dinov2_vitb14_reg4": (
        "3b06466a5548c52b8b98822e1390987695fcbf82",
        "c24ecfb4a1d8ca79193f6b9efcffc461872a09ddac43a0931357e4802931a006",
    ),
    "dinov3_vits16": (
        "3bf4720a82ec2066db88137180ff1f83a675cef0",
        "2a1ec16ae28ffa07bc0ead0241ee7df9fc26451fe6f9f839b7b3afa0a906b040",
    ),
    "dinov3_vitb16": (
        "c6a5fb7d12bbd3cf3b0079253141c3332aaed7da",
        "1f9ed8a2378d65e24bb710ba522ac9fa7be4e036d7aefb4384ce022833926332",
    ),
    "dinov3_vitl16": (
        "30c1109559f65dea34316b0d4842d35c5771fe11",
        "45172f209c9583c40538afc26b60a07033e6fcc2e8c30228338e6b2e932e7941",
    ),
}


def _pinned(backbone: Backbone) -> Backbone:
    revision, sha256 = _PINS.get(backbone.name, (None, None))
    return replace(backbone, revision=revision, sha256=sha256)


BACKBONES: dict[str, Backbone] = {
    backbone.name: _pinned(backbone)
    for backbone in (
        Backbone(WEIGHT_FREE, "", 8, 1, 0, "token", 8, licence="none needed"),
        _dino("dino_vits8", "small", 8, heads=(0, 2, 4, 5)),
        _dino("dino_vits16", "small", 16, heads=(0, 2, 4, 5)),
        _dino("dino_vitb8", "base", 8),
        _dino("dino_vitb16", "base", 16),
        _dinov2("dinov2_vits14", "small", 12),
        _dinov2("dinov2_vitb14", "base", 12),
        _dinov2("dinov2_vitl14", "large", 24),
        _dinov2("dinov2_vits14_reg4", "small", 12, registers=True),
        _dinov2("dinov2_vitb14_reg4", "base", 12, registers=True),
        _dinov2("dinov2_vitl14_reg4", "large", 24, registers=True),
        _dinov3("dinov3_vits16", "small", 12),
        _dinov3("dinov3_vitb16", "base", 12),
        _dinov3("dinov3_vitl16", "large", 24),
        Backbone(
            "vit_tiny_p16",
            "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
            16,
            12,
            8,
            "key",
            8,
            mean=_HALF,
            std=_HALF,
        ),
    )
}

_TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")


def find_backbone(name: str) -> Backbone:
    """Settings of a descriptor by its short name, or by the name timm has for a ViT.

    A short name costs nothing; for any other name timm is imported and asked, without its network.

    Args:
        name: ``dino_vits8``, ``gradients``, ..., or for example ``vit_small_patch16_224.augreg_in21k``.

    Returns:
        The entry of ``BACKBONES``, or one made from timm's configuration with the keys of the block two thirds
        of the way up, which is what serves supervised ViTs.

    Raises:
        ValueError: Neither a short name nor a ViT of timm.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if not _TIMM_NAME.fullmatch(name):
        raise ValueError(_unknown(name, list(BACKBONES)))
    import timm

    known = timm.list_models(module="vision_transformer") + timm.list_models(module="eva")
    architecture = name.partition(".")[0]
    config = timm.get_pretrained_cfg(name) if architecture in known else None
    if config is None or not config.hf_hub_id:
        raise ValueError(_unknown(name, [*BACKBONES, *known]))
    # Built without memory or initial values: the only source of patch size and depth.
    import torch

    with torch.device("meta"):
        model: Any = timm.create_model(architecture, pretrained=False)
    patch = int(model.patch_embed.proj.kernel_size[0])
    depth = len(model.blocks)
    return Backbone(
        name=name,
        timm_name=config.hf_hub_id.partition("/")[2],
        patch=patch,
        depth=depth,
        block=2 * depth // 3,
        facet="key",
        stride=max(4, patch // 2),
        mean=(config.mean[0], config.mean[1], config.mean[2]),
        std=(config.std[0], config.std[1], config.std[2]),
        licence=config.license or "not stated",
    )


def _unknown(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return (
        f"unknown backbone {name!r}: expected one of {', '.join(BACKBONES)}, or the name of a ViT in timm such as "
        f"vit_small_patch16_224.augreg_in21k{hint}"
    )
