"""The maps by which places travel between photos: both mirrored or both not, wherever there are such."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from asic_flow.alignment import Alignment
from asic_flow.kernels import CanonicalIndex, CanonicalNeighbours


@dataclass(frozen=True, eq=False)
class Travel:
    """Canonical look-ups between photos, by the photos' own maps or, where these differ in left and right, second ones.

    The rule is `asic_flow.sides.SecondMaps.choose`, which the default answer follows as well.

    Attributes:
        alignment: The maps.
    """

    alignment: Alignment
    _indices: dict[int, CanonicalIndex] = field(default_factory=dict, init=False, repr=False)

    def between(self, source: int, target: int) -> tuple[int, int]:
        """The numbers of the two photos' maps: a photo's own for its own, N + s for the second map s."""
        own = self.alignment
        chosen = own.second.choose(own.mirrored, torch.tensor([source]), torch.tensor([target]))
        return int(chosen[0]), int(chosen[1])

    def map(self, number: int) -> Tensor:
        """(H, W, 2): a map by its number."""
        count = len(self.alignment)
        return self.alignment.maps[number] if number < count else self.alignment.second.maps[number - count]

    def canonical(self, points_px: Tensor, number: Tensor) -> Tensor:
        """(M, 2): canonical positions of model pixels (M, 2) by the maps of these numbers (M,), border replicated."""
        return self.alignment.places_on_maps(points_px, number)

    def find(self, canonical: Tensor, number: int, max_distance: float = 0.1) -> CanonicalNeighbours:
        """Looks canonical points (P, 2) up on one map; see `asic_flow.kernels.CanonicalIndex.nearest`."""
        if number not in self._indices:
            count = len(self.alignment)
            photo = number if number < count else int(self.alignment.second.photo[number - count])
            self._indices[number] = CanonicalIndex(self.map(number)[None], self.alignment.foreground[[photo]])
        return self._indices[number].nearest(canonical, max_distance=max_distance)
