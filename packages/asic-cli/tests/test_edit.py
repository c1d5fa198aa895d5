from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import max_pool2d

from asic_cli.blend import over, over_by_bands
from asic_cli.errors import InputError
from asic_cli.originals import find_originals, picture_name
from asic_cli.propagate import Propagation
from asic_flow.alignment import Alignment

SIDE = 120


@pytest.fixture(scope="module")
def alignment(run: Path) -> Alignment:
    return Alignment.load(run)


@pytest.fixture(scope="module")
def spot(alignment) -> np.ndarray:
    """A place of photo 0 that all others are sure of, in its own pixels."""
    rows, columns = np.nonzero(alignment.foreground[0].numpy())
    points = alignment.photos[0].to_image(np.stack((columns, rows), 1))
    sure = [alignment.transfer(points, 0, target, "canonical").confidence for target in range(1, 5)]
    return points[np.min(sure, axis=0).argmax()]


def _layer(path: Path, spot: np.ndarray, side: int = SIDE, radius: float = 6, alpha: int = 255) -> Path:
    """A magenta disc round a place of a 120 x 120 photo, at any size."""
    y, x = np.mgrid[:side, :side]
    scale = SIDE / side
    inside = np.hypot((x + 0.5) * scale - 0.5 - spot[0], (y + 0.5) * scale - 0.5 - spot[1]) <= radius
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[inside] = (255, 0, 200, alpha)
    Image.fromarray(pixels).save(path)
    return path


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize(("side", "blend"), [(SIDE, "alpha"), (480, "alpha"), (SIDE, "laplacian")])
def test_a_disc_lands_where_the_library_takes_its_middle(
    asic, run, photos, alignment, spot, tmp_path, side, blend
) -> None:
    layer = _layer(tmp_path / "layer.png", spot, side)
    result = asic("edit", run, "--source", photos / "0.png", "--layer", layer, "--out", "edited", "--blend", blend)
    assert (result.code, result.out) == (0, "edited\n"), result.err
    document = json.loads((tmp_path / "edited" / "edit.json").read_text())
    assert [record["photo"] for record in document["pictures"]] == [f"{index}.png" for index in range(5)]
    for index, record in enumerate(document["pictures"]):
        path = tmp_path / "edited" / record["picture"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
        before, after = _pixels(photos / f"{index}.png"), _pixels(path)
        assert after.shape == before.shape
        changed = np.abs(after - before).max(2) > 60
        rows, columns = np.nonzero(changed)
        found = spot if index == 0 else alignment.transfer([spot], 0, index, "canonical").points_image[0]
        assert len(rows) > 15
        assert np.hypot(columns.mean() - found[0], rows.mean() - found[1]) < 4
        assert np.abs(after[round(found[1]), round(found[0])] - (255, 0, 200)).max() < (3 if blend == "alpha" else 60)
        if blend == "alpha" and index:
            # The edge is soft within a pixel.
            here = max_pool2d(alignment.foreground[index][None].float(), 3, 1, 1)[0].numpy()
            x, y = alignment.photos[index].to_model(np.stack((columns, rows), 1)).round().astype(int).T
            assert here[y, x].all()


def test_half_transparent_paint_is_mixed_in_and_nothing_else_changes(asic, run, photos, spot, tmp_path) -> None:
    layer = _layer(tmp_path / "layer.png", spot, alpha=128)
    assert asic("edit", run, "--source", photos / "0.png", "--layer", layer, "--out", "edited").code == 0
    before, after = _pixels(photos / "0.png"), _pixels(tmp_path / "edited" / "000-0.png")
    painted = np.asarray(Image.open(layer))[..., 3] > 0
    mixed = before + (np.array([255, 0, 200]) - before) * (128 / 255)
    np.testing.assert_allclose(after[painted], mixed[painted], atol=1)
    np.testing.assert_array_equal(after[~painted], before[~painted])


def test_nothing_is_painted_where_nobody_is_sure(asic, run, photos, spot, tmp_path) -> None:
    layer = _layer(tmp_path / "layer.png", spot)
    arguments = ("edit", run, "--source", photos / "0.png", "--layer", layer, "--out", "edited")
    records = asic(*arguments, "--least-confidence", 0.99, "--json").json["pictures"]
    assert [record["changed"] for record in records[1:]] == [0, 0, 0, 0]
    assert records[0]["changed"] > 0
    np.testing.assert_array_equal(_pixels(tmp_path / "edited" / "001-1.png"), _pixels(photos / "1.png"))


def test_a_thin_line_is_not_lost_between_pixels_of_the_model(alignment, photos, spot) -> None:
    # A photo four times as large: the model's pixels lie five of its pixels apart, and the line is one pixel wide.
    large = [np.asarray(Image.open(photos / f"{index}.png").resize((480, 480))) for index in (0, 1)]
    records = tuple(
        replace(photo, size_hw=(480, 480), scale_xy=(0.2, 0.2), offset_xy=(-0.4, -0.4)) for photo in alignment.photos
    )
    enlarged = replace(alignment, photos=records)
    layer = np.zeros((480, 480, 4), np.uint8)
    column = round(spot[0] * 4 + 1.5)
    layer[round(spot[1] * 4) - 20 : round(spot[1] * 4) + 20, column] = (255, 0, 200, 255)
    after = Propagation(enlarged, 0, layer, 0.1).onto(1, large[1], over)
    assert ((after != large[1]).any(2)).sum() > 20


def test_another_edit_in_the_same_folder_leaves_no_picture_of_the_first(asic, run, photos, spot, tmp_path) -> None:
    layer = _layer(tmp_path / "layer.png", spot)
    arguments = ("edit", run, "--source", photos / "0.png", "--layer", layer, "--out", "edited")
    assert asic(*arguments).code == 0
    document = json.loads((tmp_path / "edited" / "edit.json").read_text())
    document["pictures"] += [{"picture": "stale.png"}, {"picture": "../layer.png"}]
    (tmp_path / "edited" / "edit.json").write_text(json.dumps(document))
    (tmp_path / "edited" / "stale.png").touch()
    (tmp_path / "edited" / "mine.txt").touch()
    assert asic(*arguments).code == 0
    names = {path.name for path in (tmp_path / "edited").iterdir()}
    assert names == {".asic.lock", "edit.json", "mine.txt", *(f"00{index}-{index}.png" for index in range(5))}
    assert layer.exists()


def test_a_folder_of_something_else_is_left_alone(asic, run, photos, spot, collection, tmp_path) -> None:
    layer = _layer(tmp_path / "layer.png", spot)
    result = asic("edit", run, "--source", photos / "0.png", "--layer", layer, "--out", collection)
    assert (result.code, "holds a collection" in result.err) == (2, True)


@pytest.mark.parametrize("missing", ["gone", "other pixels", "unreadable"])
def test_originals_that_are_not_there_are_named(asic, run, photos, spot, tmp_path, missing) -> None:
    copied = shutil.copytree(photos, tmp_path / "photos")
    if missing == "gone":
        (copied / "3.png").unlink()
    elif missing == "unreadable":
        (copied / "3.png").write_bytes(b"no picture")
    else:
        shutil.copy(copied / "2.png", copied / "3.png")
    layer = _layer(tmp_path / "layer.png", spot)
    assert asic("edit", run, "--source", photos / "0.png", "--layer", layer, "--out", "edited").code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "edited").iterdir()}
    layer = _layer(tmp_path / "layer.png", spot, alpha=99)
    result = asic("edit", run, "--source", copied / "0.png", "--layer", layer, "--out", "edited")
    message = {"gone": "missing", "other pixels": "not those that the run was made from", "unreadable": "convert it"}
    assert result.code == 2, result.err
    assert "photos/3.png: " in result.err
    assert message[missing] in result.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "edited").iterdir()} == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: Image.new("RGB", (SIDE, SIDE)).save(path), "expected transparency"),
        (lambda path: Image.new("RGBA", (SIDE, SIDE)).save(path), "expected something painted"),
        (lambda path: path.unlink(missing_ok=True), "expected a readable file"),
        (lambda path: path.write_bytes(b"no picture"), "expected a PNG, WebP or TIFF picture"),
    ],
)
def test_layers_that_cannot_be_used_are_refused(asic, run, photos, tmp_path, make, message) -> None:
    make(tmp_path / "layer.png")
    result = asic("edit", run, "--source", photos / "0.png", "--layer", "layer.png", "--out", "edited")
    assert (result.code, f"--layer layer.png: {message}" in result.err) == (2, True), result.err
    assert not (tmp_path / "edited").exists()


