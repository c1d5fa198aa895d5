from __future__ import annotations

import pytest
import torch

from asic_flow.grid import norm_to_pixel, pixel_to_norm


def test_corner_pixels_are_at_plus_and_minus_one_and_back() -> None:
    points = torch.tensor([[0.0, 0.0], [31.0, 15.0], [15.5, 7.5]], dtype=torch.float64)
    norm = pixel_to_norm(points, (16, 32))
    assert norm.tolist() == [[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]
    torch.testing.assert_close(norm_to_pixel(norm, (16, 32)), points)


def test_it_is_the_convention_of_grid_sample_with_aligned_corners() -> None:
    image = torch.rand(1, 1, 5, 7)
    points = torch.tensor([[[[2.0, 3.0]]]])
    sampled = torch.nn.functional.grid_sample(image, pixel_to_norm(points, (5, 7)), align_corners=True)
    assert sampled.item() == pytest.approx(image[0, 0, 3, 2].item(), abs=1e-6)


def test_one_pixel_has_no_two_corners() -> None:
    with pytest.raises(ValueError, match="at least 2 x 2"):
        pixel_to_norm(torch.zeros(1, 2), (1, 5))
