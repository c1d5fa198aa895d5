"""What each source of masks is worth on real photos, as a table: `python benchmarks/study_masks.py`.

`ASIC_REAL_DATA` names a folder that holds `CUB_200_2011/`, `stanford_dogs/` and `weights/vit_tiny_in1k/`. The dogs have
true masks; of the birds the truth is points, so the share of them on the foreground stands beside the share of the
square that is foreground.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study_features import read_sets

from asic_eval import KeypointBenchmark, mask_iou
from asic_eval.benchmarks.coco import read_stanford_dogs_masks
from asic_features.config import FeatureConfig
from asic_features.extract import extract_collection
from asic_features.images import PhotoSource, fit_photo, render_mask
from asic_flow.collection import FOREGROUND_THRESHOLD, ImageCollection

DOGS = 25
OPTIONS: dict[str, dict[str, Any]] = {
    "everything (`none`)": {"masks": "none"},
    "`saliency`": {"masks": "saliency"},
    "`saliency`, `--grabcut`": {"masks": "saliency", "grabcut": True},
    "`cosegment` (default)": {},
    "`cosegment`, `--grabcut`": {"grabcut": True},
}
Judge = Callable[[ImageCollection], str]


def overlap(sources: list[PhotoSource], root: Path) -> Judge:
    """Mean intersection over union with the dogs' true masks, as the model sees them."""
    true = dict(read_stanford_dogs_masks(root))

    def judge(collection: ImageCollection) -> str:
        placed = [
            render_mask(true[s.name].astype(np.uint8) * 255, fit_photo(true[s.name].shape, 256, box_xyxy=s.box_xyxy))
            for s in sources
        ]
        truth = np.stack(placed) >= FOREGROUND_THRESHOLD
        return f"{mask_iou(collection.foreground().numpy(), truth).per_image():.2f}"

    return judge


def covered(truth: KeypointBenchmark) -> Judge:
    """Percent of the visible keypoints that are foreground, and percent of the square that is."""

    def judge(collection: ImageCollection) -> str:
        foreground = collection.foreground().numpy()
        hits = []
        for photo, mask, keypoints in zip(collection.photos, foreground, truth.images, strict=True):
            points = photo.to_model(keypoints.points_image[keypoints.visible])
            x, y = np.rint(points).astype(int).clip(0, mask.shape[0] - 1).T
            hits.append(mask[y, x])
        return f"{100 * np.concatenate(hits).mean():.0f} on {100 * foreground.mean():.0f}"

    return judge


def main() -> None:
    """Judge every source of masks on every set; what a file of results already has is not judged again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("study-masks.json"), help="Kept from run to run.")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if not (name := os.environ.get("ASIC_REAL_DATA")):
        sys.exit("ASIC_REAL_DATA: expected the folder of real photos and weights")
    torch.set_num_threads(arguments.threads)
    data = Path(name)
    weights = next((data / "weights" / "vit_tiny_in1k").glob("*.pth"))
    sets: dict[str, tuple[list[PhotoSource], Judge]] = {}
    dogs = read_sets(data, DOGS).pop("dogs")[0]
    for title, sources in (("dogs", dogs), ("dogs, whole", [replace(source, box_xyxy=None) for source in dogs])):
        sets[title] = (sources, overlap(sources, data / "stanford_dogs"))
    for title, (sources, truth) in read_sets(data, 20).items():
        if title != "dogs":
            sets[title] = (sources, covered(truth))
    networks = {"ViT-Tiny": FeatureConfig(backbone="vit_tiny_p16", weights=weights), "weight-free": FeatureConfig()}
    found = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    print("| descriptors | masks | " + " | ".join(sets) + " |")
    print("| --- | --- |" + " --- |" * len(sets))
    with tempfile.TemporaryDirectory() as cache:
        for network, config in networks.items():
            for option, changes in OPTIONS.items():
                row = []
                for title, (sources, judge) in sets.items():
                    key = f"{network} | {option} | {title}"
                    if key not in found:
                        found[key] = judge(
                            extract_collection(sources, replace(config, **changes), cache=Path(cache))[0]
                        )
                        arguments.results.write_text(json.dumps(found, indent=1))
                    row.append(found[key])
                print(f"| {network} | {option} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
