"""CUB-200-2011: photos of birds with 15 keypoints and a box each.

Wah et al., "The Caltech-UCSD Birds-200-2011 dataset", 2011. Coordinates are taken as the official text files give them;
ACSM and ASIC count them from 1, which moves what is asked and what is true by the same pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asic_eval.benchmarks.image_size import read_image_size
from asic_eval.fields import AnnotationError, Field, read_table
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, all_pairs, mirror_from_names, random_pairs
from asic_eval.pck import threshold_lengths

Split = Literal["train", "test"]


def read_cub(
    root: Path,
    species: int | str | None,
    limit: int | None = None,
    *,
    split: Split | None = None,
    num_random_pairs: int | None = None,
    seed: int = 0,
) -> KeypointBenchmark:
    """Reads the keypoints of one species, or of all.

    Args:
        root: The folder that holds `images.txt`, `bounding_boxes.txt`, `parts/` and `images/`.
        species: A number (1 is `001.Black_footed_Albatross`), a class name as in `classes.txt`, or None for all.
        limit: Take only the first images, in the order of `images.txt`.
        split: Only the images of the official split; all when None.
        num_random_pairs: Draw so many ordered pairs (the literature draws 10,000) instead of taking all.
        seed: For drawing pairs.

    Returns:
        Image names are those of `images.txt`, below `images/`. For a fixed list of pairs, put what
        `asic_eval.benchmarks.pairs_file.read_pair_list` reads in the place of `pairs`.

    Raises:
        AnnotationError: A file is missing or malformed, or does not have one box and every part once for each image
            that is chosen.
        ValueError: The species is unknown.
    """
    class_names = _by_id(root / "classes.txt", "class_id", "class_name")
    names = _by_id(root / "images.txt", "image_id", "image_name")
    chosen = list(names)
    title = "cub"
    if species is not None:
        class_id = _class_id(species, {key: field.text() for key, field in class_names.items()})
        class_of = _by_id(root / "image_class_labels.txt", "image_id", "class_id")
        chosen = [image for image in names if _of(image, class_of).parsed_integer(1) == class_id]
        title += f"/{class_names[class_id].text()}"
    if split is not None:
        in_training = _by_id(root / "train_test_split.txt", "image_id", "is_training_image")
        chosen = [image for image in chosen if _of(image, in_training).parsed_integer(0) == (split == "train")]
        title += f"/{split}"
    chosen = chosen[:limit]
    boxes = _read_boxes(root / "bounding_boxes.txt", set(chosen))
    part_names = tuple(field.text() for field in _by_id(root / "parts" / "parts.txt", "part_id", "part_name").values())
    points, visible = _read_parts(root / "parts" / "part_locs.txt", chosen, len(part_names))
    images = tuple(
        ImageKeypoints(
            name=names[image].relative_path(),
            size_hw=read_image_size(root / "images" / names[image].relative_path()),
            box_xyxy=_of(image, boxes).box_xywh(),
            points_image=points[index],
            visible=visible[index],
        )
        for index, image in enumerate(chosen)
    )
    pairs = all_pairs(len(images)) if num_random_pairs is None else random_pairs(len(images), num_random_pairs, seed)
    return KeypointBenchmark(title, part_names, images, pairs, mirror_from_names(part_names))


def names_by_id(root: Path) -> dict[str, str]:
    """The images' names by their numbers in `images.txt`, which lists of pairs use.

    Raises:
        AnnotationError: The file is missing or malformed.
    """
    return {
        str(number): name.relative_path()
        for number, name in _by_id(root / "images.txt", "image_id", "image_name").items()
    }


def asic_crop_sides(benchmark: KeypointBenchmark) -> NDArray[np.float64]:
    """(N,) side, in the photo's pixels, of the square crop that CUB is scored in: alpha is a fraction of it.

    The box grown by 5 % of its width and height on each side, then made square: so 1.1 times the longer side. (ACSM's
    and ASIC's crops are rounded to whole pixels, which changes it by less than a pixel.)

    Raises:
        ValueError: An image has no box.
    """
    return 1.1 * threshold_lengths(benchmark, "box")


def _by_id(path: Path, id_column: str, value_column: str) -> dict[int, Field]:
    values: dict[int, Field] = {}
    for row in read_table(path, (id_column, value_column), spaces_in_last=True):
        key = row[id_column].parsed_integer(1)
        if key in values:
            raise row[id_column].error("an id that comes once")
        values[key] = row[value_column]
    if not values:
        raise AnnotationError(path, "file", "expected at least one line, got none")
    return values


def _of(image: int, values: dict[int, Field]) -> Field:
    if image not in values:
        path = next(iter(values.values())).file
        raise AnnotationError(path, "column 'image_id'", f"expected a line for image {image}, got none")
    return values[image]


def _class_id(species: int | str, class_names: dict[int, str]) -> int:
    for class_id, name in class_names.items():
        if species in (class_id, name):
            return class_id
    known = ", ".join(list(class_names.values())[:3])
    raise ValueError(f"species: expected one of the {len(class_names)} classes ({known}, ...), got {species!r}")


def _read_boxes(path: Path, chosen: set[int]) -> dict[int, Field]:
    boxes = {}
    for row in read_table(path, ("image_id", "x", "y", "width", "height")):
        if (image := row["image_id"].parsed_integer(1)) in chosen:
            if image in boxes:
                raise row["image_id"].error("an image that comes once")
            box = [row[column].parsed_number() for column in ("x", "y", "width", "height")]
            boxes[image] = Field(box, row["x"].file, row["x"].place.split(",")[0])
    if not boxes and chosen:
        raise AnnotationError(path, "file", "expected a box for every image, got none")
    return boxes


def _read_parts(path: Path, chosen: list[int], num_parts: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    points = np.full((len(chosen), num_parts, 2), np.nan)
    visible = np.zeros((len(chosen), num_parts), dtype=np.bool_)
    given = np.zeros((len(chosen), num_parts), dtype=np.bool_)
    index_of = {image: index for index, image in enumerate(chosen)}
    columns = ("image_id", "part_id", "x", "y", "visible")
    for row in read_table(path, columns):
        index = index_of.get(row["image_id"].parsed_integer(1))
        if index is None:
            continue
        part = row["part_id"].parsed_integer(1)
        if part > num_parts:
            raise row["part_id"].error(f"a part from 1 to {num_parts}")
        if given[index, part - 1]:
            raise row["part_id"].error(f"a part that comes once for image {chosen[index]}")
        given[index, part - 1] = True
        # An invisible part stands at (0, 0): that is no position.
        if row["visible"].parsed_integer(0):
            visible[index, part - 1] = True
            points[index, part - 1] = row["x"].parsed_number(), row["y"].parsed_number()
    if not given.all():
        index, part = (int(where[0]) for where in np.nonzero(~given))
        problem = f"expected a line for part {part + 1} of image {chosen[index]}, got none"
        raise AnnotationError(path, "column 'part_id'", problem)
    return points, visible
