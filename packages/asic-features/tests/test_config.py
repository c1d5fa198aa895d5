from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asic_features.config import FeatureConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 16),
        ("size", 5000),
        ("fit", "zoom"),
        ("facet", "keys"),
        ("facet", ("key", "keys")),
        ("facet", ("key", "key")),
        ("block", (3, 3)),
        ("block", ()),
        ("stride", 0),
        ("masks", "magic"),
        ("mask_weights", Path("n.onnx")),
        ("grabcut", True),
        ("precision", "float64"),
        ("candidates", "some"),
        ("components", 0),
        ("least_support", -1),
        ("suppress_px", -2.0),
        ("suppress_px", float("nan")),
        ("suppress_px", float("inf")),
        ("neighbours", 0),
        ("parts", 0),
        ("parts", 256),
        ("part_stages", 4),
        ("batch", 0),
        ("workers", 0),
    ],
)
def test_wrong_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected .*got"):
        FeatureConfig(**({"masks": "none"} if field == "grabcut" else {}) | {field: value})


def test_backbones_own_settings_are_the_defaults() -> None:
    found = FeatureConfig(backbone="dino_vits8").resolve()
    assert (found.backbone.name, found.requests, found.stride) == ("dino_vits8", ((9, "key"),), 4)
    assert FeatureConfig(backbone="dinov2_vitl14").resolve().requests == ((23, "token"),)
    given = FeatureConfig(backbone="dino_vits8", block=11, facet="token", stride=2, masks=Path("m")).resolve()
    assert (given.requests, given.stride) == (((11, "token"),), 2)


def test_several_blocks_and_facets_are_all_combined() -> None:
    found = FeatureConfig(backbone="dino_vits8", block=(11, 9), facet=("key", "token")).resolve()
    assert found.requests == ((11, "key"), (11, "token"), (9, "key"), (9, "token"))
    assert FeatureConfig(backbone="dino_vits8", block=(8, 9)).resolve().requests == ((8, "key"), (9, "key"))
    with pytest.raises(ValueError, match="blocks 0 to 11, got 12"):
        FeatureConfig(backbone="dino_vits8", block=(3, 12)).resolve()


def test_settings_a_backbone_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="dino_vits8 has blocks 0 to 11, got 12"):
        FeatureConfig(backbone="dino_vits8", block=12).resolve()
    with pytest.raises(ValueError, match="block and facet belong to networks"):
        FeatureConfig(backbone="gradients", facet="key").resolve()
    with pytest.raises(ValueError, match="components are of a network"):
        FeatureConfig(backbone="gradients", components=8).resolve()
    with pytest.raises(ValueError, match="stride: expected at most the size"):
        FeatureConfig(stride=300).resolve()


def test_photos_at_once_go_by_the_device() -> None:
    assert FeatureConfig().photos_at_once == 1
    assert FeatureConfig(device="cuda:1").photos_at_once == 8
    assert FeatureConfig(device="cuda", batch=3).photos_at_once == 3
