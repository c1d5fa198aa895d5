from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from asic_cli.viewer.canonical import open_window
from asic_cli.viewer.textures import (
    CONFIDENCE_SIDE,
    MAP_SIDE,
    MATCHES_A_PAIR,
    SECOND_MAP_SIDE,
    quantise,
    run_lengths,
    viewer_data,
)


@pytest.fixture(scope="module")
def document(run: Any) -> Any:
    return json.loads(viewer_data(run.photos, run.matches, run.maps, open_window(run.maps)))


def _numbers(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_maps_come_back_within_a_tenth_of_a_pixel_and_second_ones_within_a_half(two_sided: Any) -> None:
    run, window = two_sided, open_window(two_sided.maps)
    document = json.loads(viewer_data(run.photos, run.matches, run.maps, window))
    height, width = run.alignment.size_hw
    second = zip(run.alignment.second.photo.tolist(), run.alignment.second.maps, strict=True)
    textures = [
        (photo["map"], canonical) for photo, canonical in zip(document["photos"], run.alignment.maps, strict=True)
    ]
    textures += [(document["photos"][photo]["second"], canonical) for photo, canonical in second]
    for texture, canonical in textures:
        steps = _numbers(texture["texels"], "<u2").reshape(texture["side"], texture["side"], 2).astype(np.float64)
        low, high = np.array(texture["low"]), np.array(texture["high"])
        texels = torch.from_numpy(low + steps / 65535 * (high - low)).permute(2, 0, 1)[None]
        restored = interpolate(texels, (height, width), mode="bilinear", align_corners=True)[0].permute(1, 2, 0)
        pixel = (canonical[:, 1:] - canonical[:, :-1]).norm(dim=-1).median()
        assert float((restored - canonical).norm(dim=-1).max() / pixel) < (0.1 if texture["side"] == MAP_SIDE else 0.5)
    assert [texture["side"] for texture, _ in textures] == [MAP_SIDE] * 5 + [SECOND_MAP_SIDE] * 2


def test_flat_map_survives() -> None:
    steps, low, high = quantise(np.full((8, 8, 2), 0.25, np.float32), 16)
    assert not steps.any()
    assert [*low, *high] == pytest.approx([0.25] * 4)


def test_mask_and_confidence_come_back(run: Any, document: Any) -> None:
    for index, photo in enumerate(document["photos"]):
        lengths = _numbers(photo["mask"], "<u2").astype(int)
        mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        np.testing.assert_array_equal(mask, run.alignment.foreground[index].numpy().ravel())
        coarse = _numbers(photo["confidence"], "u1").reshape(CONFIDENCE_SIDE, CONFIDENCE_SIDE) / 255
        cell = run.alignment.size_hw[0] // CONFIDENCE_SIDE
        at_pixels = np.kron(coarse, np.ones((cell, cell)))
        error = np.abs(at_pixels - run.alignment.confidence[index].numpy())[run.alignment.foreground[index].numpy()]
        assert error.mean() < 0.05


def test_long_runs_are_cut() -> None:
    mask = np.zeros((300, 500), bool)
    mask[299, 499] = True
    assert run_lengths(mask).tolist() == [65535, 0, 65535, 0, 18929, 1]
    assert run_lengths(~mask)[0] == 0


def test_matches_are_the_best_of_each_pair(run: Any, document: Any) -> None:
    assert [pair[:2] for pair in document["pairs"]] == run.matches.pairs.tolist()
    first, last = run.matches.offsets[:2]
    order = np.argsort(-run.matches.score[first:last], kind="stable")[:MATCHES_A_PAIR] + first
    rows = _numbers(document["pairs"][0][2], "u1").reshape(-1, 5)
    assert len(rows) == len(order)
    np.testing.assert_allclose(rows[:, :2], run.matches.xy_a[order], atol=0.51)
    np.testing.assert_allclose(rows[:, 2:4], run.matches.xy_b[order], atol=0.51)
    np.testing.assert_allclose(rows[:, 4] / 255, run.matches.score[order].clip(0, 1), atol=0.002)


def test_block_cannot_end_its_element(run: Any, document: Any) -> None:
    text = viewer_data(run.photos, run.matches, run.maps, open_window(run.maps))
    assert "<" not in text
    assert text.isascii()
    assert [photo["path"] for photo in document["photos"]] == [photo.path for photo in run.collection.photos]
