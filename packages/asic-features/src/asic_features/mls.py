"""Dense flow from matches: rigid moving least squares."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from asic_flow.baselines import Baseline
from asic_flow.collection import ImageCollection
from asic_flow.groups import rows_of_each
from asic_flow.matches import MatchSet

_CHUNK_ELEMENTS = 4_000_000  # of the table of points by matches: 64 MB a chunk


def rigid_flow(
    points: torch.Tensor,
    xy_a: torch.Tensor,
    xy_b: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    alpha: float = 1.0,
) -> torch.Tensor:
    """Carry points from one photo to another so that matches are met and the neighbourhood of each point stays rigid.

    Schaefer, McPhail and Warren, "Image deformation using moving least squares" (2006), section 2.3: each point has
    its own rotation and translation, fitted to all matches with weights that fall as distance ** (-2 alpha). With
    points as complex numbers the rotation is the direction of one weighted sum.

    Args:
        points: (M, 2) xy in the first photo.
        xy_a: (K, 2) ends of the matches in the first photo, in the same unit.
        xy_b: (K, 2) their ends in the second photo.
        weight: (K,) how much each match counts; None for all the same.
        alpha: How fast the influence of a match falls with distance.

    Returns:
        (M, 2) float32 xy in the second photo. A point on a match goes where the match says.

    Raises:
        ValueError: No match, or shapes that do not fit.
    """
    if xy_a.shape != xy_b.shape or xy_a.ndim != 2 or xy_a.shape[-1] != 2:
        raise ValueError(f"expected two (K, 2) tensors of match ends, got {tuple(xy_a.shape)} and {tuple(xy_b.shape)}")
    if not len(xy_a):
        raise ValueError("expected at least one match to carry points by, got none")
    ends_a, ends_b = (torch.view_as_complex(xy.double().contiguous()) for xy in (xy_a, xy_b))
    share = torch.ones(len(xy_a), dtype=torch.float64, device=xy_a.device) if weight is None else weight.double()
    rows = max(1, _CHUNK_ELEMENTS // len(xy_a))
    moved = [
        _carry(torch.view_as_complex(chunk.double().contiguous()), ends_a, ends_b, share, alpha)
        for chunk in torch.split(points, rows)
    ]
    return torch.view_as_real(torch.cat(moved)).float() if moved else points.float()


def moving_least_squares(collection: ImageCollection, matches: MatchSet) -> Baseline:
    """Carries points by ``rigid_flow`` through the matches of their own two photos alone; no third photo helps.

    Matches count by their similarity. Between photos without a match, points keep their place in the model's frame.

    Args:
        collection: The photos.
        matches: Of its pairs; a pair serves both directions.

    Returns:
        A baseline, see ``asic_flow.baselines``.
    """
    scale = np.array([photo.scale_xy for photo in collection.photos])
    offset = np.array([photo.offset_xy for photo in collection.photos])
    row_of = {(int(first), int(second)): row for row, (first, second) in enumerate(matches.pairs)}

    def answer(
        points: NDArray[np.float64], source: NDArray[np.int64], target: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        place = np.asarray(points, np.float64) * scale[source] + offset[source]
        count = len(collection)
        for number, asked in rows_of_each(source * count + target):
            first, second = divmod(number, count)
            row = row_of.get((min(first, second), max(first, second)))
            if row is None or matches.offsets[row] == matches.offsets[row + 1]:
                continue
            of_pair = slice(int(matches.offsets[row]), int(matches.offsets[row + 1]))
            ends = [torch.from_numpy(xy[of_pair]) for xy in (matches.xy_a, matches.xy_b)]
            xy_a, xy_b = ends if first < second else ends[::-1]
            weight = torch.from_numpy(matches.score[of_pair]).clamp_min(1e-6)
            place[asked] = rigid_flow(torch.from_numpy(place[asked]), xy_a, xy_b, weight=weight).numpy()
        found: NDArray[np.float64] = (place - offset[target]) / scale[target]
        return found

    return answer


def _carry(
    points: torch.Tensor, ends_a: torch.Tensor, ends_b: torch.Tensor, share: torch.Tensor, alpha: float
) -> torch.Tensor:
    distance = (points[:, None] - ends_a).abs()
    # Bounded below, so that a match that is hit exactly has a finite weight, which outweighs all others.
    weight = share / distance.clamp_min(1e-6) ** (2 * alpha)
    weight = weight / weight.sum(dim=1, keepdim=True)
    complex_weight = weight.to(ends_a.dtype)
    centre_a, centre_b = complex_weight @ ends_a, complex_weight @ ends_b
    turned = (complex_weight * (ends_a - centre_a[:, None]).conj() * (ends_b - centre_b[:, None])).sum(dim=1)
    length = turned.abs()
    rotation = torch.where(length > 1e-12, turned / length.clamp_min(1e-12), torch.ones_like(turned))
    return rotation * (points - centre_a) + centre_b
