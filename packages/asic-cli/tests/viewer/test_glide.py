"""Photos on their way into canonical space."""

from __future__ import annotations

import math

import pytest
import torch

from asic_cli.viewer.glide import Glide

SIDE = 40


def _photo(turn: float, growth: float, mirrored: bool) -> tuple[Glide, torch.Tensor, torch.Tensor]:
    """A photo whose canonical places are a similarity of its own and a little bend."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    home = torch.stack((x, y), -1).float()
    away = (home - 15) * torch.tensor([-1.0 if mirrored else 1.0, 1.0])
    matrix = growth * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    tiles = (away @ matrix.T + torch.tensor([22.0, 18.0]) + torch.sin(away / 9))[None]
    foreground = (home - 15).norm(dim=-1)[None] < 12
    return Glide.fit(tiles, foreground, torch.tensor([mirrored])), tiles, home


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [0.3, 3.1])
def test_the_way_leads_from_home_to_canonical_space_and_nothing_is_flattened(turn: float, mirrored: bool) -> None:
    glide, tiles, home = _photo(turn, 0.6, mirrored)
    assert float(glide.growth[0]) == pytest.approx(0.6, abs=0.15)
    start = glide.places(tiles, 0.0)[0]
    if mirrored:
        # The mirror image, about the upright through the middle of the object.
        torch.testing.assert_close(start[..., 1], home[..., 1])
        torch.testing.assert_close(start[..., 0] + home[..., 0], torch.full((SIDE, SIDE), 30.0), atol=1e-4, rtol=0)
    else:
        torch.testing.assert_close(start, home, atol=1e-4, rtol=0)
    torch.testing.assert_close(glide.places(tiles, 1.0), tiles, atol=1e-4, rtol=0)
    least = math.inf
    for step in range(21):
        places = glide.places(tiles, step / 20)[0]
        across, along = places.diff(dim=1)[:-1], places.diff(dim=0)[:, :-1]
        area = across[..., 0] * along[..., 1] - across[..., 1] * along[..., 0]
        least = min(least, float(area[10:20, 10:20].mean().abs()))
    # The object ends with a quarter of its area, and has never much less on its way.
    assert least > 0.2


def test_the_mirror_image_takes_over_early_and_smoothly() -> None:
    assert [Glide.crossed(share) for share in (0.0, 0.175, 0.35, 1.0)] == [0.0, 0.5, 1.0, 1.0]


def test_a_photo_without_an_object_is_moved_by_its_map_alone() -> None:
    _, tiles, home = _photo(0.4, 0.8, mirrored=False)
    glide = Glide.fit(tiles, torch.zeros(1, SIDE, SIDE, dtype=torch.bool), torch.tensor([False]))
    torch.testing.assert_close(glide.places(tiles, 0.5)[0], (home + tiles[0]) / 2)
