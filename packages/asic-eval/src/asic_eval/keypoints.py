"""What a benchmark of keypoints is: images, their annotated points, and the pairs that are asked for."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.fields import AnnotationError, Field

__all__ = [
    "AnnotationError",
    "ImageKeypoints",
    "KeypointBenchmark",
    "all_pairs",
    "mirror_from_names",
    "random_pairs",
]

FORMAT = "asic-eval keypoint benchmark"
VERSION = 1
# Pairs times keypoints of a file; all of SPair-71k's are 2.1 million.
MOST_ASKED = 100_000_000
# A hundred times the literature's 10,000.
MOST_DRAWN_PAIRS = 1_000_000


def _frozen_array(name: str, value: ArrayLike, dtype: type, shape: tuple[int | None, ...]) -> NDArray[Any]:
    array: NDArray[Any] = np.array(value, dtype=dtype)
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise ValueError(f"{name}: expected shape {wanted}, got {array.shape}")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class ImageKeypoints:
    """One image's annotated points.

    Args:
        name: The image's path below the benchmark's image folder, with forward slashes.
        size_hw: Height and width of the original photo in pixels.
        box_xyxy: The object's box (left, top, right, bottom) in the original photo's pixels, or None.
        points_image: (K, 2) xy in the original photo's pixels; NaN where a point is not annotated.
        visible: (K,) whether a point is annotated and counts.

    Raises:
        ValueError: A shape does not fit, a visible point has no position, or the box has no extent or is not finite.
    """

    name: str
    size_hw: tuple[int, int]
    box_xyxy: tuple[float, float, float, float] | None
    points_image: NDArray[np.float64]
    visible: NDArray[np.bool_]

    def __post_init__(self) -> None:
        points = _frozen_array(f"{self.name}: points_image", self.points_image, np.float64, (None, 2))
        visible = _frozen_array(f"{self.name}: visible", self.visible, np.bool_, (len(points),))
        if not np.isfinite(points[visible]).all():
            index = int(np.flatnonzero(visible & ~np.isfinite(points).all(axis=1))[0])
            raise ValueError(f"{self.name}: expected a position for the visible keypoint {index}, got {points[index]}")
        if min(self.size_hw) < 1:
            raise ValueError(f"{self.name}: expected a size of at least 1 x 1, got {self.size_hw}")
        if self.box_xyxy is not None:
            left, top, right, bottom = (float(edge) for edge in self.box_xyxy)
            object.__setattr__(self, "box_xyxy", (left, top, right, bottom))
            if not (left < right and top < bottom):
                raise ValueError(f"{self.name}: expected a box with left < right and top < bottom, got {self.box_xyxy}")
            if not np.isfinite(self.box_xyxy).all():
                raise ValueError(f"{self.name}: expected a box with finite edges, got {self.box_xyxy}")
        object.__setattr__(self, "points_image", points)
        object.__setattr__(self, "visible", visible)


@dataclass(frozen=True, eq=False)
class KeypointBenchmark:
    """Images of one category with the same keypoints, and the directed pairs to transfer points between.

    Args:
        name: What a summary calls it, such as `spair/aeroplane/test`.
        keypoint_names: The K keypoints' names, all different.
        images: N images, each with K points.
        pairs: (P, 2) indices (source, target) of images.
        mirror: (K,) permutation that swaps left and right, or None where the category has no sides.
        pair_visible: (P, K) the points each pair asks for, where that is not simply "visible in both images".
        look_alike: Groups of keypoints that only their place on the object tells apart, or None where the data set
            names none; see `asic_eval.geometry`.

    Raises:
        ValueError: The parts do not fit together.
    """

    name: str
    keypoint_names: tuple[str, ...]
    images: tuple[ImageKeypoints, ...]
    pairs: NDArray[np.int64]
    mirror: NDArray[np.int64] | None = None
    pair_visible: NDArray[np.bool_] | None = None
    look_alike: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        num_keypoints, num_images = len(self.keypoint_names), len(self.images)
        if len(set(self.keypoint_names)) != num_keypoints:
            raise ValueError(f"keypoint_names: expected distinct names, got {reprlib.repr(list(self.keypoint_names))}")
        for image in self.images:
            if len(image.visible) != num_keypoints:
                raise ValueError(f"{image.name}: expected {num_keypoints} keypoints, got {len(image.visible)}")
        pairs = _frozen_array("pairs", self.pairs, np.int64, (None, 2))
        if pairs.size and (pairs.min() < 0 or pairs.max() >= num_images):
            raise ValueError(f"pairs: expected indices from 0 to {num_images - 1}, got {pairs.min()} to {pairs.max()}")
        object.__setattr__(self, "pairs", pairs)
        if self.mirror is not None:
            mirror = _frozen_array("mirror", self.mirror, np.int64, (num_keypoints,))
            identity = np.arange(num_keypoints)
            if not np.array_equal(np.sort(mirror), identity) or not np.array_equal(mirror[mirror], identity):
                raise ValueError(
                    f"mirror: expected a permutation that undoes itself, got {reprlib.repr(mirror.tolist())}"
                )
            object.__setattr__(self, "mirror", mirror)
        if self.pair_visible is not None:
            asked = _frozen_array("pair_visible", self.pair_visible, np.bool_, (len(pairs), num_keypoints))
            visible = self.visible
            if (asked & ~(visible[pairs[:, 0]] & visible[pairs[:, 1]])).any():
                raise ValueError("pair_visible: expected only points that are visible in both images")
            object.__setattr__(self, "pair_visible", asked)
        if self.look_alike is not None:
            check_groups("look_alike", self.look_alike, num_keypoints)
            groups = tuple(tuple(int(keypoint) for keypoint in group) for group in self.look_alike)
            object.__setattr__(self, "look_alike", groups)

    @property
    def points_image(self) -> NDArray[np.float64]:
        """(N, K, 2) xy of all points in their original photos' pixels."""
        shape = (len(self.images), len(self.keypoint_names), 2)
        return np.array([image.points_image for image in self.images], dtype=np.float64).reshape(shape)

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(N, K) visibility of all points."""
        shape = (len(self.images), len(self.keypoint_names))
        return np.array([image.visible for image in self.images], dtype=np.bool_).reshape(shape)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """(P, K) the points that each pair asks for."""
        if self.pair_visible is not None:
            return self.pair_visible
        visible = self.visible
        return np.asarray(visible[self.pairs[:, 0]] & visible[self.pairs[:, 1]])

    def select(self, images: Sequence[str] | Sequence[int]) -> KeypointBenchmark:
        """The benchmark of some of the images, in the order asked for, with the pairs among them.

        Args:
            images: Names or indices, each once.

        Raises:
            ValueError: A name or index is unknown or comes twice.
        """
        index_of: dict[str | int, int] = dict(enumerate(range(len(self.images))))
        index_of |= {image.name: index for index, image in enumerate(self.images)}
        chosen = []
        for image in images:
            if image not in index_of:
                raise ValueError(f"{self.name}: expected one of its {len(self.images)} images, got {image!r}")
            chosen.append(index_of[image])
        new_index = np.full(len(self.images), -1)
        new_index[chosen] = np.arange(len(chosen))
        if len(set(chosen)) != len(chosen):
            raise ValueError(f"{self.name}: expected each image once, got {list(images)}")
        pairs = new_index[self.pairs]
        kept = (pairs >= 0).all(axis=1)
        return replace(
            self,
            images=tuple(self.images[index] for index in chosen),
            pairs=pairs[kept],
            pair_visible=None if self.pair_visible is None else self.pair_visible[kept],
        )

    def to_json(self) -> dict[str, Any]:
        """The benchmark as a JSON document that `from_json` reads back exactly."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "keypoint_names": list(self.keypoint_names),
            "images": [
                {
                    "name": image.name,
                    "size_hw": list(image.size_hw),
                    "box_xyxy": None if image.box_xyxy is None else list(image.box_xyxy),
                    "points_image": [xy if np.isfinite(xy).all() else None for xy in image.points_image.tolist()],
                    "visible": image.visible.tolist(),
                }
                for image in self.images
            ],
            "pairs": self.pairs.tolist(),
            "mirror": None if self.mirror is None else self.mirror.tolist(),
            "pair_visible": None
            if self.pair_visible is None
            else [np.flatnonzero(row).tolist() for row in self.pair_visible],
            "look_alike": None if self.look_alike is None else [list(group) for group in self.look_alike],
        }

    @classmethod
    def from_json(cls, document: object, *, file: str) -> KeypointBenchmark:
        """Reads what `to_json` returned.

        Args:
            document: The parsed JSON, as it came from the file.
            file: The file's name, for errors.

        Raises:
            AnnotationError: The document is of another format or version, a field is not what it should be, two images
                have one name, or there are more than `MOST_ASKED` pairs times keypoints.
        """
        top = Field(document, file)
        if top.key("format").value != FORMAT:
            raise top.key("format").error(repr(FORMAT))
        if top.key("version").integer(1) != VERSION:
            raise top.key("version").error(f"version {VERSION}; another version of asic-eval wrote this file")
        names = tuple(name.text() for name in top.key("keypoint_names").array())
        images: dict[str, ImageKeypoints] = {}
        for image_field in top.key("images").array():
            image = _image_from_json(image_field, len(names))
            if image.name in images:
                raise image_field.key("name").error("a name that no other image has")
            images[image.name] = image
        pairs_field = top.key("pairs").array()
        if len(pairs_field) * len(names) > MOST_ASKED:
            problem = f"expected at most {MOST_ASKED} pairs times keypoints, got {len(pairs_field)} x {len(names)}"
            raise AnnotationError(file, "pairs", problem)
        pairs = [[index.integer(0) for index in pair.array(2)] for pair in pairs_field]
        mirror, look_alike = top.optional("mirror"), top.optional("look_alike")
        pair_visible = None
        if (asked_field := top.optional("pair_visible")) is not None:
            pair_visible = np.zeros((len(pairs), len(names)), dtype=np.bool_)
            for row, asked in zip(pair_visible, asked_field.array(len(pairs)), strict=True):
                row[[index.integer(0, len(names) - 1) for index in asked.array()]] = True
        try:
            return cls(
                name=top.key("name").text(),
                keypoint_names=names,
                images=tuple(images.values()),
                pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
                mirror=None if mirror is None else np.array([index.integer(0) for index in mirror.array()], np.int64),
                pair_visible=pair_visible,
                look_alike=None
                if look_alike is None
                else tuple(tuple(index.integer(0) for index in group.array()) for group in look_alike.array()),
            )
        except AnnotationError:
            raise
        except ValueError as error:
            raise AnnotationError(file, "document", str(error)) from None


