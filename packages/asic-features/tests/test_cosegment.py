from __future__ import annotations

import pytest
import torch

from asic_features.cosegment import _otsu, cosegment, outline, recurrence, seed_scores
from asic_flow.collection import TokenGrid


def collection(photos: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of a square object (rows 5 to 15) before a background, where each is, and that all is photo."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(photos, 20, 20, dtype=torch.bool)
    truth[:, 5:15, 5:15] = True
    features = torch.randn(photos, 20, 20, 6, generator=generator)
    features[..., 0] += truth * 5.0
    return features, truth, torch.ones_like(truth)


def agreement(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_a_part_that_is_salient_grows_to_the_whole() -> None:
    features, truth, inside = collection()
    saliency = torch.zeros(truth.shape)
    saliency[:, 5:12, 5:15] = 1  # seven tenths of every object
    scores = seed_scores(saliency, inside)
    assert agreement(scores > 0, truth) < 0.75
    assert agreement(cosegment(features, scores, inside, ridge=0.1)[0] > 0, truth) > 0.8


def test_what_is_salient_once_does_not_stay() -> None:
    features, truth, inside = collection(8)
    saliency = truth.float()
    saliency[0, :4, :4] = 1
    found = cosegment(features, seed_scores(saliency, inside), inside, ridge=0.1)[0] > 0
    assert agreement(found[0], truth[0]) > 0.8


def test_a_photo_without_object_has_no_evidence() -> None:
    features, truth, inside = collection(6)
    features[5, ..., 0] -= truth[5] * 5.0
    saliency = truth.float()
    _, evidence = cosegment(features, seed_scores(saliency, inside), inside, ridge=0.1)
    assert evidence[:5].min() > 1.3
    assert evidence[5] < 0.5


def test_outline_uses_each_photos_own_features() -> None:
    features, truth, inside = collection(2)
    features[1] = -features[1]  # bright object on dark ground in one photo, dark on bright in the other
    saliency = torch.zeros(truth.shape)
    saliency[:, 5:12, 5:15] = 1
    probability = outline(features, seed_scores(saliency, inside), inside, ridge=0.1)
    assert agreement(probability > 0.5, truth) > 0.8
    assert 0 <= float(probability.min()) <= float(probability.max()) <= 1


def test_nothing_outside_the_photo() -> None:
    features, truth, inside = collection(1)
    inside[:, 10:] = False
    assert (outline(features, truth.float(), inside, ridge=0.1)[:, 10:] == 0).all()


def test_otsu_by_hand() -> None:
    assert 1 < float(_otsu(torch.tensor([0.0, 0.1, 0.2, 5.0, 5.1]))) < 5
    assert float(_otsu(torch.full((3,), 0.4))) == pytest.approx(0.4)
    assert float(_otsu(torch.empty(0))) == 0


def test_what_recurs_in_other_photos_stands_out_and_the_rim_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = TokenGrid(12, 12, 8.0, 7.5)
    thing = torch.randn(9, 16, generator=generator)
    descriptors = torch.randn(4, 12, 12, 16, generator=generator)
    for photo, (row, column) in enumerate([(3, 3), (6, 4), (4, 7), (7, 7)]):
        descriptors[photo, row : row + 3, column : column + 3] = thing.view(3, 3, 16)
    descriptors[:, 0, 0] = 5.0  # alike in every photo, but at the rim
    found = recurrence(torch.nn.functional.normalize(descriptors, dim=-1).flatten(1, 2), grid)
    assert found.shape == (4, 12, 12)
    for photo, (row, column) in enumerate([(3, 3), (6, 4), (4, 7), (7, 7)]):
        inside = torch.zeros(12, 12, dtype=torch.bool)
        inside[row : row + 3, column : column + 3] = True
        assert found[photo][inside].min() > found[photo][~inside].max()
        assert found[photo, 0, 0] == found[photo].min()
