from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asic_features.descriptors import token_grid
from asic_features.gradients import describe_gradients, mask_pose

GRID = token_grid(128, 8, 8)


def ellipse(
    angle: float, centre: tuple[float, float] = (63.5, 63.5), radii: tuple[float, float] = (40, 16)
) -> torch.Tensor:
    y, x = np.mgrid[:128, :128]
    u = (x - centre[0]) * math.cos(angle) + (y - centre[1]) * math.sin(angle)
    v = -(x - centre[0]) * math.sin(angle) + (y - centre[1]) * math.cos(angle)
    return torch.from_numpy(((u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1).astype(np.uint8) * 255)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    y, x = np.mgrid[:128, :128] / 10
    pixels = np.stack([np.sin(x + y * y / 9), np.cos(x * y / 8), np.sin(2 * x - y)], axis=-1)
    return torch.from_numpy((pixels * 100 + 127).astype(np.uint8))


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2, math.pi / 2])
def test_pose_of_an_ellipse(angle: float) -> None:
    pose = mask_pose(ellipse(angle)[None])
    assert math.sin(float(pose.angle) - angle) == pytest.approx(0, abs=0.01)
    # Second moments of an ellipse are a quarter of its squared radii.
    assert float(pose.extent) == pytest.approx(math.hypot(40, 16) / 2 / 128, rel=0.02)


def test_round_and_empty_masks_have_no_axis() -> None:
    pose = mask_pose(torch.stack([ellipse(0.7, radii=(30, 30)), torch.zeros(128, 128, dtype=torch.uint8)]))
    assert pose.angle.tolist() == [0, 0]
    assert float(pose.extent[1]) == 0.25


def test_unit_length_everywhere(photo: torch.Tensor) -> None:
    blank = torch.zeros(128, 128, 3, dtype=torch.uint8)
    masks = torch.stack([ellipse(0.3), torch.full((128, 128), 255, dtype=torch.uint8)])
    described = describe_gradients(torch.stack([photo, blank]), masks, GRID)
    assert described.shape[:2] == (2, 256)
    torch.testing.assert_close(described.norm(dim=-1), torch.ones(2, 256))


def test_mirrored_photos_are_described_alike(photo: torch.Tensor) -> None:
    mask = ellipse(0.4)
    here = describe_gradients(photo[None], mask[None], GRID)[0].view(16, 16, -1)
    there = describe_gradients(photo.flip(1)[None], mask.flip(1)[None], GRID)[0].view(16, 16, -1)
    torch.testing.assert_close(there.flip(1), here, atol=2e-3, rtol=0)


def test_turned_photos_are_described_alike(photo: torch.Tensor) -> None:
    mask = ellipse(0.4, radii=(40, 16))
    here = describe_gradients(photo[None], mask[None], GRID)[0].view(16, 16, -1)
    there = describe_gradients(photo.rot90()[None], mask.rot90()[None], GRID)[0].view(16, 16, -1)
    similarity = (there.rot90(-1) * here).sum(dim=-1)
    assert similarity[4:12, 4:12].min() > 0.95


def test_background_does_not_count(photo: torch.Tensor) -> None:
    mask = ellipse(0.0)
    other = photo.clone()
    other[:30] = 255 - other[:30]
    here, there = (describe_gradients(p[None], mask[None], GRID)[0] for p in (photo, other))
    similarity = (here * there).sum(dim=-1).view(16, 16)
    assert similarity[7:9, 4:12].min() > 0.999
