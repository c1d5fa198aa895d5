from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from asic_features.extras import ExtraError
from asic_features.grabcut import check_grabcut, tidy_masks


@pytest.fixture
def disc() -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc on green, as one photo, and where it is."""
    y, x = np.mgrid[:96, :96]
    there = (x - 50) ** 2 + (y - 46) ** 2 < 28**2
    pixels = np.where(there[..., None], (200, 40, 40), (40, 140, 60))
    pixels = pixels + np.random.default_rng(0).normal(0, 10, pixels.shape)
    return torch.from_numpy(np.clip(pixels, 0, 255).astype(np.uint8))[None], torch.from_numpy(there)[None]


def test_a_loose_mask_is_drawn_along_the_edge(disc: tuple[torch.Tensor, torch.Tensor]) -> None:
    pytest.importorskip("cv2", reason="opencv cuts")
    image, there = disc
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    loose = (255 * torch.sigmoid(((x - 44) ** 2 + (y - 52) ** 2 - 30**2) / -400)).to(torch.uint8)[None]

    def overlap(masks: torch.Tensor) -> float:
        found = masks >= 128
        return float((found & there).sum() / (found | there).sum())

    tidied = tidy_masks(image, loose)
    assert overlap(loose) < 0.8
    assert overlap(tidied) > 0.98
    assert torch.equal(tidied, tidy_masks(image, loose))
    same = (tidied >= 128) == (loose >= 128)
    assert torch.equal(tidied[same], loose[same])


def test_nothing_to_decide(disc: tuple[torch.Tensor, torch.Tensor]) -> None:
    pytest.importorskip("cv2", reason="opencv cuts")
    image, there = disc
    for mask in (torch.zeros(1, 96, 96), torch.full((1, 96, 96), 255), 100 * there, there * 255):
        assert torch.equal(tidy_masks(image, mask.to(torch.uint8)), mask.to(torch.uint8))


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ExtraError, match=r"pip install 'asic-features\[grabcut\]'"):
        check_grabcut()
