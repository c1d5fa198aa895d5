"""SPair-71k: 70,958 pairs of photos of 18 categories, each pair with its own keypoints.

Min et al., "SPair-71k: A large-scale benchmark for semantic correspondence", 2019. The reader and the writer of its
layout live here side by side. Keypoint ids are strings of digits, absent keypoints are null, and a pair's file name
holds a colon: `000001-2008_002719-2008_004100:aeroplane.json`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from asic_eval.benchmarks.spair_keypoints import LOOK_ALIKE, SIDES, highest_keypoint
from asic_eval.fields import AnnotationError, Field, read_json, read_text, write_atomically
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, mirror_from_names, swap

CATEGORIES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "train",
    "tvmonitor",
)
Split = Literal["trn", "val", "test"]
_MOST_DIGITS = 3


@dataclass(frozen=True)
class PairFilter:
    """Which pairs to keep by their differences; None keeps all.

    Args:
        viewpoint: Allowed `viewpoint_variation`: 0 easy, 1 medium, 2 hard.
        scale: Allowed `scale_variation`: 0 easy, 1 medium, 2 hard.
        truncation: Allowed `truncation`: 0 none, 1 source, 2 target, 3 both.
        occlusion: Allowed `occlusion`: 0 none, 1 source, 2 target, 3 both.
    """

    viewpoint: Collection[int] | None = None
    scale: Collection[int] | None = None
    truncation: Collection[int] | None = None
    occlusion: Collection[int] | None = None

    def keeps(self, pair: Field) -> bool:
        """Whether a pair's annotation passes."""
        return all(
            allowed is None or pair.key(name).integer(0, highest) in allowed
            for name, allowed, highest in (
                ("viewpoint_variation", self.viewpoint, 2),
                ("scale_variation", self.scale, 2),
                ("truncation", self.truncation, 3),
                ("occlusion", self.occlusion, 3),
            )
        )


class _Image:
    """What the files say about one image, gathered from all of them."""

    def __init__(self, size: Field, box: Field) -> None:
        if len(size.array()) < 2:
            raise size.error("at least width and height")
        width, height = (element.integer(1, 10**6) for element in size.array()[:2])
        self.size, self.box = size.value, box.value
        self.size_hw = (height, width)
        self.box_xyxy = box.box_xyxy()
        self.points: dict[int, tuple[float, float]] = {}

    def add(self, keypoint: int, xy: tuple[float, float], field: Field) -> None:
        if self.points.setdefault(keypoint, xy) != xy:
            known = list(self.points[keypoint])
            raise field.error(f"keypoint {keypoint} at {known}, as other annotations of this image say")


def read_spair(
    root: Path,
    category: str,
    split: Split = "test",
    *,
    pair_filter: PairFilter | None = None,
    layout: Literal["large", "small"] = "large",
) -> KeypointBenchmark:
    """Reads one category's pairs.

    Each image keeps every keypoint that any of its pairs names, and each pair asks for its own (the published ASIC
    code kept those of an image's last pair only).

    Args:
        root: The folder that holds `PairAnnotation/` and, if present, `ImageAnnotation/`, which must then have a file
            for every image of the pairs, and `Layout/`.
        category: One of `CATEGORIES`, or of one's own data in this layout.
        split: `trn`, `val` or `test`.
        pair_filter: Keep only some of the pairs.
        layout: Which list of pairs to follow where `Layout/` is there; otherwise every pair file is taken, by name.

    Returns:
        Image names are `category/file.jpg`, below `JPEGImages/`. Images come in the order the pairs name them. Left and
        right come from the keypoints' names, or for SPair-71k's own categories, whose keypoints have none, from
        `asic_eval.benchmarks.spair_keypoints`, and so do the groups that look alike.

    Raises:
        AnnotationError: A file is missing or malformed, or files contradict each other.
    """
    folder = root / "PairAnnotation" / split
    images: dict[str, _Image] = {}
    pairs: list[tuple[str, str]] = []
    asked: list[set[int]] = []
    id_of: dict[str, int] = {}
    for path in _pair_files(root, folder, category, split, layout):
        pair = read_json(path)
        if pair.key("category").text() != category:
            raise pair.key("category").error(repr(category))
        if pair_filter is not None and not pair_filter.keeps(pair):
            continue
        ids = _keypoint_ids(pair.key("kps_ids"), id_of)
        if len(set(ids)) != len(ids):
            raise pair.key("kps_ids").error("each keypoint once")
        ends = []
        for side in ("src", "trg"):
            named = pair.key(f"{side}_imname")
            name = named.value if isinstance(named.value, str) and named.value in images else named.relative_path()
            size, box = pair.key(f"{side}_imsize"), pair.key(f"{side}_bndbox")
            image = images[name] if name in images else images.setdefault(name, _Image(size, box))
            if (image.size, image.box) != (size.value, box.value):
                raise box.error(f"the size and box {image.size}, {image.box} that other pairs give {name!r}")
            points = pair.key(f"{side}_kps")
            for keypoint, xy in zip(ids, points.points(len(ids)), strict=True):
                image.add(keypoint, xy, points)
            ends.append(name)
        pairs.append((ends[0], ends[1]))
        asked.append(set(ids))
    own = root / "ImageAnnotation"
    keypoint_names = _read_image_annotations(own / category, images) if own.exists() else None
    if keypoint_names is None:
        seen = max((keypoint for image in images.values() for keypoint in image.points), default=-1)
        keypoint_names = _numbered(1 + max(seen, highest_keypoint(category)))
    return _benchmark(f"spair/{category}/{split}", category, keypoint_names, images, pairs, asked)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(index) for index in range(count))


