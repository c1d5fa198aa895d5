"""The geometry-aware subset: keypoints that can only be told apart by where they are on the object."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from asic_eval.keypoints import KeypointBenchmark, check_groups

_PLACE_WORDS = re.compile(r"(?<![a-z])(left|right|front|rear|hind|back|upper|lower|top|bottom)(?![a-z])")


def groups_from_names(names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Groups of keypoints whose names differ only by words of place, such as the four paws.

    Args:
        names: K names. A name that is nothing but a word of place is no member of a group.

    >>> groups_from_names(["nose", "left front paw", "right hind paw", "left eye", "right eye"])
    ((1, 2), (3, 4))
    """
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        kind = " ".join(re.split(r"[\W_]+", _PLACE_WORDS.sub(" ", name.lower()))).strip()
        if kind:
            members.setdefault(kind, []).append(index)
    return tuple(tuple(group) for group in members.values() if len(group) > 1)


def geometry_aware_subset(
    benchmark: KeypointBenchmark, groups: Sequence[Sequence[int]] | None = None
) -> KeypointBenchmark:
    """The benchmark with only the points that ask for geometry.

    A point of a pair is kept when the target shows another keypoint of its group as well, so that appearance alone
    does not decide. SPair-71k's and AP-10K's own categories carry the published groups, which are not all of the
    pairs of sides: eyes, so close together, are in none.

    Args:
        benchmark: The benchmark to narrow.
        groups: Keypoints that look alike; when None the benchmark's own, or else from the keypoints' names.

    Raises:
        ValueError: There is no group, or a keypoint is unknown or in two groups.

    Zhang et al., "Telling left from right", 2024, section 3.1. Their per-image script does the same; their per-point
    one renumbers the groups in the order it meets them, so for bus, car, pottedplant and tvmonitor it takes others.
    """
    chosen = groups if groups is not None else benchmark.look_alike or groups_from_names(benchmark.keypoint_names)
    check_groups(f"{benchmark.name}: groups", chosen, len(benchmark.keypoint_names))
    shown = benchmark.visible[benchmark.pairs[:, 1]]
    ambiguous: NDArray[np.bool_] = np.zeros_like(benchmark.asked)
    for group in chosen:
        indices = list(group)
        ambiguous[:, indices] = (shown[:, indices].sum(axis=1) > 1)[:, None]
    return replace(benchmark, name=f"{benchmark.name}/geometry-aware", pair_visible=benchmark.asked & ambiguous)
