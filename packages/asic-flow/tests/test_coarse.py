from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from asic_flow.coarse import NormalisedMatches, align_coarsely, geman_mcclure

SCALES = (0.28, 0.21, 0.14)


def world(num_photos: int, wrong: float, *, affine: float = 0.0, seed: int = 0, noise: float = 0.01):
    """Matches of photos of one flat object: (matches, foreground image, foreground points, true maps (N, 3, 3))."""
    rng = np.random.default_rng(seed)
    material = rng.uniform(-1, 1, (150, 2))
    maps = []
    for index in range(num_photos):
        angle, scale = rng.uniform(-0.7, 0.7), rng.uniform(0.35, 0.6)
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = (
            linear @ (np.eye(2) + affine * rng.uniform(-1, 1, (2, 2))) @ np.diag([-1.0 if index % 3 == 2 else 1.0, 1.0])
        )
        transform = np.eye(3)
        transform[:2, :2], transform[:2, 2] = linear, rng.uniform(-0.3, 0.3, 2)
        maps.append(transform)
    seen = [material @ transform[:2, :2].T + transform[:2, 2] for transform in maps]
    image_a, image_b, points_a, points_b = [], [], [], []
    for first in range(num_photos):
        for second in range(first + 1, num_photos):
            chosen = rng.choice(len(material), 60, replace=False)
            other = seen[second][chosen].copy()
            lost = rng.random(60) < wrong
            other[lost] = seen[second][rng.choice(len(material), int(lost.sum()))]
            image_a += [first] * 60
            image_b += [second] * 60
            points_a.append(seen[first][chosen] + noise * rng.normal(size=(60, 2)))
            points_b.append(other + noise * rng.normal(size=(60, 2)))
    matches = NormalisedMatches(
        torch.tensor(image_a),
        torch.tensor(image_b),
        torch.from_numpy(np.concatenate(points_a)),
        torch.from_numpy(np.concatenate(points_b)),
        torch.ones(len(image_a)),
    )
    foreground = torch.arange(num_photos).repeat_interleave(len(material))
    return matches, foreground, torch.from_numpy(np.concatenate(seen)), np.stack(maps)


def spread_of_material(affine: torch.Tensor, maps: np.ndarray) -> float:
    """How far apart the photos put one material point, at most, where the object's radius is 0.5."""
    corners = np.array([[-0.7, -0.7, 1], [0.7, -0.7, 1], [0, 0.7, 1]]).T
    placed = np.stack([(transform @ (seen @ corners)).T for transform, seen in zip(affine.numpy(), maps, strict=True)])
    return float(np.linalg.norm(placed - placed.mean(0), axis=-1).max())


@pytest.mark.parametrize("wrong", [0.0, 0.6])
def test_flags_and_similarities_are_found_among_wrong_matches(wrong: float) -> None:
    matches, image, points, maps = world(7, wrong)
    found = align_coarsely(matches, 7, image, points, SCALES)
    assert found.mirrored.tolist() == [index % 3 == 2 for index in range(7)]
    assert spread_of_material(found.affine, maps) < 0.03
    assert (found.support > 0.9 * (1 - wrong)).all()


def test_affine_views_are_followed() -> None:
    matches, image, points, maps = world(7, 0.4, affine=0.25)
    found = align_coarsely(matches, 7, image, points, SCALES)
    assert spread_of_material(found.affine, maps) < 0.05


