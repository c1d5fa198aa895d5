"""The size of a JPEG or PNG file from its header, for benchmarks whose annotations do not give it."""

from __future__ import annotations

from pathlib import Path

from asic_eval.fields import AnnotationError, open_file

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_HEADER = 1 << 20
# Start-of-frame markers; the numbers left out are tables and extensions.
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels as stored, so before any EXIF rotation, like the benchmarks' annotations.

    Args:
        path: A JPEG or PNG file, of which at most the first MiB is read.

    Raises:
        AnnotationError: The file cannot be read (see `open_file`), or its header is neither format's.

    The formats: ISO/IEC 10918-1, annex B; PNG specification, section 11.2.2.
    """
    with open_file(path) as file:
        head = file.read(_LONGEST_HEADER)
    size = _png_size(head) if head.startswith(_PNG_SIGNATURE) else _jpeg_size(head)
    if size is None or min(size) < 1:
        raise AnnotationError(path, "header", "expected a JPEG or PNG image with a size")
    return size


def _png_size(head: bytes) -> tuple[int, int] | None:
    if len(head) < 24 or head[12:16] != b"IHDR":
        return None
    return int.from_bytes(head[20:24]), int.from_bytes(head[16:20])


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    if not head.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if marker in _FRAMES:
            return int.from_bytes(head[position + 5 : position + 7]), int.from_bytes(head[position + 7 : position + 9])
        # A marker may be preceded by any number of fill bytes.
        position += 1 if marker == 0xFF else 2 + int.from_bytes(head[position + 2 : position + 4])
    return None
