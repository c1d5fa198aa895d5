from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = os.environ.get("ASIC_REAL_DATA")
    if not root:
        pytest.skip("ASIC_REAL_DATA names no folder of real photos and weights")
    return Path(root)


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    """A smooth picture with a disc, 40 rows by 60 columns."""
    y, x = np.mgrid[:40, :60]
    pixels = np.stack([x * 4, y * 6, 120 + 0 * x], axis=-1)
    pixels[(x - 30) ** 2 + (y - 20) ** 2 < 100] = (250, 30, 10)
    return pixels.astype(np.uint8)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, pixels: npt.NDArray[np.uint8], **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return path

    return write


@pytest.fixture(scope="session")
def random_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights file of a ViT-Tiny that was never trained."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(model.state_dict(), path)
    return path
