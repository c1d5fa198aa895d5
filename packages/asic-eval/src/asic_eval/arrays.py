"""Reading `.npz` files that nobody has checked before: no pickles, and errors that name file and array."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from asic_eval.fields import AnnotationError, write_atomically

# An archive may unpack to far more than it weighs. All answers to SPair-71k's test pairs are 6 MB.
LARGEST_BYTES = 1 << 30


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
        return self._shaped(name, shape, "fiu", "numbers").astype(np.float64)

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
        return str(self._shaped(name, (), "U", "a string"))

    def texts(self, name: str, shape: tuple[int | None, ...]) -> list[str]:
        """Strings."""
        return [str(text) for text in self._shaped(name, shape, "U", "strings")]


def read_arrays(path: Path) -> Arrays:
    """All arrays of an `.npz` file.

    Raises:
        AnnotationError: The file is missing, is no such archive, holds pickled objects or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_BYTES:
                raise AnnotationError(path, "file", f"expected arrays of at most {LARGEST_BYTES} bytes, got more")
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            values = {}
            for name in names:
                with archive.open(name) as entry:
                    _check_length(entry, archive.getinfo(name).file_size)
                with archive.open(name) as entry:
                    values[name.removesuffix(".npy")] = np.lib.format.read_array(entry, allow_pickle=False)
    except AnnotationError:
        raise
    except OSError as error:
        raise AnnotationError(path, "file", f"expected a readable file, got {error.strerror or error}") from None
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


def _check_length(entry: IO[bytes], size: int) -> None:
    """Refuses an array whose header promises another size than the entry has, before memory is taken for it."""
    version = np.lib.format.read_magic(entry)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"format version {version} of an array; 1.0 and 2.0 are read")
    shape, _, dtype = read_header[version](entry)
    promised = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and promised != size - entry.tell():
        raise ValueError(
            f"an array of shape {shape} and type {dtype} takes {promised} bytes, not {size - entry.tell()}"
        )


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
