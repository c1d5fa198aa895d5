"""Keypoints in COCO's format, and StanfordExtra's dogs, which come in a format close to it.

Lin et al., "Microsoft COCO", 2014, and cocodataset.org/#format-data; Biggs et al., "Who left the dogs out?", 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asic_eval.fields import Field, read_json
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, all_pairs, mirror_from_names

STANFORD_EXTRA_KEYPOINTS = (
    *(
        f"{side} {end} {joint}"
        for side, end in (("left", "front"), ("left", "rear"), ("right", "front"), ("right", "rear"))
        for joint in ("paw", "middle joint", "leg top")
    ),
    "tail start",
    "tail end",
    "left ear base",
    "right ear base",
    "nose",
    "chin",
    "left ear tip",
    "right ear tip",
    "left eye",
    "right eye",
    "withers",
    "throat",
)
_MOST_PIXELS = 200_000_000
_STANFORD_EXTRA_FILES = ("StanfordExtra_v12.json", "StanfordExtra_v1.json", "StanfordExtra_sample.json")


def read_coco_keypoints(
    path: Path,
    category: str,
    *,
    instances: Literal["single", "largest"] = "single",
    least_visible: int = 1,
    counted: Literal["visible", "labelled"] = "visible",
) -> KeypointBenchmark:
    """Reads one category of a COCO keypoint file, one instance an image, all ordered pairs.

    Args:
        path: The annotation file: `images`, `annotations` with `keypoints` and `bbox`, `categories`.
        category: The category's name in the file.
        instances: Of images that show the category several times, keep none (`single`) or the `largest` box.
        least_visible: Leave out images with fewer keypoints that count.
        counted: Which keypoints count: those whose flag is 2 (labelled and `visible`), or all that are `labelled`, also
            those that something hides (1). The others keep their position.

    Returns:
        Image names are the file's `file_name`.

    Raises:
        AnnotationError: The file is missing or malformed.
        ValueError: `counted` is neither word.
    """
    if counted not in ("visible", "labelled"):
        raise ValueError(f"counted: expected 'visible' or 'labelled', got {counted!r}")
    top = read_json(path)
    known = {field.key("name").text(): field for field in top.key("categories").array()}
    if category not in known:
        raise top.key("categories").error(f"the category {category!r}")
    category_id = known[category].key("id").integer(0)
    names = tuple(name.text() for name in known[category].key("keypoints").array())
    best: dict[int, Field] = {}
    several: set[int] = set()
    for annotation in top.key("annotations").array():
        if annotation.key("category_id").integer(0) != category_id:
            continue
        image = annotation.key("image_id").integer(0)
        if image in best:
            several.add(image)
        if image not in best or _area(annotation) > _area(best[image]):
            best[image] = annotation
    images = []
    for field in top.key("images").array():
        identity = field.key("id").integer(0)
        if identity not in best or (instances == "single" and identity in several):
            continue
        points, flags = read_flagged_points(best[identity].key("keypoints"), len(names))
        visible = flags >= (2 if counted == "visible" else 1)
        if visible.sum() >= least_visible:
            size = (field.key("height").integer(1, 10**6), field.key("width").integer(1, 10**6))
            box = best[identity].key("bbox").box_xywh()
            images.append(ImageKeypoints(field.key("file_name").relative_path(), size, box, points, visible))
    title = f"coco/{category}"
    return KeypointBenchmark(title, names, tuple(images), all_pairs(len(images)), mirror_from_names(names))


def read_stanford_dogs(root: Path, *, breed: str | None = None) -> KeypointBenchmark:
    """Reads StanfordExtra: dogs in the wild, 24 keypoints, all ordered pairs.

    Args:
        root: The folder that holds `images/` and one StanfordExtra JSON file.
        breed: Only images of the folder of this name, such as `n02099601-golden_retriever`.

    Returns:
        Image names are the file's `img_path`, below `images/`.

    Raises:
        AnnotationError: The file is missing or malformed.
    """
    images = []
    for entry in read_json(_stanford_extra_file(root)).array():
        name = entry.key("img_path").relative_path()
        if breed is not None and not name.startswith(f"{breed}/"):
            continue
        size = _size_hw(entry)
        joints = np.array([joint.numbers(3) for joint in entry.key("joints").array(len(STANFORD_EXTRA_KEYPOINTS))])
        visible = joints[:, 2] > 0
        points = np.where(visible[:, None], joints[:, :2], np.nan)
        images.append(ImageKeypoints(name, size, entry.key("img_bbox").box_xywh(), points, visible))
    mirror = mirror_from_names(STANFORD_EXTRA_KEYPOINTS)
    title = "stanford_dogs" if breed is None else f"stanford_dogs/{breed}"
    return KeypointBenchmark(title, STANFORD_EXTRA_KEYPOINTS, tuple(images), all_pairs(len(images)), mirror)


def read_stanford_dogs_masks(root: Path, *, breed: str | None = None) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Reads StanfordExtra's outlines, dog by dog.

    Args:
        root: As in `read_stanford_dogs`.
        breed: As in `read_stanford_dogs`.

    Yields:
        An image's name and its dog, (H, W) truth values.

    Raises:
        AnnotationError: The file is missing or malformed.
    """
    for entry in read_json(_stanford_extra_file(root)).array():
        name = entry.key("img_path").relative_path()
        if breed is None or name.startswith(f"{breed}/"):
            yield name, decode_run_lengths(entry.key("seg"), _size_hw(entry))


