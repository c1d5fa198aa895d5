"""Settings of the alignment, each with its unit and where its value comes from."""

from __future__ import annotations

from dataclasses import dataclass

_MOST = 1e6


@dataclass(frozen=True)
class AlignmentConfig:
    """How a collection is aligned.

    Canonical distances are in units in which the object's root-mean-square radius is 0.5. The values were chosen on
    several collections of real photos together, birds and dogs; no category has its own.

    Attributes:
        tokens_per_image: the coarsest regular subset of tokens that keeps at least this many a photo is aligned
            (photos have few degrees of freedom; the answer uses all tokens).
        coarse_scales: canonical distances, falling: the Geman-McClure scales of the affine stage.
        unconfirmed: what a match that no third photo confirms keeps of its weight in the affine stage, for each third
            photo that could; a twentieth among 20 photos.
        rounds: how often matches are made again under the guide of the present maps and the maps fitted to them.
        residual_scale: canonical distance, Geman-McClure scale of the dense stage.
        cells: cells of the spline along one axis.
        stiffness: weight of the membrane energy of the dense residual against the mean squared match distance.
        guide: weight of the squared canonical distance against cosine similarity in re-matching.
        agreement_power: a match counts in proportion to its similarity raised to this power.
        consensus_power: a partner's descriptor joins a token's with its similarity raised to this power.
        votes: how often photos vote on what tokens show and where they lie.
        propose: weight of the log distance between places on maps against cosine similarity in the first vote.
        combine: weight of the log distance between consensus places against cosine similarity in further votes and in
            the combined answer.
        combine_scale: canonical distance squared at which both these penalties turn from square to log.
    """

    tokens_per_image: int = 900
    coarse_scales: tuple[float, ...] = (0.28, 0.21, 0.14)
    unconfirmed: float = 0.85
    rounds: int = 6
    residual_scale: float = 0.1
    cells: int = 8
    stiffness: float = 1e-3
    guide: float = 1.4
    agreement_power: float = 2.0
    consensus_power: float = 3.0
    votes: int = 5
    propose: float = 5.0
    combine: float = 20.0
    combine_scale: float = 0.05

    def __post_init__(self) -> None:
        for value in (*self.coarse_scales, *(value for value in vars(self).values() if not isinstance(value, tuple))):
            if not abs(value) <= _MOST:
                raise ValueError(f"expected numbers of at most {_MOST:.0e}, got {value}")
        for field in ("tokens_per_image", "rounds", "cells", "votes"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        for field in ("residual_scale", "stiffness", "combine_scale"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be above 0, got {getattr(self, field)}")
        if not 0 <= self.unconfirmed <= 1:
            raise ValueError(f"unconfirmed must be from 0 to 1, got {self.unconfirmed}")
        for field in ("guide", "agreement_power", "consensus_power", "propose", "combine"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} must be 0 or more, got {getattr(self, field)}")
        if not self.coarse_scales or min(self.coarse_scales) <= 0:
            raise ValueError(f"coarse_scales must be positive and at least one, got {self.coarse_scales}")
