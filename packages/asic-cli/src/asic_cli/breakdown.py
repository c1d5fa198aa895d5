"""Where the default answer is right and wrong: by photo, by keypoint, and the transfers that miss most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asic_cli.errors import InputError
from asic_cli.folder import INDEX_FILES
from asic_cli.photo_sets import PROTOCOLS
from asic_cli.truth import TRUTH_FILE
from asic_eval import KeypointBenchmark, Protocol, get_protocol
from asic_eval.pck import point_errors
from asic_flow.run_folder import DEFAULT_METHOD

if TYPE_CHECKING:
    from asic_flow.alignment import Alignment

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
        found_in: N shares, of points carried into a photo.
        carried_from: N shares, of points carried out of it.
        by_keypoint: K shares.
        worst: The greatest misses, no target's keypoint twice.
    """

    keypoint_names: tuple[str, ...]
    found_in: tuple[Share, ...]
    carried_from: tuple[Share, ...]
    by_keypoint: tuple[Share, ...]
    worst: tuple[Miss, ...]

    def to_json(self) -> dict[str, Any]:
        """What `summary.json` keeps: all but what the truth says."""
        shares = {
            name: [[share.hits, share.total] for share in getattr(self, name)]
            for name in ("found_in", "carried_from", "by_keypoint")
        }
        return {**shares, "worst": [asdict(miss) for miss in self.worst]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any], truth: KeypointBenchmark) -> Breakdown:
        """Reads what `to_json` wrote.

        Args:
            document: That.
            truth: The collection's annotated points.

        Raises:
            InputError: A field is missing or malformed, or it is of another truth.
        """
        photos, names = len(truth.images), truth.keypoint_names
        try:
            shares = {
                name: tuple(Share(int(hits), int(total)) for hits, total in document[name])
                for name in ("found_in", "carried_from", "by_keypoint")
            }
            worst = tuple(_read_miss(record) for record in document["worst"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"summary.json, field 'breakdown': malformed: {error!r}; run `asic eval` again") from error
        counts = [len(group) for group in shares.values()]
        if counts != [photos, photos, len(names)] or not all(
            0 <= miss.source < photos and 0 <= miss.target < photos and 0 <= miss.keypoint < len(names)
            for miss in worst
        ):
            raise InputError(
                f"summary.json, field 'breakdown': expected {photos} photos and {len(names)} keypoints; "
                "run `asic eval` again"
            )
        return cls(keypoint_names=names, **shares, worst=worst)


def breakdown_of(summary: Mapping[str, Any], truth: KeypointBenchmark | None) -> Breakdown | None:
    """The breakdown that `asic eval` left in a run's summary; None where it left none, or nothing is annotated.

    Args:
        summary: As `read_summary` found it.
        truth: The annotated points of the run's collection.

    Raises:
        InputError: What the summary holds cannot be read.
    """
    kept = summary.get("breakdown")
    return None if truth is None or kept is None else Breakdown.from_json(kept, truth)


def threshold_lengths(settings: Mapping[str, Any], truth: KeypointBenchmark) -> NDArray[np.float64]:
    """(N,) what 0.10 is a fraction of, in each photo's own pixels; the arguments are those of `break_down`.

    Raises:
        InputError: The truth lacks what that needs: boxes, say.
    """
    try:
        return protocol_of(settings).lengths(truth)
    except ValueError as error:
        raise InputError(f"{TRUTH_FILE}: {error}") from error


def break_down(settings: Mapping[str, Any], alignment: Alignment, truth: KeypointBenchmark) -> Breakdown:
    """Carries every annotated point by the default method and sorts the answers.

    Args:
        settings: The collection's, which name the data set and so the protocol.
        alignment: The maps of its photos.
        truth: Their annotated points.
    """
    protocol, lengths = protocol_of(settings), threshold_lengths(settings, truth)
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
        found_in=_shares(target, right, len(truth.images)),
        carried_from=_shares(source, right, len(truth.images)),
        by_keypoint=_shares(keypoint, right, len(truth.keypoint_names)),
        worst=tuple(worst),
    )


def protocol_of(settings: Mapping[str, Any]) -> Protocol:
    """The protocol that a data set's collection is scored by.

    Raises:
        InputError: The settings name no such data set.
    """
    source = settings.get("source")
    kind = source.get("kind") if isinstance(source, Mapping) else None
    if not isinstance(kind, str) or kind not in PROTOCOLS:
        raise InputError(
            f"{INDEX_FILES['collection']}, field 'settings.source.kind': expected one of {', '.join(PROTOCOLS)}, "
            f"got {kind!r}"
        )
    return get_protocol(PROTOCOLS[kind])


def _read_miss(record: Mapping[str, Any]) -> Miss:
    return Miss(
        source=int(record["source"]),
        target=int(record["target"]),
        keypoint=int(record["keypoint"]),
        from_image=_read_xy(record["from_image"]),
        found_image=_read_xy(record["found_image"]),
        truth_image=_read_xy(record["truth_image"]),
        error=float(record["error"]),
    )


def _read_xy(point: Any) -> tuple[float, float]:
    x, y = point
    return float(x), float(y)


def _shares(group: NDArray[np.int64], right: NDArray[np.bool_], count: int) -> tuple[Share, ...]:
    hits = np.bincount(group, weights=right, minlength=count).astype(int)
    totals = np.bincount(group, minlength=count)
    return tuple(Share(*both) for both in zip(hits.tolist(), totals.tolist(), strict=True))


def _xy(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0]), float(point[1])