def test_a_layer_of_another_shape_is_refused(asic, run, photos, tmp_path) -> None:
    picture = Image.new("RGBA", (SIDE, SIDE // 2))
    picture.putpixel((3, 3), (9, 9, 9, 255))
    picture.save(tmp_path / "layer.png")
    result = asic("edit", run, "--source", photos / "0.png", "--layer", "layer.png", "--out", "edited")
    assert (result.code, "120 x 120 pixels or any size in proportion, got 120 x 60" in result.err) == (2, True)


def test_a_source_without_an_object_is_refused(alignment, photos) -> None:
    foreground = alignment.foreground.clone()
    foreground[0] = False
    with pytest.raises(ValueError, match=r"0\.png: expected a photo with an object"):
        Propagation(replace(alignment, foreground=foreground), 0, np.zeros((9, 9, 4), np.uint8), 0.2)
    del photos


def test_photos_are_found_by_any_one_of_them(alignment, tmp_path) -> None:
    names = ("a/one.jpg", "b/one.jpg", "b/two.jpg", "one.jpg")
    records = tuple(replace(alignment.photos[0], path=name) for name in names)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for source, root, index in (
        (tmp_path / "b" / "one.jpg", None, 1),
        (tmp_path / "one.jpg", None, 3),
        (tmp_path / "a" / "one.jpg", tmp_path, 0),
        (Path("two.jpg"), tmp_path, 2),
        (Path("one.jpg"), tmp_path, 3),
    ):
        found, here = find_originals(records, source, [root] if root else [])
        assert (found.files, here) == (tuple(tmp_path / name for name in names), index)
    # A folder further up says nothing about where the others lie.
    assert (
        find_originals(records, tmp_path / "b" / "two.jpg", [tmp_path.parent])[0].files[1] == tmp_path / "b" / "one.jpg"
    )
    for source in (tmp_path / "three.jpg", tmp_path / "o.jpg"):
        with pytest.raises(InputError, match=r"expected one of the run's 4 photos \(a/one.jpg, "):
            find_originals(records, source, [])


def test_names_of_pictures_are_harmless_and_their_own(alignment) -> None:
    records = tuple(replace(alignment.photos[0], path=path) for path in ("a/x.jpg", "b/x.png", "../<i>\n.jpg"))
    assert [picture_name(records, index, ".png") for index in range(3)] == ["000-x.png", "001-x.png", "002-_i_.png"]


def test_bands_put_the_photo_and_the_paint_back_together() -> None:
    photo, paint = torch.rand(2, 3, 61, 90, generator=torch.Generator().manual_seed(0))
    nothing, everything = torch.zeros(1, 61, 90), torch.ones(1, 61, 90)
    torch.testing.assert_close(over_by_bands(photo, paint * 0, nothing), photo, atol=1e-5, rtol=0)
    torch.testing.assert_close(over_by_bands(photo, paint, everything), paint, atol=1e-5, rtol=0)


def test_bands_cross_a_border_softly_where_the_picture_is_flat() -> None:
    photo, opacity = torch.zeros(3, 64, 64), torch.zeros(1, 64, 64)
    opacity[..., 32:] = 1
    hard = over(photo, opacity.expand(3, -1, -1), opacity)[0, 32]
    soft = over_by_bands(photo, opacity.expand(3, -1, -1), opacity)[0, 32]
    assert float(hard.diff().abs().max()) == 1
    assert float(soft.diff().abs().max()) < 0.8
    assert float(soft[0]) < 0.1
    assert float(soft[-1]) > 0.9
