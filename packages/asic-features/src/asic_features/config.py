"""Settings of feature extraction. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from asic_features.backbones import FACETS, WEIGHT_FREE, Backbone, Facet, find_backbone
from asic_features.images import FITS, Fit
from asic_features.mask_networks import MASK_NETWORKS

MaskSource = Literal["cosegment", "saliency", "isnet", "birefnet", "box", "none"]
MASK_SOURCES: tuple[MaskSource, ...] = ("cosegment", "saliency", "isnet", "birefnet", "box", "none")
Candidates = Literal["foreground", "all"]
PartStages = Literal[2, 3]
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
MOST_PARTS = 255
NEIGHBOURS = 10
Request = tuple[int, Facet]
"""Block and facet that are read from a network."""
_T = TypeVar("_T", int, Facet)


@dataclass(frozen=True)
class Resolved:
    """Settings with the backbone's own values where none were given.

    Attributes:
        backbone: The table's entry.
        blocks: Blocks that describe a token.
        facets: What is read from each of them.
        stride: Distance between neighbouring tokens in pixels.
    """

    backbone: Backbone
    blocks: tuple[int, ...]
    facets: tuple[Facet, ...]
    stride: int

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every facet of every block, block by block."""
        return tuple((block, facet) for block in self.blocks for facet in self.facets)


