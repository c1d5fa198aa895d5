from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from asic_features.descriptors import token_grid
from asic_features.parts import discover_parts

SIZE = 64
GRID = token_grid(SIZE, 8, 4)


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four photos of an object: pictures, descriptors, masks, and truth (0 ground, 1 left half, 2 right half)."""
    generator = np.random.default_rng(0)
    truth = np.zeros((4, SIZE, SIZE), dtype=np.int64)
    for photo, (x, y) in enumerate([(14, 16), (20, 22), (10, 26), (18, 12)]):
        truth[photo, y : y + 24, x : x + 16] = 1
        truth[photo, y : y + 24, x + 16 : x + 34] = 2
    colours = np.array([(90, 120, 90), (200, 60, 60), (60, 60, 200)])
    images = np.clip(colours[truth] + generator.normal(0, 5, (4, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    centres = GRID.centres_px().astype(int)
    kinds = truth[:, centres[:, 1], centres[:, 0]]
    directions = generator.normal(size=(3, 12))
    descriptors = directions[kinds] + generator.normal(0, 0.3, (*kinds.shape, 12))
    return (
        torch.from_numpy(images),
        functional.normalize(torch.from_numpy(descriptors).float(), dim=-1),
        torch.from_numpy((truth > 0).astype(np.uint8) * 255),
        torch.from_numpy(truth),
    )


def test_two_halves_are_two_parts(scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    images, descriptors, masks, truth = scene
    found = discover_parts(images, descriptors, masks, GRID, count=2).long()
    left = int(found[truth == 1].mode().values)
    assert {left, int(found[truth == 2].mode().values)} == {1, 2}
    renamed = torch.tensor([0, 1, 2] if left == 1 else [0, 2, 1])[found]
    for part in range(3):
        both = ((renamed == part) & (truth == part)).sum()
        assert both / ((renamed == part) | (truth == part)).sum() > 0.85


def test_no_part_where_no_object_is(scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    images, descriptors, masks, _ = scene
    masks = masks.clone()
    masks[2] = 0
    found = discover_parts(images, descriptors, masks, GRID, count=2)
    assert found[2].max() == 0
    assert found[0].max() == 2


def test_the_same_seed_gives_the_same_parts(
    scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    images, descriptors, masks, _ = scene
    one, two = (discover_parts(images, descriptors, masks, GRID, count=2, seed=5) for _ in range(2))
    assert torch.equal(one, two)


def test_more_parts_than_tokens(scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    images, descriptors, masks, _ = scene
    with pytest.raises(ValueError, match="expected at least 4 foreground tokens for 4 parts, got 0"):
        discover_parts(images, descriptors, torch.zeros_like(masks), GRID)
