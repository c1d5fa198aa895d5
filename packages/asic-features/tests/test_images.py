from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from asic_features.images import (
    PhotoError,
    Placement,
    fit_photo,
    inside_photo,
    list_photos,
    pixels_sha256,
    read_mask,
    read_photo,
    read_pixel_count,
    render,
    render_mask,
)

Save = Callable[..., Path]
Pixels = npt.NDArray[np.uint8]


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp"])
def test_lossless_formats_come_back_exactly(suffix: str, picture: Pixels, save: Save) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    np.testing.assert_array_equal(read_photo(save(f"a.{suffix}", picture, **options)), picture)


def test_suffix_does_not_matter(picture: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(picture).save(path, format="PNG")
    np.testing.assert_array_equal(read_photo(path), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, picture: Pixels, tmp_path: Path) -> None:
    transposed = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: picture.transpose(1, 0, 2)[::-1],
        7: picture.transpose(1, 0, 2)[::-1, ::-1],
        8: picture.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(transposed)).save(path, exif=exif)
    np.testing.assert_array_equal(read_photo(path), picture)


def test_16_bit_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 30000], [65535, 128, 129]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = np.array([[0, 1, 117], [255, 0, 1]])
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), np.repeat(expected[..., None], 3, axis=-1))


def test_float_pixels_in_0_1_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tiff")[0, :, 0], [0, 128, 255])


def test_float_pixels_beyond_1_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 300.0]], dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(PhotoError, match=r"a\.tiff: has floating-point pixels outside"):
        read_photo(tmp_path / "a.tiff")


def test_32_bit_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "a.tiff")
    with pytest.raises(PhotoError, match="32-bit pixels up to 70000"):
        read_photo(tmp_path / "a.tiff")


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_photo(tmp_path / "a.jpg")[4, 4]
    assert red > 200
    assert max(green, blue) < 60


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "clear.png", transparency=1)
    palette.save(tmp_path / "opaque.png")
    assert (read_photo(tmp_path / "rgba.png") == 255).all()
    assert (read_photo(tmp_path / "clear.png") == 255).all()
    assert (read_photo(tmp_path / "opaque.png") == (40, 50, 60)).all()


def test_first_frame_of_an_animation(picture: Pixels, tmp_path: Path) -> None:
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=False)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes_are_rendered(size_hw: tuple[int, int], save: Save) -> None:
    photo = read_photo(save("a.png", np.full((*size_hw, 3), 77, dtype=np.uint8)))
    assert (render(photo, fit_photo(size_hw, 32)) == 77).all()


def test_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 10_000)).save(path)
    with pytest.raises(PhotoError, match=r"bomb\.png: is larger than 89 megapixels"):
        read_photo(path)


@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_a_large_photo_takes_at_most_16_bytes_a_pixel(mode: str, tmp_path: Path) -> None:
    """So that the largest that is not refused, 89.5 megapixels, takes less than 1.5 GB."""
    side = 4000
    exif = Image.Exif()
    exif[274] = 6
    Image.new(mode, (side, side)).save(tmp_path / "a.png", compress_level=1, exif=exif)
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from asic_features.images import fit_photo, inside_photo, pixels_sha256, read_photo, render\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"photo = read_photo(Path({str(tmp_path / 'a.png')!r}))\n"
        "pixels_sha256(photo)\n"
        "render(photo, fit_photo(photo.shape[:2], 256))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 / side**2 < 16


def test_threads_share_what_they_do_about_warnings(picture: Pixels, save: Save, tmp_path: Path) -> None:
    """Filters of warnings belong to the process: bombs are refused in every thread, and all is as before at the end."""
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    small = save("small.png", picture)
    before = list(warnings.filters)

    def read(path: Path) -> bool:
        try:
            return len(read_photo(path)) > 0
        except PhotoError:
            return False

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(read, [small, tmp_path / "bomb.png"] * 100))
    assert answers == [True, False] * 100
    assert list(warnings.filters) == before


