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

from asic_eval.fields import AnnotationError

# ACSM's test list unpacks to half a GiB, nearly all of it masks.
LARGEST_BYTES = 2 << 30
DEEPEST = 8
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
        AnnotationError: The file is missing or malformed, or has no such variable.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise AnnotationError(path, "file", f"expected a readable file, got {error.strerror}") from None
    byte_order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if byte_order is None:
        raise AnnotationError(path, "file", "expected a MATLAB 5 file, got another header")
    try:
        for kind, content in _elements(data[_HEADER:], byte_order):
            if kind == _COMPRESSED:
                kind, content = _next(_elements(_unpacked(content), byte_order))
            if kind == _MATRIX and _name_of(content, byte_order) == name:
                return _value(content, byte_order, DEEPEST)
    except (ValueError, zlib.error, struct.error) as error:
        raise AnnotationError(path, "file", f"expected a MATLAB 5 file: {error}") from None
    raise AnnotationError(path, name, "expected a variable, got none of this name")


def _unpacked(content: memoryview) -> memoryview:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(content, LARGEST_BYTES)
    if unpacking.unconsumed_tail:
        raise ValueError(f"a variable unpacks to more than {LARGEST_BYTES} bytes")
    return memoryview(data)


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


def _numbers(element: Element, byte_order: str) -> Any:
    kind, content = element
    if kind not in _NUMBERS:
        raise ValueError(f"numbers of type {kind}")
    return np.frombuffer(content, f"{byte_order}{_NUMBERS[kind]}")


def _name_of(content: memoryview, byte_order: str) -> str:
    parts = _elements(content, byte_order)
    _next(parts)
    _next(parts)
    return bytes(_next(parts)[1]).decode("latin-1")


def _value(content: memoryview, byte_order: str, depth: int) -> Any:
    if not content:
        return np.zeros((0, 0))
    if depth == 0:
        raise ValueError(f"structs and cells within each other more than {DEEPEST} deep")
    parts = _elements(content, byte_order)
    flags, shape = _numbers(_next(parts), byte_order), tuple(_numbers(_next(parts), byte_order).tolist())
    _next(parts)
    count = math.prod(shape)
    kind = int(flags[0]) & 0xFF if len(flags) else 0
    # Whatever is promised must be there: an element takes a byte, a struct's or a cell's eight.
    if min(shape, default=0) < 0 or count > len(content):
        raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
    if kind in _NUMERIC:
        numbers = _numbers(_next(parts), byte_order)
        if len(numbers) != count:
            raise ValueError(f"{len(numbers)} numbers for an array of shape {shape}")
        return numbers.reshape(shape, order="F")
    if kind == _TEXT:
        code, text = _next(parts)
        if code not in _TEXTS:
            raise ValueError(f"text of type {code}")
        suffix = {"<": "-le", ">": "-be"}[byte_order] if code in (4, 17) else ""
        return bytes(text).decode(_TEXTS[code] + suffix)
    if kind == _CELL:
        return [_matrix(parts, byte_order, depth) for _ in range(count)]
    if kind == _STRUCT:
        length, names = _numbers(_next(parts), byte_order), bytes(_next(parts)[1])
        if len(length) != 1 or length[0] < 1:
            raise ValueError(f"names of fields of length {length.tolist()}")
        starts = range(0, len(names), int(length[0]))
        fields = [names[start : start + int(length[0])].split(b"\0")[0].decode("latin-1") for start in starts]
        if not fields:
            raise ValueError("a struct without fields")
        return [{field: _matrix(parts, byte_order, depth) for field in fields} for _ in range(count)]
    raise ValueError(f"a variable of class {kind}")


def _matrix(parts: Iterator[Element], byte_order: str, depth: int) -> Any:
    kind, content = _next(parts)
    if kind != _MATRIX:
        raise ValueError(f"an element of type {kind} where an array should be")
    return _value(content, byte_order, depth - 1)
