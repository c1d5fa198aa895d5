"""Photos on their way into canonical space."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from asic_cli.viewer.glide import Glide

SIDE = 40


def _photo(turn: float, growth: float, mirrored: bool) -> tuple[Glide, NDArray[np.float32], NDArray[np.float32]]:
    """A photo whose canonical places are a similarity of its own and a little bend."""
    home = np.stack(np.mgrid[:SIDE, :SIDE][::-1], -1).astype(np.float32)
    away = (home - 15) * np.array([-1.0 if mirrored else 1.0, 1.0], np.float32)
    matrix = growth * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    tiles = (away @ matrix.T + [22.0, 18.0] + np.sin(away / 9))[None].astype(np.float32)
    foreground = np.linalg.norm(home - 15, axis=-1)[None] < 12
    return Glide.fit(tiles, foreground, np.array([mirrored])), tiles, home


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [0.3, 3.1])
def test_the_way_leads_from_home_to_canonical_space_and_nothing_is_flattened(turn: float, mirrored: bool) -> None:
    glide, tiles, home = _photo(turn, 0.6, mirrored)
    assert float(glide.growth[0]) == pytest.approx(0.6, abs=0.15)
    start = glide.places(tiles, 0.0)[0]
    if mirrored:
        # The mirror image, about the upright through the middle of the object.
        np.testing.assert_allclose(start[..., 1], home[..., 1], atol=1e-4)
        np.testing.assert_allclose(start[..., 0] + home[..., 0], 30, atol=1e-4)
    else:
        np.testing.assert_allclose(start, home, atol=1e-4)
    np.testing.assert_allclose(glide.places(tiles, 1.0), tiles, atol=1e-4)
    least = math.inf
    for step in range(21):
        places = glide.places(tiles, step / 20)[0]
        across, along = np.diff(places, axis=1)[:-1], np.diff(places, axis=0)[:, :-1]
        area = across[..., 0] * along[..., 1] - across[..., 1] * along[..., 0]
        least = min(least, float(abs(area[10:20, 10:20].mean())))
    # The object ends with a quarter of its area, and has never much less on its way.
    assert least > 0.2


def test_the_mirror_image_takes_over_early_and_smoothly() -> None:
    assert [Glide.crossed(share) for share in (0.0, 0.175, 0.35, 1.0)] == [0.0, 0.5, 1.0, 1.0]


def test_a_photo_without_an_object_is_moved_by_its_map_alone() -> None:
    _, tiles, home = _photo(0.4, 0.8, mirrored=False)
    glide = Glide.fit(tiles, np.zeros((1, SIDE, SIDE), bool), np.array([False]))
    np.testing.assert_allclose(glide.places(tiles, 0.5)[0], (home + tiles[0]) / 2, atol=1e-5)
