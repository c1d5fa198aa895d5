"""What a network says about all photos of a collection, in half precision and in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from asic_features.config import Request
from asic_features.descriptors import VisionTransformer

Progress = Callable[[str, int, int], None]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Descriptions:
    """Tokens of N photos.

    Attributes:
        facets: One (N, T, D) float16 tensor of unit-length descriptors for each request.
        attention: (N, T) float32, see ``Described.cls_attention``.
    """

    facets: tuple[torch.Tensor, ...]
    attention: torch.Tensor


def describe_photos(
    network: VisionTransformer, images: torch.Tensor, requests: Sequence[Request], *, batch: int, report: Progress
) -> Descriptions:
    """Describe every token of every photo, some photos at a time; fewer where memory does not suffice.

    Args:
        network: The network; where its backbone wants it, the directions that noise images share are taken out.
        images: (N, S, S, 3) uint8, N at least 1.
        requests: What to read.
        batch: Photos at once, to begin with.
        report: Called with the stage ``descriptors``, the photos done and all photos.

    Raises:
        torch.OutOfMemoryError: Not even one photo fits into the device's memory.
        MemoryError: Not even one photo fits into this machine's memory.
    """
    total, done = len(images), 0
    size = images.shape[1]
    noise = [network.noise_directions(size, request) for request in requests] if network.backbone.removes_noise else []
    facets: list[torch.Tensor] = []
    attention = torch.empty(0)
    while done < total:
        report("descriptors", done, total)
        try:
            described = network(images[done : done + batch], requests, with_cls_attention=True)
            found = [functional.normalize(facet, dim=-1) for facet in described.facets]
            for index, directions in enumerate(noise):
                found[index] = functional.normalize(found[index] - found[index] @ directions @ directions.T, dim=-1)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if batch == 1:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                raise MemoryError(f"one photo needs more memory than there is: {error}") from error
            batch //= 2
            _LOG.warning("the device's memory ran out: going on with %d photos at once", batch)
            continue
        if not facets:
            facets = [torch.empty(total, *facet.shape[1:], dtype=torch.float16) for facet in found]
            attention = torch.empty(total, described.cls_attention.shape[1])
        for whole, part in zip(facets, found, strict=True):
            whole[done : done + batch] = part
        attention[done : done + batch] = described.cls_attention
        done += batch
    report("descriptors", total, total)
    return Descriptions(tuple(facets), attention)


def join(facets: Sequence[torch.Tensor]) -> torch.Tensor:
    """One unit-length descriptor (N, T, sum of D) of several (N, T, D), each with the same share."""
    return facets[0] if len(facets) == 1 else torch.cat([facet * len(facets) ** -0.5 for facet in facets], dim=-1)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
