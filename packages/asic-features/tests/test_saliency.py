from __future__ import annotations

import pytest
import torch

from asic_features.saliency import attention_saliency, border_contrast, cls_attention


def test_cls_attention_is_one_where_attention_is_even() -> None:
    even = cls_attention(torch.zeros(1, 2, 8), torch.randn(1, 2, 9, 8), prefix=0)
    torch.testing.assert_close(even, torch.ones(1, 9))


def test_only_the_named_heads_count() -> None:
    query, key = torch.randn(1, 3, 4), torch.randn(1, 3, 6, 4)
    one = cls_attention(query[:, 1:2], key[:, 1:2], prefix=1)
    torch.testing.assert_close(cls_attention(query, key, prefix=1, heads=(1,)), one)


def test_what_blank_images_get_does_not_count() -> None:
    attention = torch.tensor([[10.0, 10.0, 0.0]])
    saliency = attention_saliency(attention, torch.tensor([0.0, 50.0, 0.0]))[0]
    assert saliency[0] == pytest.approx(10 / 0.3 / (1 + 10 / 0.3))
    assert saliency[1] < 0.2
    assert saliency[2] == 0


def test_colours_of_the_border_are_not_salient() -> None:
    lab = torch.full((1, 3, 64, 64), 50.0)
    lab[0, 1, 24:40, 20:44] = 90
    inside = torch.ones(1, 64, 64, dtype=torch.bool)
    inside[:, :, 60:] = False
    lab[:, :, :, 60:] = 5  # beyond the photo
    contrast = border_contrast(lab, inside)[0]
    assert contrast[26:38, 22:42].min() > 0.5
    assert contrast[:20].max() < 0.01
    assert (contrast[:, 60:] == 0).all()


def test_distances_are_taken_a_bounded_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = 100 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    inside = torch.ones(1, 64, 64, dtype=torch.bool)
    expected, sizes, distances = border_contrast(lab, inside), [], torch.cdist

    def noted(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        sizes.append(len(first) * len(second))
        return distances(first, second)

    monkeypatch.setattr(torch, "cdist", noted)
    monkeypatch.setattr("asic_features.saliency._DISTANCES_AT_ONCE", 50_000)
    torch.testing.assert_close(border_contrast(lab, inside), expected, atol=1e-6, rtol=0)
    assert max(sizes) <= 50_000
    assert sum(sizes) == 64 * 64 * (64 * 64 - 56 * 56)


def test_nothing_inside_is_nothing_salient() -> None:
    assert (border_contrast(torch.rand(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)) == 0).all()