def test_the_gauge_is_centred_of_radius_one_half_and_mostly_unmirrored() -> None:
    matches, image, points, _ = world(5, 0.3)
    found = align_coarsely(matches, 5, image, points, SCALES)
    placed = (found.affine[image] @ torch.cat((points, torch.ones(len(points), 1)), 1)[..., None])[..., 0]
    torch.testing.assert_close(placed.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
    assert placed.square().sum(1).mean().sqrt().item() == pytest.approx(0.5)
    assert found.mirrored.sum() <= 2
    assert (torch.linalg.det(found.affine[:, :, :2]).abs() > 1e-3).all()


def test_the_result_does_not_depend_on_how_photos_are_numbered() -> None:
    matches, image, points, maps = world(6, 0.5)
    order = torch.tensor([3, 5, 0, 4, 1, 2])  # the new number of each photo
    first, second = order[matches.image_a], order[matches.image_b]
    swap = first > second
    renumbered = NormalisedMatches(
        torch.where(swap, second, first),
        torch.where(swap, first, second),
        torch.where(swap[:, None], matches.points_b, matches.points_a),
        torch.where(swap[:, None], matches.points_a, matches.points_b),
        matches.weight,
    )
    found = align_coarsely(renumbered, 6, order[image], points, SCALES)
    assert spread_of_material(found.affine[order], maps) < 0.03


def test_an_intruder_has_low_support_and_does_not_disturb_the_others() -> None:
    matches, image, points, maps = world(7, 0.3)
    rng = np.random.default_rng(1)
    alien = matches.image_b == 6
    matches.points_b[alien] = torch.from_numpy(rng.uniform(-1, 1, (int(alien.sum()), 2)))
    found = align_coarsely(matches, 7, image, points, SCALES)
    assert spread_of_material(found.affine[:6], maps[:6]) < 0.03
    assert found.support[6] < 0.5 * found.support[:6].min()


def test_collections_in_one_batch_are_aligned_as_each_alone() -> None:
    worlds = [world(count, 0.4, affine=0.2, seed=count) for count in (4, 7, 5)]
    start = np.cumsum([0, 4, 7, 5])
    numbered = [
        (replace(matches, image_a=matches.image_a + first, image_b=matches.image_b + first), image + first, points)
        for first, (matches, image, points, _) in zip(start, worlds, strict=False)
    ]
    # The photos of all three are mixed up, so that no group is a slice.
    order = torch.from_numpy(np.random.default_rng(0).permutation(16))
    together = NormalisedMatches(
        *(torch.cat([vars(matches)[name] for matches, _, _ in numbered]) for name in vars(numbered[0][0]))
    )
    together = replace(together, image_a=order[together.image_a], image_b=order[together.image_b])
    image, points = (torch.cat(fields) for fields in list(zip(*numbered, strict=True))[1:])
    found = align_coarsely(together, 16, order[image], points, SCALES)
    for first, (matches, image, points, _) in zip(start, worlds, strict=False):
        count = int(image.max()) + 1
        alone = align_coarsely(matches, count, image, points, SCALES)
        mine = order[first : first + count]
        torch.testing.assert_close(found.affine[mine], alone.affine, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.support[mine], alone.support, atol=1e-6, rtol=0)
        assert found.mirrored[mine].tolist() == alone.mirrored.tolist()


def test_two_halves_without_a_match_between_them_are_each_aligned() -> None:
    matches, image, points, maps = world(6, 0.2)
    within = (matches.image_a < 3) == (matches.image_b < 3)
    halves = replace(matches, weight=matches.weight * within)
    found = align_coarsely(halves, 6, image, points, SCALES)
    for half in (slice(0, 3), slice(3, 6)):
        assert spread_of_material(found.affine[half], maps[half]) < 0.05
        mine = (image >= half.start) & (image < half.stop)
        placed = (found.affine[image[mine]] @ torch.cat((points, torch.ones(900, 1)), 1)[mine, :, None])[..., 0]
        torch.testing.assert_close(placed.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
        assert placed.square().sum(1).mean().sqrt().item() == pytest.approx(0.5)


def test_a_photo_without_matches_keeps_an_invertible_map() -> None:
    matches, image, points, _ = world(4, 0.2)
    kept = (matches.image_a != 3) & (matches.image_b != 3)
    found = align_coarsely(
        NormalisedMatches(*(field[kept] for field in vars(matches).values())), 4, image, points, SCALES
    )
    assert torch.isfinite(found.affine).all()
    assert torch.linalg.det(found.affine[3, :, :2]).abs() > 1e-3
    assert found.support[3] == 0


def test_pairs_with_a_single_match_turn_nothing() -> None:
    matches, image, points, maps = world(5, 0.2)
    lone = ((matches.image_a == 0) | (matches.image_b == 4)).nonzero()[:, 0]
    pair = matches.image_a[lone] * 5 + matches.image_b[lone]
    first = [int(lone[pair == chosen][0]) for chosen in (1, 2, 3, 4, 9, 14, 19)]
    kept = torch.cat(((~torch.isin(torch.arange(len(matches.image_a)), lone)).nonzero()[:, 0], torch.tensor(first)))
    found = align_coarsely(
        NormalisedMatches(*(field[kept] for field in vars(matches).values())), 5, image, points, SCALES
    )
    assert torch.isfinite(found.affine).all()
    assert spread_of_material(found.affine[1:4], maps[1:4]) < 0.05


@pytest.mark.parametrize("few", [1, 2])
def test_pairs_with_next_to_no_matches_do_not_outvote_a_chain_of_full_ones(few: int) -> None:
    matches, image, points, maps = world(6, 0.4, affine=0.2)
    rng = np.random.default_rng(0)
    pair = matches.image_a * 6 + matches.image_b
    chain = matches.image_b - matches.image_a == 1
    drawn = [rng.choice(np.flatnonzero(pair == own), few, replace=False) for own in torch.unique(pair[~chain]).tolist()]
    kept = torch.cat((torch.nonzero(chain)[:, 0], torch.from_numpy(np.concatenate(drawn))))
    alone, both = (
        align_coarsely(NormalisedMatches(*(field[rows] for field in vars(matches).values())), 6, image, points, SCALES)
        for rows in (torch.nonzero(chain)[:, 0], kept)
    )
    assert spread_of_material(both.affine, maps) < 1.2 * spread_of_material(alone.affine, maps)


def test_geman_mcclure_by_hand() -> None:
    assert geman_mcclure(torch.tensor([0.0, 4.0]), 2.0).tolist() == [1.0, 0.25]
