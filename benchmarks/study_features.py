"""What each option of the preparation is worth on real photos, as a table: `python benchmarks/study_features.py`.

`ASIC_REAL_DATA` names a folder that holds `CUB_200_2011/`, `stanford_dogs/` and `weights/vit_tiny_in1k/`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from asic_eval import KeypointBenchmark
from asic_eval.benchmarks.coco import read_stanford_dogs
from asic_eval.benchmarks.cub import read_cub
from asic_features.config import FeatureConfig
from asic_features.extract import extract_collection
from asic_features.images import PhotoSource
from asic_features.mls import rigid_flow
from asic_flow.collection import ImageCollection
from asic_flow.grid import pixel_to_token_norm
from asic_flow.matches import MatchSet

ALPHA = 0.1  # of the side
NEAR = 0.15  # of the side: a match farther from every common keypoint is not asked
LEAST_KEYPOINTS = 3
CONFIDENCES = (0.0, 0.1, 0.2, 0.3, 1.01)

OPTIONS: dict[str, dict[str, Any]] = {
    "default: block 8 key, stride 8": {},
    "`--log-bin`": {"log_bin": True},
    "`--components 64`": {"components": 64},
    "`--components 64 --log-bin`": {"components": 64, "log_bin": True},
    "`--candidates all`": {"candidates": "all"},
    "`--top-k 2`": {"top_k": 2},
    "`--top-k 4`": {"top_k": 4},
    "`--top-k 4 --least-support 2`": {"top_k": 4, "least_support": 2},
    "`--masks none`": {"masks": "none"},
    "`--masks saliency`": {"masks": "saliency"},
    "`--grabcut`": {"grabcut": True},
    "`--precision bfloat16`": {"precision": "bfloat16"},
    "`--precision float16`": {"precision": "float16"},
    "`--least-support 1`": {"least_support": 1},
    "`--least-support 2`": {"least_support": 2},
    "`--suppress-px 12`": {"suppress_px": 12.0},
    "`--least-support 1 --suppress-px 12`": {"least_support": 1, "suppress_px": 12.0},
    "block 8 query": {"facet": "query"},
    "block 8 value": {"facet": "value"},
    "block 8 token": {"facet": "token"},
    "block 7 key": {"block": 7},
    "block 9 key": {"block": 9},
    "block 11 key": {"block": 11},
    "block 11 token": {"block": 11, "facet": "token"},
    "blocks 7 and 9, keys": {"block": (7, 9)},
    "block 8, keys and values": {"facet": ("key", "value")},
    "block 8, keys and tokens": {"facet": ("key", "token")},
    "block 8, keys and tokens, `--scales 224,320,384,448 --components 256`": {
        "facet": ("key", "token"),
        "scales": (224, 320, 384, 448),
        "components": 256,
    },
    "stride 16": {"stride": 16},
    "stride 4": {"stride": 4},
    "`--mirror-test`": {"mirror_test": True},
}


@dataclass(frozen=True)
class Worth:
    """What an option gave on one set: both in percent, and matches a pair."""

    pck: float
    precision: float
    matches: float

    def __str__(self) -> str:
        return f"{self.pck:.1f}, {self.precision:.1f} % of {self.matches:.0f}"


def read_sets(data: Path, limit: int) -> dict[str, tuple[list[PhotoSource], KeypointBenchmark]]:
    """The first photos of four species, and dogs in the wild, each shown by its box."""
    cub = {f"CUB 00{number}": read_cub(data / "CUB_200_2011", number, limit=limit) for number in (1, 2, 3, 4)}
    roots = dict.fromkeys(cub, data / "CUB_200_2011" / "images")
    dogs = read_stanford_dogs(data / "stanford_dogs")
    truths = cub | {"dogs": dogs.select(range(min(limit, len(dogs.images))))}
    roots["dogs"] = data / "stanford_dogs" / "images"
    return {
        name: (
            [PhotoSource(roots[name] / k.name, k.name, k.box_xyxy, size_hw=k.size_hw) for k in truth.images],
            truth,
        )
        for name, truth in truths.items()
    }


def nearest_neighbour_pck(
    collection: ImageCollection, points_px: npt.NDArray[np.float64], visible: npt.NDArray[np.bool_]
) -> float:
    """Per point, over all ordered pairs: each keypoint goes to its most similar of all tokens, within 0.1 of the side.

    Args:
        collection: The photos.
        points_px: (N, K, 2) model pixels.
        visible: (N, K).
    """
    grid, size = collection.grid, collection.images.shape[1]
    maps = collection.descriptors.float().view(len(points_px), grid.rows, grid.cols, -1).permute(0, 3, 1, 2)
    where = pixel_to_token_norm(torch.from_numpy(points_px).float(), grid)
    asked = functional.grid_sample(maps, where[:, None], align_corners=True, padding_mode="border")[:, :, 0]
    asked = functional.normalize(asked.transpose(1, 2), dim=-1)
    centres = grid.centres_px()
    hits = total = 0
    for source, query in enumerate(asked):
        best = torch.stack([(query @ rows.float().T).argmax(dim=1) for rows in collection.descriptors]).numpy()
        right = np.linalg.norm(centres[best] - points_px, axis=-1) <= ALPHA * size
        both = visible & visible[source]
        both[source] = False
        hits, total = hits + int(right[both].sum()), total + int(both.sum())
    return 100 * hits / total


def find_right(
    matches: MatchSet, points_px: npt.NDArray[np.float64], visible: npt.NDArray[np.bool_], size: int
) -> npt.NDArray[np.int8]:
    """(M,) 1 for matches that end within 0.1 of the side of where the true keypoints around them go, 0 for others.

    Where they go is told by rigid moving least squares through the keypoints that both photos show; -1 for matches
    that have none of them around.

    Args:
        matches: In model pixels.
        points_px: (N, K, 2) model pixels.
        visible: (N, K).
        size: Side in pixels.
    """
    right = np.full(len(matches), -1, np.int8)
    for (a, b), start, stop in zip(matches.pairs, matches.offsets[:-1], matches.offsets[1:], strict=True):
        common = visible[a] & visible[b]
        if common.sum() < LEAST_KEYPOINTS or start == stop:
            continue
        ends_a, ends_b = (torch.from_numpy(points_px[photo, common]).float() for photo in (a, b))
        xy_a, xy_b = (torch.from_numpy(xy[start:stop]) for xy in (matches.xy_a, matches.xy_b))
        asked = torch.cdist(xy_a, ends_a).amin(dim=1) <= NEAR * size
        near = (rigid_flow(xy_a, ends_a, ends_b) - xy_b).norm(dim=1) <= ALPHA * size
        right[start:stop] = torch.where(asked, near.long(), -1).numpy()
    return right


def percent(right: npt.NDArray[np.int8]) -> float:
    """Percent of the asked matches that are right; NaN where none was asked."""
    asked = right >= 0
    return 100 * float(right[asked].mean()) if asked.any() else float("nan")


def judge(
    sources: list[PhotoSource], truth: KeypointBenchmark, config: FeatureConfig, cache: Path
) -> tuple[Worth, list[str]]:
    """Prepares one set with one option's settings: what it is worth, and how right matches of each confidence are."""
    collection, matches = extract_collection(sources, config, cache=cache)
    points = np.stack([p.to_model(k.points_image) for p, k in zip(collection.photos, truth.images, strict=True)])
    points = np.nan_to_num(points)
    right, confidence = find_right(matches, points, truth.visible, config.size), matches.confidence()
    worth = Worth(
        nearest_neighbour_pck(collection, points, truth.visible), percent(right), len(matches) / len(matches.pairs)
    )
    bins = []
    for least, below in itertools.pairwise(CONFIDENCES):
        asked = right[(confidence >= least) & (confidence < below)]
        bins.append(f"{percent(asked):.1f} % of {(asked >= 0).sum()}")
    return worth, bins


