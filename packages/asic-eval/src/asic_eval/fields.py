"""Reading annotation files that nobody has checked before: every value is looked at through a `Field` that knows
its file and its place, so that whatever is wrong ends in one `AnnotationError` naming both.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import reprlib
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

# The longest list that anybody reads here, COCO's people, has 240 MB.
LARGEST_FILE = 1 << 29

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LARGEST_EXACT = 2**53
# File systems end at 255 bytes a name; an ending may still be added.
_LONGEST_NAME = 240
_DEEPEST_PATH = 10


class AnnotationError(ValueError):
    """An annotation file that cannot be used as it is.

    Attributes:
        file: The file, as the reader was given it.
        field: The place in the file, such as `images[3].width` or `line 7, column 'x'`.
    """

    def __init__(self, file: str | Path, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field}: {problem}")
        self.file = str(file)
        self.field = field


@dataclass(frozen=True, slots=True)
class Field:
    """A value from a file, with the file's name and the value's place in it.

    Every method returns the value in the type its name says or raises `AnnotationError`.
    """

    value: Any
    file: str
    place: str = "document"

    def error(self, expected: str) -> AnnotationError:
        """The error to raise when this value is not what was expected."""
        return AnnotationError(self.file, self.place, f"expected {expected}, got {reprlib.repr(self.value)}")

    def keys(self) -> list[str]:
        """The keys of an object, which can be written as UTF-8."""
        if not isinstance(self.value, dict):
            raise self.error("an object")
        for key in filter(_LONE_SURROGATE.search, self.value):
            problem = f"expected keys without lone surrogates, got {reprlib.repr(key)}"
            raise AnnotationError(self.file, self.place, problem)
        return list(self.value)

    def key(self, name: str) -> Field:
        """The value of a key that an object must have."""
        if not isinstance(self.value, dict):
            raise self.error(f"an object with the key {name!r}")
        place = name if self.place == "document" else f"{self.place}.{name}"
        if name not in self.value:
            raise AnnotationError(self.file, place, "expected a value, got no such key")
        return Field(self.value[name], self.file, place)

    def optional(self, name: str) -> Field | None:
        """The value of a key, or None where the key is absent or null."""
        if not isinstance(self.value, dict):
            raise self.error("an object")
        return None if self.value.get(name) is None else self.key(name)

    def array(self, length: int | None = None) -> list[Field]:
        """The elements of an array, of a given length if one is named."""
        if not isinstance(self.value, list) or (length is not None and len(self.value) != length):
            raise self.error("an array" if length is None else f"an array of {length}")
        return [Field(value, self.file, f"{self.place}[{index}]") for index, value in enumerate(self.value)]

    def number(self) -> float:
        """A finite number, at most 2**53 in size (true and false are none)."""
        if not _is_number(self.value):
            raise self.error("a finite number")
        return float(self.value)

    def points(self, length: int) -> list[tuple[float, float]]:
        """An array of x and y pairs."""
        if type(self.value) is list and len(self.value) == length:
            flat = [number for xy in self.value if type(xy) is list and len(xy) == 2 for number in xy]
            if len(flat) == 2 * length and all(map(_is_number, flat)):
                return [(float(x), float(y)) for x, y in self.value]
        return [element.point() for element in self.array(length)]

    def numbers(self, length: int) -> list[float]:
        """An array of finite numbers."""
        if type(self.value) is list and len(self.value) == length and all(map(_is_number, self.value)):
            return [float(value) for value in self.value]
        return [element.number() for element in self.array(length)]

    def integer(self, low: int, high: int = _LARGEST_EXACT) -> int:
        """A whole number between two bounds, both included."""
        if type(self.value) is not int or not low <= self.value <= high:
            raise self.error(f"a whole number from {low}" + (f" to {high}" if high != _LARGEST_EXACT else ""))
        return self.value

    def flag(self) -> bool:
        """A truth value: true, false, 1 or 0."""
        if type(self.value) not in (bool, int, float) or self.value not in (0, 1):
            raise self.error("true or false")
        return bool(self.value)

    def text(self) -> str:
        """A string that is not empty and can be written as UTF-8."""
        if not isinstance(self.value, str) or not self.value:
            raise self.error("a string")
        if _LONE_SURROGATE.search(self.value):
            raise self.error("a string without lone surrogates")
        return self.value

    def relative_path(self) -> str:
        """A path with forward slashes that stays below the folder it starts from."""
        name = self.text()
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or name[1:2] == ":":
            raise self.error("a relative path with forward slashes and without '..'")
        if max(len(part.encode()) for part in parts) > _LONGEST_NAME or len(parts) > _DEEPEST_PATH:
            raise self.error(f"a path of at most {_DEEPEST_PATH} names of at most {_LONGEST_NAME} bytes each")
        return name

    def size_hw(self) -> tuple[int, int]:
        """An array of an image's height and width in pixels."""
        height, width = (element.integer(1, 10**6) for element in self.array(2))
        return height, width

    def point(self) -> tuple[float, float]:
        """An array of x and y."""
        x, y = self.numbers(2)
        return x, y

    def box_xyxy(self) -> tuple[float, float, float, float]:
        """An array of left, top, right and bottom with a positive extent."""
        left, top, right, bottom = self.numbers(4)
        if left >= right or top >= bottom:
            raise self.error("a box [left, top, right, bottom] with left < right and top < bottom")
        return left, top, right, bottom

    def box_xywh(self) -> tuple[float, float, float, float]:
        """An array of left, top, width and height, returned as left, top, right and bottom."""
        left, top, width, height = self.numbers(4)
        if width <= 0 or height <= 0:
            raise self.error("a box [left, top, width, height] with a positive width and height")
        return left, top, left + width, top + height

    def parsed_number(self) -> float:
        """The finite number, at most 2**53 in size, that a string writes out."""
        if _NUMBER.fullmatch(self.text()) is None or not _is_number(float(self.value)):
            raise self.error("a finite number")
        return float(self.value)

    def parsed_numbers(self, separator: str) -> list[float]:
        """The finite numbers that a string writes out, with a separator between them."""
        return [Field(part.strip(), self.file, self.place).parsed_number() for part in self.text().split(separator)]

    def parsed_integer(self, low: int) -> int:
        """The whole number, at least `low`, that a string writes out."""
        if _INTEGER.fullmatch(self.text()) is None or int(self.value) < low:
            raise self.error(f"a whole number from {low}")
        return int(self.value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and -_LARGEST_EXACT <= value <= _LARGEST_EXACT  # type: ignore[operator]


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("an object has the same key twice")
    return unique


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


@contextmanager
def open_file(path: Path, largest: int = LARGEST_FILE) -> Iterator[BinaryIO]:
    """Opens a regular file, or what a link leads to, for reading; a pipe or a device might never end.

    Args:
        path: The file.
        largest: How many bytes it may have.

    Raises:
        AnnotationError: The file is missing, unreadable, of another kind or too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AnnotationError(path, "file", "expected a regular file, got a folder, a pipe or a device")
        if status.st_size > largest:
            raise AnnotationError(path, "file", f"expected a file of at most {largest} bytes, got {status.st_size}")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise AnnotationError(path, "file", f"expected a readable file, got {error.strerror or error}") from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        AnnotationError: The file cannot be read (see `open_file`) or is not UTF-8.
    """
    try:
        with open_file(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(path, f"byte {error.start}", "expected UTF-8 text") from None


def parse_json(text: str, file: str) -> Field:
    """The top of a JSON document: strict (no NaN, no repeated keys, bounded depth).

    Args:
        text: The document.
        file: The name that errors give it.

    Raises:
        AnnotationError: The text is not JSON.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object_of_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise AnnotationError(file, f"line {error.lineno}", f"expected JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(file, "document", f"expected JSON: {error}") from None
    return Field(value, file)


def read_json(path: Path) -> Field:
    """The top of a JSON file; see `parse_json`."""
    return parse_json(read_text(path), str(path))


def read_table(path: Path, columns: tuple[str, ...], *, spaces_in_last: bool = False) -> list[dict[str, Field]]:
    """The rows of a text file of columns with spaces between them.

    Args:
        path: The file. Empty lines are skipped.
        columns: The columns' names.
        spaces_in_last: Whether the last column takes the rest of the line, spaces included.

    Raises:
        AnnotationError: The file cannot be read, or a line has another number of columns.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split(maxsplit=len(columns) - 1) if spaces_in_last else line.split()
        if not words:
            continue
        if len(words) != len(columns):
            problem = f"expected {len(columns)} columns ({', '.join(columns)}), got {reprlib.repr(line)}"
            raise AnnotationError(path, f"line {number}", problem)
        rows.append(
            {
                column: Field(word, str(path), f"line {number}, column {column!r}")
                for column, word in zip(columns, words, strict=True)
            }
        )
    return rows


def read_csv(path: Path, columns: tuple[str, ...] | int, *, optional: tuple[str, ...] = ()) -> list[dict[str, Field]]:
    """The rows of a comma-separated file with a header line.

    Args:
        path: The file. Empty lines are skipped.
        columns: The columns that the header must name, in any order and beside others; or only how many columns
            there are, to take them by position under the names `0`, `1`, ...
        optional: Further columns, which rows have where the header names them.

    Raises:
        AnnotationError: The file cannot be read, a column is missing, or a line has another number of columns.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        lines = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise AnnotationError(path, "file", f"expected comma-separated values: {error}") from None
    header = lines[0][1] if lines else []
    if isinstance(columns, int):
        columns = tuple(str(index) for index in range(columns))
        positions = {column: int(column) for column in columns}
        width = len(columns)
    else:
        width = len(header)
        positions = {name.strip(): index for index, name in enumerate(header)}
        missing = [column for column in columns if column not in positions]
        if missing or len(positions) != width:
            raise AnnotationError(
                path, "line 1", f"expected the columns {', '.join(columns)}, got {reprlib.repr(header)}"
            )
    rows = []
    for number, row in lines[1:]:
        if len(row) != width:
            raise AnnotationError(path, f"line {number}", f"expected {width} columns, got {len(row)}")
        rows.append(
            {
                column: Field(row[positions[column]].strip(), str(path), f"line {number}, column {column!r}")
                for column in (*columns, *optional)
                if column in positions
            }
        )
    return rows


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one and never a part.

    The file gets the mode that the process's umask gives new files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # No private file by mkstemp: to learn the umask is to change it for all threads.
    temporary = path.parent / f".{path.name[:40]}.{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