def decode_run_lengths(field: Field, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """COCO's compressed run lengths: column by column, background first.

    A length is written in groups of five bits, the lowest first, as characters from '0' on; a sixth bit says that
    another group follows, and the fifth bit of the last group is its sign. From the fourth length on what
    is written is the difference to the length before the last.

    Args:
        field: The string.
        size_hw: Height and width of the image.

    Returns:
        (H, W) truth values.

    Raises:
        AnnotationError: The string is cut off, has other characters, or its lengths do not fill the image.
    """
    pixels = size_hw[0] * size_hw[1]
    lengths: list[int] = []
    value = shift = 0
    for character in field.text().encode():
        group = character - ord("0")
        if not 0 <= group < 64 or shift > 30:
            raise field.error("run lengths in COCO's compressed form")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        value -= (1 << shift) if group & 16 else 0
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift or min(lengths) < 0 or sum(lengths) != pixels or pixels > _MOST_PIXELS:
        raise field.error(f"run lengths of {pixels} pixels in all, at most {_MOST_PIXELS}")
    shown = np.arange(len(lengths)) % 2 == 1
    return np.repeat(shown, lengths).reshape(size_hw[::-1]).T


def _size_hw(entry: Field) -> tuple[int, int]:
    # Some releases write widths and heights as strings.
    height, width = (entry.key(name) for name in ("img_height", "img_width"))
    sides = [
        side.parsed_integer(1) if isinstance(side.value, str) else side.integer(1, 10**6) for side in (height, width)
    ]
    return sides[0], sides[1]


def _stanford_extra_file(root: Path) -> Path:
    for name in _STANFORD_EXTRA_FILES:
        if (root / name).exists():
            return root / name
    return root / _STANFORD_EXTRA_FILES[0]


def _area(annotation: Field) -> float:
    left, top, right, bottom = annotation.key("bbox").box_xywh()
    return (right - left) * (bottom - top)


def read_flagged_points(field: Field, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """COCO's flat list of x, y and flag for each keypoint: (K, 2) xy, NaN where the flag is 0, and (K,) the flags."""
    values = np.array(field.numbers(3 * count)).reshape(count, 3)
    elements = field.array()
    flags = np.array([elements[3 * index + 2].integer(0, 2) for index in range(count)], dtype=np.int64)
    return np.where(flags[:, None] > 0, values[:, :2], np.nan), flags
