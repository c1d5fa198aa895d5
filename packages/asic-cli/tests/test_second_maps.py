from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asic_cli.blend import over
from asic_cli.difference import compare_answers, in_frame_of
from asic_cli.propagate import Propagation
from asic_flow.alignment import Alignment
from asic_flow.sides import SecondMaps


@pytest.fixture(scope="module")
def two_sided(run: Path) -> Alignment:
    """Photos 1 and 2 show both sides: turned left to right in canonical space they fit as well."""
    alignment = Alignment.load(run)
    second = SecondMaps(
        photo=torch.tensor([1, 2]),
        maps=alignment.maps[1:3] * torch.tensor([-1.0, 1.0]),
        symmetry=torch.tensor([0.9, 0.95]),
    )
    return replace(alignment, second=second, mirrored=torch.tensor([False, True, False, False, True]))


def test_a_layer_is_carried_by_the_maps_between_the_photos(two_sided: Alignment) -> None:
    sure = two_sided.confidence[0] * two_sided.foreground[0]
    index = int(sure.argmax())
    spot = torch.tensor([[float(index % 96), float(index // 96)]])
    y, x = np.mgrid[:120, :120]
    away = two_sided.photos[0].to_model(np.stack((x, y), -1)) - spot.numpy()
    layer = np.zeros((120, 120, 4), np.uint8)
    layer[np.hypot(*away.transpose(2, 0, 1)) < 5] = 255
    for alignment in (two_sided, replace(two_sided, second=SecondMaps.none((96, 96)))):
        here, there = alignment.maps_between(0, 1)
        found = alignment.look_up(alignment.places_on_maps(spot, torch.tensor([here])), there)[0][0].numpy()
        black = np.zeros((120, 120, 3), np.uint8)
        painted = Propagation(alignment, 0, layer, 0.0).onto(1, black, over)[..., 0] > 100
        rows, columns = np.nonzero(painted)
        middle = alignment.photos[1].to_model(np.array([columns.mean(), rows.mean()]))
        assert np.hypot(*(middle - found)) < 3


def test_runs_that_keep_sides_apart_differently_differ_where_they_do(two_sided: Alignment) -> None:
    alone = replace(two_sided, second=SecondMaps.none((96, 96)))
    same = compare_answers(two_sided, in_frame_of(two_sided, two_sided))
    assert float(same.by_photo.nan_to_num().max()) < 1e-3
    apart = compare_answers(two_sided, alone)
    assert float(apart.by_photo[1]) > 0.02
