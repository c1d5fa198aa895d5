from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asic_eval import AnnotationError
from asic_eval.arrays import read_arrays
from asic_eval.benchmarks.image_size import read_image_size
from asic_eval.benchmarks.mat_file import read_mat_variable
from asic_eval.fields import Field, open_file, parse_json, read_csv, read_json, read_table, read_text, write_atomically


def at(value: object) -> Field:
    return Field(value, "f.json", "here")


@pytest.mark.parametrize(
    ("read", "value", "result"),
    [
        (Field.number, 3, 3.0),
        (Field.number, -(2**53), -(2.0**53)),
        (Field.text, "é", "é"),
        (Field.flag, True, True),
        (Field.flag, 0, False),
        (Field.flag, 1.0, True),
        (Field.relative_path, "a/b c.jpg", "a/b c.jpg"),
        (Field.relative_path, "..a/b..", "..a/b.."),
        (Field.relative_path, "a/" * 9 + "é" * 120, "a/" * 9 + "é" * 120),
        (Field.size_hw, [1, 10**6], (1, 10**6)),
        (Field.point, [1, 2.5], (1.0, 2.5)),
        (Field.box_xyxy, [0, 1, 2, 3], (0.0, 1.0, 2.0, 3.0)),
        (Field.box_xywh, [1, 2, 3, 4], (1.0, 2.0, 4.0, 6.0)),
        (Field.box_xywh, [1, 2, 0.25, 0.5], (1.0, 2.0, 1.25, 2.5)),
        (Field.number, 2**53, 2.0**53),
        (lambda f: f.points(2), [[1, 2], [3, 4.5]], [(1.0, 2.0), (3.0, 4.5)]),
        (lambda f: f.points(0), [], []),
        (lambda f: f.numbers(2), [1, 2.5], [1.0, 2.5]),
        (Field.parsed_number, "-1.5e2", -150.0),
        (Field.parsed_number, "+.5", 0.5),
        (Field.parsed_number, "7.", 7.0),
        (Field.parsed_number, "-9007199254740992", -(2.0**53)),
        (Field.keys, {"": 1, "é": 2}, ["", "é"]),
    ],
)
def test_good_values(read: Callable[[Field], Any], value: object, result: object) -> None:
    assert read(at(value)) == result


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (Field.keys, [], "an object"),
        (lambda f: f.key("x"), 3, "an object with the key 'x'"),
        (Field.array, {}, "an array"),
        (lambda f: f.array(2), [1], "an array of 2"),
        (Field.number, True, "a finite number"),
        (Field.number, "1", "a finite number"),
        (Field.number, float("nan"), "a finite number"),
        (Field.number, float("inf"), "a finite number"),
        (Field.number, 2**53 + 1, "a finite number"),
        (Field.number, -(2**53) - 1, "a finite number"),
        (lambda f: f.integer(1), 0, "a whole number from 1"),
        (lambda f: f.integer(1, 5), 6, "a whole number from 1 to 5"),
        (lambda f: f.integer(0), 2**53 + 1, "a whole number from 0"),
        (lambda f: f.integer(0), True, "a whole number from 0"),
        (Field.flag, 2, "true or false"),
        (Field.flag, "true", "true or false"),
        (Field.flag, None, "true or false"),
        (Field.text, "", "a string"),
        (Field.text, 3, "a string"),
        (Field.text, "\ud800", "a string without lone surrogates"),
        (Field.relative_path, "/a", "a relative path with forward slashes and without '..'"),
        (Field.relative_path, "a/../b", "a relative path with forward slashes and without '..'"),
        (Field.relative_path, "a\\b", "a relative path with forward slashes and without '..'"),
        (Field.relative_path, "C:/b", "a relative path with forward slashes and without '..'"),
        (Field.relative_path, "a\0b", "a relative path with forward slashes and without '..'"),
        (Field.relative_path, ".", "a relative path with forward slashes and without '..'"),
        (Field.relative_path, "a/" + "é" * 121, "a path of at most 10 names of at most 240 bytes each"),
        (Field.relative_path, "a/" * 11, "a path of at most 10 names of at most 240 bytes each"),
        (Field.size_hw, [1, 2, 3], "an array of 2"),
        (lambda f: f.points(2), [[1, 2], [3, 4], [5, 6]], "an array of 2"),
        (lambda f: f.points(2), [[1, 2, 3], [4]], "an array of 2"),
        (lambda f: f.points(1), {"a": 1}, "an array of 1"),
        (Field.box_xyxy, [0, 1, 2], "an array of 4"),
        (Field.box_xyxy, [2, 1, 2, 3], "a box [left, top, right, bottom] with left < right and top < bottom"),
        (Field.box_xyxy, [0, 3, 2, 3], "a box [left, top, right, bottom] with left < right and top < bottom"),
        (Field.box_xywh, [0, 0, 0, 1], "a box [left, top, width, height] with a positive width and height"),
        (Field.box_xywh, [0, 0, 1, 0], "a box [left, top, width, height] with a positive width and height"),
        (Field.parsed_number, "1_0", "a finite number"),
        (Field.parsed_number, "\u0661", "a finite number"),
        (Field.parsed_number, "nan", "a finite number"),
        (Field.parsed_number, "1e999", "a finite number"),
        (Field.parsed_number, "1e308", "a finite number"),
        (Field.parsed_number, "-9007199254740994", "a finite number"),
        (Field.keys, {"a": 1, "\ud800": 2}, "keys without lone surrogates"),
        (lambda f: f.optional("x"), [], "an object"),
        (lambda f: f.parsed_integer(0), "-1", "a whole number from 0"),
        (lambda f: f.parsed_integer(0), "1.0", "a whole number from 0"),
        (lambda f: f.parsed_integer(0), "1" * 19, "a whole number from 0"),
        (lambda f: f.parsed_numbers(";"), "1;x", "a finite number"),
    ],
)
def test_bad_values(read: Callable[[Field], Any], value: object, expected: str) -> None:
    with pytest.raises(AnnotationError, match=rf"^f\.json: here(\[\d\])?: expected {re.escape(expected)}, got .*$"):
        read(at(value))


