from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from asic_flow.coarse import NormalisedMatches
from asic_flow.config import AlignmentConfig
from asic_flow.kernels import warp_bilinear
from asic_flow.paper.placement import Placement
from asic_flow.paper.rematching import rematch
from asic_flow.paper.training import Gauge
from asic_flow.tokens import held_out_tokens
from asic_flow.train import held_out_matches, normalised_matches

if TYPE_CHECKING:
    from conftest import DrawnCollection

CONFIG = AlignmentConfig()


def placed(drawn: DrawnCollection) -> Placement:
    fitting = normalised_matches(drawn.collection, drawn.matches, ~held_out_matches(drawn.collection, drawn.matches))
    return Placement.coarse(drawn.collection, fitting, CONFIG.coarse_scales)


def test_identity_changes_nothing() -> None:
    same = Placement.identity(2)
    points = torch.rand(5, 2) * 2 - 1
    assert torch.equal(same.apply(points, torch.tensor([0, 1, 1, 0, 1])), points)
    assert torch.equal(same.places_of_pixels((4, 6)), same.pixels_seen((4, 6)))


def test_the_coarse_frame_shows_objects_on_each_other_and_whole(drawn: DrawnCollection) -> None:
    placement = placed(drawn)
    seen = placement.pixels_seen((48, 48))
    masks = warp_bilinear(drawn.collection.foreground()[:, None].float(), seen, padding="zeros")[:, 0] >= 0.5
    assert (masks.all(0).sum() / masks.any(0).sum()).item() > 0.9
    assert not masks[:, [0, -1]].any()
    assert not masks[:, :, [0, -1]].any()


def test_frame_and_photo_are_each_others_inverse(drawn: DrawnCollection) -> None:
    placement = placed(drawn)
    photo = torch.arange(6).repeat_interleave(9)
    seen = placement.pixels_seen((3, 3)).reshape(-1, 2)
    frame = Placement.identity(6).places_of_pixels((3, 3)).reshape(-1, 2)
    torch.testing.assert_close(placement.apply(seen, photo), frame, atol=1e-5, rtol=0)


def test_matches_made_again_are_better_and_leave_out_what_is_held_out(drawn: DrawnCollection) -> None:
    collection = drawn.collection
    flows = placed(drawn).places_of_pixels(collection.size_hw)
    maps = Gauge.of(flows, collection.foreground()).apply(flows)
    pairs = torch.from_numpy(drawn.matches.pairs).long()
    found = rematch(collection, maps, pairs, CONFIG)
    before = normalised_matches(collection, drawn.matches, ~held_out_matches(collection, drawn.matches))
    assert len(found.weight) > len(before.weight)
    keys = list(zip(found.image_a.tolist(), found.image_b.tolist(), strict=True))
    assert keys == sorted(keys)

    def missed(matches: NormalisedMatches) -> torch.Tensor:
        a, b = ((points.numpy() + 1) / 2 * 95 for points in (matches.points_a, matches.points_b))
        ends = zip(a, b, matches.image_a.tolist(), matches.image_b.tolist(), strict=True)
        return torch.tensor([abs(drawn.truth(a[None], i, j) - b).max() for a, b, i, j in ends])

    assert (missed(found) < 4).float().mean() > (missed(before) < 4).float().mean()
    grid = collection.grid
    column, row = (((found.points_a + 1) / 2 * 95 - grid.first) / grid.stride).round().long().unbind(1)
    assert not held_out_tokens(collection)[found.image_a, row * grid.cols + column].any()
