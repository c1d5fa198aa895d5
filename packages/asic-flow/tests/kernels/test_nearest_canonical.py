"""`nearest_canonical` against numbers made by hand, full search in float64 and exact inverses."""

from __future__ import annotations

import os

import pytest
import torch

from asic_flow.kernels import CanonicalIndex, nearest_canonical
from asic_flow.kernels.nearest_canonical import reference, subpixel

# Triton has two searches; the other implementations have one.
RUNS_TRITON = os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available()


@pytest.fixture(params=["tiles", "buckets"] if RUNS_TRITON else ["tiles"], autouse=True)
def strategy(request, monkeypatch):
    if RUNS_TRITON:
        from asic_flow.kernels.nearest_canonical import _triton

        monkeypatch.setattr(_triton, "BUCKETS_FROM", {"tiles": 10**9, "buckets": 0}[request.param])


def identity_maps(num_images, height, width):
    """Maps whose coordinate is the pixel's own, in [-1, 1]."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack((columns, rows), -1).expand(num_images, -1, -1, -1).contiguous()


def run(backend, points, maps, foreground, **options):
    return nearest_canonical(*(t.to(backend.device) for t in (points, maps, foreground)), impl=backend.impl, **options)


def blob(height, width):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - height / 2).square() + (columns - width / 2).square() < (0.4 * min(height, width)) ** 2)[None]


def test_an_affine_map_is_inverted_between_pixels(backend):
    maps = identity_maps(1, 12, 17) @ torch.tensor([[0.8, 0.1], [-0.2, 0.7]]) + torch.tensor([0.05, -0.1])
    expected = torch.tensor([[3.25, 4.0], [10.4, 6.45], [8.5, 2.75]])
    norm = expected / torch.tensor([8.0, 5.5]) - 1
    points = norm @ torch.tensor([[0.8, 0.1], [-0.2, 0.7]]) + torch.tensor([0.05, -0.1])
    found = run(backend, points, maps, torch.ones(1, 12, 17, dtype=torch.bool))
    torch.testing.assert_close(found.points_px[0].cpu(), expected, rtol=0, atol=1e-4)
    assert found.distance.max() < 1e-5
    assert found.visible.all()
    assert found.ratio is None


@pytest.mark.parametrize("num_points", [1, 40])
@pytest.mark.parametrize("size_hw", [(9, 13), (40, 33)])
def test_the_pixel_is_the_nearest_of_a_full_search(backend, draw, num_points, size_hw):
    maps = (identity_maps(3, *size_hw) + 0.2 * draw(3, *size_hw, 2).float()).contiguous()
    foreground = draw(3, *size_hw, seed=1) > -0.3
    points = draw(3, num_points, 2, seed=2).float()
    pixel, distance = reference.PixelSearch(maps.double(), foreground).search(points.double(), [0, 1, 2])
    index = CanonicalIndex(maps.to(backend.device), foreground.to(backend.device), impl=backend.impl)
    found, found_distance = index._search.search(points.to(backend.device), [0, 1, 2])
    coordinates = maps.double().flatten(1, 2).gather(1, found.cpu()[..., None].expand(-1, -1, 2))
    reached = torch.linalg.vector_norm(coordinates - points.double(), dim=2)
    torch.testing.assert_close(reached, distance, rtol=0, atol=1e-6)
    torch.testing.assert_close(found_distance.cpu().double(), distance, rtol=0, atol=1e-6)
    assert foreground.flatten(1).gather(1, found.cpu()).all()
    assert (found.cpu() == pixel).float().mean() > 0.99


def test_the_lowest_pixel_wins_among_equals(backend):
    maps = torch.zeros(2, 26, 7, 2)
    foreground = torch.ones(2, 26, 7, dtype=torch.bool)
    foreground[1, :3] = False
    maps[0, 0] = 1.0
    index = CanonicalIndex(maps.to(backend.device), foreground.to(backend.device), impl=backend.impl)
    pixel, _ = index._search.search(torch.zeros(2, 3, 2, device=backend.device), [0, 1])
    assert pixel.tolist() == [[7] * 3, [21] * 3]


def test_the_ratio_tells_a_fold_from_a_single_answer(backend):
    height, width = 20, 32
    maps = identity_maps(2, height, width)
    maps[1, :, width // 2 :] = maps[1, :, : width // 2]
    found = run(
        backend, torch.tensor([[-0.5, 0.1]]), maps, torch.ones(2, height, width, dtype=torch.bool), basin_px=6.0
    )
    assert found.ratio[0, 0] < 0.2
    assert found.ratio[1, 0] == 1


def test_the_ratio_is_zero_without_a_second_basin_and_one_for_two_exact_answers(backend):
    maps = torch.zeros(1, 4, 40, 2)
    foreground = torch.ones(1, 4, 40, dtype=torch.bool)
    point = torch.zeros(1, 2)
    assert run(backend, point, maps, foreground, basin_px=4.0).ratio.item() == 1
    assert run(backend, point + 1, maps, foreground, basin_px=100.0).ratio.item() == 0


def test_points_off_the_object_are_not_visible(backend):
    points = torch.tensor([[0.0, 0.0], [0.95, 0.95], [30.0, 30.0]])
    found = run(backend, points, identity_maps(1, 31, 31), blob(31, 31), max_distance=0.2)
    assert found.visible[0].tolist() == [True, False, False]
    assert found.distance[0, 1].item() == pytest.approx(0.95 * 2**0.5 - 12.4 / 15, abs=0.07)


def test_an_image_without_foreground_answers_nothing(backend):
    foreground = torch.ones(2, 5, 5, dtype=torch.bool)
    foreground[1] = False
    found = run(backend, torch.zeros(3, 2), identity_maps(2, 5, 5), foreground, basin_px=1.0)
    assert found.points_px[0].isfinite().all()
    assert found.points_px[1].isnan().all()
    assert found.distance[1].isinf().all()
    assert found.ratio[1].isnan().all()
    assert found.visible.tolist() == [[True] * 3, [False] * 3]


def test_junk_off_the_foreground_is_never_read(backend):
    maps = identity_maps(1, 21, 21)
    foreground = blob(21, 21)
    clean = run(backend, torch.tensor([[0.1, 0.2], [0.7, 0.0]]), maps, foreground, basin_px=3.0)
    maps[~foreground] = float("nan")
    found = run(backend, torch.tensor([[0.1, 0.2], [0.7, 0.0]]), maps, foreground, basin_px=3.0)
    assert torch.equal(found.points_px, clean.points_px)
    assert torch.equal(found.ratio, clean.ratio)


def test_chosen_images_answer_as_all_of_them(backend, draw):
    maps = (identity_maps(3, 15, 11) + 0.1 * draw(3, 15, 11, 2).float()).to(backend.device)
    foreground = torch.ones(3, 15, 11, dtype=torch.bool, device=backend.device)
    index = CanonicalIndex(maps, foreground, impl=backend.impl)
    points = draw(8, 2, seed=1).float().to(backend.device) * 0.5
    everywhere = index.nearest(points, basin_px=2.0)
    some = index.nearest(points, images=[2, 0], basin_px=2.0)
    assert len(index) == 3
    assert torch.equal(some.points_px, everywhere.points_px[[2, 0]])
    assert torch.equal(some.ratio, everywhere.ratio[[2, 0]])
    own = index.nearest(points.expand(2, -1, -1), images=[2, 0])
    assert torch.equal(own.points_px, some.points_px)


def test_many_points_answer_as_few(backend, draw, monkeypatch):
    maps = identity_maps(3, 9, 11) + 0.1 * draw(3, 9, 11, 2).float()
    foreground = draw(3, 9, 11, seed=1) > 0
    foreground[0] = False
    points = 2 * draw(40, 2, seed=2).float()
    few = run(backend, points, maps, foreground)
    monkeypatch.setattr(subpixel, "FEW", 10)
    many = run(backend, points, maps, foreground)
    assert few.points_px.isnan().flatten(1).any(1).tolist() == [True, False, False]
    assert torch.equal(many.points_px.nan_to_num(nan=-1), few.points_px.nan_to_num(nan=-1))
    assert torch.equal(many.distance, few.distance)


@pytest.mark.parametrize(("num_images", "num_points"), [(0, 3), (2, 0)])
def test_nothing_asked_or_nothing_to_search_is_no_answer(backend, num_images, num_points):
    maps = identity_maps(1, 4, 4).expand(num_images, -1, -1, -1)
    foreground = torch.ones(num_images, 4, 4, dtype=torch.bool)
    found = run(backend, torch.zeros(num_points, 2), maps, foreground, basin_px=1.0)
    assert found.points_px.shape == (num_images, num_points, 2)
    assert found.ratio.shape == (num_images, num_points)


def test_a_flat_or_folded_map_takes_no_step(backend):
    flat = torch.zeros(1, 3, 3, 2)
    folded = torch.arange(3.0).view(1, 1, 3, 1) * torch.tensor([1.0, 0.5]).expand(1, 3, 3, 2)
    everywhere = torch.ones(1, 3, 3, dtype=torch.bool, device=backend.device)
    for maps in (flat, folded):
        points = (maps[:, 1, 1] + torch.tensor([0.3, 0.4]))[None]
        found = subpixel.tangents(maps.to(backend.device), everywhere)
        place, remaining = found.refine(points.to(backend.device), [0], torch.tensor([[4]], device=backend.device))
        assert place.tolist() == [[[1, 1]]]
        assert remaining.item() == pytest.approx(0.5)


def test_slopes_use_the_neighbours_on_the_foreground_only():
    maps = torch.tensor([[0.0, 1.0, 3.0, 100.0], [7.0, 8.0, 9.0, 200.0]])[None, ..., None].expand(-1, -1, -1, 2)
    foreground = torch.tensor([[[True, True, True, False], [True, False, False, False]]])
    found = subpixel.tangents(maps, foreground)
    right, down = found.entries[2:4, :-1]
    assert right.tolist() == [[1.0, 1.0], [1.5, 1.5], [2.0, 2.0], [0.0, 0.0]]
    assert down.tolist() == [[7.0, 7.0], [0.0, 0.0], [0.0, 0.0], [7.0, 7.0]]
    assert found.rows.tolist() == [[0, 1, 2, -1, 3, -1, -1, -1, -1]]


def test_neighbours_do_not_reach_across_rows_or_images():
    """Every image's canonical coordinates are far from those of the pixels stored before and after it."""
    maps = identity_maps(1, 3, 4) + 1000.0 * torch.arange(3.0).view(3, 1, 1, 1)
    found = subpixel.tangents(maps, torch.ones(3, 3, 4, dtype=torch.bool))
    right, down = found.entries[2:4, :-1]
    torch.testing.assert_close(right, torch.tensor([2 / 3, 0.0]).expand(36, 2), rtol=0, atol=1e-3)
    torch.testing.assert_close(down, torch.tensor([0.0, 1.0]).expand(36, 2), rtol=0, atol=1e-3)


