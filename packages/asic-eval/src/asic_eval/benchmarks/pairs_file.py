"""Pairs of one's own: a CSV file that a spreadsheet can write, the package's own JSON, or a plain list of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asic_eval.benchmarks.image_size import read_image_size
from asic_eval.fields import AnnotationError, read_csv, read_json, read_table
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, mirror_from_names

COLUMNS = ("source", "target", "keypoint", "source_x", "source_y", "target_x", "target_y")


def read_benchmark_json(path: Path) -> KeypointBenchmark:
    """Reads what `KeypointBenchmark.to_json` returned and somebody wrote to a file.

    Raises:
        AnnotationError: The file is missing or malformed.
    """
    return KeypointBenchmark.from_json(read_json(path).value, file=str(path))


def read_pair_list(path: Path, index_of: Mapping[str, int]) -> NDArray[np.int64]:
    """Reads a fixed list of pairs, such as the 10,000 of CUB that two works share: a line for each, source and target.

    Args:
        path: A text file of two columns with spaces between them.
        index_of: The images' indices by what the file may call them.

    Returns:
        (P, 2) indices, to go into `KeypointBenchmark.pairs`.

    Raises:
        AnnotationError: The file is missing or malformed, names an unknown image, or has no line.
    """
    rows = read_table(path, ("source", "target"))
    for row in rows:
        for name in row.values():
            if name.text() not in index_of:
                raise name.error(f"one of the benchmark's {len(index_of)} images")
    if not rows:
        raise AnnotationError(path, "file", "expected at least one pair, got none")
    return np.array([[index_of[name.value] for name in row.values()] for row in rows], dtype=np.int64)


def read_pairs_csv(path: Path, root: Path) -> KeypointBenchmark:
    """Reads pairs from a table with one line a keypoint.

    Args:
        path: A file with the columns `source`, `target` (image paths), `keypoint` (a name), `source_x`, `source_y`,
            `target_x`, `target_y` (pixels; a pixel's centre is its whole number). Other columns are ignored.
        root: The folder that the image paths start from; sizes are read from the images' headers.

    Returns:
        Images, keypoints and pairs in the order in which the file names them. There are no boxes.

    Raises:
        AnnotationError: The file or an image's header is malformed, or an image's keypoint has two positions.
    """
    images: dict[str, dict[str, tuple[float, float]]] = {}
    keypoints: dict[str, int] = {}
    asked: dict[tuple[str, str], set[int]] = {}
    for row in read_csv(path, COLUMNS):
        name = row["keypoint"].text()
        index = keypoints.setdefault(name, len(keypoints))
        for side in ("source", "target"):
            xy = row[f"{side}_x"].parsed_number(), row[f"{side}_y"].parsed_number()
            known = images.setdefault(row[side].relative_path(), {})
            if known.setdefault(name, xy) != xy:
                raise row[f"{side}_x"].error(f"{name!r} at {list(known[name])}, as another line of this image says")
        asked.setdefault((row["source"].text(), row["target"].text()), set()).add(index)
    rows = []
    for image, points in images.items():
        positions = np.full((len(keypoints), 2), np.nan)
        positions[[keypoints[name] for name in points]] = list(points.values())
        visible = np.isfinite(positions).all(axis=1)
        rows.append(ImageKeypoints(image, read_image_size(root / image), None, positions, visible))
    index_of = {image: index for index, image in enumerate(images)}
    pairs = np.array([(index_of[source], index_of[target]) for source, target in asked], np.int64).reshape(-1, 2)
    pair_visible = np.zeros((len(asked), len(keypoints)), dtype=np.bool_)
    for flags, indices in zip(pair_visible, asked.values(), strict=True):
        flags[list(indices)] = True
    names = tuple(keypoints)
    return KeypointBenchmark(path.stem, names, tuple(rows), pairs, mirror_from_names(names), pair_visible)
