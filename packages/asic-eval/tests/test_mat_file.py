from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asic_eval import AnnotationError
from asic_eval.benchmarks import mat_file
from asic_eval.benchmarks.mat_file import read_mat_variable


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def small(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")


def array(kind: int, shape: tuple[int, ...], *parts: bytes, name: bytes = b"v", order: str = "<") -> bytes:
    head = element(6, struct.pack(f"{order}II", kind, 0), order)
    head += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, head + small(1, name, order) + b"".join(parts), order)


def write(folder: Path, *elements: bytes, order: str = "<") -> Path:
    header = b"by hand".ljust(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49)
    (folder / "x.mat").write_bytes(header + b"".join(elements))
    return folder / "x.mat"


ROW = array(6, (1, 2), element(9, struct.pack("<2d", 1.5, -2.0)))


def test_numbers_by_hand(tmp_path: Path) -> None:
    assert read_mat_variable(write(tmp_path, ROW), "v").tolist() == [[1.5, -2.0]]
    columns = array(6, (2, 3), element(2, bytes(range(6))))  # doubles stored as bytes, column by column
    assert read_mat_variable(write(tmp_path, columns), "v").tolist() == [[0, 2, 4], [1, 3, 5]]
    in_the_tag = array(11, (1, 2), small(4, struct.pack("<2H", 7, 500)))
    assert read_mat_variable(write(tmp_path, in_the_tag), "v").tolist() == [[7, 500]]
    big = array(6, (1, 1), element(9, struct.pack(">d", 2.5), ">"), order=">")
    assert read_mat_variable(write(tmp_path, big, order=">"), "v").tolist() == [[2.5]]
    empty = element(14, b"")
    assert read_mat_variable(write(tmp_path, array(1, (1, 1), empty)), "v")[0].shape == (0, 0)


def test_texts_by_hand(tmp_path: Path) -> None:
    for kind, content in ((2, b"ab\xe9"), (16, "ab\xe9".encode()), (4, "ab\xe9".encode("utf-16-le"))):
        text = array(4, (1, 3), element(kind, content))
        assert read_mat_variable(write(tmp_path, text), "v") == "ab\xe9"
    big = array(4, (1, 2), element(17, "ab".encode("utf-16-be"), ">"), order=">")
    assert read_mat_variable(write(tmp_path, big, order=">"), "v") == "ab"


def test_variables_are_found_by_name(tmp_path: Path) -> None:
    packed = zlib.compress(array(6, (1, 1), element(9, struct.pack("<d", 4.0)), name=b"w"))
    path = write(tmp_path, ROW, struct.pack("<II", 15, len(packed)) + packed, array(4, (1, 1), name=b"z"))
    assert read_mat_variable(path, "w").tolist() == [[4.0]]
    assert read_mat_variable(path, "v").shape == (1, 2)
    with pytest.raises(AnnotationError, match=r"x\.mat: u: expected a variable, got none of this name$"):
        read_mat_variable(path, "u")


@pytest.mark.parametrize("compressed", [False, True])
def test_against_scipy(tmp_path: Path, compressed: bool) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    rng = np.random.default_rng(0)
    numbers = {f"v{dtype}": (rng.random((3, 4, 2)) * 100).astype(dtype) for dtype in ("f8", "f4", "u1", "i2", "i8")}
    nested = {"text": "na\xefve", "inner": {"x": 1.0, "flags": np.array([[True, False]])}, "none": np.zeros((0, 2))}
    scipy_io.savemat(tmp_path / "x.mat", numbers | {"nested": nested}, do_compression=compressed)
    for name, value in numbers.items():
        assert np.array_equal(read_mat_variable(tmp_path / "x.mat", name), value)
    (record,) = read_mat_variable(tmp_path / "x.mat", "nested")
    assert record["text"] == "na\xefve"
    assert record["inner"][0]["x"].tolist() == [[1.0]]
    assert record["inner"][0]["flags"].tolist() == [[1, 0]]
    assert record["none"].shape == (0, 2)


