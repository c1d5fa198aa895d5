from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from asic_features.backbones import BACKBONES, Facet
from asic_features.config import Precision
from asic_features.descriptors import VisionTransformer, token_grid
from asic_features.weights import WeightsError


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network(random_vit: Path) -> VisionTransformer:
    return VisionTransformer(BACKBONES["vit_tiny_p16"], random_vit, stride=16)


def normalised(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255 * 2 - 1


def test_token_grid_by_hand() -> None:
    grid = token_grid(256, 16, 8)
    assert (grid.rows, grid.cols, grid.stride, grid.first) == (31, 31, 8.0, 7.5)
    np.testing.assert_array_equal(grid.centres_px()[:2], [[7.5, 7.5], [15.5, 7.5]])
    assert token_grid(256, 14, 7).rows == 35
    with pytest.raises(ValueError, match="at least one patch of 16 pixels, got 12"):
        token_grid(12, 16, 8)


def test_tokens_equal_timms_own_forward(network: VisionTransformer, images: torch.Tensor) -> None:
    described = network(images, [(11, "token"), (4, "token")])
    own = network.model.forward_intermediates(
        normalised(images), indices=[4, 11], intermediates_only=True, output_fmt="NLC"
    )
    torch.testing.assert_close(described.facets[0], own[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(described.facets[1], own[0], atol=1e-4, rtol=0)
    assert described.cls_attention.numel() == 0


@pytest.mark.parametrize(("precision", "error"), [("bfloat16", 0.02), ("float16", 0.003)])
def test_half_precision_is_computed_in_and_answered_in_single(
    network: VisionTransformer, random_vit: Path, images: torch.Tensor, precision: Precision, error: float
) -> None:
    half = VisionTransformer(BACKBONES["vit_tiny_p16"], random_vit, stride=16, precision=precision)
    seen: list[torch.dtype] = []
    half.model.blocks[3].attn.qkv.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    requests: list[tuple[int, Facet]] = [(8, "key"), (11, "token")]
    found = half(images, requests, with_cls_attention=True)
    expected = network(images, requests, with_cls_attention=True)
    assert seen == [getattr(torch, precision)]
    for got, true in zip((*found.facets, found.cls_attention), (*expected.facets, expected.cls_attention), strict=True):
        assert got.dtype == torch.float32
        assert (got - true).norm() < error * true.norm()
        assert not torch.equal(got, true)


def test_facets_equal_the_blocks_own_projections(network: VisionTransformer, images: torch.Tensor) -> None:
    seen: list[torch.Tensor] = []
    hook = network.model.blocks[8].attn.qkv.register_forward_hook(lambda _, __, output: seen.append(output))
    network.model.forward_features(normalised(images))
    hook.remove()
    query, key, value = seen[0][:, 1:].chunk(3, dim=-1)
    described = network(images, [(8, "key"), (8, "value"), (8, "query")])
    for got, expected in zip(described.facets, (key, value, query), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_cls_attention_equals_the_full_attention(network: VisionTransformer, images: torch.Tensor) -> None:
    attention = network.model.blocks[11].attn
    seen: list[torch.Tensor] = []
    hook = attention.qkv.register_forward_hook(lambda _, __, output: seen.append(output))
    network.model.forward_features(normalised(images))
    hook.remove()
    query, key, _ = seen[0].view(2, 17, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    full = (query @ key.transpose(-2, -1) * attention.scale).softmax(dim=-1)
    expected = full[:, :, 0, 1:].mean(dim=1) * 16
    torch.testing.assert_close(network(images, [], with_cls_attention=True).cls_attention, expected)


def test_later_blocks_do_not_run(network: VisionTransformer, images: torch.Tensor) -> None:
    ran: list[int] = []
    hooks = [
        block.attn.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(network.model.blocks)
    ]
    network(images, [(3, "key")])
    assert ran == [0, 1, 2]
    ran.clear()
    network(images, [(3, "token")])
    assert ran == [0, 1, 2, 3]
    ran.clear()
    network(images, [], with_cls_attention=True)
    assert ran == list(range(11))
    for hook in hooks:
        hook.remove()


def test_stride_below_the_patch_adds_tokens_between(random_vit: Path) -> None:
    backbone = BACKBONES["vit_tiny_p16"]
    images = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    fine = VisionTransformer(backbone, random_vit, stride=8)
    assert fine(images, [(0, "key")]).facets[0].shape == (1, 27 * 27, 192)
    # With the position embedding taken away, a token depends on its patch alone, whatever the stride.
    fine.model.pos_embed.zero_()
    coarse = VisionTransformer(backbone, random_vit, stride=16)
    coarse.model.pos_embed.zero_()
    keys = fine(images, [(0, "key")]).facets[0].view(27, 27, 192)
    torch.testing.assert_close(keys[::2, ::2].reshape(1, 196, 192), coarse(images, [(0, "key")]).facets[0])


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_attention_is_never_materialised(random_vit: Path) -> None:
    network = VisionTransformer(BACKBONES["vit_tiny_p16"], random_vit, stride=1)
    images = torch.zeros(1, 72, 72, 3, dtype=torch.uint8)
    with LargestTensor() as largest:
        tokens = network(images, [(1, "key")], with_cls_attention=True).facets[0].shape[1]
    assert tokens == 57 * 57
    # The widest tensor is the hidden layer of a block: 4 x 192 values a token; attention would be 3 x 3249 a token.
    assert largest.elements <= 4 * 192 * (tokens + 1)


@pytest.mark.parametrize("name", ["dinov3_vits16", "dinov2_vits14_reg4"])
def test_networks_with_registers_equal_timms_own(name: str, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    backbone = BACKBONES[name]
    torch.manual_seed(0)
    model = timm.create_model(backbone.timm_name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    network = VisionTransformer(backbone, tmp_path / "w.safetensors", stride=backbone.patch)
    side = 4 * backbone.patch
    images = torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor(backbone.mean).view(3, 1, 1), torch.tensor(backbone.std).view(3, 1, 1)
    pixels = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
    own = model.forward_intermediates(pixels, indices=[11], intermediates_only=True, output_fmt="NLC")
    described = network(images, [(11, "token"), (11, "key")], with_cls_attention=True)
    torch.testing.assert_close(described.facets[0], own[0], atol=1e-4, rtol=0)
    assert described.facets[1].shape == (1, 16, 384)

    # The full attention of the last block, as that block itself makes it.
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    attention = model.blocks[11].attn
    attention.fused_attn = False
    attention.attn_drop.register_forward_hook(lambda _, inputs, __: seen.append(inputs))
    model.forward_features(pixels)
    expected = seen[0][0][:, :, 0, 5:].mean(dim=1) * 16
    torch.testing.assert_close(described.cls_attention, expected, atol=1e-4, rtol=1e-4)
    odd = torch.zeros(1, side + 5, side + 5, 3, dtype=torch.uint8)
    assert network(odd, [(0, "key")]).facets[0].shape == (1, 16, 384)


def test_noise_directions_hold_what_noise_images_share(random_vit: Path) -> None:
    network = VisionTransformer(BACKBONES["vit_tiny_p16"], random_vit, stride=16)
    # Tokens that mostly say in which row and column they are.
    places = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 14), torch.linspace(-1, 1, 14), indexing="ij"))
    axes = torch.randn(2, 192, generator=torch.Generator().manual_seed(0))
    network.model.pos_embed[0, 1:] = 5 * places.flatten(1).T @ axes
    directions = network.noise_directions(64, (8, "key"), count=8)
    torch.testing.assert_close(directions.T @ directions, torch.eye(8), atol=1e-5, rtol=0)
    other = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))
    tokens = torch.nn.functional.normalize(network(other, [(8, "key")]).facets[0].mean(dim=0), dim=-1)
    left = tokens - tokens @ directions @ directions.T
    assert left.norm() < 0.5 * tokens.norm()


def test_wrong_requests(network: VisionTransformer, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected a block 0 to 11 and a facet, got 12 and 'key'"):
        network(images, [(12, "key")])
    with pytest.raises(ValueError, match="got 3 and 'keys'"):
        network(images, [(3, "keys")])  # type: ignore[list-item]


def test_networks_without_cls_token_say_so(
    network: VisionTransformer, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network.model, "cls_token", None)
    with pytest.raises(ValueError, match="vit_tiny_p16 has no CLS token"):
        network(images, [], with_cls_attention=True)


def test_pth_files_of_tensors_load(random_vit: Path, images: torch.Tensor, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(random_vit)
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pth")
    backbone = BACKBONES["vit_tiny_p16"]
    one = VisionTransformer(backbone, tmp_path / "w.pth", stride=16)(images, [(5, "key")]).facets[0]
    other = VisionTransformer(backbone, random_vit, stride=16)(images, [(5, "key")]).facets[0]
    torch.testing.assert_close(one, other)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"weight": Malicious(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: expected a state dictionary of tensors, got something else"):
        VisionTransformer(BACKBONES["vit_tiny_p16"], tmp_path / "w.pth", stride=16)
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused(random_vit: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not fit dino_vits8: size mismatch for .* \(and \d+ more\)$") as told:
        VisionTransformer(BACKBONES["dino_vits8"], random_vit, stride=8)
    assert "\n" not in str(told.value)
    torch.save({"pos_embed": torch.zeros(1, 197, 192)}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match="it lacks blocks"):
        VisionTransformer(BACKBONES["vit_tiny_p16"], tmp_path / "part.pth", stride=16)
    torch.save({5: torch.zeros(1)}, tmp_path / "numbers.pth")
    with pytest.raises(WeightsError, match="got other values in one"):
        VisionTransformer(BACKBONES["vit_tiny_p16"], tmp_path / "numbers.pth", stride=16)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="expected a state dictionary of tensors, got list"):
        VisionTransformer(BACKBONES["vit_tiny_p16"], tmp_path / "list.pth", stride=16)
    (tmp_path / "noise.safetensors").write_bytes(bytes(range(200)))
    with pytest.raises(WeightsError, match="expected a state dictionary of tensors, got something else"):
        VisionTransformer(BACKBONES["vit_tiny_p16"], tmp_path / "noise.safetensors", stride=16)


def test_perceptrons_widen_some_tokens_at_a_time(random_vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = VisionTransformer(BACKBONES["vit_tiny_p16"], random_vit, stride=8)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = network(images, [(11, "token")]).facets[0]
    widths = []
    network.model.blocks[0].mlp.fc1.register_forward_hook(lambda _, __, out: widths.append(out.shape[1]))
    monkeypatch.setattr("asic_features.descriptors._WIDENED_TOKENS", 20)
    torch.testing.assert_close(network(images, [(11, "token")]).facets[0], whole, atol=1e-5, rtol=1e-4)
    assert widths == [20, 20, 10]
