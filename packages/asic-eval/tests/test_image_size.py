from __future__ import annotations

from pathlib import Path

import pytest

from asic_eval import AnnotationError
from asic_eval.benchmarks.image_size import read_image_size

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x02\x00\x01\x00\x03\x08\x02"


def jpeg(*segments: tuple[int, bytes], fill: bytes = b"") -> bytes:
    body = b"".join(fill + bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2) + data for marker, data in segments)
    return b"\xff\xd8" + body


FRAME = b"\x08" + (600).to_bytes(2) + (700).to_bytes(2) + b"\x03"


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (PNG, (65539, 258)),
        (PNG[:24], (65539, 258)),
        (PNG[:16] + b"\0\0\0\x01" * 2, (1, 1)),
        (jpeg((0xE0, b"JFIF\0"), (0xC0, FRAME)), (600, 700)),
        (jpeg((0xC4, bytes(40)), (0xC8, FRAME), (0xCC, b""), (0xC2, FRAME)), (600, 700)),
        (jpeg((0xE1, bytes(3)), (0xCF, FRAME), fill=b"\xff\xff"), (600, 700)),
        (jpeg((0xC0, FRAME))[: 2 + 9], (600, 700)),
    ],
)
def test_sizes(tmp_path: Path, data: bytes, size: tuple[int, int]) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_image_size(tmp_path / "x") == size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        PNG[:23],
        PNG.replace(b"IHDR", b"IDAT"),
        PNG[:16] + bytes(8),
        jpeg((0xE0, b"JFIF\0")),
        jpeg((0xC0, FRAME))[: 2 + 8],
        jpeg((0xC0, b"\x08\x00\x00\x00\x07")),
        b"\xff\xd8\x00\xc0\x00\x10" + FRAME,
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(AnnotationError, match=r"x: header: expected a JPEG or PNG image with a size$"):
        read_image_size(tmp_path / "x")
    with pytest.raises(AnnotationError, match=r"y: file: expected a readable file, got No such file or directory$"):
        read_image_size(tmp_path / "y")


@pytest.mark.real_data
def test_real_photos(real_data: Path) -> None:
    from PIL import Image

    photos = sorted((real_data / "stanford_dogs" / "images").rglob("*.jpg"))
    assert len(photos) == 25
    for photo in photos:
        with Image.open(photo) as image:
            assert read_image_size(photo) == image.size[::-1]
