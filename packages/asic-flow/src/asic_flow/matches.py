"""Matches between the photos of a collection, and their file `matches.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

_SCHEMA: dict[str, tuple[type[np.generic], int]] = {
    "pairs": (np.int32, 2),
    "offsets": (np.int64, 1),
    "xy_a": (np.float32, 2),
    "xy_b": (np.float32, 2),
    "score": (np.float32, 1),
    "saliency": (np.float32, 1),
    "support": (np.int32, 1),
}
OF_MATCHES = ("xy_a", "xy_b", "score", "saliency", "support")
"""The fields with one row for each match."""
_ANY_ROWS = {1: "(*,)", 2: "(*, 2)"}


@dataclass(frozen=True, eq=False)
class MatchSet:
    """The matches of every pair of photos, ragged and flat.

    The matches of pair `p` are the rows `offsets[p]` to `offsets[p + 1]` of the fields `OF_MATCHES`.

    Attributes:
        pairs: (P, 2) int32, indices of photos, first below second.
        offsets: (P + 1,) int64, from 0 to M, never falling.
        xy_a: (M, 2) float32, the end in the pair's first photo, in model pixels.
        xy_b: (M, 2) float32, the end in the pair's second photo, in model pixels.
        score: (M,) float32, cosine similarity of the two descriptors.
        saliency: (M,) float32, mean saliency of the two ends, 0 to 1.
        support: (M,) int32, through how many third photos the matches lead from one end to the other.
    """

    pairs: NDArray[np.int32]
    offsets: NDArray[np.int64]
    xy_a: NDArray[np.float32]
    xy_b: NDArray[np.float32]
    score: NDArray[np.float32]
    saliency: NDArray[np.float32]
    support: NDArray[np.int32]

    def __post_init__(self) -> None:
        for field, (dtype, rank) in _SCHEMA.items():
            array = getattr(self, field)
            if array.dtype != dtype or array.ndim != rank or (rank == 2 and array.shape[1] != 2):
                raise ValueError(
                    f"matches, field {field!r}: expected {np.dtype(dtype).name} of {_ANY_ROWS[rank]}, "
                    f"got {array.dtype.name} of {array.shape}"
                )
        total = len(self.score)
        if len(self.offsets) != len(self.pairs) + 1 or self.offsets[0] != 0 or self.offsets[-1] != total:
            raise ValueError(
                f"matches, field 'offsets': expected {len(self.pairs) + 1} values from 0 to {total}, "
                f"got {len(self.offsets)} from {self.offsets[:1]} to {self.offsets[-1:]}"
            )
        if np.any(np.diff(self.offsets) < 0):
            raise ValueError("matches, field 'offsets': expected values that never fall")
        if np.any(self.pairs[:, 0] >= self.pairs[:, 1]) or np.any(self.pairs < 0):
            raise ValueError("matches, field 'pairs': expected indices with 0 <= first < second")
        for field in OF_MATCHES:
            if len(getattr(self, field)) != total:
                raise ValueError(f"matches, field {field!r}: expected {total} rows, got {len(getattr(self, field))}")
        for field in ("xy_a", "xy_b", "score", "saliency"):
            if not np.isfinite(getattr(self, field)).all():
                raise ValueError(f"matches, field {field!r}: expected finite values")
        if np.any(self.support < 0):
            raise ValueError("matches, field 'support': expected 0 or more photos")

    def __len__(self) -> int:
        return len(self.score)

    def pair_of_match(self) -> NDArray[np.int64]:
        """(M,) int64: the row of `pairs` that each match belongs to."""
        return np.repeat(np.arange(len(self.pairs)), np.diff(self.offsets))

    def confidence(self) -> NDArray[np.float32]:
        """(M,) float32, 0 to 1: the share of the third photos that confirm a match, similarity being one voice more.

        Third photos are those matched with both photos of a pair; where there is none, confidence is similarity.
        """
        thirds = self._third_photos()
        voices = np.minimum(self.support, thirds) + self.score.clip(0, 1)
        return np.asarray(voices / (thirds + 1), np.float32)

    def doubted(self, unconfirmed: float) -> MatchSet:
        """The matches, the score of those that no third photo confirms times `unconfirmed` for each that could."""
        share = np.where(self.support > 0, np.float32(1), np.float32(unconfirmed) ** self._third_photos())
        return replace(self, score=share * self.score)

    def _third_photos(self) -> NDArray[np.float32]:
        """(M,): how many photos are matched with both photos of a match."""
        photos, ends = np.unique(self.pairs, return_inverse=True)
        ends = ends.reshape(-1, 2)
        joined = np.zeros((len(photos), len(photos)), np.float32)
        joined[ends[:, 0], ends[:, 1]] = joined[ends[:, 1], ends[:, 0]] = 1
        thirds: NDArray[np.float32] = (joined @ joined)[ends[:, 0], ends[:, 1]][self.pair_of_match()]
        return thirds

    def of_pairs(self, start: int, stop: int) -> MatchSet:
        """The matches of the pairs from one row of `pairs` up to another."""
        rows = slice(self.offsets[start], self.offsets[stop])
        offsets = self.offsets[start : stop + 1] - self.offsets[start]
        return MatchSet(self.pairs[start:stop], offsets, **{field: getattr(self, field)[rows] for field in OF_MATCHES})

    @classmethod
    def concatenate(cls, parts: Sequence[MatchSet]) -> MatchSet:
        """The matches of several sets of pairs, one set after the other; at least one."""
        starts = np.cumsum([0, *map(len, parts)])
        offsets = [part.offsets[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
        return cls(
            offsets=np.concatenate([np.zeros(1, np.int64), *offsets]),
            **{field: np.concatenate([getattr(part, field) for part in parts]) for field in ("pairs", *OF_MATCHES)},
        )

    def to_bytes(self) -> bytes:
        """The content of `matches.safetensors`."""
        return save({field: np.ascontiguousarray(getattr(self, field)) for field in _SCHEMA})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> MatchSet:
        """Reads what `to_bytes` wrote, once safetensors has opened it.

        Raises:
            ValueError: A field is missing, superfluous, or of the wrong type or shape.
        """
        if set(arrays) != set(_SCHEMA):
            raise ValueError(f"matches: expected the fields {sorted(_SCHEMA)}, got {sorted(arrays)}")
        return cls(**arrays)  # type: ignore[arg-type]
