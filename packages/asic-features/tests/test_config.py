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
        ("stride", 0),
        ("masks", "magic"),
        ("candidates", "some"),
        ("components", 0),
        ("least_support", -1),
        ("suppress_px", -2.0),
        ("suppress_px", float("nan")),
        ("batch", 0),
    ],
)
def test_wrong_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected .*got"):
        FeatureConfig(**{field: value})


def test_backbones_own_settings_are_the_defaults() -> None:
    backbone, block, facet, stride = FeatureConfig(backbone="dino_vits8").resolve()
    assert (backbone.name, block, facet, stride) == ("dino_vits8", 9, "key", 4)
    assert FeatureConfig(backbone="dinov2_vitl14").resolve()[1:3] == (23, "token")
    given = FeatureConfig(backbone="dino_vits8", block=11, facet="token", stride=2, masks=Path("m"))
    assert given.resolve()[1:] == (11, "token", 2)


def test_settings_a_backbone_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="dino_vits8 has blocks 0 to 11, got 12"):
        FeatureConfig(backbone="dino_vits8", block=12).resolve()
    with pytest.raises(ValueError, match="block and facet belong to networks"):
        FeatureConfig(backbone="gradients", facet="key").resolve()
    with pytest.raises(ValueError, match="components are of a network"):
        FeatureConfig(backbone="gradients", components=8).resolve()
    with pytest.raises(ValueError, match="stride: expected at most the size"):
        FeatureConfig(stride=300).resolve()