def _keypoint_ids(field: Field, known: dict[str, int]) -> list[int]:
    """The ids of an array; `known` remembers those that have passed, as thousands of files repeat a few."""
    elements = field.array()
    try:
        return [known[element.value] for element in elements]
    except (KeyError, TypeError):
        known |= {element.text(): _keypoint_id(element) for element in elements}
        return [known[element.value] for element in elements]


def _keypoint_id(field: Field) -> int:
    if not field.text().isascii() or not field.text().isdigit() or len(field.text()) > _MOST_DIGITS:
        raise field.error(f"a keypoint's id, a string of at most {_MOST_DIGITS} digits")
    return int(field.text())


def _pair_files(root: Path, folder: Path, category: str, split: str, layout: str) -> list[Path]:
    listing = root / "Layout" / layout / f"{split}.txt"
    if listing.exists():
        lines = enumerate(read_text(listing).split(), start=1)
        names = [Field(line, str(listing), f"pair {number}").relative_path() for number, line in lines]
        files = [folder / f"{name}.json" for name in names if name.endswith(f":{category}")]
    else:
        files = sorted(path for path in folder.glob("*.json") if path.name.endswith(f":{category}.json"))
    if not files:
        raise AnnotationError(folder, "folder", f"expected pair annotations of {category!r}, got none")
    return files


def _read_image_annotations(folder: Path, images: dict[str, _Image]) -> tuple[str, ...] | None:
    """Adds the keypoints that only the images' own annotations hold; returns the keypoints' names where given."""
    names: tuple[str, ...] | None = None
    for name, image in images.items():
        path = folder / Path(name).with_suffix(".json")
        annotation = read_json(path)
        points = annotation.key("kps")
        for key in points.keys():  # noqa: SIM118 - a Field is no dict
            keypoint = _keypoint_id(Field(key, str(path), "kps"))
            if (point := points.optional(key)) is not None:
                image.add(keypoint, point.point(), point)
        given = annotation.optional("kps_names")
        own = _numbered(len(points.keys())) if given is None else tuple(name.text() for name in given.array())
        if names not in (None, own):
            raise points.error(f"the {len(names or ())} keypoints of the other images")
        if set(points.keys()) != {str(index) for index in range(len(own))}:
            raise points.error(f"the keys '0' to '{len(own) - 1}'")
        if max(image.points, default=-1) >= len(own):
            raise points.error(f"the keypoint {max(image.points)} that a pair asks for")
        names = own
    return names


