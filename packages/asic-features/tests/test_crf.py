from __future__ import annotations

import numpy as np
import pytest
import torch

from asic_features.crf import CrfSettings, mean_field


def noisy_disc(size: int = 48, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A picture of a disc, its truth, and energies of two labels that are right at four pixels of five."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    truth = (x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 3) ** 2
    image = np.where(truth[..., None], (200, 80, 60), (60, 90, 120)) + generator.normal(0, 4, (size, size, 3))
    said = truth ^ (generator.random(truth.shape) < 0.2)
    energy = np.stack([said * 2.0, ~said * 2.0])
    return (
        torch.from_numpy(np.clip(image, 0, 255).astype(np.uint8)),
        torch.from_numpy(truth),
        torch.from_numpy(energy).float(),
    )


def literal(image: torch.Tensor, energy: torch.Tensor, settings: CrfSettings) -> torch.Tensor:
    """The same field with its full table of pixel pairs."""
    labels, height, width = energy.shape
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    place = torch.stack([x.flatten(), y.flatten()], dim=1)
    colour = image.view(-1, 3).double() / settings.bilateral_colour
    kernels = [
        torch.exp(-(torch.cdist(place / settings.smooth_px, place / settings.smooth_px) ** 2) / 2),
        torch.exp(-(torch.cdist(*[torch.cat([place / settings.bilateral_px, colour], dim=1)] * 2) ** 2) / 2),
    ]
    flat = energy.view(labels, -1).double()
    answer = (-flat).softmax(0)
    for _ in range(settings.rounds):
        message = torch.zeros_like(flat)
        for kernel, weight in zip(kernels, (settings.smooth_weight, settings.bilateral_weight), strict=True):
            scale = kernel.sum(dim=1).rsqrt()
            message += weight * ((answer * scale) @ kernel) * scale
        answer = (message - flat).softmax(0)
    return answer.view_as(energy).float()


@pytest.mark.parametrize("weights", [(3.0, 2.0), (50.0, 15.0)])
def test_agrees_with_the_full_table(weights: tuple[float, float]) -> None:
    image, _, energy = noisy_disc(32)
    settings = CrfSettings(smooth_weight=weights[0], bilateral_weight=weights[1])
    got, expected = mean_field(image, energy, settings), literal(image, energy, settings)
    assert (got.argmax(0) == expected.argmax(0)).float().mean() >= 0.99
    torch.testing.assert_close(got.sum(dim=0), torch.ones(32, 32))


def test_noise_goes_and_edges_stay() -> None:
    image, truth, energy = noisy_disc()
    before = (energy.argmin(0).bool() == truth).float().mean()
    after = (mean_field(image, energy).argmax(0).bool() == truth).float().mean()
    assert before < 0.85
    assert after > 0.98


def test_without_neighbours_only_energies_count() -> None:
    energy = torch.randn(3, 1, 1)
    image = torch.zeros(1, 1, 3, dtype=torch.uint8)
    settings = CrfSettings(smooth_weight=0, bilateral_weight=0)
    torch.testing.assert_close(mean_field(image, energy, settings), (-energy).softmax(0))


def test_agrees_with_pydensecrf() -> None:
    densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is an optional oracle")
    agreements = []
    for seed in range(3):
        image, _, energy = noisy_disc(64, seed)
        field = densecrf.DenseCRF2D(64, 64, 2)
        field.setUnaryEnergy(np.ascontiguousarray(energy.view(2, -1).numpy()))
        field.addPairwiseGaussian(sxy=3, compat=50)
        field.addPairwiseBilateral(sxy=5, srgb=13, rgbim=np.ascontiguousarray(image.numpy()), compat=15)
        theirs = np.array(field.inference(10)).reshape(2, 64, 64).argmax(0)
        agreements.append((mean_field(image, energy).argmax(0).numpy() == theirs).mean())
    assert min(agreements) >= 0.99
