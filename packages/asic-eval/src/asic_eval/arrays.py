"""Reading `.npz` files that nobody has checked before: no pickles, and errors that name file and array."""

from __future__ import annotations

import io
import math
import reprlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from asic_eval.fields import AnnotationError, open_file, write_atomically

# An archive may unpack to far more than it weighs, and a number of one byte is held in eight. All answers to
# SPair-71k's test pairs take 13 MB, names and confidences included; here is room for them a hundred times over.
LARGEST_BYTES = 3 << 29
# What a string takes in Python beside its characters.
_STRING_BYTES = 64
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class Arrays:
    """The arrays of one file.

    Every method returns the array with the content its name says or raises `AnnotationError`.
    """

    file: str
    values: Mapping[str, NDArray[Any]]

    def error(self, name: str, problem: str) -> AnnotationError:
        """The error to raise about one array."""
        return AnnotationError(self.file, f"array {name!r}", problem)

    def has(self, name: str) -> bool:
        """Whether the file holds an array of this name."""
        return name in self.values

    def _shaped(self, name: str, shape: tuple[int | None, ...], kinds: str, content: str) -> NDArray[Any]:
        if name not in self.values:
            raise self.error(name, "expected an array, got none of this name")
        array = self.values[name]
        fits = array.ndim == len(shape) and all(w in (None, g) for w, g in zip(shape, array.shape, strict=True))
        if not fits or array.dtype.kind not in kinds:
            wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
            raise self.error(name, f"expected {content} of shape {wanted}, got {array.dtype} of shape {array.shape}")
        return array

    def numbers(self, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
        """Numbers, finite or not, as double precision."""
        return self._shaped(name, shape, "fiu", "numbers").astype(np.float64, copy=False)

    def flags(self, name: str, shape: tuple[int | None, ...]) -> NDArray[np.bool_]:
        """Truth values."""
        return self._shaped(name, shape, "b", "truth values")

    def whole_numbers(self, name: str, shape: tuple[int | None, ...], *, low: int) -> NDArray[np.int64]:
        """Whole numbers of at least `low`."""
        array = self._shaped(name, shape, "iu", "whole numbers")
        if array.size and (array.min() < low or array.max() >= 2**53):
            raise self.error(name, f"expected whole numbers from {low}, got {array.min()} to {array.max()}")
        return array.astype(np.int64)

    def text(self, name: str) -> str:
        """A single string."""
        return str(self._strings(name, (), "a string"))

    def texts(self, name: str, shape: tuple[int | None, ...]) -> list[str]:
        """Strings."""
        return [str(text) for text in self._strings(name, shape, "strings")]

    def _strings(self, name: str, shape: tuple[int | None, ...], content: str) -> NDArray[np.str_]:
        array = self._shaped(name, shape, "U", content)
        # Python fails at code points that there are not, and at writing half of a pair.
        codes = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).view(np.uint32)
        wrong = codes[(codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))]
        if wrong.size:
            raise self.error(name, f"expected {content} that can be written as UTF-8, got the code point {wrong[0]:#x}")
        return array


def read_arrays(path: Path) -> Arrays:
    """All arrays of an `.npz` file.

    Raises:
        AnnotationError: The file cannot be read (see `asic_eval.fields.open_file`), is no such archive, has two arrays
            of one name, holds pickled objects, or takes more than `LARGEST_BYTES` in memory: 8 for each number, and 64
            for each string beside its characters.
    """
    values: dict[str, NDArray[Any]] = {}
    room = LARGEST_BYTES
    try:
        with open_file(path, LARGEST_BYTES) as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    continue
                if name in values:
                    raise AnnotationError(path, f"array {reprlib.repr(name)}", "expected one of this name, got two")
                with archive.open(member) as entry:
                    room -= _bytes_in_memory(entry, member.file_size)
                if room < 0:
                    raise AnnotationError(path, "file", f"expected arrays of at most {LARGEST_BYTES} bytes, got more")
                with archive.open(member) as entry:
                    values[name] = np.lib.format.read_array(entry, allow_pickle=False)
    except AnnotationError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        SyntaxError,
        TypeError,
        MemoryError,
        OverflowError,
        KeyError,
    ) as error:
        raise AnnotationError(path, "file", f"expected an .npz archive of plain arrays: {error}") from None
    return Arrays(str(path), values)


def _bytes_in_memory(entry: IO[bytes], size: int) -> int:
    """What an array will take; refuses one whose header promises another size than the entry has, or items of none."""
    head = io.BytesIO(entry.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(head)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"format version {version} of an array; 1.0 and 2.0 are read")
    shape, _, dtype = read_header[version](head)
    count, content = math.prod(shape), size - head.tell()
    if not dtype.itemsize:
        raise ValueError(f"an array of shape {shape} and type {dtype} has items of no bytes")
    if not dtype.hasobject and count * dtype.itemsize != content:
        raise ValueError(
            f"an array of shape {shape} and type {dtype} takes {count * dtype.itemsize} bytes, not {content}"
        )
    each = {"b": 1, "U": dtype.itemsize + _STRING_BYTES}.get(dtype.kind, max(dtype.itemsize, 8))
    return int(count * each)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an `.npz` file atomically; the same arrays give the same bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
            # A fixed date, so that equal content is an equal file.
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, entry.getvalue())
    write_atomically(path, data.getvalue())
