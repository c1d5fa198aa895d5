from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from asic_features.descriptors import token_grid
from asic_features.kmeans import cluster
from asic_features.masks import MaskError
from asic_features.parts import Augmented, augment, discover_parts

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


def test_parts_stay_within_the_mask(scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Elsewhere something may look like a part, as a stretch of background does that other photos' objects show."""
    images, descriptors, masks, truth = scene
    masks = masks.clone()
    masks[0][truth[0] == 2] = 0
    found = discover_parts(images, descriptors, masks, GRID, count=2)
    assert found[0][truth[0] == 2].max() == 0
    assert found[0].max() > 0


def test_the_same_seed_gives_the_same_parts(
    scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    images, descriptors, masks, _ = scene
    one, two = (discover_parts(images, descriptors, masks, GRID, count=2, seed=5) for _ in range(2))
    assert torch.equal(one, two)


def test_more_parts_than_tokens(scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    images, descriptors, masks, _ = scene
    with pytest.raises(MaskError, match="expected at least 4 foreground tokens for 4 parts, got 0"):
        discover_parts(images, descriptors, torch.zeros_like(masks), GRID)


def test_three_stages_leave_out_what_only_some_photos_show(
    scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asic_features.parts._EVERY", 1)
    images, descriptors, masks, truth = scene
    # Half of each object of the first three photos is something else, which the masks take in.
    centres = torch.from_numpy(GRID.centres_px()).round().long()
    distracting = (truth[:3, centres[:, 1], centres[:, 0]] > 0) & (centres[:, 1] % 8 < 4)
    kind, common = functional.normalize(torch.randn(2, 12, generator=torch.Generator().manual_seed(3)), dim=1)
    # The halves are more like one another than like that, so that two clusters tell them apart only without it.
    distracted = functional.normalize(descriptors + 0.8 * common, dim=-1)
    distracted[:3][distracting] = kind
    for stages, apart in ((2, False), (3, True)):
        found = discover_parts(images, distracted, masks, GRID, count=2, stages=stages)  # type: ignore[arg-type]
        clean = [int(found[3][truth[3] == part].mode().values) for part in (1, 2)]
        assert (sorted(clean) == [1, 2]) is apart


def test_copies_join_the_clustering_and_are_not_answered(
    scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asic_features.parts._EVERY", 1)
    images, descriptors, masks, truth = scene
    tokens = []
    monkeypatch.setattr(
        "asic_features.parts.cluster", lambda points, *a, **k: tokens.append(len(points)) or cluster(points, *a, **k)
    )
    discover_parts(images, descriptors, masks, GRID, count=2)
    copies = Augmented(descriptors.flip(0), masks.flip(0))
    found = discover_parts(images, descriptors, masks, GRID, count=2, augmented=copies)
    assert tokens[1] > 1.5 * tokens[0]
    assert found.shape == truth.shape
    assert sorted(int(found[truth == part].mode().values) for part in (1, 2)) == [1, 2]


def test_copies_have_no_vote(
    scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asic_features.parts._EVERY", 1)
    images, descriptors, masks, truth = scene
    # Of all photos and copies too few find any cluster on the object.
    copies = Augmented(descriptors.repeat(5, 1, 1), torch.zeros_like(masks).repeat(5, 1, 1))
    found = discover_parts(images, descriptors, masks, GRID, count=2, augmented=copies)
    assert sorted(int(found[truth == part].mode().values) for part in (1, 2)) == [1, 2]


def test_parts_of_photos_that_are_all_object(
    scene: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    images, descriptors, masks, _ = scene
    found = discover_parts(images, descriptors, torch.full_like(masks, 255), GRID, count=3)
    assert (found > 0).float().mean() > 0.9
    assert found.unique().numel() >= 3


def test_a_copy_is_a_crop_that_may_be_mirrored() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 64, 1).expand(20, 64, 64, 3).contiguous()
    masks = images[..., 0].clone()
    copies, shapes = augment(images, masks, seed=1)
    assert copies.shape == images.shape
    assert torch.equal(copies[..., 0], shapes)  # masks go with their images
    mirrored = shapes[:, 32, 0] > shapes[:, 32, -1]
    assert 4 < int(mirrored.sum()) < 16
    span = (shapes[:, 32, 0].int() - shapes[:, 32, -1].int()).abs()
    assert (span >= 54).all()
    assert (span <= 63).all()
    assert torch.equal(augment(images, masks, seed=1)[0], copies)
    assert not torch.equal(augment(images, masks, seed=2)[0], copies)
