from __future__ import annotations

import numpy as np
import pytest

from asic_eval import pck
from asic_eval.benchmarks.synthetic import SyntheticCollection, draw_collection


@pytest.fixture(scope="module")
def collection() -> SyntheticCollection:
    return draw_collection(0, num_images=6, size=128)


def test_a_seed_decides_everything() -> None:
    first, again, other = (draw_collection(seed, num_images=2, size=48) for seed in (5, 5, 6))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.canonical, again.canonical, equal_nan=True)
    assert not np.array_equal(first.images, other.images)


def test_shapes_and_what_goes_together(collection: SyntheticCollection) -> None:
    assert collection.images.shape == (6, 128, 128, 3)
    assert collection.images.dtype == np.uint8
    assert collection.masks.shape == collection.part_maps.shape == (6, 128, 128)
    assert collection.canonical.dtype == np.float32
    assert np.array_equal(collection.masks, collection.part_maps >= 0)
    assert np.array_equal(collection.masks, np.isfinite(collection.canonical).all(axis=3))
    assert 0.0 < np.nanmax(np.abs(collection.canonical)) <= 1.2
    assert collection.part_maps.max() < len(collection.part_names)
    assert len(collection.benchmark.pairs) == 30
    names = collection.benchmark.keypoint_names
    assert collection.benchmark.mirror is not None
    assert names[collection.benchmark.mirror[names.index("left front paw")]] == "right front paw"
    assert names[collection.benchmark.mirror[names.index("nose")]] == "nose"


def test_boxes_hold_the_masks(collection: SyntheticCollection) -> None:
    for image, mask in zip(collection.benchmark.images, collection.masks, strict=True):
        y, x = np.nonzero(mask)
        assert image.box_xyxy == (x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5)
        assert image.size_hw == (128, 128)
        shown = image.points_image[image.visible]
        assert mask[tuple(np.rint(shown).astype(int).T[::-1])].all()


def test_keypoints_mean_the_same_place_in_every_picture(collection: SyntheticCollection) -> None:
    benchmark = collection.benchmark
    assert 0.6 < benchmark.visible.mean() < 1.0
    strays = 0
    for keypoint in range(len(benchmark.keypoint_names)):
        seen = np.flatnonzero(benchmark.visible[:, keypoint])
        x, y = np.rint(benchmark.points_image[seen, keypoint]).astype(int).T
        places = collection.canonical[seen, y, x]
        # A pixel is about 0.02 wide in canonical space at this size, and its centre is up to 0.7 pixels away.
        assert np.ptp(places, axis=0).max(initial=0.0) < 0.08
        parts = collection.part_maps[seen, y, x]
        strays += int((parts != np.bincount(parts).argmax()).sum()) if len(parts) else 0
    # The nearest pixel's centre may lie just across the border of two parts.
    assert strays <= 0.03 * benchmark.visible.sum()


def test_truth_maps_agree_with_transfer(collection: SyntheticCollection) -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for source, target in collection.benchmark.pairs[:10]:
        y, x = np.nonzero(collection.masks[source])
        chosen = rng.choice(len(x), 200, replace=False)
        points = np.stack([x[chosen], y[chosen]], axis=1).astype(float)
        moved, seen = collection.transfer(points, source, target)
        assert np.isfinite(moved).all()
        to_x, to_y = np.rint(moved[seen]).astype(int).T
        from_canonical = collection.canonical[source][y[chosen][seen], x[chosen][seen]]
        difference = np.abs(collection.canonical[target][to_y, to_x] - from_canonical).max(axis=1)
        assert np.median(difference) < 0.01
        assert (difference < 0.06).mean() > 0.97
        back, _ = collection.transfer(moved[seen], target, source)
        returned = np.hypot(*(back - points[seen]).T)
        assert np.nanquantile(returned, 0.99) < 0.5
        checked += int(seen.sum())
    assert checked > 500


def test_transfer_of_keypoints_is_their_truth(collection: SyntheticCollection) -> None:
    benchmark = collection.benchmark
    predicted = np.stack([collection.transfer(benchmark.points_image[s], s, t)[0] for s, t in benchmark.pairs])
    assert pck(predicted, benchmark, [0.002]).per_point()[0] > 0.995


def test_transfer_off_the_creature_is_nowhere(collection: SyntheticCollection) -> None:
    y, x = np.nonzero(~collection.masks[0])
    moved, seen = collection.transfer([[x[0], y[0]], [-5.0, 3.0], [np.nan, 1.0], [3.0, 500.0]], 0, 1)
    assert np.isnan(moved).all()
    assert not seen.any()


def test_mirroring_and_rotation_are_spread_over_the_collection() -> None:
    poses = draw_collection(3, num_images=8, size=32).poses
    assert sum(np.linalg.det(pose.matrix) < 0 for pose in poses) == 4


@pytest.mark.parametrize("seed", range(5))
def test_copying_the_box_position_does_not_solve_it(seed: int) -> None:
    benchmark = draw_collection(seed, size=64).benchmark
    boxes = np.array([image.box_xyxy for image in benchmark.images])
    source, target = boxes[benchmark.pairs[:, 0], None], boxes[benchmark.pairs[:, 1], None]
    relative = (benchmark.points_image[benchmark.pairs[:, 0]] - source[..., :2]) / (source[..., 2:] - source[..., :2])
    predicted = target[..., :2] + relative * (target[..., 2:] - target[..., :2])
    assert 0.05 < pck(predicted, benchmark, [0.1]).per_point()[0] < 0.30


@pytest.mark.parametrize(("count", "size"), [(0, 64), (3, 31)])
def test_too_little_to_draw(count: int, size: int) -> None:
    with pytest.raises(ValueError, match=rf"^expected at least 1 image of at least 32 pixels, got {count} of {size}$"):
        draw_collection(0, count, size)
