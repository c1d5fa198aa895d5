"""MATLAB 5 files without scipy, whose reader a damaged file can crash. Numbers, texts, structs and cells are read.

"MAT-file format", MathWorks, level 5: a header of 128 bytes, then elements, each a type, a size and its bytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asic_eval.fields import AnnotationError, open_file

# ACSM's test list unpacks to half a GiB, nearly all of it masks; it has a dozen values for each of thousands of photos.
LARGEST_BYTES = 1 << 30
MOST_VALUES = 1_000_000
DEEPEST = 8
# A text may take so many bytes for each value that it counts as.
_TEXT_BYTES = 64
_MOST_DIMENSIONS = 32
# A variable's name, which has 63 characters at most, begins within its first 200 bytes.
_LONGEST_HEAD = 4096
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_CELL, _STRUCT, _TEXT, _NUMERIC = 1, 2, 4, range(6, 16)

Element = tuple[int, memoryview]


def read_mat_variable(path: Path, name: str) -> Any:
    """One variable of a file.

    Args:
        path: The file, in level 5 of the format (MATLAB's `-v6` and `-v7`; not `-v7.3`).
        name: The variable's name.

    Returns:
        Numbers as an array, a text as a string, a cell array as a list of values, and a struct array, of whatever
        shape, as a list of dictionaries, in MATLAB's order of elements.

    Raises:
        AnnotationError: The file cannot be read (see `asic_eval.fields.open_file`) or is malformed, it has no such
            variable, or the variable has more than `LARGEST_BYTES` or `MOST_VALUES`.
    """
    with open_file(path, LARGEST_BYTES) as file:
        data = memoryview(file.read())
    byte_order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if byte_order is None:
        raise AnnotationError(path, "file", "expected a MATLAB 5 file, got another header")
    try:
        for kind, content in _elements(data[_HEADER:], byte_order):
            if kind == _COMPRESSED:
                head = _unpacked(content, _LONGEST_HEAD)
                inner, size = struct.unpack_from(f"{byte_order}II", head)
                if inner == _MATRIX and _name_of(head[8:], byte_order) == name:
                    if size > LARGEST_BYTES:
                        raise ValueError(f"a variable of {size} bytes, and at most {LARGEST_BYTES} are unpacked")
                    _, matrix = _next(_elements(_unpacked(content, 8 + size), byte_order))
                    return _Values(byte_order).read(matrix, DEEPEST)
            elif kind == _MATRIX and _name_of(content, byte_order) == name:
                return _Values(byte_order).read(content, DEEPEST)
    except (ValueError, zlib.error, struct.error) as error:
        raise AnnotationError(path, "file", f"expected a MATLAB 5 file: {error}") from None
    raise AnnotationError(path, name, "expected a variable, got none of this name")


def _unpacked(content: memoryview, most: int) -> memoryview:
    """The first bytes that a compressed element holds; beyond `most` nothing is unpacked."""
    return memoryview(zlib.decompressobj().decompress(content, most))


def _elements(data: memoryview, byte_order: str) -> Iterator[Element]:
    """Types and contents of the elements that follow each other in some bytes."""
    position = 0
    while position < len(data):
        first, size = struct.unpack_from(f"{byte_order}II", data, position)
        start, padded = position + 8, -size % 8
        if first >> 16:  # four bytes at most stand in the tag itself
            first, size, start, padded = first & 0xFFFF, first >> 16, position + 4, -(first >> 16) % 4
        if start + size > len(data):
            raise ValueError(f"an element of {size} bytes, where {len(data) - start} are left")
        yield first, data[start : start + size]
        position = start + size + (0 if first == _COMPRESSED else padded)


def _next(elements: Iterator[Element]) -> Element:
    element = next(elements, None)
    if element is None:
        raise ValueError("a part of a variable is missing")
    return element


def _name_of(content: memoryview, byte_order: str) -> str:
    parts = _elements(content, byte_order)
    _next(parts)
    _next(parts)
    return bytes(_next(parts)[1]).decode("latin-1")


class _Values:
    """Reads the values of one variable, and counts them."""

    def __init__(self, byte_order: str) -> None:
        self._byte_order = byte_order
        self._room = MOST_VALUES

    def _take(self, count: int) -> None:
        self._room -= count
        if self._room < 0:
            raise ValueError(f"a variable of more than {MOST_VALUES} values")

    def read(self, content: memoryview, depth: int) -> Any:
        """The value of an array's content, with structs and cells at most so deep."""
        if not content:
            return np.zeros((0, 0))
        if depth == 0:
            raise ValueError(f"structs and cells within each other more than {DEEPEST} deep")
        parts = _elements(content, self._byte_order)
        flags, sides = self._whole_numbers(parts), self._whole_numbers(parts)
        _next(parts)
        if len(sides) > _MOST_DIMENSIONS:
            raise ValueError(f"an array of {len(sides)} dimensions")
        shape = tuple(sides.tolist())
        count = math.prod(shape)
        kind = int(flags[0]) & 0xFF if len(flags) else 0
        # Whatever is promised must be there: an element takes a byte, a struct's or a cell's eight.
        if min(shape, default=0) < 0 or max(shape, default=0) >= 2**31 or count > len(content):
            raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
        if kind in _NUMERIC:
            numbers = self._numbers(parts)
            if len(numbers) != count:
                raise ValueError(f"{len(numbers)} numbers for an array of shape {shape}")
            return numbers.reshape(shape, order="F")
        if kind == _TEXT:
            return self._text(parts)
        if kind == _CELL:
            self._take(count)
            return [self._nested(parts, depth) for _ in range(count)]
        if kind == _STRUCT:
            length, names = self._whole_numbers(parts), _next(parts)[1]
            if len(length) != 1 or length[0] < 1:
                raise ValueError(f"names of fields of length {length[:2].tolist()}")
            starts = range(0, len(names), int(length[0]))
            if not starts:
                raise ValueError("a struct without fields")
            self._take(max(count, 1) * len(starts))
            fields = [bytes(names[start : start + starts.step]).split(b"\0")[0].decode("latin-1") for start in starts]
            return [{field: self._nested(parts, depth) for field in fields} for _ in range(count)]
        raise ValueError(f"a variable of class {kind}")

    def _nested(self, parts: Iterator[Element], depth: int) -> Any:
        kind, content = _next(parts)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where an array should be")
        return self.read(content, depth - 1)

    def _numbers(self, parts: Iterator[Element]) -> Any:
        kind, content = _next(parts)
        if kind not in _NUMBERS:
            raise ValueError(f"numbers of type {kind}")
        return np.frombuffer(content, f"{self._byte_order}{_NUMBERS[kind]}")

    def _whole_numbers(self, parts: Iterator[Element]) -> Any:
        numbers = self._numbers(parts)
        if numbers.dtype.kind == "f":
            raise ValueError("a fraction where a whole number should be")
        return numbers

    def _text(self, parts: Iterator[Element]) -> str:
        kind, content = _next(parts)
        if kind not in _TEXTS:
            raise ValueError(f"text of type {kind}")
        self._take(len(content) // _TEXT_BYTES)
        suffix = {"<": "-le", ">": "-be"}[self._byte_order] if kind in (4, 17) else ""
        return bytes(content).decode(_TEXTS[kind] + suffix)