def _benchmark(
    title: str,
    category: str,
    keypoint_names: tuple[str, ...],
    images: dict[str, _Image],
    pairs: list[tuple[str, str]],
    asked: list[set[int]],
) -> KeypointBenchmark:
    count = len(keypoint_names)
    rows = []
    for name, image in images.items():
        points = np.full((count, 2), np.nan)
        points[list(image.points)] = np.array(list(image.points.values())).reshape(-1, 2)
        visible = np.isfinite(points).all(axis=1)
        rows.append(ImageKeypoints(f"{category}/{name}", image.size_hw, image.box_xyxy, points, visible))
    index_of = {name: index for index, name in enumerate(images)}
    indices = np.array([(index_of[source], index_of[target]) for source, target in pairs], np.int64).reshape(-1, 2)
    mirror, look_alike = mirror_from_names(keypoint_names), None
    if keypoint_names == _numbered(count) and highest_keypoint(category) < count:
        mirror = swap(count, SIDES[category]) if category in SIDES else None
        look_alike = LOOK_ALIKE.get(category)
    plain = KeypointBenchmark(title, keypoint_names, tuple(rows), indices, mirror, look_alike=look_alike)
    pair_visible = np.zeros((len(pairs), count), dtype=np.bool_)
    for row, keypoints in zip(pair_visible, asked, strict=True):
        row[list(keypoints)] = True
    if np.array_equal(pair_visible, plain.asked):
        return plain
    return replace(plain, pair_visible=pair_visible)


def write_spair_annotations(root: Path, benchmark: KeypointBenchmark, category: str, split: Split = "test") -> None:
    """Writes a benchmark's annotations in SPair-71k's layout, for `read_spair` and for other programs that read it.

    Keypoint names go into an extra key, `kps_names`, of the image annotations; a pair asks for the points visible in
    both images. Image files are the caller's: `root / "JPEGImages" / image.name`. Files are replaced one by one.

    Args:
        root: The folder to write below.
        benchmark: Images must be named `category/file` and have a box.
        category: The category's name.
        split: `trn`, `val` or `test`.

    Raises:
        ValueError: An image's name or box does not fit the layout.
    """
    for image in benchmark.images:
        folder, _, file = image.name.partition("/")
        if folder != category or not file or "/" in file:
            raise ValueError(f"image names: expected '{category}/<file>', got {image.name!r}")
        if image.box_xyxy is None:
            raise ValueError(f"{image.name}: expected a box, got none")
        height, width = image.size_hw
        annotation = {
            "filename": file,
            "image_width": width,
            "image_height": height,
            "image_depth": 3,
            "category": category,
            "bndbox": list(image.box_xyxy),
            "kps": {
                str(index): list(xy) if visible else None
                for index, (xy, visible) in enumerate(zip(image.points_image.tolist(), image.visible, strict=True))
            },
            "kps_names": list(benchmark.keypoint_names),
        }
        _write_json(root / "ImageAnnotation" / category / f"{Path(file).stem}.json", annotation)
    names = []
    for number, ((source, target), asked) in enumerate(zip(benchmark.pairs, benchmark.asked, strict=True), start=1):
        ends = benchmark.images[source], benchmark.images[target]
        stems = [Path(end.name).stem for end in ends]
        names.append(f"{number:06d}-{stems[0]}-{stems[1]}:{category}")
        pair: dict[str, object] = {"pair_id": number, "filename": names[-1], "category": category}
        for side, end in zip(("src", "trg"), ends, strict=True):
            pair[f"{side}_imname"] = end.name.partition("/")[2]
            pair[f"{side}_imsize"] = [end.size_hw[1], end.size_hw[0], 3]
            pair[f"{side}_bndbox"] = end.box_xyxy
            pair[f"{side}_kps"] = end.points_image[asked].tolist()
        pair["kps_ids"] = [str(index) for index in np.flatnonzero(asked)]
        pair |= dict.fromkeys(("mirror", "viewpoint_variation", "scale_variation", "truncation", "occlusion"), 0)
        _write_json(root / "PairAnnotation" / split / f"{names[-1]}.json", pair)
    write_atomically(root / "Layout" / "large" / f"{split}.txt", "".join(f"{name}\n" for name in names).encode())


def _write_json(path: Path, document: dict[str, object]) -> None:
    write_atomically(path, json.dumps(document, allow_nan=False).encode())
