"""AP-10K: 10,015 photos of 54 animal species with 17 keypoints, in COCO's format.

Yu et al., "AP-10K: A benchmark for animal pose estimation in the wild", 2021. As a correspondence benchmark, Zhang et
al., "Telling left from right", 2024, mix the official splits, deal photos with one animal and at least three keypoints
out anew, and draw pairs with at least three common keypoints, each in one direction: `read_ap10k_pairs` reads what
their notebook writes, and only that is comparable with published numbers. `read_ap10k` needs nothing but the data set.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from asic_eval.benchmarks.coco import read_coco_keypoints, read_flagged_points
from asic_eval.fields import AnnotationError, Field, read_json
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, mirror_from_names

LEAST_VISIBLE = 3
KEYPOINTS = (
    "left eye",
    "right eye",
    "nose",
    "neck",
    "root of tail",
    *(f"{side} {joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "front paw")),
    *(f"{side} {joint}" for side in ("left", "right") for joint in ("hip", "knee", "back paw")),
)
# Shoulders; elbows and knees; paws; hips: the published groups, from which eyes are left out.
LOOK_ALIKE = ((5, 8), (6, 9, 12, 15), (7, 10, 13, 16), (11, 14))
PairSplit = Literal[
    "trn", "val", "test", "val_cross_species", "test_cross_species", "val_cross_family", "test_cross_family"
]


def read_ap10k(
    root: Path,
    species: str,
    target_species: str | None = None,
    *,
    split: Literal["train", "val", "test"] = "test",
    fold: Literal[1, 2, 3] = 1,
) -> KeypointBenchmark:
    """Reads all ordered pairs within a species, or from one species to another, of an official split.

    Args:
        root: The folder that holds `annotations/` and `data/`.
        species: The species of the source photos, and of the targets if no other is named.
        target_species: The species of the target photos.
        split: `train`, `val` or `test`.
        fold: Which of the three official splits.

    Returns:
        Image names are below `data/`. A keypoint counts when it is labelled, also where something hides it.

    Raises:
        AnnotationError: The file is missing or malformed, or has no such species.
    """
    path = root / "annotations" / f"ap10k-{split}-split{fold}.json"
    source = read_coco_keypoints(path, species, least_visible=LEAST_VISIBLE, counted="labelled")
    title, images, pairs = f"ap10k/{species}/{split}", source.images, source.pairs
    if target_species is not None:
        target = read_coco_keypoints(path, target_species, least_visible=LEAST_VISIBLE, counted="labelled")
        first, second = np.arange(len(images)), len(images) + np.arange(len(target.images))
        pairs = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
        title, images = f"ap10k/{species}-{target_species}/{split}", images + target.images
    look_alike = LOOK_ALIKE if len(source.keypoint_names) == len(KEYPOINTS) else None
    return KeypointBenchmark(title, source.keypoint_names, images, pairs, source.mirror, look_alike=look_alike)


def read_ap10k_pairs(root: Path, category: str, split: PairSplit = "test") -> KeypointBenchmark:
    """Reads the pairs that the notebook of Zhang et al. wrote, each in its one direction.

    Args:
        root: The folder that holds `PairAnnotation/`, `ImageAnnotation/` and `JPEGImages/`.
        category: A species; a family for the splits across species; `all` for those across families.
        split: `trn`, `val` or `test`, or one with `_cross_species` or `_cross_family` after it.

    Returns:
        Image names are below `JPEGImages/`. A keypoint counts when it is labelled, also where something hides it; where
        its flag is 1, the published script halves its coordinates, which this reader does not.

    Raises:
        AnnotationError: A file is missing or malformed.
    """
    folder = root / "PairAnnotation" / split
    files = sorted(path for path in folder.glob("*.json") if path.name.endswith(f":{category}.json"))
    if not files:
        raise AnnotationError(folder, "folder", f"expected pair annotations of {category!r}, got none")
    images: dict[str, ImageKeypoints] = {}
    pairs = []
    for path in files:
        pair = read_json(path)
        names = [_below_annotations(pair.key(f"{side}_json_path")) for side in ("src", "trg")]
        for name in names:
            if name not in images:
                images[name] = _image(root, name)
        pairs.append(names)
    index_of = {name: index for index, name in enumerate(images)}
    indices = np.array([[index_of[name] for name in names] for names in pairs])
    mirror = mirror_from_names(KEYPOINTS)
    title = f"ap10k-pairs/{category}/{split}"
    return KeypointBenchmark(title, KEYPOINTS, tuple(images.values()), indices, mirror, look_alike=LOOK_ALIKE)


def _below_annotations(field: Field) -> str:
    """A path such as `data/ap-10k/ImageAnnotation/Felidae/cat/000000000001.json`, from its species' family on."""
    parts = PurePosixPath(field.text()).parts
    if "ImageAnnotation" not in parts:
        raise field.error("a path below 'ImageAnnotation'")
    below = "/".join(parts[parts.index("ImageAnnotation") + 1 :])
    return Field(below, field.file, field.place).relative_path()


def _image(root: Path, name: str) -> ImageKeypoints:
    annotation = read_json(root / "ImageAnnotation" / name)
    points, flags = read_flagged_points(annotation.key("keypoints"), len(KEYPOINTS))
    size = (annotation.key("height").integer(1, 10**6), annotation.key("width").integer(1, 10**6))
    image = str(PurePosixPath(name).with_suffix(".jpg"))
    return ImageKeypoints(image, size, annotation.key("bbox").box_xywh(), points, flags > 0)