def test_the_header_alone_says_how_many_pixels(picture: Pixels, save: Save, tmp_path: Path) -> None:
    path = save("a.png", picture)
    path.write_bytes(path.read_bytes()[:60])
    assert read_pixel_count(path) == 40 * 60
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    assert [read_pixel_count(tmp_path / name) for name in ("bomb.png", "gone.png")] == [0, 0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404", "is a web page"),
        (b"  <svg xmlns=", "is a web page or an SVG"),
        (b"GIF89a and more", "is no JPEG, PNG"),
        (bytes(range(256)), "is no JPEG, PNG"),
    ],
)
def test_what_is_no_photo_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "odd [name].jpg"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=reason) as caught:
        read_photo(path)
    assert caught.value.path == path


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp"])
def test_truncated_files_are_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format={"jpg": "jpeg"}.get(suffix, suffix))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * kept)])
    with pytest.raises(PhotoError, match=r"damaged|is no JPEG"):
        read_photo(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"gone\.png: this file does not exist"):
        read_photo(tmp_path / "gone.png")


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(PhotoError, match="is a pipe or a device"):
        read_photo(tmp_path / "a.png")
    assert read_pixel_count(tmp_path / "a.png") == 0


def test_listing_is_nested_sorted_and_complete(picture: Pixels, save: Save, tmp_path: Path) -> None:
    names = ["b.PNG", "a/one.png", "a/one.bmp", "a/deep/er/x y.tiff", "ünï[/]😀.png", "new\nline.png"]
    for name in names:
        save(name, picture)
    (tmp_path / "notes.txt").write_text("no photo")
    save(".hidden/a.png", picture)
    save("._a.png", picture)
    os.mkfifo(tmp_path / "pipe.png")
    found = list_photos(tmp_path)
    assert [source.name for source in found] == sorted(names)
    assert all(source.path == tmp_path / source.name for source in found)


def test_listing_refuses_what_is_no_folder(picture: Pixels, save: Save, tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="is a file, expected a folder"):
        list_photos(save("a.png", picture))
    with pytest.raises(PhotoError, match="does not exist"):
        list_photos(tmp_path / "gone")


def test_listing_names_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system refuses such names")
    with pytest.raises(PhotoError, match="not valid UTF-8"):
        list_photos(tmp_path)


def test_pixel_hash_follows_pixels_and_shape(picture: Pixels) -> None:
    changed = picture.copy()
    changed[0, 0, 0] ^= 1
    hashes = {pixels_sha256(p) for p in (picture, changed, picture.reshape(60, 40, 3))}
    assert len(hashes) == 3
    assert pixels_sha256(picture[::-1][::-1]) == pixels_sha256(picture)


def test_placements_by_hand() -> None:
    assert fit_photo((100, 200), 50) == Placement(0, -50, 200, 200, 50)
    assert fit_photo((100, 200), 50, "crop") == Placement(50, 0, 100, 100, 50)
    assert fit_photo((100, 200), 50, "stretch") == Placement(0, 0, 200, 100, 50)
    # 40 x 20 grown by 5 % a side is 44 x 22; the square about (50, 60) begins at (28, 38).
    assert fit_photo((100, 200), 50, box_xyxy=(30, 50, 70, 70)) == Placement(28, 38, 44, 44, 50)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 9, 8, 5), (-9, 0, 0, 5), (200, 0, 210, 5), (float("nan"), 0, 5, 5)])
def test_boxes_without_area_inside_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected x0 < x1"):
        fit_photo((100, 200), 50, box_xyxy=box)


def test_unknown_fit() -> None:
    with pytest.raises(ValueError, match="unknown fit 'zoom': expected one of pad, crop, stretch"):
        fit_photo((4, 4), 32, "zoom")  # type: ignore[arg-type]


@given(
    left=st.integers(-50, 50),
    top=st.integers(-50, 50),
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    size=st.integers(32, 512),
)
def test_window_edges_land_on_the_squares_edges(left: int, top: int, width: int, height: int, size: int) -> None:
    placement = Placement(left, top, width, height, size)
    scale, offset = np.array(placement.scale_xy), np.array(placement.offset_xy)
    first = np.array([left - 0.5, top - 0.5]) * scale + offset
    last = np.array([left + width - 0.5, top + height - 0.5]) * scale + offset
    np.testing.assert_allclose(first, -0.5, atol=1e-6)
    np.testing.assert_allclose(last, size - 0.5, atol=1e-6)