LENGTH = small(5, struct.pack("<i", 4))
DEEP = array(6, (1, 1), element(9, struct.pack("<d", 1.0)))
for _ in range(9):
    DEEP = array(1, (1, 1), DEEP)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([b"\x0e\0\0\0"], r"unpack_from requires a buffer of at least"),
        ([element(14, b"12345678")[:12]], r"an element of 8 bytes, where 4 are left"),
        ([element(14, ROW[8:24])], r"a part of a variable is missing"),
        ([array(6, (1, 3), element(9, struct.pack("<2d", 1, 2)))], r"2 numbers for an array of shape \(1, 3\)"),
        ([array(6, (1, 2), element(33, b"12345678"))], r"numbers of type 33"),
        ([array(6, (1, 2))], r"a part of a variable is missing"),
        ([array(6, (1, -2), element(9, b""))], r"an array of shape \(1, -2\) in 48 bytes"),
        ([array(1, (10**6, 10**3))], r"an array of shape \(1000000, 1000\) in 40 bytes"),
        ([array(1, (1, 1), element(9, b"12345678"))], r"an element of type 9 where an array should be"),
        ([array(4, (1, 1), element(9, b"12345678"))], r"text of type 9"),
        ([array(4, (1, 1), element(16, b"\xff"))], r"can't decode byte 0xff"),
        ([array(5, (1, 1), element(9, b"12345678"))], r"a variable of class 5"),
        ([array(2, (1, 1), LENGTH, element(1, b""))], r"a struct without fields"),
        ([array(2, (1, 1), LENGTH, element(1, b"abc\0"))], r"a part of a variable is missing"),
        ([array(2, (1, 1), small(5, bytes(4)), element(1, b"abc\0"))], r"names of fields of length \[0\]"),
        ([array(2, (1, 1), element(5, bytes(8)), element(1, b"abc\0"))], r"names of fields of length \[0, 0\]"),
        ([array(6, (1,) * 33, element(9, bytes(8)))], r"an array of 33 dimensions"),
        (
            [element(14, element(6, bytes(8)) + element(9, bytes(16)) + small(1, b"v"))],
            r"a fraction where a whole number should be",
        ),
        (
            [element(14, element(6, b"\x06" + bytes(7)) + element(6, b"\xff" * 4 + bytes(4)) + small(1, b"v"))],
            r"an array of shape \(4294967295, 0\) in ",
        ),
        ([struct.pack("<II", 15, 4) + b"oops"], r"incorrect header check"),
        ([DEEP], r"structs and cells within each other more than 8 deep"),
    ],
)
def test_malformed_files(tmp_path: Path, content: list[bytes], message: str) -> None:
    with pytest.raises(AnnotationError, match=r"x\.mat: file: expected a MATLAB 5 file: .*" + message):
        read_mat_variable(write(tmp_path, *content), "v")


def test_other_files(tmp_path: Path) -> None:
    for data in (b"", b"hello" * 50):
        (tmp_path / "x.mat").write_bytes(data)
        with pytest.raises(AnnotationError, match=r"x\.mat: file: expected a MATLAB 5 file, got another header$"):
            read_mat_variable(tmp_path / "x.mat", "v")
    with pytest.raises(
        AnnotationError, match=r"y\.mat: file: expected a readable file, got No such file or directory$"
    ):
        read_mat_variable(tmp_path / "y.mat", "v")


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zlib.compress(array(6, (1, 1000), element(9, bytes(8000))))
    path = write(tmp_path, struct.pack("<II", 15, len(packed)) + packed)
    assert read_mat_variable(path, "v").shape == (1, 1000)
    monkeypatch.setattr(mat_file, "LARGEST_BYTES", 4000)
    with pytest.raises(AnnotationError, match=r"a variable of 8048 bytes, and at most 4000 are unpacked$"):
        read_mat_variable(path, "v")


def test_other_variables_are_not_unpacked(tmp_path: Path) -> None:
    cut = zlib.compress(array(6, (1, 100_000), element(9, bytes(800_000)), name=b"w"))[:-100]
    path = write(tmp_path, struct.pack("<II", 15, len(cut)) + cut, ROW)
    assert read_mat_variable(path, "v").tolist() == [[1.5, -2.0]]
    with pytest.raises(AnnotationError, match=r"an element of 800048 bytes, where \d+ are left$"):
        read_mat_variable(path, "w")


def test_values_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = element(14, b"")
    three: Any = [empty] * 3
    cells = array(1, (1, 2), array(1, (1, 3), *three, name=b""), array(1, (1, 3), *three, name=b""))
    structs = array(2, (4, 1), LENGTH, element(1, b"ab\0\0cd\0\0"), *[empty] * 8)
    fields = array(2, (0, 0), LENGTH, element(1, b"abc\0" * 8))
    text = array(4, (1, 9), element(2, b"x" * (8 * 64 + 63)))
    for content in (cells, structs, fields, text):
        path = write(tmp_path, content)
        monkeypatch.setattr(mat_file, "MOST_VALUES", 8)
        read_mat_variable(path, "v")
        monkeypatch.setattr(mat_file, "MOST_VALUES", 7)
        with pytest.raises(AnnotationError, match=r"x\.mat: file: .* a variable of more than 7 values$"):
            read_mat_variable(path, "v")


def test_structs_keep_the_order_of_their_elements(tmp_path: Path) -> None:
    def number(value: float) -> bytes:
        return array(6, (1, 1), element(9, struct.pack("<d", value)), name=b"")

    fields: Any = [number(value) for value in (1.0, 2.0, 3.0, 4.0)]
    struct_array = array(2, (1, 2), LENGTH, element(1, b"ab\0\0cd\0\0"), *fields)
    rows = read_mat_variable(write(tmp_path, struct_array), "v")
    assert [{key: value.item() for key, value in row.items()} for row in rows] == [
        {"ab": 1, "cd": 2},
        {"ab": 3, "cd": 4},
    ]