def check_groups(name: str, groups: Sequence[Sequence[int]], num_keypoints: int) -> None:
    """Refuses groups that do not part some of the keypoints.

    Raises:
        ValueError: There is no group, or a keypoint is unknown or in two of them.
    """
    members = [keypoint for group in groups for keypoint in group]
    if not members or len(set(members)) != len(members) or not set(members) <= set(range(num_keypoints)):
        shown = reprlib.repr([list(group) for group in groups])
        raise ValueError(f"{name}: expected distinct keypoints from 0 to {num_keypoints - 1}, got {shown}")


def swap(num_keypoints: int, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """(K,) the permutation that swaps the keypoints of each pair.

    >>> swap(4, [(1, 2)]).tolist()
    [0, 2, 1, 3]
    """
    mirror = np.arange(num_keypoints)
    for one, other in pairs:
        mirror[[one, other]] = other, one
    return mirror


def _image_from_json(field: Field, num_keypoints: int) -> ImageKeypoints:
    box = field.optional("box_xyxy")
    points = [
        (np.nan, np.nan) if point.value is None else point.point()
        for point in field.key("points_image").array(num_keypoints)
    ]
    visible = [flag.flag() for flag in field.key("visible").array(num_keypoints)]
    for index, (point, seen) in enumerate(zip(points, visible, strict=True)):
        if seen and np.isnan(point[0]):
            raise field.key("points_image").array()[index].error("a position, as the keypoint is visible")
    return ImageKeypoints(
        name=field.key("name").relative_path(),
        size_hw=field.key("size_hw").size_hw(),
        box_xyxy=None if box is None else box.box_xyxy(),
        points_image=np.array(points, dtype=np.float64).reshape(-1, 2),
        visible=np.array(visible, dtype=np.bool_),
    )


def benchmark_of_point_pairs(
    name: str,
    ends: Sequence[tuple[ImageKeypoints, ImageKeypoints]],
    keypoint_names: tuple[str, ...],
) -> KeypointBenchmark:
    """The benchmark of pairs whose keypoints mean something within their pair only, as in PF-PASCAL.

    Args:
        name: What a summary calls it.
        ends: Source and target of each pair; an image of several pairs appears once for each.
        keypoint_names: The K keypoints' names.
    """
    images = tuple(image for pair in ends for image in pair)
    return KeypointBenchmark(name, keypoint_names, images, np.arange(len(images)).reshape(-1, 2))


def all_pairs(num_images: int) -> NDArray[np.int64]:
    """(N (N - 1), 2) all ordered pairs of two different images, source first, in lexicographic order.

    >>> all_pairs(3).tolist()
    [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]
    """
    source, other = np.divmod(np.arange(num_images * (num_images - 1)), max(num_images - 1, 1))
    return np.stack([source, other + (other >= source)], axis=1).astype(np.int64)


def random_pairs(num_images: int, count: int, seed: int) -> NDArray[np.int64]:
    """(count, 2) ordered pairs of two different images, drawn independently and evenly (so one can come twice).

    Args:
        num_images: N, at least 2.
        count: How many pairs, at most `MOST_DRAWN_PAIRS`.
        seed: The same seed draws the same pairs, on every machine.

    Raises:
        ValueError: There are not two images to draw from, or so many pairs are not drawn.
    """
    if num_images < 2:
        raise ValueError(f"random_pairs: expected at least 2 images, got {num_images}")
    if not 0 <= count <= MOST_DRAWN_PAIRS:
        raise ValueError(f"random_pairs: expected 0 to {MOST_DRAWN_PAIRS} pairs, got {count}")
    rng = np.random.Generator(np.random.PCG64(seed))
    source = rng.integers(num_images, size=count)
    target = rng.integers(num_images - 1, size=count)
    return np.stack([source, target + (target >= source)], axis=1)


def mirror_from_names(names: Sequence[str]) -> NDArray[np.int64] | None:
    """The permutation that swaps the keypoints whose names differ by the words left and right alone.

    Args:
        names: K names; `left` and `right` count as words in any case, also next to `_` or a digit.

    Returns:
        (K,) indices, or None where no name has a partner.

    >>> mirror_from_names(["nose", "left eye", "right eye"]).tolist()
    [0, 2, 1]
    """
    swapped = {"left": "right", "right": "left"}
    index_of = {name.lower(): index for index, name in enumerate(names)}
    mirror = np.arange(len(names))
    for index, name in enumerate(names):
        partner = re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda word: swapped[word.group()], name.lower())
        mirror[index] = index_of.get(partner, index)
    # A name that comes twice has a partner that points elsewhere: it has no side then.
    mirror = np.where(mirror[mirror] == np.arange(len(names)), mirror, np.arange(len(names)))
    return None if np.array_equal(mirror, np.arange(len(names))) else mirror
