"""What a network says about all photos of a collection, in half precision and in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch.nn import functional

from asic_features.cache import DescriptionCache
from asic_features.config import FeatureConfig, Request
from asic_features.descriptors import VisionTransformer, token_grid
from asic_features.weights import sha256_of
from asic_flow.collection import TokenGrid
from asic_flow.cores import MOST_TOKENS_A_CORE, mapping
from asic_flow.grid import pixel_to_token_norm
from asic_flow.kernels import warp_bilinear

Progress = Callable[[str, int, int], None]
_LOG = logging.getLogger(__name__)


class SettingsError(ValueError):
    """Settings that only turn out not to fit once the network is there."""


@dataclass(frozen=True)
class Descriptions:
    """Tokens of N photos.

    Attributes:
        facets: One (N, T, D) float16 tensor of unit-length descriptors for each request.
        attention: (N, T) float32, see ``Described.cls_attention``; (N, 0) where it was not asked for.
    """

    facets: tuple[torch.Tensor, ...]
    attention: torch.Tensor


class Describer:
    """A network with the settings it is asked under, and the cache of its answers.

    Attributes:
        network: The network.
        requests: What descriptors are made of.
        part_request: What parts are told by: the last block's keys, whatever matches are made by.
        caches: Where answers are kept, by the side of the squares they are about; empty where none are.
    """

    def __init__(self, config: FeatureConfig, weights: Path, report: Progress, cache: Path | None) -> None:
        """Load the network.

        Args:
            config: How photos are described.
            weights: The network's weights.
            report: See ``describe_photos``.
            cache: Folder of descriptors that were made before and are kept now, or None.

        Raises:
            WeightsError: The weights do not fit.
            SettingsError: More components than a descriptor is wide.
            OSError: The cache cannot be made.
        """
        resolved = config.resolve()
        self.requests = resolved.requests
        self.part_request: Request = (resolved.backbone.depth - 1, "key")
        self.network = VisionTransformer(
            resolved.backbone, weights, stride=resolved.stride, device=config.device, precision=config.precision
        )
        width = self.network.model.embed_dim * len(self.requests) * (1 + len(config.scales))
        if config.components is not None and config.components > width:
            raise SettingsError(
                f"components: expected at most the {width} values of a descriptor, got {config.components}"
            )
        self._wanted = self.requests
        if config.parts is not None and self.part_request not in self.requests:
            self._wanted = (*self.requests, self.part_request)
        self._batch, self._report = config.photos_at_once, report
        self._size, self._scales = config.size, config.scales
        # By the side of a square: as many tokens to an object at every scale.
        self._strides = {
            side: max(1, round(resolved.stride * side / config.size)) for side in (config.size, *config.scales)
        }
        self.caches: dict[int, DescriptionCache] = {}
        if cache is not None:
            settings = {
                "backbone": resolved.backbone.name,
                "weights_sha256": sha256_of(weights),
                "precision": config.precision,
                "torch": torch.__version__,
                "version": version("asic-features"),
            }
            self.caches = {
                side: DescriptionCache(cache, {**settings, "stride": stride, "attention": side == config.size})
                for side, stride in self._strides.items()
            }

    def describe(self, images: torch.Tensor) -> Descriptions:
        """What the network says at ``size``: facets in the order of ``requests``, then what parts are told by.

        Args:
            images: (N, S, S, 3) uint8.
        """
        return self._ask(images, self._wanted)

    def part_tokens(self, said: Descriptions) -> torch.Tensor | None:
        """(N, T, E) float16, what parts are told by; None where no parts are wanted."""
        return dict(zip(self._wanted, said.facets, strict=True)).get(self.part_request)

    def describe_for_parts(self, images: torch.Tensor) -> torch.Tensor:
        """(N, T, E) float16: what parts are told by alone."""
        return self._ask(images, (self.part_request,)).facets[0]

    def join(self, images: torch.Tensor, said: Descriptions) -> torch.Tensor:
        """(N, T, (1 + scales) D) float16 descriptors: what was said of the images, with what is said at every scale."""
        found = [join(said.facets[: len(self.requests)])]
        for side, said_there in self._at_scales(images):
            centres_px = (torch.from_numpy(self._grid(self._size).centres_px()) + 0.5) * (side / self._size) - 0.5
            found.append(join([_sample(facet, self._grid(side), centres_px) for facet in said_there.facets]))
        return join(found)

    def fill_caches(self, images: torch.Tensor) -> None:
        """Ask all that ``describe`` and ``join`` will ask of the images, and keep the answers."""
        self.describe(images)
        for _ in self._at_scales(images):
            pass

    def _at_scales(self, images: torch.Tensor) -> Iterator[tuple[int, Descriptions]]:
        for side in self._scales:
            yield side, self._ask(_resize(images, side), self.requests)

    def _grid(self, side: int) -> TokenGrid:
        return token_grid(side, self.network.backbone.patch, self._strides[side])

    def _ask(self, images: torch.Tensor, requests: Sequence[Request]) -> Descriptions:
        side = images.shape[1]
        return describe_photos(
            self.network,
            images,
            requests,
            batch=self._batch,
            report=self._report,
            cache=self.caches.get(side),
            stride=self._strides[side],
            with_attention=side == self._size,
        )


def _resize(images: torch.Tensor, side: int) -> torch.Tensor:
    """(N, side, side, 3) uint8 of (N, S, S, 3), one at a time in float32."""
    pixels = (image.permute(2, 0, 1)[None].float() for image in images)
    resized = (functional.interpolate(one, (side, side), mode="bicubic", antialias=True) for one in pixels)
    return torch.cat([one.round().clamp(0, 255).to(torch.uint8) for one in resized]).permute(0, 2, 3, 1)


def _sample(facet: torch.Tensor, grid: TokenGrid, points_px: torch.Tensor) -> torch.Tensor:
    """(N, M, D) float16 of unit length: (N, T, D) tokens of a grid, bilinear at (M, 2) points of its square."""
    points_norm = pixel_to_token_norm(points_px, grid)[None]
    maps = facet.view(len(facet), grid.rows, grid.cols, -1).permute(0, 3, 1, 2)
    sampled = [warp_bilinear(one[None].float(), points_norm)[0].T for one in maps]
    return torch.stack([functional.normalize(one, dim=-1).half() for one in sampled])


def describe_photos(
    network: VisionTransformer,
    images: torch.Tensor,
    requests: Sequence[Request],
    *,
    batch: int,
    report: Progress,
    cache: DescriptionCache | None = None,
    stride: int | None = None,
    with_attention: bool = True,
) -> Descriptions:
    """Describe every token of every photo, some photos at a time; fewer where memory does not suffice.

    On the CPU each core has photos of its own, up to 4,096 tokens each: torch's threads wait for each other after every
    operation, which with two cores, of which something else uses one, took four times as long. So answers do not depend
    on their number.

    Args:
        network: The network; where its backbone wants it, the directions that noise images share are taken out.
        images: (N, S, S, 3) uint8, N at least 1.
        requests: What to read.
        batch: Photos at once, to begin with; on the CPU so many for each core.
        report: Called with the stage ``descriptors``, the photos done and all photos.
        cache: Where photos that were described before under the same settings are found, and new ones kept.
        stride: Distance between neighbouring tokens in pixels; None for the network's own.
        with_attention: Whether the CLS token's attention is wanted, which takes the network's last block.

    Raises:
        torch.OutOfMemoryError: Not even one photo fits into the device's memory.
        MemoryError: Not even one photo fits into this machine's memory.
        OSError: The cache cannot be written.
    """
    total = len(images)
    keys = [None if cache is None else cache.key(requests, image) for image in images]
    whole: dict[str, torch.Tensor] = {}

    def keep(index: int, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if name not in whole:
                whole[name] = torch.empty(total, *tensor.shape, dtype=tensor.dtype)
            whole[name][index] = tensor

    missing = []
    for index, key in enumerate(keys):
        found = None if cache is None or key is None else cache.load(key)
        if found is None:
            missing.append(index)
        else:
            keep(index, found)

    def ask(chosen: Sequence[int]) -> dict[str, torch.Tensor]:
        return _describe(network, images[chosen], requests, stride, with_attention)

    # Processor cores take photos of their own; a GPU takes one batch after the other, as do all cores of large ones.
    tokens = batch * token_grid(images.shape[1], network.backbone.patch, stride or network.stride).rows ** 2
    at_once = network.device.type == "cpu" and tokens <= MOST_TOKENS_A_CORE
    report("descriptors", total - len(missing), total)
    while missing:
        batches = [missing[first : first + batch] for first in range(0, len(missing), batch)]
        try:
            with mapping(apart=at_once) as each:
                for chosen, described in zip(batches, each(ask, batches), strict=True):
                    for row, index in enumerate(chosen):
                        tensors = {name: tensor[row] for name, tensor in described.items()}
                        keep(index, tensors)
                        if cache is not None and (key := keys[index]) is not None:
                            cache.save(key, tensors)
                    missing = missing[len(chosen) :]
                    report("descriptors", total - len(missing), total)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if batch > 1:
                batch //= 2
                _LOG.warning("the device's memory ran out: going on with %d photos at once", batch)
            elif at_once:
                at_once = False
                _LOG.warning("this machine's memory ran out: going on with one photo after the other")
            elif isinstance(error, torch.OutOfMemoryError):
                raise
            else:
                raise MemoryError(f"one photo needs more memory than there is: {error}") from error
    return Descriptions(tuple(whole[str(index)] for index in range(len(requests))), whole["attention"])


def _describe(
    network: VisionTransformer,
    images: torch.Tensor,
    requests: Sequence[Request],
    stride: int | None,
    with_attention: bool,
) -> dict[str, torch.Tensor]:
    """(B, T, D) float16 for each request by its number, and the float32 ``attention``, on the CPU."""
    described = network(images, requests, with_cls_attention=with_attention, stride=stride)
    answer = {}
    for index, (request, facet) in enumerate(zip(requests, described.facets, strict=True)):
        unit = functional.normalize(facet, dim=-1)
        if network.backbone.removes_noise:
            directions = network.noise_directions(images.shape[1], request, stride=stride)
            unit = functional.normalize(unit - unit @ directions @ directions.T, dim=-1)
        answer[str(index)] = unit.half().cpu()
    answer["attention"] = described.cls_attention.cpu()
    return answer


def join(facets: Sequence[torch.Tensor]) -> torch.Tensor:
    """One unit-length descriptor (N, T, sum of D) of several (N, T, D), each with the same share."""
    return facets[0] if len(facets) == 1 else torch.cat([facet * len(facets) ** -0.5 for facet in facets], dim=-1)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
