"""What a vision transformer says about every token: facets of its blocks, and the CLS token's attention."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from asic_features.backbones import Backbone, Facet
from asic_features.config import Precision
from asic_features.saliency import cls_attention
from asic_features.weights import WeightsError
from asic_flow.collection import TokenGrid
from asic_flow.state_dict import StateDictError, read_state_dict

_NOISE_SPREAD = 30.0  # grey levels
# A block's perceptron, which looks at each token by itself, widens no more than so many at once.
_WIDENED_TOKENS = 2048
_NESTING_KEYS = ("state_dict", "model", "teacher")


@dataclass(frozen=True)
class Described:
    """One forward pass over a batch of B photos with T tokens.

    Attributes:
        facets: One (B, T, D) float32 tensor, not normalised, for each request in its order.
        cls_attention: (B, T) float32, the last block's attention of the CLS token to each patch times T, mean over
            heads: 1 where it is as if spread evenly; (B, 0) where it was not asked for.
    """

    facets: tuple[torch.Tensor, ...]
    cls_attention: torch.Tensor


def token_grid(size: int, patch: int, stride: int) -> TokenGrid:
    """Tokens of a square of ``size`` pixels: every patch that fits, its centre at ``stride * j + (patch - 1) / 2``."""
    if size < patch:
        raise ValueError(f"size: expected at least one patch of {patch} pixels, got {size}")
    count = (size - patch) // stride + 1
    return TokenGrid(rows=count, cols=count, stride=float(stride), first=(patch - 1) / 2)


class VisionTransformer:
    """A ViT of timm whose tokens may lie closer than its patches.

    The stride of the patch convolution is lowered and the position embedding interpolated bicubically (Amir et al.,
    "Deep ViT features as dense visual descriptors", 2021). Attention runs fused; no block after the last one needed is
    run, and of a block that is only asked for keys, queries or values just that projection.
    """

    def __init__(
        self, backbone: Backbone, weights: Path, *, stride: int, device: str = "cpu", precision: Precision = "float32"
    ) -> None:
        """Build the network and load its weights.

        Args:
            backbone: Which network.
            weights: A ``.safetensors`` file, or a ``.pth`` file, which is opened without running any code in it.
            stride: Distance between neighbouring tokens in pixels.
            device: A torch device.
            precision: What products are computed in; weights stay as they are, and answers are float32.

        Raises:
            WeightsError: The file is damaged or belongs to another network.
        """
        import timm

        self.backbone = backbone
        self.stride = stride
        state = _read_state(weights)
        model: Any = timm.create_model(backbone.timm_name, pretrained=False, dynamic_img_size=True, num_classes=0)
        remap = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        try:
            if remap is not None:
                state = remap(state, model)
            # Taken over, not copied: a copy's memory would not come back as a whole.
            missing = model.load_state_dict(state, strict=False, assign=True).missing_keys
        except (RuntimeError, KeyError, ValueError, AttributeError) as error:
            raise WeightsError(f"weights file {weights} does not fit {backbone.name}: {_first(error)}") from error
        if missing:
            raise WeightsError(
                f"weights file {weights} does not fit {backbone.name}: it lacks {', '.join(sorted(missing)[:3])}"
            )
        for block in model.blocks:
            block.mlp.forward = partial(_by_chunks, block.mlp.forward)
        self.model = model.eval().requires_grad_(False).to(device, torch.float32)
        self.device = torch.device(device)
        self._dtype: torch.dtype = getattr(torch, precision)
        self._mean = torch.tensor(backbone.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(backbone.std, device=device).view(3, 1, 1)
        self._noise: dict[tuple[int, int, int, Facet], torch.Tensor] = {}

    @torch.inference_mode()
    def __call__(
        self,
        images: torch.Tensor,
        requests: Sequence[tuple[int, Facet]],
        *,
        with_cls_attention: bool = False,
        stride: int | None = None,
    ) -> Described:
        """Describe every token.

        Args:
            images: (B, S, S, 3) uint8.
            requests: Pairs of block and facet, all read in one pass.
            with_cls_attention: Whether the CLS token's attention in the last block is wanted.
            stride: Distance between neighbouring tokens in pixels; None for the network's own.

        Returns:
            Tokens row by row, without CLS and register tokens.

        Raises:
            ValueError: A block or facet that is not there, or CLS attention of a network without CLS token.
        """
        model = self.model
        depth = len(model.blocks)
        for block, facet in requests:
            if not 0 <= block < depth or facet not in {"key", "query", "value", "token"}:
                raise ValueError(f"expected a block 0 to {depth - 1} and a facet, got {block} and {facet!r}")
        if with_cls_attention and model.cls_token is None:
            raise ValueError(f"{self.backbone.name} has no CLS token: use masks 'cosegment', 'none' or your own")
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            facets, attention = self._describe(images, requests, with_cls_attention, stride or self.stride)
        return Described(tuple(facets[request].float() for request in requests), attention)

    def _describe(
        self, images: torch.Tensor, requests: Sequence[tuple[int, Facet]], with_cls_attention: bool, stride: int
    ) -> tuple[dict[tuple[int, Facet], torch.Tensor], torch.Tensor]:
        model = self.model
        depth = len(model.blocks)
        pixels = images.to(self.device).permute(0, 3, 1, 2).float() / 255
        # Not patch_embed itself, which wants sides that are multiples of the patch: 256 is none of 14.
        proj = model.patch_embed.proj
        patches = functional.conv2d((pixels - self._mean) / self._std, proj.weight, proj.bias, stride)
        x = model.patch_embed.norm(patches.permute(0, 2, 3, 1))
        x, rope = _add_positions(model, x)
        x = model.norm_pre(x)
        found: dict[tuple[int, Facet], torch.Tensor] = {}
        attention = torch.empty(len(images), 0, device=self.device)
        last = max([block for block, _ in requests] + ([depth - 1] if with_cls_attention else []))
        for index, block in enumerate(model.blocks[: last + 1]):
            wanted = [facet for at, facet in requests if at == index]
            block_rope = rope[index] if rope is not None and getattr(model, "rope_mixed", False) else rope
            projections = [facet for facet in wanted if facet != "token"]
            attends = with_cls_attention and index == depth - 1
            if projections or attends:
                normed = block.norm1(x)
                for facet in projections:
                    found[index, facet] = _merge_heads(_project(block.attn, normed, facet))[
                        :, model.num_prefix_tokens :
                    ]
                if attends:
                    attention = self._cls_attention(block.attn, normed, block_rope)
            if index == last and "token" not in wanted:
                break
            x = block(x) if rope is None else block(x, rope=block_rope)
            if "token" in wanted:
                found[index, "token"] = x[:, model.num_prefix_tokens :]
        return found, attention

    def blank_attention(self, size: int) -> torch.Tensor:
        """(T,) CLS attention where there is nothing to see: the mean over a grey image and one of faint noise."""
        noise = torch.randn(1, size, size, 3, generator=torch.Generator().manual_seed(0)) * _NOISE_SPREAD + 128
        images = torch.cat([torch.full((1, size, size, 3), 128.0), noise]).clamp(0, 255).to(torch.uint8)
        # One at a time: at a fine stride the tokens of one image are all that memory should hold.
        return torch.stack([self(image[None], [], with_cls_attention=True).cls_attention[0] for image in images]).mean(
            0
        )

    def noise_directions(
        self, size: int, request: tuple[int, Facet], *, count: int = 8, stride: int | None = None
    ) -> torch.Tensor:
        """(D, count) orthonormal directions that descriptors of images of pure noise share.

        What is alike in images without content is where in the image a token lies; DINOv3's tokens hold much of it.
        They are the leading right singular vectors of the tokens of four images of noise, found once for each size and
        request.

        Args:
            size: Side of the images in pixels.
            request: Block and facet.
            count: Number of directions.
            stride: See ``__call__``.
        """
        key = (size, stride or self.stride, *request)
        if key not in self._noise:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8, generator=generator)
            tokens = torch.stack([self(image[None], [request], stride=stride).facets[0][0] for image in noise]).mean(0)
            _, _, directions = torch.linalg.svd(functional.normalize(tokens, dim=-1), full_matrices=False)
            self._noise[key] = directions.T
        return self._noise[key][:, :count]

    def _cls_attention(self, attention: Any, normed: torch.Tensor, rope: torch.Tensor | None) -> torch.Tensor:
        query = _project(attention, normed[:, :1], "query")  # CLS carries no rotary position
        key = _project(attention, normed, "key")
        prefix: int = self.model.num_prefix_tokens
        if rope is not None:
            from timm.layers.pos_embed_sincos import apply_rot_embed_cat

            half = getattr(attention, "rotate_half", False)
            key = torch.cat([key[:, :, :prefix], apply_rot_embed_cat(key[:, :, prefix:], rope, half=half)], dim=2)
        with torch.autocast(self.device.type, enabled=False):
            return cls_attention(query[:, :, 0], key, prefix=prefix, heads=self.backbone.saliency_heads)


def _first(error: Exception) -> str:
    """The first of the complaints about a network's weights, which may be one for every tensor."""
    complaints = [line.strip() for line in str(error).splitlines() if line.strip() and not line.endswith(":")]
    first, *more = complaints or [type(error).__name__]
    return first + (f" (and {len(more)} more)" if more else "")


