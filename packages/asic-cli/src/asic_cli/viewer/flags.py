"""What a person should know about single photos before believing their maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asic_flow.overlap import collapsed, lower_median
from asic_flow.run_folder import AlignmentArrays

_LOW_SUPPORT = 0.5


@dataclass(frozen=True)
class Flag:
    """One remark on a photo: a word or two, what they mean, and whether the map is in doubt."""

    label: str
    meaning: str
    doubtful: bool


MIRRORED = Flag("mirrored", "Seen from the other side: its map mirrors it.", doubtful=False)
EMPTY = Flag("no foreground", "Its mask is empty, so nothing of it is aligned.", doubtful=True)
COLLAPSED = Flag("collapsed", "Its map fills next to nothing of canonical space and says nothing.", doubtful=True)
LOW_SUPPORT = Flag(
    "low support",
    "Few of its matches agree with the others, less than half the median share: does it belong here?",
    True,
)


def flags_of(alignment: AlignmentArrays) -> list[list[Flag]]:
    """The flags of every photo, in the collection's order."""
    folded = set(collapsed(alignment))
    shown = np.array([foreground.any() for foreground in alignment.foreground])
    limit = _LOW_SUPPORT * lower_median(alignment.support[shown]) if shown.any() else 0.0
    return [
        [EMPTY]
        if not shown[photo]
        else [
            flag
            for flag, raised in (
                (MIRRORED, bool(alignment.mirrored[photo])),
                (COLLAPSED, photo in folded),
                (LOW_SUPPORT, float(alignment.support[photo]) < limit),
            )
            if raised
        ]
        for photo in range(len(alignment))
    ]