@dataclass(frozen=True)
class FeatureConfig:
    """How photos become descriptors, masks and matches.

    Attributes:
        size: Side of the model's square in pixels.
        fit: How a photo without a box fills the square: ``pad``, ``crop`` or ``stretch``.
        backbone: A name that ``find_backbone`` knows.
        weights: File of weights, or None for the Hugging Face cache.
        block: Block that describes a token, counted from 0, or several of them; None for the backbone's own. Several
            descriptors, each of unit length, are joined to one.
        facet: ``key``, ``query``, ``value`` or ``token``, or several of them; None for the backbone's own.
        stride: Distance between neighbouring tokens in pixels; None for the backbone's own.
        scales: Further sides in pixels at which photos are described, as many tokens to an object as at ``size``; what
            their tokens say at those of ``size`` joins the descriptors. Parts go by ``size`` alone, and found masks by
            the first block and facet there.
        masks: ``cosegment`` (the whole collection votes), ``saliency`` (each photo for itself), ``isnet`` or
            ``birefnet`` (a salient-object network), ``box`` (all of each object's box), ``none`` (all of every
            photo), or a folder with one picture per photo of the same relative name.
        mask_weights: The salient-object network's ONNX file, or None for the cache.
        grabcut: Whether found masks are drawn again along edges by OpenCV's GrabCut.
        candidates: Which tokens may be matched: ``foreground`` (mutual nearest neighbours among foreground
            tokens) or ``all`` (among all tokens, then both ends on the foreground; the published way).
        top_k: Match tokens that are each among the other's so many most similar; 1 for mutual nearest neighbours.
        neighbours: Past 60 photos, how many most similar photos each is matched with.
        mirror_test: Whether each pair is also matched with its second photo mirrored, and the better of the two kept.
        components: Keep so many joint principal components of a network's descriptors; None keeps them as they are.
        log_bin: Whether each token is joined with its surroundings (17 times the width).
        least_support: Keep matches that so many third photos confirm.
        suppress_px: Keep of each pair the most confident matches that lie so far apart in both photos; 0 keeps all.
        parts: Divide the objects into so many parts that all photos share; None finds no parts.
        part_stages: Rounds of clustering that lead to parts, 2 or 3; see ``discover_parts``.
        device: A torch device.
        precision: What a network computes in; weights and answers keep theirs.
        batch: Photos described at once; None for 8 on a GPU and 1 elsewhere, where more are no faster and an answer
            would depend, in its last bit, on which photos went together.
        workers: Photos decoded at once.
    """

    size: int = 256
    fit: Fit = "pad"
    backbone: str = WEIGHT_FREE
    weights: Path | None = None
    block: int | tuple[int, ...] | None = None
    facet: Facet | tuple[Facet, ...] | None = None
    stride: int | None = None
    scales: tuple[int, ...] = ()
    masks: MaskSource | Path = "cosegment"
    mask_weights: Path | None = None
    grabcut: bool = False
    candidates: Candidates = "foreground"
    top_k: int = 1
    neighbours: int = NEIGHBOURS
    mirror_test: bool = False
    components: int | None = None
    log_bin: bool = False
    least_support: int = 0
    suppress_px: float = 0.0
    parts: int | None = None
    part_stages: PartStages = 2
    device: str = "cpu"
    precision: Precision = "float32"
    batch: int | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        if not 32 <= self.size <= 4096:
            raise ValueError(f"size: expected 32 to 4096 pixels, got {self.size}")
        if self.fit not in FITS:
            raise ValueError(f"fit: expected one of {', '.join(FITS)}, got {self.fit!r}")
        for facet in _several("facet", self.facet):
            if facet not in FACETS:
                raise ValueError(f"facet: expected one of {', '.join(FACETS)}, got {facet!r}")
        _several("block", self.block)
        if len(set(self.scales)) != len(self.scales) or self.size in self.scales:
            raise ValueError(f"scales: expected sides other than the size of {self.size}, each once, got {self.scales}")
        for side in self.scales:
            if not 32 <= side <= 4096:
                raise ValueError(f"scales: expected 32 to 4096 pixels, got {side}")
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride: expected at least 1 pixel, got {self.stride}")
        if not isinstance(self.masks, Path) and self.masks not in MASK_SOURCES:
            raise ValueError(f"masks: expected one of {', '.join(MASK_SOURCES)} or a folder, got {self.masks!r}")
        if self.mask_weights is not None and not self.needs_mask_network:
            networks = " or ".join(MASK_NETWORKS)
            raise ValueError(f"mask_weights: expected masks {networks} with them, got masks {str(self.masks)!r}")
        if self.grabcut and self.masks not in {"cosegment", "saliency"}:
            raise ValueError(f"grabcut: expected masks cosegment or saliency with it, got {str(self.masks)!r}")
        if self.candidates not in {"foreground", "all"}:
            raise ValueError(f"candidates: expected foreground or all, got {self.candidates!r}")
        if self.top_k < 1:
            raise ValueError(f"top_k: expected at least 1, got {self.top_k}")
        if self.neighbours < 1:
            raise ValueError(f"neighbours: expected at least 1 photo, got {self.neighbours}")
        if self.components is not None and self.components < 1:
            raise ValueError(f"components: expected at least 1, got {self.components}")
        if self.least_support < 0:
            raise ValueError(f"least_support: expected 0 or more photos, got {self.least_support}")
        if not 0 <= self.suppress_px < float("inf"):
            raise ValueError(f"suppress_px: expected 0 or more pixels, got {self.suppress_px}")
        if self.parts is not None and not 1 <= self.parts <= MOST_PARTS:
            raise ValueError(f"parts: expected 1 to {MOST_PARTS}, got {self.parts}")
        if self.part_stages not in {2, 3}:
            raise ValueError(f"part_stages: expected 2 or 3, got {self.part_stages}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.workers < 1:
            raise ValueError(f"workers: expected at least 1, got {self.workers}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch: expected at least 1 photo, got {self.batch}")

    @property
    def needs_mask_network(self) -> bool:
        """Whether masks come from a salient-object network."""
        return self.masks in MASK_NETWORKS

    @property
    def photos_at_once(self) -> int:
        """Photos described at once."""
        return self.batch or (8 if self.device.startswith("cuda") else 1)

    def resolve(self) -> Resolved:
        """Backbone, blocks, facets and stride with the backbone's own values where none were given.

        Raises:
            ValueError: Unknown backbone, a block it does not have, or a setting the descriptor without weights lacks.
        """
        backbone = find_backbone(self.backbone)
        if not backbone.needs_weights and (self.block is not None or self.facet is not None):
            raise ValueError(f"block and facet belong to networks; {self.backbone!r} has neither: drop them")
        if not backbone.needs_weights and self.components is not None:
            raise ValueError(f"components are of a network's descriptors; {self.backbone!r} is none: drop them")
        if not backbone.needs_weights and self.scales:
            raise ValueError(f"scales are of a network's descriptors; {self.backbone!r} is none: drop them")
        blocks = _several("block", self.block) or (backbone.block,)
        for block in blocks:
            if not 0 <= block < backbone.depth:
                raise ValueError(f"block: {self.backbone} has blocks 0 to {backbone.depth - 1}, got {block}")
        stride = backbone.stride if self.stride is None else self.stride
        if stride > self.size:
            raise ValueError(f"stride: expected at most the size of {self.size} pixels, got {stride}")
        for side in self.scales:
            if side < backbone.patch:
                raise ValueError(f"scales: expected at least one patch of {backbone.patch} pixels, got {side}")
        return Resolved(backbone, blocks, _several("facet", self.facet) or (backbone.facet,), stride)


def one_or_several(values: tuple[_T, ...]) -> _T | list[_T]:
    """How settings record blocks or facets: the only one by itself, several as a list."""
    return values[0] if len(values) == 1 else list(values)


def _several(name: str, given: _T | tuple[_T, ...] | None) -> tuple[_T, ...]:
    values = given if isinstance(given, tuple) else () if given is None else (given,)
    if given == () or len(set(values)) != len(values):
        raise ValueError(f"{name}: expected one or more, each once, got {given!r}")
    return values