def test_places_are_spelled_out() -> None:
    top = Field({"a": [{"b": 1}], "n": None}, "f")
    inner = top.key("a").array()[0].key("b")
    assert inner.place == "a[0].b"
    assert inner.file == "f"
    assert top.optional("n") is None
    assert top.optional("m") is None
    assert top.optional("a") == top.key("a")
    assert top.keys() == ["a", "n"]
    with pytest.raises(AnnotationError, match=r"^f: a\[0\]\.c: expected a value, got no such key$") as caught:
        top.key("a").array()[0].key("c")
    assert (caught.value.file, caught.value.field) == ("f", "a[0].c")
    assert at("1; 2").parsed_numbers(";") == [1.0, 2.0]


def test_long_values_are_shortened() -> None:
    with pytest.raises(AnnotationError) as caught:
        at("x" * 10_000).number()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"^f: line 1: expected JSON: Expecting property name"),
        ("\n\n[1,]", r"^f: line 3: expected JSON: "),
        ('{"a": NaN}', r"^f: document: expected JSON: NaN is not JSON$"),
        ("[-Infinity]", r"^f: document: expected JSON: -Infinity is not JSON$"),
        ('{"a": 1, "a": 2}', r"^f: document: expected JSON: an object has the same key twice$"),
        ("[" * 100_000, r"^f: document: expected JSON: maximum recursion depth exceeded"),
        ("1" * 5000, r"^f: document: expected JSON: Exceeds the limit"),
        ("", r"^f: line 1: expected JSON: Expecting value$"),
    ],
)
def test_json_is_strict(text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse_json(text, "f")


def test_json_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1e999}')
    assert read_json(path).keys() == ["a"]
    with pytest.raises(AnnotationError, match=r"a\.json: a: expected a finite number, got inf$"):
        read_json(path).key("a").number()
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(AnnotationError, match=r"a\.json: byte 7: expected UTF-8 text$"):
        read_text(path)
    with pytest.raises(
        AnnotationError, match=r"nowhere: file: expected a readable file, got No such file or directory$"
    ):
        read_text(tmp_path / "nowhere")


