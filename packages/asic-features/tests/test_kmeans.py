from __future__ import annotations

import pytest
import torch

from asic_features.kmeans import assign, cluster, cluster_by_elbow


def blobs(count: int, spread: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    centres = torch.randn(count, 8, generator=generator) * 3
    return torch.cat([c + spread * torch.randn(60, 8, generator=generator) for c in centres])


def test_separate_blobs_are_found() -> None:
    found = cluster(blobs(5), 5)
    labels = found.label.view(5, 60)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0].tolist())) == 5


def test_inertia_is_as_good_as_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    points = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0))
    points[:, :3] *= 3
    for count in (4, 9):
        theirs = sklearn.KMeans(count, n_init=10, random_state=0).fit(points.numpy()).inertia_
        assert cluster(points, count).inertia <= 1.005 * theirs


def test_result_is_consistent_and_repeats() -> None:
    points = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    one, two = cluster(points, 6, seed=3), cluster(points, 6, seed=3)
    assert torch.equal(one.label, two.label)
    distance = torch.cdist(points, one.centres).square()
    assert torch.equal(distance.argmin(dim=1), one.label)
    assert one.inertia == pytest.approx(float(distance.min(dim=1).values.sum()), rel=1e-4)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points, centres = torch.randn(100, 4), torch.randn(7, 4)
    whole = assign(points, centres)
    monkeypatch.setattr("asic_features.kmeans._CHUNK", 33)
    parts = assign(points, centres)
    assert torch.equal(whole[0], parts[0])
    torch.testing.assert_close(whole[1], parts[1])


def test_equal_points_leave_no_cluster_undefined() -> None:
    found = cluster(torch.ones(5, 3), 3)
    assert torch.isfinite(found.centres).all()
    assert found.inertia == 0


def test_the_elbow_stops_one_past_the_blobs() -> None:
    found = cluster_by_elbow(blobs(4, spread=0.3), ratio=0.9)
    assert len(found.centres) == 5
    assert len(cluster_by_elbow(blobs(4), most=3).centres) == 3


@pytest.mark.parametrize("count", [0, 6])
def test_wrong_counts(count: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 5 clusters of 5 points, got {count}"):
        cluster(torch.randn(5, 2), count)