def main() -> None:
    """Judge every option on every set; what a file of results already has is not judged again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("study-features.json"), help="Kept from run to run.")
    parser.add_argument("--limit", type=int, default=20, help="Photos of each set.")
    parser.add_argument("--option", action="append", choices=list(OPTIONS), help="Only these.")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if not (name := os.environ.get("ASIC_REAL_DATA")):
        sys.exit("ASIC_REAL_DATA: expected the folder of real photos and weights")
    torch.set_num_threads(arguments.threads)
    weights = next((Path(name) / "weights" / "vit_tiny_in1k").glob("*.pth"))
    plain = FeatureConfig(backbone="vit_tiny_p16", weights=weights)
    sets = read_sets(Path(name), arguments.limit)
    found = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    with tempfile.TemporaryDirectory() as cache:
        for option in arguments.option or OPTIONS:
            for title, (sources, truth) in sets.items():
                key = f"{option} | {title} | {arguments.limit}"
                if key not in found:
                    worth, bins = judge(sources, truth, replace(plain, **OPTIONS[option]), Path(cache))
                    found[key] = [worth.pck, worth.precision, worth.matches, bins]
                    arguments.results.write_text(json.dumps(found, indent=1))
    print("| option | " + " | ".join(sets) + " |")
    print("| --- |" + " --- |" * len(sets))
    for option in OPTIONS:
        keys = [f"{option} | {title} | {arguments.limit}" for title in sets]
        if all(key in found for key in keys):
            print(f"| {option} | " + " | ".join(str(Worth(*found[key][:3])) for key in keys) + " |")
    print("\n| confidence | " + " | ".join(sets) + " |")
    print("| --- |" + " --- |" * len(sets))
    columns = [found[f"{next(iter(OPTIONS))} | {title} | {arguments.limit}"][3] for title in sets]
    for (least, below), row in zip(itertools.pairwise(CONFIDENCES), zip(*columns, strict=True), strict=True):
        print(f"| {least:.1f} to {min(below, 1.0):.1f} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