READERS: list[Callable[[Path], object]] = [
    read_json,
    read_arrays,
    read_image_size,
    lambda path: read_mat_variable(path, "v"),
]


@pytest.mark.parametrize("read", READERS)
def test_only_regular_files_are_opened(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """A pipe would wait for ever, and a device never end."""
    (tmp_path / "device").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "device", "pipe"):
        message = (
            rf"^{re.escape(str(tmp_path / name))}: file: expected a regular file, got a folder, a pipe or a device$"
        )
        with pytest.raises(AnnotationError, match=message):
            read(tmp_path / name)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AnnotationError, match=r"loop: file: expected a readable file, got Too many levels"):
        read(tmp_path / "loop")


@pytest.mark.parametrize("read", READERS)
def test_files_have_a_largest_size(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(AnnotationError, match=r"holes: file: expected a file of at most \d+ bytes, got 2147483648$"):
        read(tmp_path / "holes")


def test_files_of_the_largest_size_and_links_to_them(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("x")
    with open_file(tmp_path / "link", 3) as file:
        assert file.read() == b"abc"
    message = r"link: file: expected a file of at most 2 bytes, got 3$"
    with pytest.raises(AnnotationError, match=message), open_file(tmp_path / "link", 2):
        pytest.fail("a file was opened")


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("1 a b\n\n 2\tc\n")
    rows = read_table(path, ("id", "name"), spaces_in_last=True)
    assert [row["name"].value for row in rows] == ["a b", "c"]
    assert rows[1]["id"].place == "line 3, column 'id'"
    assert rows[1]["id"].file == str(path)
    with pytest.raises(AnnotationError, match=r"t\.txt: line 1: expected 2 columns \(id, name\), got '1 a b'$"):
        read_table(path, ("id", "name"))


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('b, a ,c\n1,"x, y",3\n\n4, z ,6\n')
    rows = read_csv(path, ("a", "b"))
    assert [(row["a"].value, row["b"].value) for row in rows] == [("x, y", "1"), ("z", "4")]
    assert rows[1]["a"].place == "line 4, column 'a'"
    assert rows[1]["a"].file == str(path)
    assert [row["2"].value for row in read_csv(path, 3)] == ["3", "6"]
    with pytest.raises(AnnotationError, match=r"t\.csv: line 1: expected the columns a, d, got \['b', ' a ', 'c'\]$"):
        read_csv(path, ("a", "d"))
    with pytest.raises(AnnotationError, match=r"t\.csv: line 2: expected 4 columns, got 3$"):
        read_csv(path, 4)
    path.write_text("a,a\n1,2\n")
    with pytest.raises(AnnotationError, match=r"t\.csv: line 1: expected the columns a, got \['a', 'a'\]$"):
        read_csv(path, ("a",))
    path.write_text("")
    with pytest.raises(AnnotationError, match=r"t\.csv: line 1: expected the columns a, got \[\]$"):
        read_csv(path, ("a",))
    assert read_csv(path, 2) == []
    path.write_text("a\n" + "x" * 200_000)
    with pytest.raises(AnnotationError, match=r"t\.csv: file: expected comma-separated values: field larger than"):
        read_csv(path, ("a",))


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "x.json"
    old = os.umask(0o027)
    try:
        write_atomically(path, b"one")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640

    waiting: list[str] = []

    def full(_descriptor: int) -> None:
        waiting.extend(entry.name for entry in path.parent.iterdir())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"two")
    assert any(name.startswith(".x.json.") and name.endswith(".tmp") for name in waiting)
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]


def test_a_csv_field_may_hold_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'name,x\r\n"new\nline.png",1\r\n\r\nb.png,two\r\n')
    rows = read_csv(path, ("name", "x"))
    assert [row["name"].value for row in rows] == ["new\nline.png", "b.png"]
    assert rows[1]["x"].place == "line 5, column 'x'"
