"""Where the default answer is right and wrong: by photo, by keypoint, and the transfers that miss most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asic_cli.photo_sets import PROTOCOLS
from asic_eval import KeypointBenchmark, get_protocol
from asic_eval.pck import point_errors
from asic_flow.alignment import DEFAULT_METHOD, Alignment
from asic_flow.collection import ImageCollection

ALPHA = 0.10
MOST_SHOWN = 12


@dataclass(frozen=True)
class Share:
    """Right answers of those asked for."""

    hits: int
    total: int


@dataclass(frozen=True)
class Miss:
    """One transfer that went wrong.

    Attributes:
        source: Index of the photo it starts in.
        target: Index of the photo it should be found in.
        keypoint: Index into the names.
        from_image: xy in the source photo's own pixels.
        found_image: The answer, in the target photo's own pixels.
        truth_image: Where it is.
        error: Distance of the two over the target's threshold length.
    """

    source: int
    target: int
    keypoint: int
    from_image: tuple[float, float]
    found_image: tuple[float, float]
    truth_image: tuple[float, float]
    error: float


@dataclass(frozen=True, eq=False)
class Breakdown:
    """PCK@0.10 of the default method in parts.

    Attributes:
        keypoint_names: K names.
        lengths: (N,) what 0.10 is a fraction of, in each photo's own pixels.
        found_in: N shares, of points carried into a photo.
        carried_from: N shares, of points carried out of it.
        by_keypoint: K shares.
        worst: The greatest misses, no target's keypoint twice.
    """

    keypoint_names: tuple[str, ...]
    lengths: NDArray[np.float64]
    found_in: tuple[Share, ...]
    carried_from: tuple[Share, ...]
    by_keypoint: tuple[Share, ...]
    worst: tuple[Miss, ...]


def break_down(collection: ImageCollection, alignment: Alignment, truth: KeypointBenchmark) -> Breakdown:
    """Carries every annotated point by the default method and sorts the answers.

    Args:
        collection: The photos, whose settings name the data set and so the protocol.
        alignment: Their maps.
        truth: Their annotated points.
    """
    protocol = get_protocol(PROTOCOLS[collection.settings["source"]["kind"]])
    lengths = protocol.lengths(truth)
    pair, keypoint = np.nonzero(truth.asked)
    source, target = truth.pairs[pair].T
    points = truth.points_image
    answers = alignment.transfer(points[source, keypoint], source, target, DEFAULT_METHOD).points_image
    predicted = np.full((*truth.asked.shape, 2), np.nan)
    predicted[pair, keypoint] = answers
    errors = point_errors(predicted, truth, threshold=lengths, missing="miss")
    right = errors.correct(ALPHA, inclusive=protocol.inclusive)[pair, keypoint]
    relative = errors.distance[pair, keypoint] / np.maximum(lengths[target], 1e-9)
    worst: list[Miss] = []
    for row in np.argsort(-relative, kind="stable").tolist():
        shown = {(miss.target, miss.keypoint) for miss in worst}
        if len(worst) == MOST_SHOWN or right[row]:
            break
        # An answer that could not be given has no place to show.
        if (target[row], keypoint[row]) not in shown and np.isfinite(relative[row]):
            worst.append(
                Miss(
                    int(source[row]),
                    int(target[row]),
                    int(keypoint[row]),
                    _xy(points[source[row], keypoint[row]]),
                    _xy(answers[row]),
                    _xy(points[target[row], keypoint[row]]),
                    float(relative[row]),
                )
            )
    return Breakdown(
        keypoint_names=truth.keypoint_names,
        lengths=lengths,
        found_in=_shares(target, right, len(truth.images)),
        carried_from=_shares(source, right, len(truth.images)),
        by_keypoint=_shares(keypoint, right, len(truth.keypoint_names)),
        worst=tuple(worst),
    )


def _shares(group: NDArray[np.int64], right: NDArray[np.bool_], count: int) -> tuple[Share, ...]:
    hits = np.bincount(group, weights=right, minlength=count).astype(int)
    totals = np.bincount(group, minlength=count)
    return tuple(Share(*both) for both in zip(hits.tolist(), totals.tolist(), strict=True))


def _xy(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0]), float(point[1])
