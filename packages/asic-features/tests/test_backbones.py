from __future__ import annotations

import re
import subprocess
import sys

import pytest

from asic_features.backbones import BACKBONES, WEIGHT_FREE, find_backbone


def test_short_names_import_neither_torch_nor_timm() -> None:
    program = (
        "import sys, asic_features.config, asic_features.weights as w\n"
        "asic_features.config.FeatureConfig(backbone='dino_vits8').resolve()\n"
        "try: w.locate_weights('dino_vits8')\n"
        "except w.WeightsError: pass\n"
        "print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    )
    environment = {"HF_HOME": "nowhere"}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert "torch" not in found
    assert "timm" not in found


def test_names_are_timms_own() -> None:
    import timm

    for backbone in BACKBONES.values():
        if backbone.needs_weights:
            config = timm.get_pretrained_cfg(backbone.timm_name)
            assert config is not None, backbone.name
            assert config.hf_hub_id == f"timm/{backbone.timm_name}"
            assert config.license == backbone.licence
            assert (tuple(config.mean), tuple(config.std)) == (backbone.mean, backbone.std)


def test_patch_and_depth_are_the_networks_own() -> None:
    import timm
    import torch

    for name in ("dino_vits8", "dinov2_vits14_reg4", "dinov3_vits16", "vit_tiny_p16"):
        backbone = BACKBONES[name]
        with torch.device("meta"):
            model = timm.create_model(backbone.timm_name, pretrained=False)
        assert model.patch_embed.proj.kernel_size == (backbone.patch, backbone.patch)
        assert len(model.blocks) == backbone.depth


def test_any_vit_of_timm_is_known() -> None:
    backbone = find_backbone("vit_small_patch32_224.augreg_in21k")
    assert (backbone.patch, backbone.depth, backbone.block, backbone.facet) == (32, 12, 8, "key")
    assert backbone.timm_name == "vit_small_patch32_224.augreg_in21k"
    assert find_backbone("vit_tiny_patch16_224").timm_name == BACKBONES["vit_tiny_p16"].timm_name


@pytest.mark.parametrize("name", ["resnet50", "dino_vits9", "", "hf-hub:someone/something", "../x", "vit_nope.tag"])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown backbone"):
        find_backbone(name)


def test_a_slip_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"did you mean dino_vits16"):
        find_backbone("dino_vits_16")


def test_pins_are_commits_and_checksums() -> None:
    pins = [(backbone.revision, backbone.sha256) for backbone in BACKBONES.values() if backbone.revision]
    assert len(set(pins)) == len(pins) == 7
    for revision, sha256 in pins:
        assert re.fullmatch("[0-9a-f]{40}", str(revision))
        assert re.fullmatch("[0-9a-f]{64}", str(sha256))


def test_weight_free_choice() -> None:
    assert not BACKBONES[WEIGHT_FREE].needs_weights