def test_arguments_that_do_not_fit_are_refused():
    maps, foreground, points = torch.zeros(2, 4, 5, 2), torch.ones(2, 4, 5, dtype=torch.bool), torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"maps must be \(N, H, W, 2\)"):
        nearest_canonical(points, maps[0], foreground)
    with pytest.raises(TypeError, match=r"maps must be float32, got torch.float16"):
        nearest_canonical(points, maps.half(), foreground)
    with pytest.raises(ValueError, match=r"foreground must be \(2, 4, 5\), got \(2, 4, 4\)"):
        nearest_canonical(points, maps, foreground[:, :, :4])
    with pytest.raises(TypeError, match="foreground must be bool"):
        nearest_canonical(points, maps, foreground.float())
    with pytest.raises(ValueError, match="foreground must be on cpu with the maps"):
        nearest_canonical(points, maps, foreground.to("meta"))
    for bad in (float("nan"), float("inf"), -float("inf")):
        holed = maps.clone()
        holed[1, 2, 3, 1] = bad
        with pytest.raises(ValueError, match="maps must be finite on the foreground"):
            nearest_canonical(points, holed, foreground)
    index = CanonicalIndex(maps, foreground)
    with pytest.raises(ValueError, match=r"images must be within 0 to 1, got \[2\]"):
        index.nearest(points, images=[2])
    with pytest.raises(ValueError, match=r"points must be \(P, 2\) or \(2, P, 2\), got shape \(3, 3, 2\)"):
        index.nearest(points.expand(3, 3, 2))
    with pytest.raises(TypeError, match="points must be float32"):
        index.nearest(points.double())
    with pytest.raises(ValueError, match="points must be on cpu with the maps"):
        index.nearest(points.to("meta"))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="points must be finite"):
            index.nearest(points.index_fill(0, torch.tensor([1]), bad))
    largest = torch.finfo(torch.float32).max
    assert not index.nearest(torch.full((3, 2), largest)).visible.any()
    for options in ({"max_distance": -1.0}, {"basin_px": -1.0}, {"max_distance": float("nan")}):
        with pytest.raises(ValueError, match="max_distance and basin_px must be 0 or more"):
            index.nearest(points, **options)
