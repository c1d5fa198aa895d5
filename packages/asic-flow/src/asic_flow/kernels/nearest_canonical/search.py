"""What every implementation of the canonical look-up offers."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Search(Protocol):
    """Foreground pixels of a collection, arranged so that the nearest one to a canonical point is found."""

    def search(
        self, points: Tensor, images: list[int], basin: tuple[Tensor, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return pixel (I, P) int64 and distance (I, P) of the nearest foreground pixel; -1 and inf where none is.

        Args:
            points: (I, P, 2) canonical points, one set for each image of `images`.
            images: which I images to search.
            basin: (I, P) int64 pixels and a radius; pixels of the image within it do not count.
        """
        ...