def test_render_agrees_with_pillow() -> None:
    # Away from 0 and 255: Pillow clips between its two passes.
    picture = np.random.default_rng(0).integers(90, 160, (40, 60, 3), dtype=np.uint8)
    padded = np.pad(picture, ((10, 10), (0, 0), (0, 0)), mode="edge")
    for size in (32, 60, 90):
        expected = np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.LANCZOS), dtype=int)
        got = render(picture, fit_photo((40, 60), size)).astype(int)
        inner = slice(size // 8, -size // 8)  # at the border Pillow leaves taps out where this continues the edge
        assert np.abs(got - expected)[inner, inner].max() <= 1


_RENDER = """
import hashlib, numpy as np
from asic_features.images import fit_photo, render, render_mask
drawn = np.random.default_rng(0)
seen = hashlib.sha256()
for height, width in drawn.integers(300, 900, (12, 2)).tolist():
    photo = drawn.integers(0, 256, (height, width, 3), dtype=np.uint8)
    placement = fit_photo((height, width), 256)
    seen.update(render(photo, placement).tobytes() + render_mask(photo[:, :, 0], placement).tobytes())
print(seen.hexdigest())
"""


def test_what_the_model_sees_does_not_depend_on_threads() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", _RENDER],
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(seen) == 1


def test_render_continues_the_edge(picture: Pixels) -> None:
    beyond = render(picture, Placement(-60, 0, 60, 40, 32))
    np.testing.assert_array_equal(beyond, np.broadcast_to(beyond[:, :1], beyond.shape))
    same = render(picture[:40, :40], Placement(0, 0, 40, 40, 40))
    np.testing.assert_array_equal(same, picture[:40, :40])


def test_a_point_is_drawn_where_the_placement_says() -> None:
    photo = np.zeros((90, 120, 3), dtype=np.uint8)
    photo[33, 71] = 255
    placement = fit_photo((90, 120), 256)
    row, column = np.unravel_index(render(photo, placement)[..., 0].argmax(), (256, 256))
    expected = np.array([71, 33]) * placement.scale_xy + placement.offset_xy
    assert np.abs(expected - (column, row)).max() <= 0.51 + 1e-9


def test_mask_rendering_is_area_and_stops_at_the_photo() -> None:
    mask = np.full((10, 20), 255, dtype=np.uint8)
    placement = fit_photo((10, 20), 40)
    shown = render_mask(mask, placement)
    assert (shown[10:30] == 255).all()
    assert (shown[:10] == 0).all()
    assert (shown[30:] == 0).all()
    np.testing.assert_array_equal(inside_photo((10, 20), placement), shown)
    half = np.zeros((2, 2), dtype=np.uint8)
    half[:, 0] = 255
    np.testing.assert_array_equal(render_mask(half, Placement(0, 0, 2, 2, 1)), [[128]])


def test_masks_are_brightness_or_alpha(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 255).save(tmp_path / "grey.png")
    Image.new("RGBA", (2, 2), (255, 255, 255, 30)).save(tmp_path / "cutout.png")
    Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
    assert (read_mask(tmp_path / "grey.png") == 255).all()
    assert (read_mask(tmp_path / "cutout.png") == 30).all()
    assert (read_mask(tmp_path / "bits.png") == 255).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_masks_may_name_a_transparent_colour(tmp_path: Path, mode: str) -> None:
    """A dark object on a transparent ground, in a PNG without alpha channel."""
    grey = Image.fromarray(np.array([[0, 10], [10, 0]], dtype=np.uint8))
    colours = {"RGB": (0, 0, 0)}
    grey.convert(mode).save(tmp_path / "mask.png", transparency=colours.get(mode, 0))
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == mode
    assert read_mask(tmp_path / "mask.png").tolist() == [[0, 255], [255, 0]]
