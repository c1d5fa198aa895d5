"""Settings of the published recipe, each with its unit and where its value comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal


@dataclass(frozen=True)
class LossWeights:
    """What each loss of `asic_flow.paper.losses` counts; one of weight 0 is not computed.

    The published weights but for that of matches, and 0 for the three that are ours. No weight is published for a match
    distance, cycles or folds: 1 is a scale at which they are felt.

    Attributes:
        reconstruction: of canonical image against photo.
        matches: of telling a match's partner from the others. Published as 30 at temperature 1; at the temperature 0.1
            of `PaperConfig` 3 has the same slope, and 30 follows wrong matches.
        match_distance: of robust distances between a match's ends.
        total_variation: of the displacement's slopes.
        equivariance: of flows under warped and recoloured photos.
        mask: of the canonical mask.
        parts: of pixels' distances from the centroids of their parts; nothing where the collection has no parts.
        cycle: of carrying points to the other photo and back.
        folds: of pixels where the map turns over.
    """

    reconstruction: float = 1.0
    matches: float = 3.0
    match_distance: float = 0.0
    total_variation: float = 15_000.0
    equivariance: float = 1.0
    mask: float = 0.1
    parts: float = 10.0
    cycle: float = 0.0
    folds: float = 0.0

    def __post_init__(self) -> None:
        for name in (entry.name for entry in fields(self)):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"weights.{name} must be 0 or more and finite, got {value}")
        if not any(getattr(self, entry.name) for entry in fields(self)):
            raise ValueError("weights must not all be 0, got no loss to train by")


@dataclass(frozen=True)
class PaperConfig:
    """How the network is trained.

    Values are the published ones (Gupta et al., ICCV 2023) but for those that say otherwise.

    Attributes:
        steps: of the optimiser in all.
        photos_per_step: photos in a step; each joins with an augmented copy. Fewer where the collection has fewer.
        all_pairs: whether all pairs of a step's photos are matched, or only disjoint ones, the published way.
        matches_per_pair: the most matches of a pair that one step uses, drawn anew in each; ours, bounds memory.
        side: side of the network's input in pixels, a multiple of 16; photos are resized to it.
        network: what the displacement is a function of: the photo's RGB, the published way; the principal components of
            its descriptors; or place and a learned code of the photo, without seeing it, so that equivariance has
            nothing to say.
        width: of a U-Net, as a multiple of 64 channels in the first level.
        head: resolution of the flow: the input's, or a quarter of it.
        start: from where the displacement counts: each photo as it is, the published way, or placed by the coarse
            stage, so that the network has neither to mirror nor to turn it; ours.
        rematch_every: steps after which matches are made again under the guide of the maps, from the first step on
            where the start is coarse; 0 keeps the collection's, the published way.
        components: principal components of the descriptors that the canonical image holds beside RGB and mask, fewer
            where descriptors are narrower. Ours: their distance stands for the published perceptual one, and needs no
            other network's weights.
        canonical: the canonical image, a learnable grid or a network of coordinates.
        canonical_side: side of that grid, in its pixels.
        learning_rate: Adam's, at its first peak.
        restarts: of the cosine schedule; each period is twice as long as the one before, and the last ends at the last
            step with a rate of zero. Published periods of 10,000 and 20,000 break off in the middle of the second.
        restart_decay: factor from one period's peak rate to the next one's.
        temperature: of the match loss, canonical distance. Ours: at the published 1 a perfect answer is hardly cheaper
            than a wrong one.
        distance_scale: of the robust match distance, canonical distance.
        jitter: strength of the colour changes, as a multiple of the published ones.
        bend: the most a thin-plate spline's control point moves, as a share of the distance between two of them.
        averaging_steps: half-life of the averaged weights, in steps; published as 10,000 photos of 32 a step.
        evaluate_every: steps from one score of the held-out matches to the next.
        patience: scores without a rise that end training; the best scored weights are kept in any case.
    """

    steps: int = 20_000
    photos_per_step: int = 20
    all_pairs: bool = False
    matches_per_pair: int = 1_000
    side: int = 256
    network: Literal["rgb", "components", "coordinates"] = "rgb"
    width: float = 0.5
    head: Literal["full", "quarter"] = "full"
    start: Literal["identity", "coarse"] = "identity"
    rematch_every: int = 0
    components: int = 8
    canonical: Literal["grid", "network"] = "grid"
    canonical_side: int = 256
    learning_rate: float = 3e-3
    restarts: int = 1
    restart_decay: float = 0.9
    temperature: float = 0.1
    distance_scale: float = 0.15
    jitter: float = 1.0
    bend: float = 0.4
    averaging_steps: float = 312.5
    evaluate_every: int = 500
    patience: int = 10
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("photos_per_step", 2),
            ("matches_per_pair", 1),
            ("rematch_every", 0),
            ("components", 0),
            ("canonical_side", 2),
            ("restarts", 0),
            ("evaluate_every", 1),
            ("patience", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.side < 32 or self.side % 16:
            raise ValueError(f"side must be a multiple of 16 from 32 on, which the network halves, got {self.side}")
        for name, choices in (
            ("network", ("rgb", "components", "coordinates")),
            ("head", ("full", "quarter")),
            ("start", ("identity", "coarse")),
            ("canonical", ("grid", "network")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if self.network == "components" and not self.components:
            raise ValueError("components must be at least 1 for a network that sees nothing else, got 0")
        for name in ("width", "learning_rate", "restart_decay", "temperature", "distance_scale", "averaging_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("jitter", "bend"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")

    @property
    def field_side(self) -> int:
        """Side of the flow, in its pixels."""
        return self.side // (4 if self.head == "quarter" else 1)

    def photos_drawn(self, num_photos: int) -> int:
        """Photos of a step where the collection has so many: all in pairs, unless all pairs are matched."""
        count = min(num_photos, self.photos_per_step)
        return count if self.all_pairs else count // 2 * 2

    def learning_rate_at(self, step: int) -> float:
        """The rate of step 0 to `steps - 1`; it would be zero at `steps`.

        Cosine annealing with warm restarts: Loshchilov and Hutter, "SGDR", ICLR 2017.
        """
        period = self.steps / (2 ** (self.restarts + 1) - 1)
        peak, start = self.learning_rate, 0.0
        while step >= start + period and start + period < self.steps * (1 - 1e-9):
            start, period, peak = start + period, 2 * period, peak * self.restart_decay
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - start) / period)))


PAPER_SMALL = PaperConfig(
    steps=300,
    photos_per_step=10,
    all_pairs=True,
    matches_per_pair=200,
    side=64,
    width=0.125,
    head="quarter",
    start="coarse",
    rematch_every=20,
    canonical_side=64,
    learning_rate=5e-3,
    restarts=0,
    averaging_steps=20,
    evaluate_every=20,
)
"""The recipe at a size for the CPU, from placed photos and with matches made again: seconds in place of hours."""
