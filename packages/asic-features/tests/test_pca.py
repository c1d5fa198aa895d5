from __future__ import annotations

import pytest
import torch

from asic_features.pca import fit_components


def test_streaming_equals_one_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    photos = [torch.randn(n, 6, generator=generator) * torch.tensor([9.0, 1, 5, 2, 3, 0.5]) + 4 for n in (30, 50, 7)]
    found = fit_components(iter(photos), 3)
    everything = torch.cat(photos).double()
    _, singular, rows = torch.linalg.svd(everything - everything.mean(dim=0), full_matrices=False)
    torch.testing.assert_close(found.variance, (singular[:3] ** 2 / 86).float())
    torch.testing.assert_close((found.basis.T @ rows[:3].T.float()).abs(), torch.eye(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.mean, everything.mean(dim=0).float())


def test_projection_is_centred_and_of_unit_length() -> None:
    descriptors = torch.randn(40, 6) + 10
    components = fit_components([descriptors], 4)
    projected = components.project(descriptors.half())
    torch.testing.assert_close(projected.norm(dim=-1), torch.ones(40))
    centred = (descriptors.half().float() - components.mean) @ components.basis
    torch.testing.assert_close(projected * centred.norm(dim=-1, keepdim=True), centred)


def test_signs_do_not_depend_on_the_order_of_photos() -> None:
    photos = [torch.randn(20, 5) for _ in range(4)]
    one, other = fit_components(photos, 5), fit_components(photos[::-1], 5)
    torch.testing.assert_close(one.basis, other.basis, atol=1e-4, rtol=0)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens to find components of, got 0"):
        fit_components([], 1)
    with pytest.raises(ValueError, match="expected 1 to 3 components, got 4"):
        fit_components([torch.randn(9, 3)], 4)
