from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asic_cli.__main__ import main
from asic_cli.compare import _settings
from asic_cli.difference import compare_answers, in_frame_of
from asic_cli.runs import load_run
from asic_flow.sides import SecondMaps


@pytest.fixture(scope="module")
def smaller_run(photos: Path, tmp_path_factory) -> Path:
    """The same photos at another size, stretched by a crop."""
    folder = tmp_path_factory.mktemp("smaller")
    size = ("--size", "80", "--stride", "8", "--fit", "crop")
    assert main(["features", str(photos), "--out", str(folder / "collection"), *size]) == 0
    assert main(["train", str(folder / "collection"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_run_in_its_own_frame_is_itself(run) -> None:
    alignment = load_run(run).alignment
    same = in_frame_of(alignment, alignment)
    torch.testing.assert_close(same.maps, alignment.maps, atol=1e-5, rtol=0)
    assert torch.equal(same.foreground, alignment.foreground)
    difference = compare_answers(alignment, same)
    assert float(difference.by_place[~difference.by_place.isnan()].max()) < 1e-3
    shown = alignment.foreground[:, 1::3, 1::3]
    assert torch.equal(difference.by_place.isnan(), ~shown)


def test_a_smaller_run_keeps_its_canonical_positions(run, smaller_run) -> None:
    here, there = load_run(run).alignment, load_run(smaller_run).alignment
    moved = in_frame_of(there, here)
    assert moved.size_hw == here.size_hw
    points = np.random.default_rng(0).uniform(20, 100, (40, 2))
    np.testing.assert_allclose(moved.to_canonical(points, 3), there.to_canonical(points, 3), atol=0.02)
    shares = moved.foreground.float().mean((1, 2)) / there.foreground.float().mean((1, 2))
    np.testing.assert_allclose(shares.numpy(), 1, atol=0.06)


def test_a_known_shift_is_found_where_it_is(run) -> None:
    alignment = load_run(run).alignment
    # Photo 2 answers to a map that lies six pixels to the right of what it was; nothing else has changed.
    shifted = replace(
        alignment,
        maps=torch.cat((alignment.maps[:2], alignment.maps[2:3].roll(6, 2), alignment.maps[3:])),
        foreground=torch.cat(
            (alignment.foreground[:2], alignment.foreground[2:3].roll(6, 2), alignment.foreground[3:])
        ),
    )
    difference = compare_answers(alignment, shifted)
    assert int(difference.by_photo.argmax()) == 2
    assert float(difference.by_photo[2]) > 3 * float(difference.by_photo[[0, 1, 3, 4]].max())


def test_a_photo_is_not_compared_with_itself(run) -> None:
    alignment = load_run(run).alignment
    fields = ("photos", "maps", "confidence", "foreground", "mirrored", "support")
    first = {name: getattr(alignment, name)[:2] for name in fields}
    two = replace(alignment, **first, second=SecondMaps.none((96, 96)))
    shifted = replace(
        two,
        maps=torch.cat((two.maps[:1], two.maps[1:].roll(6, 2))),
        foreground=torch.cat((two.foreground[:1], two.foreground[1:].roll(6, 2))),
    )
    # Photo 0 finds itself where it was; the median over both photos would be that, and not six pixels.
    assert float(compare_answers(two, shifted).by_place[0].nanmedian()) == pytest.approx(6 / 96, abs=0.1 / 96)


def test_the_page_shows_both_and_says_what_differs(asic, run, smaller_run, tmp_path) -> None:
    result = asic("compare", run, smaller_run, "--out", "below/c.html")
    assert (result.code, result.out) == (0, "below/c.html\n"), result.err
    page = (tmp_path / "below" / "c.html").read_text()
    assert "At least one of the two was not scored" in page
    assert '<th scope="row">features.size</th><td>96</td><td>80</td>' in page
    assert page.count('class="double"') == 5
    settings = _settings(load_run(run))
    assert settings["features.size"] == "96"
    # What has no value is absent, as the other run's is where it has no such setting.
    assert "features.weights_sha256" not in settings


def test_scores_of_both_stand_beside_each_other(asic, demo, tmp_path) -> None:
    assert asic("compare", demo / "run", demo / "run", "--out", "c.html").code == 0
    page = (tmp_path / "c.html").read_text()
    assert "Both were made with the same settings." in page
    assert page.count("+0.0") > 12
    assert '<th scope="col">Keypoint</th>' in page


def test_parts_of_scores_wait_for_both(asic, demo, unscored, tmp_path) -> None:
    assert asic("compare", demo / "run", unscored, "--out", "c.html").code == 0
    page = (tmp_path / "c.html").read_text()
    assert "At least one of the two was not scored" in page
    assert "by photo and keypoint yet" not in page
    summary = json.loads((demo / "run" / "summary.json").read_text())
    del summary["breakdown"]
    (unscored / "summary.json").write_text(json.dumps(summary))
    assert asic("compare", demo / "run", unscored, "--out", "c.html").code == 0
    page = (tmp_path / "c.html").read_text()
    assert "At least one of the two was not scored" not in page
    assert "Not scored by photo and keypoint yet; <code>asic eval</code> does that." in page


def test_runs_of_other_photos_are_refused(asic, run, demo, photos, tmp_path) -> None:
    result = asic("compare", run, demo / "run")
    assert (result.code, "expected two runs of the same photos" in result.err) == (2, True)
    here = load_run(run).alignment
    with pytest.raises(ValueError, match="they are in another order"):
        in_frame_of(replace(here, photos=here.photos[::-1]), here)
    del photos
    assert not (tmp_path / "compare.html").exists()


def test_no_page_of_a_run_that_is_gone(asic, run, tmp_path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "config.json").unlink()
    result = asic("compare", run, copied)
    assert (result.code, "no config.json" in result.err) == (2, True)
