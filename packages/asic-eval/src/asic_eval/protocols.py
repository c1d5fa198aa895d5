"""Named protocols: one name fixes everything that changes a score.

Published numbers of this field differ by 1 to 10 points through protocol alone, so a summary records the whole setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.benchmarks.cub import asic_crop_sides
from asic_eval.cycles import Transfer, all_cycles
from asic_eval.keypoints import KeypointBenchmark
from asic_eval.pck import MirrorAsks, PckCounts, check_alphas, pck, threshold_lengths
from asic_eval.statistics import Aggregate

_ALPHAS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10, 0.15, 0.20)


@dataclass(frozen=True)
class Protocol:
    """Everything that changes a score, under one name.

    Args:
        name: What to call it in a paper.
        length: What alpha is a fraction of: the target's `box` (longer side), `image` (longer side), `keypoints`
            (longer side of their extent), `square` (the photo's width along x, its height along y), or the square
            `crop` that CUB is scored in.
        inclusive: Whether a point exactly on the border is right.
        aggregate: The mean over points or over pairs that the headline takes.
        over_categories: The headline is the mean of the categories' scores (`macro`) or of everything at once.
        alphas: The tolerances that a summary lists.
        headline_alpha: The one that people quote.
        keypoints: Which keypoints a pair asks for: those it names, or those that `last_pair` left standing.
        mirror_asks: What a pair asks for in the mirror-aware score; see `asic_eval.pck.point_errors`.
        source: Who uses it.
        faults: What is wrong with it, for those kept to compare with published numbers.
    """

    name: str
    length: Literal["box", "image", "keypoints", "square", "crop"]
    inclusive: bool
    aggregate: Aggregate
    over_categories: Literal["macro", "micro"]
    alphas: tuple[float, ...]
    headline_alpha: float
    source: str
    keypoints: Literal["pair", "last_pair"] = "pair"
    mirror_asks: MirrorAsks = "target_shows"
    faults: tuple[str, ...] = ()

    def lengths(self, benchmark: KeypointBenchmark) -> NDArray[np.float64]:
        """(N,), or (N, 2) along x and y: what alpha is a fraction of, in the original photos' pixels."""
        if self.length == "crop":
            return asic_crop_sides(benchmark)
        return threshold_lengths(benchmark, self.length)

    def asked_of(self, benchmark: KeypointBenchmark) -> KeypointBenchmark:
        """The benchmark with the keypoints this protocol asks for."""
        return benchmark if self.keypoints == "pair" else keep_last_pairs_keypoints(benchmark)

    def score(
        self,
        predicted: ArrayLike,
        benchmark: KeypointBenchmark,
        *,
        missing: Literal["error", "miss"] = "error",
        mirrored: ArrayLike | None = None,
    ) -> PckCounts:
        """Counts of one category; see `asic_eval.pck.pck`."""
        asked = self.asked_of(benchmark)
        return pck(
            predicted,
            asked,
            self.alphas,
            threshold=self.lengths(benchmark),
            inclusive=self.inclusive,
            missing=missing,
            mirrored=mirrored,
            mirror_asks=self.mirror_asks,
        )


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "spair-official",
            "box",
            True,
            "per_image",
            "micro",
            _ALPHAS,
            0.10,
            "SPair-71k's authors (HPF, DHPF): error <= alpha x longer side of the target's box; the mean of the pairs' "
            "ratios, over a category's pairs in its column and over all pairs in the last one.",
            mirror_asks="pair_names",
        ),
        Protocol(
            "spair-dift",
            "box",
            True,
            "per_point",
            "micro",
            _ALPHAS,
            0.10,
            "DIFT (2023), per point: <= the target's box, all points of all categories together. (SD+DINO weighs "
            "categories by pairs instead, at <.)",
            mirror_asks="pair_names",
        ),
        Protocol(
            "spair-geoaware",
            "box",
            False,
            "per_image",
            "micro",
            _ALPHAS,
            0.10,
            "GeoAware and after (DIY-SC), per image: < the target's box, mean over all pairs.",
            mirror_asks="pair_names",
        ),
        Protocol(
            "spair-per-point",
            "box",
            False,
            "per_point",
            "macro",
            _ALPHAS,
            0.10,
            "Joint alignment (ASIC, SpaceJAM, FastJAM): < the target's box, per point in a category, mean of 18. "
            "(GANgealing: <=.)",
            mirror_asks="pair_names",
        ),
        Protocol(
            "cub-asic-256",
            "crop",
            False,
            "per_point",
            "macro",
            _ALPHAS,
            0.10,
            "ACSM and ASIC on CUB: < alpha x 256 in the 256-pixel crop of the box grown by 5 % a side, so alpha x the "
            "crop's side in the photo's pixels; all points together. (Neural Congealing: <=, mean of 14 sets.)",
        ),
        Protocol(
            "pf-pascal",
            "image",
            True,
            "per_image",
            "micro",
            (0.05, 0.10, 0.15),
            0.10,
            "PF-PASCAL as in HPF: <= alpha x longer side of the target photo, mean over pairs. (SD+DINO, GeoAware: <.)",
        ),
        Protocol(
            "pf-pascal-square",
            "square",
            True,
            "per_image",
            "micro",
            (0.05, 0.10, 0.15),
            0.10,
            "PF-PASCAL as in SCNet, NCNet, DHPF, CATs: both photos resized to a square, <= alpha x its side, mean over "
            "pairs. (NCNet carries points from the second photo to the first.)",
        ),
        Protocol(
            "pf-willow",
            "keypoints",
            True,
            "per_image",
            "micro",
            (0.05, 0.10, 0.15),
            0.10,
            "PF-WILLOW as in HPF: <= alpha x longer side of the extent of the target's keypoints, mean over pairs; "
            "padding never counts (in DHPF and CATs it widens the extent).",
        ),
        Protocol(
            "ap10k",
            "box",
            False,
            "per_image",
            "micro",
            (0.01, 0.05, 0.10),
            0.10,
            "AP-10K as in GeoAware (2024): < the target's box, mean over pairs; comparable on its own pairs only.",
        ),
        Protocol(
            "box-per-point",
            "box",
            True,
            "per_point",
            "macro",
            _ALPHAS,
            0.10,
            "Sets without a custom of their own (StanfordExtra, drawn collections): <= the target's box, per point.",
        ),
        Protocol(
            "image-per-point",
            "image",
            True,
            "per_point",
            "macro",
            _ALPHAS,
            0.10,
            "Sets without boxes (tracks, pairs of one's own): <= alpha x longer side of the target photo, per point.",
        ),
        Protocol(
            "asic-published",
            "box",
            False,
            "per_point",
            "macro",
            _ALPHAS,
            0.10,
            "What the published ASIC code scored on SPair-71k; only to stand beside its numbers.",
            keypoints="last_pair",
            mirror_asks="pair_names",
            faults=(
                "of each image only the keypoints of the last pair that names it survive, so 54 to 80 % of the true "
                "keypoint pairs are scored",
                "k-cycle lengths are laid out cycle by cycle and landings hop by hop, so most 3-cycle rows are held "
                "against another image's box, and a landing counts though a later image hides its keypoint (see "
                "`published_cycle_pck`)",
            ),
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]


