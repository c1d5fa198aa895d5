from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from asic_features.descriptors import token_grid
from asic_features.images import PhotoError, PhotoSource, fit_photo
from asic_features.masks import MaskError, find_user_masks, read_user_mask, saliency_masks, tokens_to_square
from asic_flow.collection import TokenGrid

Save = Callable[..., Path]


def test_masks_are_found_by_relative_name(save: Save, tmp_path: Path) -> None:
    grey = np.zeros((4, 4), dtype=np.uint8)
    for name in ("a/one.png", "a/one.bmp", "b/one.png", "b/two.tiff"):
        save(f"masks/{name}", grey)
    (tmp_path / "masks/a/one.txt").write_text("")
    names = ("a/one.bmp", "a/one.jpg", "b/one.jpg", "b/two.jpg")
    found = find_user_masks([PhotoSource(tmp_path / name, name) for name in names], tmp_path / "masks")
    paths = [source.mask_path.relative_to(tmp_path / "masks").as_posix() for source in found if source.mask_path]
    assert paths == ["a/one.bmp", "a/one.bmp", "b/one.png", "b/two.tiff"]


def test_missing_masks_are_all_named(save: Save, tmp_path: Path) -> None:
    save("masks/a.png", np.zeros((4, 4), dtype=np.uint8))
    sources = [PhotoSource(tmp_path / name, name) for name in ("a.jpg", "b.jpg", "sub/c.jpg")]
    with pytest.raises(MaskError, match=r"no picture for 2 of 3 photos: b\.jpg, sub/c\.jpg"):
        find_user_masks(sources, tmp_path / "masks")
    with pytest.raises(MaskError, match="does not exist; without a folder masks are cosegment, saliency"):
        find_user_masks(sources, tmp_path / "gone")


def test_a_mask_must_have_its_photos_size(save: Save) -> None:
    path = save("m.png", np.full((4, 6), 255, dtype=np.uint8))
    assert read_user_mask(path, (4, 6), fit_photo((4, 6), 32)).max() == 255
    with pytest.raises(PhotoError, match=r"mask of 6 x 4 pixels, its photo has 4 x 6"):
        read_user_mask(path, (6, 4), fit_photo((6, 4), 32))


def test_token_values_land_between_tokens() -> None:
    grid = TokenGrid(rows=3, cols=3, stride=8.0, first=7.5)
    columns = torch.tensor([0.0, 1.0, 2.0]).expand(1, 3, 3)
    square = tokens_to_square(columns, grid, 32, 32)[0]
    expected = ((torch.arange(32) - 7.5) / 8).clamp(0, 2)
    torch.testing.assert_close(square, expected.expand(32, 32))


@pytest.fixture(scope="module")
def discs() -> tuple[torch.Tensor, torch.Tensor]:
    """Four photos of a red disc before grounds of different colours, and its true masks."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128]
    images: list[npt.NDArray[np.float64]] = []
    truth = []
    for ground, (cx, cy) in zip(
        [(40, 90, 40), (60, 60, 160), (150, 150, 150), (20, 20, 20)],
        [(50, 60), (70, 66), (64, 50), (60, 70)],
        strict=True,
    ):
        disc = (x - cx) ** 2 + (y - cy) ** 2 < 30**2
        image = np.where(disc[..., None], (200, 40, 50), ground) + generator.normal(0, 12, (128, 128, 3))
        images.append(np.clip(image, 0, 255))
        truth.append(disc)
    return torch.from_numpy(np.stack(images).astype(np.uint8)), torch.from_numpy(np.stack(truth))


@pytest.mark.parametrize("shared", [True, False])
def test_discs_are_cut_out(discs: tuple[torch.Tensor, torch.Tensor], shared: bool) -> None:
    images, truth = discs
    grid = token_grid(128, 8, 8)
    inside = torch.full((4, 128, 128), 255, dtype=torch.uint8)
    centres = torch.from_numpy(grid.centres_px()).long()
    saliency = truth[:, centres[:, 1], centres[:, 0]].float()
    saliency[:, ::3] = 0  # much of the object is not salient
    masks = saliency_masks(images, inside, saliency, grid, shared=shared)
    found = masks >= 128
    assert ((found & truth).sum((1, 2)) / (found | truth).sum((1, 2))).min() > 0.8


def test_padding_is_never_foreground(discs: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, _ = discs
    inside = torch.zeros(4, 128, 128, dtype=torch.uint8)
    inside[:, 20:100] = 255
    grid = token_grid(128, 8, 8)
    masks = saliency_masks(images, inside, torch.rand(4, 256), grid, shared=True)
    assert (masks[:, :20] == 0).all()
    assert (masks[:, 100:] == 0).all()


def test_a_photo_without_object_gets_an_empty_mask(discs: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, truth = discs
    images = images.clone()
    images[0] = 128
    grid = token_grid(128, 8, 8)
    inside = torch.full((4, 128, 128), 255, dtype=torch.uint8)
    centres = torch.from_numpy(grid.centres_px()).long()
    tokens = truth[:, centres[:, 1], centres[:, 0]].float()
    tokens[0] = 0
    alone = saliency_masks(images, inside, tokens, grid, shared=False)
    assert alone.flatten(1).amax(dim=1).tolist()[0] == 0
    assert alone[1:].flatten(1).amax(dim=1).min() >= 128
    # Something salient that does not look like what the others share.
    descriptors = torch.randn(4, 256, 8, generator=torch.Generator().manual_seed(0)) + 6 * tokens[..., None]
    tokens[0, 100:120] = 1
    shared = saliency_masks(images, inside, tokens, grid, descriptors=descriptors, shared=True)
    assert shared[0].max() == 0
    assert shared[1:].flatten(1).amax(dim=1).min() >= 128