def _by_chunks(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] <= _WIDENED_TOKENS:
        return forward(x)
    return torch.cat([forward(tokens) for tokens in torch.split(x, _WIDENED_TOKENS, dim=1)], dim=1)


def _add_positions(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    added = model._pos_embed(x)
    return added if isinstance(added, tuple) else (added, None)


def _project(attention: Any, normed: torch.Tensor, facet: Facet) -> torch.Tensor:
    """(B, heads, tokens, head width) queries, keys or values before any rotary position."""
    index = ("query", "key", "value").index(facet)
    if attention.qkv is not None:
        width = attention.qkv.out_features // 3
        rows = slice(index * width, (index + 1) * width)
        weight = attention.qkv.weight[rows]
        if attention.qkv.bias is not None:
            bias = attention.qkv.bias[rows]
        else:
            bias = (getattr(attention, "q_bias", None), None, getattr(attention, "v_bias", None))[index]
        projected = functional.linear(normed, weight, bias)
    else:
        projected = (attention.q_proj, attention.k_proj, attention.v_proj)[index](normed)
    heads: torch.Tensor = projected.view(*projected.shape[:2], attention.num_heads, -1).transpose(1, 2)
    norm = (attention.q_norm, attention.k_norm, None)[index]
    return heads if norm is None else norm(heads)


def _merge_heads(projected: torch.Tensor) -> torch.Tensor:
    return projected.transpose(1, 2).flatten(2)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = read_state_dict(path)
    except StateDictError as error:
        raise WeightsError(f"weights file {error}") from error
    for key in _NESTING_KEYS:
        if isinstance(state.get(key), dict):
            state = state[key]
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()):
        raise WeightsError(f"weights file {path}: expected a state dictionary of tensors, got other values in one")
    return {name.removeprefix("module.").removeprefix("backbone."): value for name, value in state.items()}
