from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asic_eval import AnnotationError, arrays
from asic_eval.arrays import Arrays, read_arrays, write_arrays


def test_round_trip_is_exact_and_reproducible(tmp_path: Path) -> None:
    content = {"a": np.arange(6.0).reshape(2, 3), "b": np.array("text"), "c": np.array([True])}
    write_arrays(tmp_path / "x.npz", content)
    write_arrays(tmp_path / "y.npz", content)
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
    again = read_arrays(tmp_path / "x.npz")
    assert again.file == str(tmp_path / "x.npz")
    assert sorted(again.values) == ["a", "b", "c"]
    assert np.array_equal(again.numbers("a", (2, 3)), content["a"])
    assert again.text("b") == "text"
    assert again.flags("c", (None,)).tolist() == [True]
    with np.load(tmp_path / "x.npz") as plain:
        assert np.array_equal(plain["a"], content["a"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpys_own_files_are_read(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "x.npz", a=np.arange(3, dtype=np.uint8))
    assert read_arrays(tmp_path / "x.npz").whole_numbers("a", (3,), low=0).tolist() == [0, 1, 2]


CONTENT = {
    "float": np.array([[1.0, np.nan]]),
    "whole": np.array([3, 4]),
    "large": np.array([2**53], dtype=np.uint64),
    "flag": np.array([True, False]),
    "text": np.array("t"),
    "texts": np.array(["a", "b"]),
    "none": np.zeros(0, dtype=np.int64),
}


def test_contents() -> None:
    checked = Arrays("f", CONTENT)
    assert checked.numbers("whole", (2,)).dtype == np.float64
    assert checked.whole_numbers("whole", (None,), low=3).dtype == np.int64
    assert checked.whole_numbers("none", (0,), low=3).tolist() == []
    assert checked.texts("texts", (2,)) == ["a", "b"]
    assert checked.has("text")
    assert not checked.has("other")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda a: a.numbers("x", ()), "array 'x': expected an array, got none of this name"),
        (
            lambda a: a.numbers("float", (None, 3)),
            "array 'float': expected numbers of shape (any, 3), got float64 of shape (1, 2)",
        ),
        (
            lambda a: a.numbers("float", (1,)),
            "array 'float': expected numbers of shape (1), got float64 of shape (1, 2)",
        ),
        (lambda a: a.numbers("flag", (2,)), "array 'flag': expected numbers of shape (2), got bool of shape (2,)"),
        (
            lambda a: a.flags("whole", (2,)),
            "array 'whole': expected truth values of shape (2), got int64 of shape (2,)",
        ),
        (
            lambda a: a.whole_numbers("float", (1, 2), low=0),
            "array 'float': expected whole numbers of shape (1, 2), got float64 of shape (1, 2)",
        ),
        (lambda a: a.whole_numbers("whole", (2,), low=4), "array 'whole': expected whole numbers from 4, got 3 to 4"),
        (
            lambda a: a.whole_numbers("large", (1,), low=0),
            "array 'large': expected whole numbers from 0, got 9007199254740992 to 9007199254740992",
        ),
        (lambda a: a.text("texts"), "array 'texts': expected a string of shape (), got <U1 of shape (2,)"),
        (lambda a: a.texts("whole", (2,)), "array 'whole': expected strings of shape (2), got int64 of shape (2,)"),
    ],
)
def test_wrong_contents_are_named(read: Any, message: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        read(Arrays("f", CONTENT))
    assert str(caught.value) == f"f: {message}"


def archive(folder: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "x.npz", "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return folder / "x.npz"


def pickled() -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return data.getvalue()


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a.npy", pickled()))
    with pytest.raises(
        AnnotationError, match=r"x\.npz: file: expected an \.npz archive of plain arrays: Object arrays"
    ):
        read_arrays(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"\x93NUMPY\x01\x00v\x00{", b"\x93NUMPY\x09\x00"])
def test_broken_members(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(AnnotationError, match=r"x\.npz: file: expected an \.npz archive of plain arrays: "):
        read_arrays(archive(tmp_path, ("a.npy", data)))


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(
        AnnotationError, match=r"x\.npz: file: expected an \.npz archive of plain arrays: File is not a zip"
    ):
        read_arrays(tmp_path / "x.npz")
    with pytest.raises(
        AnnotationError, match=r"y\.npz: file: expected a readable file, got No such file or directory$"
    ):
        read_arrays(tmp_path / "y.npz")
    assert read_arrays(archive(tmp_path, ("readme.txt", b"hello"))).values == {}


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number counts 8 bytes, whatever the file spends on it, a truth value 1, a string 64 beside its characters."""
    content = {"a": np.zeros(500), "b": np.zeros(300, np.int8), "c": np.zeros(200, bool), "d": np.array(["ab", "c"])}
    write_arrays(tmp_path / "x.npz", content)
    size = 500 * 8 + 300 * 8 + 200 + 2 * (2 * 4 + 64)
    monkeypatch.setattr(arrays, "LARGEST_BYTES", size - 1)
    with pytest.raises(AnnotationError, match=rf"x\.npz: file: expected arrays of at most {size - 1} bytes, got more$"):
        read_arrays(tmp_path / "x.npz")
    monkeypatch.setattr(arrays, "LARGEST_BYTES", size)
    assert sorted(read_arrays(tmp_path / "x.npz").values) == ["a", "b", "c", "d"]


def test_all_answers_to_spair_fit_a_hundred_times() -> None:
    """12,234 pairs of the test split, 30 keypoints with confidences, and names of 27 characters."""
    assert arrays.LARGEST_BYTES > 100 * 12_234 * (30 * 3 * 8 + 2 * (27 * 4 + 64))


def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    data = io.BytesIO()
    np.lib.format.write_array(data, np.arange(3.0))
    with pytest.warns(UserWarning, match=r"^Duplicate name: 'a\.npy'$"):
        path = archive(tmp_path, ("a.npy", data.getvalue()), ("a.npy", data.getvalue()))
    with pytest.raises(AnnotationError, match=r"x\.npz: array 'a': expected one of this name, got two$"):
        read_arrays(path)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("code", "allowed"), [(0x7FFFFFFF, 0), (0x110000, 0), (0xD800, 0), (0xDFFF, 0), (0x10FFFF, 1)])
def test_strings_that_are_no_text(tmp_path: Path, code: int, allowed: bool, order: Any) -> None:
    dtype = {"little": "<U2", "big": ">U2"}[order]
    content = ord("a").to_bytes(4, order) + code.to_bytes(4, order)
    one = member(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (), }}".encode(), content)
    two = member(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (2,), }}".encode(), content * 2)
    found = read_arrays(archive(tmp_path, ("one.npy", one), ("two.npy", two)))
    if allowed:
        assert [found.text("one")] * 2 == found.texts("two", (2,)) == ["a" + chr(code)] * 2
        return
    ending = rf"that can be written as UTF-8, got the code point {code:#x}$"
    with pytest.raises(AnnotationError, match=rf"x\.npz: array 'one': expected a string {ending}"):
        found.text("one")
    with pytest.raises(AnnotationError, match=rf"x\.npz: array 'two': expected strings {ending}"):
        found.texts("two", (2,))


def member(header: bytes, content: bytes = b"") -> bytes:
    padded = header + b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + content


@pytest.mark.parametrize(
    ("shape", "dtype", "content"),
    [
        ("(1000000000000,)", "<f8", b"\x00" * 8),
        ("(2, 3)", "<f8", b"\x00" * 40),
        ("(2,)", "<f8", b"\x00" * 24),
        ("(1,)", "<U100000000", b"\x00" * 4),
        ("(-1,)", "<f8", b""),
        ("(9223372036854775807, 9)", "<f8", b""),
        ("(1000000000,)", "<U0", b""),
        ("(1000000000,)", "|S0", b""),
    ],
)
def test_headers_that_promise_another_size(
    tmp_path: Path, shape: str, dtype: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is allocated for them."""
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("an array was read"))
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    with pytest.raises(
        AnnotationError, match=r"x\.npz: file: expected an \.npz archive of plain arrays: an array of shape"
    ):
        read_arrays(archive(tmp_path, ("a.npy", member(header, content))))


def test_other_versions_of_the_array_format(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"format version \(3, 0\) of an array; 1\.0 and 2\.0 are read$"):
        read_arrays(archive(tmp_path, ("a.npy", b"\x93NUMPY\x03\x00")))
    data = io.BytesIO()
    np.lib.format.write_array(data, np.arange(3.0), version=(2, 0))
    assert read_arrays(archive(tmp_path, ("a.npy", data.getvalue()))).numbers("a", (3,)).tolist() == [0.0, 1.0, 2.0]


def test_long_headers_are_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b" " * 40_000 + b"1,), }"
    with pytest.raises(
        AnnotationError, match=r"x\.npz: file: expected an \.npz archive of plain arrays: Header info length"
    ):
        read_arrays(archive(tmp_path, ("a.npy", member(header, b"\x00" * 8))))
    endless = b"\x93NUMPY\x02\x00" + (1 << 20).to_bytes(4, "little") + b" " * (1 << 20)
    with pytest.raises(AnnotationError, match=r"EOF: reading array header, expected 1048576 bytes got 65524$"):
        read_arrays(archive(tmp_path, ("a.npy", endless)))


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    """The size that the archive's directory names bounds what is unpacked, whatever the data would give."""
    content = np.zeros(100_000)
    write_arrays(tmp_path / "x.npz", {"a": content})
    data = bytearray((tmp_path / "x.npz").read_bytes())
    true = (content.nbytes + 128).to_bytes(4, "little")
    assert data.count(true) == 2
    (tmp_path / "x.npz").write_bytes(bytes(data).replace(true, (256).to_bytes(4, "little")))
    with pytest.raises(AnnotationError, match=r"x\.npz: file: expected an \.npz archive of plain arrays: "):
        read_arrays(tmp_path / "x.npz")
