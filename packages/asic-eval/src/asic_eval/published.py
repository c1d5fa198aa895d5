"""Published scores, each with its protocol and source, so that one's own row can stand beside them.

Rows of different protocols are not comparable: see the package's README.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """One published number.

    Args:
        method: The method's name.
        benchmark: What it was scored on.
        metric: `PCK@0.10`, `2-cycle PCK@0.10`, ...
        value: Per cent, as published.
        setting: How it was scored, as far as the source says.
        source: Where it was published.
        std: Standard deviation over seeds in points, where published.
    """

    method: str
    benchmark: str
    metric: str
    value: float
    setting: str
    source: str
    std: float | None = None


_JOINT = "target box, per point in a category, mean of 18; 256 px"
_MIRROR_AWARE = _JOINT + "; mirror-aware: left and right swapped where an image was flipped"
_CUB = "image side of the 256 px crop, first 3 classes"
_POINT = "target box, per point"
_IMAGE = "target box, per image"
_FASTJAM = "FastJAM, NeurIPS 2025, comparison table"


def _rows(
    benchmark: str, metric: str, setting: str, scores: Mapping[str, float], source: str | None = None
) -> list[PublishedRow]:
    return [
        PublishedRow(method, benchmark, metric, value, setting, source or f"as reported for {method}")
        for method, value in scores.items()
    ]


PUBLISHED: tuple[PublishedRow, ...] = (
    *_rows(
        "SPair-71k",
        "PCK@0.10",
        _JOINT,
        {
            "DINO ViT-S/8 nearest neighbour": 33.3,
            "DINO ViT-S/8 nearest neighbour + moving least squares": 31.1,
            "ASIC (paper)": 36.9,
            "SpaceJAM": 37.8,
        },
        "ASIC, ICCV 2023; SpaceJAM, CVPR 2025",
    ),
    PublishedRow("ASIC (code)", "SPair-71k", "PCK@0.10", 36.5, _JOINT, "ASIC, ICCV 2023, released code, 3 seeds", 1.06),
    *_rows(
        "SPair-71k",
        "PCK@0.10",
        _MIRROR_AWARE,
        {"FastJAM": 53.0, "homographies on RoMa matches": 48.3},
        "FastJAM, NeurIPS 2025",
    ),
    *_rows(
        "CUB-200-2011",
        "PCK@0.10",
        _CUB,
        {
            "DINO ViT-S/8 nearest neighbour": 68.3,
            "DINO ViT-S/8 nearest neighbour + moving least squares": 67.0,
            "ASIC (paper)": 75.9,
            "SpaceJAM": 69.6,
            "FastJAM": 75.3,
            "homographies on RoMa matches": 74.1,
        },
        _FASTJAM,
    ),
    PublishedRow("Neural Congealing", "CUB-200-2011", "PCK@0.10", 63.6, "14 subsets", "Neural Congealing, CVPR 2023"),
    *_rows(
        "SPair-71k",
        "PCK@0.10",
        _POINT,
        {
            "DINOv2-B": 55.6,
            "SD": 57.2,
            "DIFT": 57.7,
            "SD+DINOv2": 64.0,
            "DiTF-Flux": 67.1,
            "SphericalMaps": 67.8,
            "GeoAware (zero-shot)": 69.6,
            "DIY-SC": 74.4,
        },
    ),
    *_rows(
        "SPair-71k",
        "PCK@0.10",
        _IMAGE,
        {
            "DINOv3-B": 46.8,
            "DINOv3-B, positional bias removed": 52.6,
            "DIFT": 52.9,
            "DINOv2-B": 53.9,
            "SD+DINO": 59.9,
            "GeoAware (zero-shot)": 64.2,
            "DIY-SC": 71.6,
            "3D-SC": 73.0,
            "GeoAware (supervised)": 85.6,
            "MARCO (supervised)": 87.2,
        },
    ),
    *_rows(
        "SPair-71k",
        "PCK@0.10",
        "plain nearest neighbour, blocks counted from 0",
        {
            "DINOv2-B block 11 token": 55.7,
            "DINOv2-B block 11 key": 42.6,
            "DINOv2-B block 9 token": 50.8,
            "DINOv2-B block 9 key": 25.2,
            "DINOv2-S block 11 token": 52.7,
            "DINOv2-S block 9 key": 12.7,
            "DINO ViT-S/8 block 9 key": 31.4,
        },
        "published studies of layer and facet",
    ),
    *_rows("PF-PASCAL", "PCK@0.05", "image side, per image", {"DINOv2": 63.0, "SD+DINO": 72.7}),
    *_rows("PF-PASCAL", "PCK@0.10", "image side, per image", {"DINOv2": 79.2, "SD+DINO": 82.7}),
    *_rows("PF-PASCAL", "PCK@0.15", "image side, per image", {"DINOv2": 85.1, "SD+DINO": 91.6}),
    *_rows("PF-WILLOW", "PCK@0.10", "length as each paper has it", {"DINOv2": 86.1, "DIFT": 92.9, "MATCHA": 97.0}),
)

# Category: PCK@0.10, its standard deviation over 3 seeds, 2-cycle and 3-cycle PCK@0.10; per cent.
_ASIC_CODE: Mapping[str, tuple[float, float, float, float]] = {
    "aeroplane": (57.9, 0.48, 68.4, 62.1),
    "bicycle": (21.6, 0.31, 53.9, 40.0),
    "bird": (76.6, 6.23, 80.7, 78.0),
    "boat": (20.5, 0.35, 49.4, 35.7),
    "bottle": (37.2, 0.71, 57.4, 47.0),
    "bus": (28.1, 0.92, 52.5, 38.5),
    "car": (25.3, 0.21, 50.3, 36.5),
    "cat": (53.1, 0.34, 65.6, 61.5),
    "chair": (20.6, 1.11, 47.6, 33.9),
    "cow": (44.2, 1.08, 57.2, 50.4),
    "dog": (46.3, 1.11, 62.5, 53.6),
    "horse": (36.9, 1.08, 55.8, 47.9),
    "motorbike": (26.5, 0.66, 42.3, 35.7),
    "person": (44.9, 3.07, 60.8, 52.7),
    "pottedplant": (16.5, 0.49, 36.4, 26.9),
    "sheep": (24.6, 0.64, 46.5, 36.8),
    "train": (49.1, 0.84, 55.2, 51.2),
    "tvmonitor": (27.2, 0.43, 44.8, 33.9),
    "average": (36.5, 1.06, 54.8, 45.7),
}
_ASIC_SETTING = "protocol asic-published: last pair's keypoints only; cycle lengths misplaced, so no clean target"


def asic_per_category() -> tuple[PublishedRow, ...]:
    """ASIC's released code on the 18 categories of SPair-71k and their average, DINO ViT-S/8, mean of 3 seeds."""
    source = "ASIC, ICCV 2023, released code, 3 seeds"
    rows = []
    for category, (pck, std, two, three) in _ASIC_CODE.items():
        name = f"SPair-71k/{category}"
        rows.append(PublishedRow("ASIC (code)", name, "PCK@0.10", pck, _ASIC_SETTING, source, std))
        rows.append(PublishedRow("ASIC (code)", name, "2-cycle PCK@0.10", two, _ASIC_SETTING, source))
        rows.append(PublishedRow("ASIC (code)", name, "3-cycle PCK@0.10", three, _ASIC_SETTING, source))
    return tuple(rows)