def keep_last_pairs_keypoints(benchmark: KeypointBenchmark) -> KeypointBenchmark:
    """The published ASIC code's reading: each image keeps the keypoints of the last pair that names it.

    The others count as hidden in it, and a pair asks for what both its images have left. Only to reproduce published
    numbers.
    """
    left = np.zeros_like(benchmark.visible)
    for (source, target), asked in zip(benchmark.pairs, benchmark.asked, strict=True):
        left[source] = asked
        left[target] = asked
    images = tuple(replace(image, visible=own) for image, own in zip(benchmark.images, left, strict=True))
    return replace(benchmark, images=images, pair_visible=None)


def published_cycle_lengths(lengths: ArrayLike, cycles: ArrayLike) -> NDArray[np.float64]:
    """(k, Q) the lengths that the published ASIC code held each hop of each cycle against.

    It lists the landing images' lengths cycle by cycle and reads the list hop by hop. Only to reproduce its numbers.

    Args:
        lengths: (N,) of the images.
        cycles: (Q, k) tuples of images.
    """
    landed_in = np.roll(np.asarray(cycles, dtype=np.int64), -1, axis=1)
    per_cycle = np.asarray(lengths, dtype=np.float64)[landed_in]
    return per_cycle.reshape(-1).reshape(landed_in.shape[1], landed_in.shape[0])


def published_cycle_pck(
    transfer: Transfer, benchmark: KeypointBenchmark, k: int, alpha: float, lengths: ArrayLike
) -> float:
    """The k-cycle PCK that the published ASIC code reported: over every hop, with its misplaced lengths.

    A landing counts when the keypoint is visible in every image up to it, not in the whole cycle.

    Args:
        transfer: See `asic_eval.cycles.cycle_pck`.
        benchmark: The truth; for SPair-71k's numbers as `keep_last_pairs_keypoints` leaves it.
        k: Images in a cycle.
        alpha: Tolerance.
        lengths: (N,) lengths in the original photos' pixels.

    Returns:
        In 0..1: hits over points, at `<`, all ordered cycles. Not comparable with `asic_eval.cycles.cycle_pck`.
    """
    limits = check_alphas([alpha]) * published_cycle_lengths(lengths, cycles := all_cycles(len(benchmark.images), k))
    points, visible = benchmark.points_image, benchmark.visible
    row, keypoint = np.nonzero(visible[cycles[:, 0]])
    here = points[cycles[row, 0], keypoint]
    hits = total = 0
    for hop in range(k):
        seen = visible[cycles[row, (hop + 1) % k], keypoint]
        row, keypoint, here = row[seen], keypoint[seen], here[seen]
        source, target = cycles[row, hop], cycles[row, (hop + 1) % k]
        here = np.asarray(transfer(here, source, target), dtype=np.float64)
        distance = np.hypot(*(here - points[target, keypoint]).T)
        hits += int((distance < limits[hop, row]).sum())
        total += len(row)
    return hits / total if total else float("nan")
