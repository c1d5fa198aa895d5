from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from asic_cli.viewer.canonical import needed_photos, open_window, wheel_colours
from asic_cli.viewer.flags import flags_of
from asic_cli.viewer.pictures import average, crop_to_content, in_their_frames, lines_of_pairs
from asic_flow.kernels import CanonicalIndex


def test_average_is_over_those_that_show_a_place() -> None:
    images = np.zeros((4, 9, 9, 3), np.uint8)
    images[0], images[1] = 100, 200
    visible = np.zeros((4, 9, 9), bool)
    visible[:2] = True
    mean = average(images, visible)
    assert (mean[..., :3] == 150).all()
    assert (mean[4, 4, 3]) > 0


def test_average_hides_what_one_photo_alone_shows() -> None:
    visible = np.zeros((5, 30, 30), bool)
    visible[:, :10] = True
    visible[0] = True
    alpha = average(np.full((5, 30, 30, 3), 90, np.uint8), visible)[..., 3]
    assert (alpha[:8] == 255).all()
    assert (alpha[15:] == 0).all()


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (5, 2), (11, 3), (30, 6)])
def test_a_fifth_and_at_least_two_must_show_a_place(count: int, needed: int) -> None:
    assert needed_photos(count) == needed


def test_what_continues_a_photos_edge_is_out_of_focus_and_the_photo_is_not(run: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    whole = replace(run.maps.photos[0], size_hw=(96, 96), scale_xy=(1.0, 1.0), offset_xy=(0.0, 0.0))
    # Rows 24 to 71 are the photo.
    wide = replace(whole, size_hw=(48, 96), offset_xy=(0.0, 24.0))
    shown = in_their_frames(images, (whole, wide))
    np.testing.assert_array_equal(shown[0], images[0])
    np.testing.assert_array_equal(shown[1, 24:72], images[1, 24:72])
    for band in (shown[1, :24], shown[1, 72:]):
        assert band.std() < 0.2 * images.std()
        assert abs(band.mean() - images[1].mean()) < 12


def test_crop_keeps_content_and_a_margin() -> None:
    picture = np.zeros((60, 80, 4), np.uint8)
    picture[20:45, 30:55, 3] = 255
    assert crop_to_content(picture).shape == (27, 27, 4)
    assert crop_to_content(np.zeros((6, 8, 4), np.uint8)).shape == (6, 8, 4)


def test_window_pixels_name_their_place_in_canonical_space(run: Any) -> None:
    """What a photo shows at a window's pixel has, by the photo's own map, that pixel's canonical position."""
    window = open_window(run.maps)
    left, top, right, bottom = window.box_xyxy
    _, height, width = window.visible.shape
    assert max(height, width) in range(250, 262)
    expected = np.stack(np.meshgrid(np.linspace(left, right, width), np.linspace(top, bottom, height)), -1)
    mapped = window.resample(run.maps.maps)
    error = np.linalg.norm(expected - mapped, axis=-1)[window.visible]
    assert np.quantile(error, 0.99) < 2 * (right - left) / (width - 1)
    assert window.visible.mean() > 0.2
    assert not mapped[~window.visible].any()


def test_window_shows_all_that_a_search_everywhere_would(run: Any) -> None:
    window = open_window(run.maps)
    left, top, right, bottom = window.box_xyxy
    _, height, width = window.visible.shape
    axes = torch.meshgrid(torch.linspace(top, bottom, height), torch.linspace(left, right, width), indexing="ij")
    places = torch.stack((axes[1], axes[0]), -1).reshape(-1, 2)
    index = CanonicalIndex(run.alignment.maps, run.alignment.foreground)
    found = index.nearest(places, max_distance=1.5 * (right - left) / (width - 1))
    # Rounding decides about places that lie right at the limit.
    assert (found.visible.numpy() != window.visible.reshape(len(window.visible), -1)).mean() < 1e-4


def test_wheel_turns_hue_with_direction_and_fades_to_grey() -> None:
    right, down, left, up, middle = wheel_colours(np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0.0]]), 1.0).astype(
        int
    )
    assert right[0] == right.max()
    assert down[2] == down.min()
    assert left[0] == left.min()
    assert up[2] == up.max()
    assert np.ptp(middle) <= 2
    np.testing.assert_array_equal(wheel_colours(np.array([3.0, 0.0]), 1.0), wheel_colours(np.array([9.0, 0.0]), 1.0))


def test_lines_tell_agreement_from_its_contrary(run: Any) -> None:
    clean = lines_of_pairs(run.matches, run.maps, 1.0)
    assert len({(lines.first, lines.second) for lines in clean}) == 3
    assert clean[0].num_agreeing >= clean[1].num_agreeing >= clean[2].num_agreeing > 0
    # Ends on the far side of the photo agree no more.
    broken = replace(run.matches, xy_b=run.matches.xy_b[:, ::-1].copy() * 0.0)
    assert sum(lines.num_agreeing for lines in lines_of_pairs(broken, run.maps, 1.0)) < 0.3 * sum(
        lines.num_agreeing for lines in clean
    )


def test_flags_name_mirrored_folded_and_unsupported_photos(run: Any) -> None:
    maps, support = run.maps.maps.copy(), np.full(5, 0.8, np.float32)
    maps[0] = maps[0, 64, 64]
    support[1] = 0.01
    mirrored = np.array([False, False, True, False, False])
    labels = [
        [flag.label for flag in flags]
        for flags in flags_of(replace(run.maps, maps=maps, support=support, mirrored=mirrored))
    ]
    assert labels == [["collapsed"], ["low support"], ["mirrored"], [], []]
