from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asic_features.mls import moving_least_squares, rigid_flow
from asic_flow.collection import ImageCollection, Photo, TokenGrid
from asic_flow.matches import MatchSet


def literal(point: torch.Tensor, xy_a: torch.Tensor, xy_b: torch.Tensor, alpha: float) -> torch.Tensor:
    """Equations 7 and 8 of the paper, one point at a time with its 2 x 2 matrices."""
    weight = 1 / (xy_a - point).norm(dim=1) ** (2 * alpha)
    centre_a = (weight[:, None] * xy_a).sum(0) / weight.sum()
    centre_b = (weight[:, None] * xy_b).sum(0) / weight.sum()

    def turned(v: torch.Tensor) -> torch.Tensor:
        return torch.stack([-v[1], v[0]])

    def pair(v: torch.Tensor) -> torch.Tensor:
        return torch.stack([v, -turned(v)])

    moved = torch.zeros(2, dtype=point.dtype)
    for w, a, b in zip(weight, xy_a - centre_a, xy_b - centre_b, strict=True):
        moved = moved + b @ (w * pair(a) @ pair(point - centre_a).T)
    return (point - centre_a).norm() * moved / moved.norm() + centre_b


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_equals_the_papers_equations(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    xy_a, xy_b, points = (torch.rand(n, 2, generator=generator, dtype=torch.float64) * 100 for n in (9, 9, 20))
    expected = torch.stack([literal(point, xy_a, xy_b, alpha) for point in points])
    torch.testing.assert_close(rigid_flow(points, xy_a, xy_b, alpha=alpha), expected.float())


def test_rigid_motions_come_back_exactly() -> None:
    points, xy_a = torch.rand(50, 2) * 200, torch.rand(6, 2) * 200
    rotation = torch.tensor([[math.cos(1.0), math.sin(1.0)], [-math.sin(1.0), math.cos(1.0)]])
    moved = rigid_flow(points, xy_a, xy_a @ rotation + 7)
    torch.testing.assert_close(moved, points @ rotation + 7, atol=1e-3, rtol=0)


def test_matches_are_met_and_one_match_is_a_shift() -> None:
    xy_a, xy_b = torch.rand(6, 2) * 200, torch.rand(6, 2) * 200
    torch.testing.assert_close(rigid_flow(xy_a, xy_a, xy_b), xy_b, atol=1e-3, rtol=0)
    points = torch.rand(4, 2)
    torch.testing.assert_close(rigid_flow(points, xy_a[:1], xy_b[:1]), points + xy_b[:1] - xy_a[:1])


def test_matches_of_no_weight_do_not_count() -> None:
    xy_a, xy_b, points = torch.rand(6, 2), torch.rand(6, 2), torch.rand(9, 2)
    weight = torch.tensor([1.0, 1, 1, 1, 0, 0])
    torch.testing.assert_close(rigid_flow(points, xy_a, xy_b, weight=weight), rigid_flow(points, xy_a[:4], xy_b[:4]))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    xy_a, xy_b, points = torch.rand(6, 2), torch.rand(6, 2), torch.rand(31, 2)
    whole = rigid_flow(points, xy_a, xy_b)
    monkeypatch.setattr("asic_features.mls._CHUNK_ELEMENTS", 24)
    assert torch.equal(rigid_flow(points, xy_a, xy_b), whole)
    assert rigid_flow(points[:0], xy_a, xy_b).shape == (0, 2)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="expected at least one match"):
        rigid_flow(torch.rand(3, 2), torch.empty(0, 2), torch.empty(0, 2))
    with pytest.raises(ValueError, match=r"expected two \(K, 2\) tensors"):
        rigid_flow(torch.rand(3, 2), torch.rand(4, 2), torch.rand(5, 2))


def test_the_baseline_carries_points_both_ways_and_leaves_them_where_nothing_matches() -> None:
    grid = TokenGrid(2, 2, 16.0, 7.5)
    photos = tuple(
        Photo(f"{index}.png", "0" * 64, (64, 64), (0.5 + 0.5 * index, 0.5 + 0.5 * index), (1.0 * index, 0.0), None)
        for index in range(3)
    )
    collection = ImageCollection(
        photos=photos,
        images=torch.zeros(3, 32, 32, 3, dtype=torch.uint8),
        masks=torch.full((3, 32, 32), 255, dtype=torch.uint8),
        descriptors=torch.ones(3, 4, 4).half() / 2,
        saliency=torch.zeros(3, 4),
        grid=grid,
        settings={},
    )
    # In model pixels, photo 1 is photo 0 moved by (5, -3); photo 2 matches nothing.
    xy_a = np.array([[4, 10], [20, 6], [12, 25]], np.float32)
    matches = MatchSet(
        pairs=np.array([[0, 1], [0, 2]], np.int32),
        offsets=np.array([0, 3, 3]),
        xy_a=xy_a,
        xy_b=xy_a + np.array([5, -3], np.float32),
        score=np.array([0.9, 0.2, -0.1], np.float32),
        saliency=np.zeros(3, np.float32),
        support=np.zeros(3, np.int32),
    )
    carry = moving_least_squares(collection, matches)
    points = np.array([[20.0, 30.0], [14.0, 12.0], [20.0, 30.0], [20.0, 30.0]])
    found = carry(points, np.array([0, 1, 0, 1]), np.array([1, 0, 2, 2]))
    model = [[10, 15], [14 + 1, 12], [10, 15], [20 + 1, 30]]
    moved = np.array(model) + np.array([[5, -3], [-5, 3], [0, 0], [0, 0]])
    expected = [photos[image].to_image(xy[None])[0] for xy, image in zip(moved, (1, 0, 2, 2), strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
