"""What SPair-71k does not say of its numbered keypoints: which are left and right of each other, and which look alike.

The numbers are those of the annotations (`kps_ids`). Facts about the data set, as Zhang et al., "Telling left from
right", 2024, publish them with their evaluation: there, a table of sides and a table of swaps agree with each other.
"""

from __future__ import annotations

from collections.abc import Mapping

Groups = tuple[tuple[int, ...], ...]


def _couples(first: int, end: int) -> tuple[tuple[int, int], ...]:
    return tuple((index, index + 1) for index in range(first, end, 2))


_VEHICLE_SIDES = (*((index, index + 10) for index in range(10, 16)), *_couples(16, 20), *_couples(26, 30))
# Fenders and wheels by kind, then the windows' upper and lower corners.
_VEHICLE_KINDS = (*((index, index + 3, index + 10, index + 13) for index in (10, 11, 12)), (16, 17, 26, 27))

SIDES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "aeroplane": _couples(4, 22),
    "bicycle": ((2, 3), (6, 7), (9, 10)),
    "bird": ((1, 2), (4, 5), (7, 8), *_couples(10, 16)),
    "boat": _couples(1, 13),
    "bottle": _couples(0, 10),
    "bus": ((0, 1), (2, 3), (5, 6), *_VEHICLE_SIDES),
    "car": ((0, 1), (2, 3), (6, 7), *_VEHICLE_SIDES),
    "cat": (*_couples(0, 8), *_couples(9, 13)),
    "chair": _couples(0, 14),
    "cow": (*_couples(0, 8), *_couples(9, 13), *_couples(15, 21)),
    "dog": (*_couples(0, 6), *_couples(9, 13)),
    "horse": (*_couples(0, 8), *_couples(10, 14), *_couples(16, 20)),
    "motorbike": _couples(0, 4),
    "person": (*_couples(0, 4), *_couples(8, 20)),
    "pottedplant": ((0, 2), (4, 5), (6, 8)),
    "sheep": (*_couples(0, 8), *_couples(9, 13), *_couples(15, 21)),
    "train": _couples(0, 18),
    "tvmonitor": ((0, 2), (4, 6), (3, 7), (8, 10), (12, 14), (11, 15)),
}

LOOK_ALIKE: Mapping[str, Groups] = {
    "aeroplane": _couples(4, 22),
    "bicycle": ((2, 3), (6, 7), (9, 10)),
    "bird": ((1, 2), *_couples(10, 16)),
    "boat": _couples(1, 13),
    "bottle": _couples(0, 10),
    "bus": ((0, 1), (2, 3, 5, 6), (4, 7), *_VEHICLE_KINDS, (18, 19, 28, 29)),
    "car": ((0, 1), (2, 3, 6, 7), (4, 8), (5, 9), *_VEHICLE_KINDS, (18, 19, 28, 29)),
    "cat": ((2, 3), (9, 10, 11, 12)),
    "chair": ((0, 1), (2, 3), (4, 5, 6, 7), *_couples(8, 14)),
    "cow": ((2, 3), (9, 10, 11, 12), (15, 16, 17, 18), (19, 20)),
    "dog": ((2, 3), (9, 10, 11, 12)),
    "horse": ((2, 3), (10, 11, 12, 13), (16, 17, 18, 19)),
    "motorbike": _couples(0, 4),
    "person": _couples(8, 20),
    "pottedplant": ((0, 1, 2, 3), (4, 5), (6, 8)),
    "sheep": ((2, 3), (9, 10, 11, 12), (15, 16, 17, 18), (19, 20)),
    "train": _couples(0, 18),
    "tvmonitor": ((0, 2, 4, 6), (1, 3, 5, 7), (8, 10, 12, 14), (9, 11, 13, 15)),
}


def highest_keypoint(category: str) -> int:
    """The highest number that the tables name for a category; -1 where they do not know it.

    >>> highest_keypoint("car"), highest_keypoint("lynx")
    (29, -1)
    """
    groups = (*SIDES.get(category, ()), *LOOK_ALIKE.get(category, ()))
    return max((keypoint for group in groups for keypoint in group), default=-1)
