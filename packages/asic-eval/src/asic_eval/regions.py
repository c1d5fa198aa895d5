"""Scores of masks and parts: intersection over union, label transfer, and agreement of partitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class IouCounts:
    """Pixels of each image's two masks.

    Args:
        intersection: (N,) pixels in both.
        union: (N,) pixels in either.
    """

    intersection: NDArray[np.int64]
    union: NDArray[np.int64]

    def per_image(self) -> float:
        """In 0..1: the mean of the images' own ratios; two empty masks agree."""
        if not len(self.union):
            return float("nan")
        return float(np.where(self.union > 0, self.intersection / np.maximum(self.union, 1), 1.0).mean())

    def per_pixel(self) -> float:
        """In 0..1: all intersections over all unions; NaN where all masks are empty."""
        total = int(self.union.sum())
        return int(self.intersection.sum()) / total if total else float("nan")

    def __add__(self, other: IouCounts) -> IouCounts:
        return IouCounts(
            np.concatenate([self.intersection, other.intersection]), np.concatenate([self.union, other.union])
        )


def mask_iou(predicted: ArrayLike, truth: ArrayLike) -> IouCounts:
    """Intersection over union of masks.

    Args:
        predicted: (N, H, W) truth values.
        truth: (N, H, W) truth values.

    Raises:
        ValueError: The shapes differ, or the values are no truth values.
    """
    found, true = np.asarray(predicted), np.asarray(truth)
    if found.shape != true.shape or true.ndim != 3 or found.dtype != np.bool_ or true.dtype != np.bool_:
        raise ValueError(
            "masks: expected truth values of the same shape (N, H, W), "
            f"got {found.dtype} {found.shape} and {true.dtype} {true.shape}"
        )
    return IouCounts((found & true).sum(axis=(1, 2)), (found | true).sum(axis=(1, 2)))


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often each true label was given each predicted label. Shards add up exactly.

    Args:
        confusion: (L, L) pixels, true label first.
    """

    confusion: NDArray[np.int64]

    def accuracy(self) -> float:
        """In 0..1: pixels with the right label; NaN where there is no pixel."""
        total = int(self.confusion.sum())
        return int(np.trace(self.confusion)) / total if total else float("nan")

    def iou(self) -> NDArray[np.float64]:
        """(L,) in 0..1: intersection over union of each label; NaN where a label appears on neither side."""
        both = np.diag(self.confusion)
        either = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - both
        return np.where(either > 0, both / np.maximum(either, 1), np.nan)

    def mean_iou(self) -> float:
        """In 0..1: the mean of `iou` over the labels that appear; NaN where there is no pixel."""
        ratios = self.iou()
        return float(np.nanmean(ratios)) if np.isfinite(ratios).any() else float("nan")

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(self.confusion + other.confusion)


def label_transfer(predicted: ArrayLike, truth: ArrayLike, num_labels: int) -> LabelCounts:
    """Counts labels carried from one image to another against the other's own labels.

    Args:
        predicted: Whole numbers 0 .. num_labels - 1, of any shape.
        truth: The same, of the same shape; a negative label is not counted.
        num_labels: L.

    Raises:
        ValueError: The shapes differ, or a label that counts is out of range.
    """
    found, true = _whole("predicted", predicted), _whole("truth", truth)
    if found.shape != true.shape:
        raise ValueError(f"labels: expected the same shape, got {found.shape} and {true.shape}")
    counted = true >= 0
    found, true = found[counted], true[counted]
    if true.size and not (found.min() >= 0 and max(found.max(), true.max()) < num_labels):
        raise ValueError(
            f"labels: expected 0 to {num_labels - 1}, got {found.min()} to {found.max()} against up to {true.max()}"
        )
    cells = np.bincount(true * num_labels + found, minlength=num_labels**2)
    return LabelCounts(cells.reshape(num_labels, num_labels))


def _whole(name: str, labels: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected whole numbers, got {array.dtype}")
    return array.astype(np.int64)


def contingency(first: ArrayLike, second: ArrayLike) -> NDArray[np.int64]:
    """(A, B) how many elements two partitions put together, label by label; tables of equal labels add up.

    Args:
        first: Labels 0 .. A - 1 of any shape.
        second: Labels 0 .. B - 1 of the same shape.

    Raises:
        ValueError: The shapes differ, or a label is negative.
    """
    one, other = _whole("first", first), _whole("second", second)
    if one.shape != other.shape:
        raise ValueError(f"labels: expected the same shape, got {one.shape} and {other.shape}")
    if one.size and min(one.min(), other.min()) < 0:
        raise ValueError("labels: expected at least 0; leave out what is not labelled")
    width = int(other.max(initial=-1)) + 1
    height = int(one.max(initial=-1)) + 1
    cells = np.bincount((one * width + other).reshape(-1), minlength=height * width)
    return cells.reshape(height, width)


def normalised_mutual_information(table: ArrayLike) -> float:
    """In 0..1: mutual information over the mean of the two entropies; two single clusters agree (1).

    Args:
        table: (A, B) counts from `contingency`.
    """
    counts = np.asarray(table, dtype=np.float64)
    total = counts.sum()
    if not total:
        return float("nan")
    joint, rows, columns = counts / total, counts.sum(axis=1) / total, counts.sum(axis=0) / total
    present = joint > 0
    mutual = (joint[present] * np.log(joint[present] / np.outer(rows, columns)[present])).sum()
    entropies = sum(-(share[share > 0] * np.log(share[share > 0])).sum() for share in (rows, columns))
    return float(max(2.0 * mutual / entropies, 0.0)) if entropies > 0 else 1.0


def adjusted_rand_index(table: ArrayLike) -> float:
    """At most 1, 0 by chance: agreement on pairs of elements, corrected for chance (Hubert and Arabie, 1985).

    Args:
        table: (A, B) counts from `contingency`.
    """
    counts = np.asarray(table, dtype=np.float64)
    total = counts.sum()
    if total < 2:
        return float("nan")

    def pairs(values: NDArray[np.float64]) -> float:
        return float((values * (values - 1.0)).sum() / 2.0)

    both, rows, columns = pairs(counts), pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    expected = rows * columns / (total * (total - 1.0) / 2.0)
    highest = (rows + columns) / 2.0
    return 1.0 if highest == expected else (both - expected) / (highest - expected)
