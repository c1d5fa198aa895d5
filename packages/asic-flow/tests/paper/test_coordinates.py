from __future__ import annotations

import pytest
import torch

from asic_flow.paper.coordinates import CoordinateNetwork, encode
from asic_flow.paper.network import identity_grid


def test_the_encoding_on_paper() -> None:
    (found,) = encode(torch.tensor([[0.5, -0.25]]), 2).tolist()
    half = 0.5**0.5
    assert found == pytest.approx([0.5, -0.25, 1, -half, 0, -1, 0, half, -1, 0], abs=1e-6)


def test_every_pixel_has_a_code_of_its_own() -> None:
    codes = encode(identity_grid((256, 256), torch.device("cpu")).reshape(-1, 2), 10)
    assert len(codes.unique(dim=0)) == 256 * 256


def test_skips_see_the_place_again() -> None:
    network = CoordinateNetwork(3, width=8, depth=4, skips=(2,), frequencies=1, code=5)
    assert [layer.in_features for layer in network.layers] == [11, 8, 19, 8]
    assert network(torch.rand(2, 6, 2), torch.rand(2, 6, 5)).shape == (2, 6, 3)
    with torch.no_grad():
        network.layers[0].weight.zero_()
    one, other = network(torch.rand(2, 4, 2), torch.rand(2, 4, 5)), network(torch.rand(2, 4, 2), torch.rand(2, 4, 5))
    assert not torch.equal(one, other)
