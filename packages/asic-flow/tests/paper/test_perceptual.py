from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from asic_flow.paper.checkpoint import CheckpointError
from asic_flow.paper.config import LossWeights, PaperConfig
from asic_flow.paper.perceptual import PerceptualDistance, PerceptualWeightsError
from asic_flow.paper.training import Training

if TYPE_CHECKING:
    from conftest import DrawnCollection

NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (4, 4, 6, 6, 8, 8, 8, 8, 8, 8, 8, 8, 8)
CONFIG = PaperConfig(
    steps=4, photos_per_step=4, side=32, width=1 / 16, components=0, canonical_side=16, restarts=0, evaluate_every=4
)


def state() -> dict[str, torch.Tensor]:
    """What torchvision's VGG16 has, of fewer channels."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"classifier.0.weight": torch.zeros(2, 2)}
    for number, inner, outer in zip(NUMBERS, (3, *WIDTHS), WIDTHS, strict=False):
        tensors[f"features.{number}.weight"] = torch.randn(outer, inner, 3, 3, generator=generator) * 0.3
        tensors[f"features.{number}.bias"] = torch.zeros(outer)
    return tensors


@pytest.fixture
def vgg(tmp_path: Path) -> Path:
    path = tmp_path / "vgg16.pth"
    torch.save(state(), path)
    return path


def heads(path: Path, value: float) -> Path:
    torch.save({f"lin{n}.model.1.weight": torch.full((1, w, 1, 1), value) for n, w in enumerate((4, 6, 8, 8, 8))}, path)
    return path


def test_a_distance_on_paper(vgg: Path, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plain = PerceptualDistance.read(vgg)
    features = plain.features(images)
    assert [tuple(block.shape[1:]) for block in features] == [
        (4, 32, 32), (6, 16, 16), (8, 8, 8), (8, 4, 4), (8, 2, 2)
    ]  # fmt: skip
    assert plain.between(features, features).tolist() == [0.0, 0.0]
    swapped = [block.flip(0) for block in features]
    expected = sum((a[0] - b[0]).square().sum(0).mean() for a, b in zip(features, swapped, strict=True))
    torch.testing.assert_close(plain.between(features, swapped)[0], torch.as_tensor(expected))
    halved = PerceptualDistance.read(vgg, heads(tmp_path / "vgg.pth", 0.5))
    torch.testing.assert_close(halved.between(features, swapped), plain.between(features, swapped) / 2)
    first = torch.relu(torch.nn.functional.conv2d(
        ((images + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        / torch.tensor([0.229, 0.224, 0.225])[:, None, None], state()["features.0.weight"], padding=1,
    ))  # fmt: skip
    first = torch.relu(torch.nn.functional.conv2d(first, state()["features.2.weight"], padding=1))
    torch.testing.assert_close(features[0], torch.nn.functional.normalize(first, dim=1, eps=1e-6))


def test_either_format_is_read(vgg: Path, tmp_path: Path) -> None:
    save_file(state(), tmp_path / "vgg16.safetensors")
    images = torch.rand(1, 3, 32, 32)
    one, other = (PerceptualDistance.read(path).features(images)[-1] for path in (vgg, tmp_path / "vgg16.safetensors"))
    assert torch.equal(one, other)


class _Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_files_that_are_not_the_weights_are_told(vgg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "JPEG")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for content, kind in (
        (b"", "an empty file"),
        (b"not weights", "something else"),
        (picture.getvalue(), "something else"),
        (pointer, "a pointer of Git LFS: fetch the file itself"),
    ):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(
            PerceptualWeightsError, match=rf"x\.pth: expected a state dictionary of tensors, got {kind}"
        ):
            PerceptualDistance.read(tmp_path / "x.pth")
    (tmp_path / "x.safetensors").write_bytes(b"{}")
    with pytest.raises(PerceptualWeightsError, match=r"x\.safetensors: expected a state dictionary"):
        PerceptualDistance.read(tmp_path / "x.safetensors")
    for document, message in (
        ([1], "got list"),
        ({}, r"expected a tensor 'features.0.weight' of anyx3x3x3, got none"),
        ({**state(), "features.7.weight": torch.zeros(6, 5, 3, 3)}, r"'features.7.weight': expected anyx6x3x3"),
        (_Hostile(), "expected a state dictionary"),
    ):
        torch.save(document, tmp_path / "x.pth")
        with pytest.raises(PerceptualWeightsError, match=message):
            PerceptualDistance.read(tmp_path / "x.pth")
    assert capsys.readouterr().out == ""
    with pytest.raises(PerceptualWeightsError, match="No such file"):
        PerceptualDistance.read(tmp_path / "absent.pth")
    with pytest.raises(PerceptualWeightsError, match=r"expected a tensor 'lin0.model.1.weight' of 1x4x1x1"):
        PerceptualDistance.read(vgg, vgg)


def test_it_paints_the_canonical_image(drawn: DrawnCollection, vgg: Path, tmp_path: Path) -> None:
    none = {field.name: 0.0 for field in dataclasses.fields(LossWeights)}
    config = dataclasses.replace(CONFIG, weights=LossWeights(**{**none, "reconstruction": 1.0}))
    distance = PerceptualDistance.read(vgg)
    (tmp_path / "run").mkdir()
    made = Training(drawn.collection, drawn.matches, config, perceptual=distance, folder=tmp_path / "run")
    before = made.model.canonical.detach().clone()
    losses = [made.advance()["reconstruction"].item() for _ in range(4)]
    assert losses[-1] < losses[0]
    assert not torch.equal(made.model.canonical[:3], before[:3])
    assert torch.equal(made.model.canonical[3], before[3])
    made.save()
    with pytest.raises(CheckpointError, match=r"made with other settings \(perceptual\)"):
        Training(drawn.collection, drawn.matches, config, folder=tmp_path / "run")
