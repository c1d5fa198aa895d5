"""`asic data verify`: whether a data set on disk is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from asic_cli.console import printable, say, show, write_json
from asic_cli.errors import BAD_INPUT, InputError
from asic_cli.options import Json
from asic_cli.photo_sets import DataSet

app = typer.Typer(no_args_is_help=True, help="Check data sets.")

_MOST_NAMED = 5
# The archives whose publishers, or those who use them, state a checksum. The other sets have none.
_ARCHIVES_MD5 = {
    "CUB_200_2011.tgz": "97eceeb196236b17998738112f37df78",
    "cachedir.tar.gz": "89842f8937a136bfdd7106e80f88d30f",  # ACSM's lists of CUB's photos
}
_SPAIR_PAIRS = {"trn": 53_340, "val": 5_384, "test": 12_234}
_PF_PASCAL_PAIRS = {"trn": 2_940, "val": 308, "test": 299}


@dataclass(frozen=True)
class Check:
    """One thing that was counted or compared.

    Attributes:
        what: In words.
        expected: What the whole data set has; None where nobody states it.
        found: What is there.
        problem: What is wrong, or None.
    """

    what: str
    expected: int | str | None
    found: int | str
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether it is as it should be."""
        return self.problem is None and self.expected in (None, self.found)


@app.callback()
def data() -> None:
    """Check data sets."""


@app.command("verify")
def verify_command(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set's root.")],
    dataset: Annotated[DataSet | None, typer.Option(help="Which one [default: told by its files].")] = None,
    as_json: Json = False,
) -> None:
    """Count a data set's photos and annotations, and compare what has a known checksum.

    Every photo that the annotations name must be there, and the counts must be those of the whole set.

    Example: `asic data verify CUB_200_2011`
    """
    if not root.is_dir():
        raise InputError(f"{root}: expected the folder of a data set")
    name = dataset or _recognise(root)
    checks = [*_CHECKS[name](root), *_archives(root)]
    if as_json:
        write_json({"dataset": name, "checks": [asdict(check) | {"passed": check.passed} for check in checks]})
    else:
        _show(name, checks)
    failed = sum(not check.passed for check in checks)
    if failed:
        state = f"{failed} of {len(checks)} checks failed"
    elif any(check.expected is None for check in checks):
        state = "all that it names is there; how much that should be is not stated"
    else:
        state = "whole"
    say(f"{printable(root)}: {name}: {state}")
    if failed:
        raise typer.Exit(BAD_INPUT)


def _show(name: str, checks: list[Check]) -> None:
    from rich.table import Table

    table = Table(name, "expected", "found", "")
    for check in checks:
        expected = "not stated" if check.expected is None else str(check.expected)
        verdict = "differs" if not check.passed else "" if check.expected is None else "as expected"
        table.add_row(check.what, expected, str(check.found), verdict)
    show(table)
    for check in checks:
        if check.problem:
            say(f"{check.what}: {check.problem}")


def _recognise(root: Path) -> DataSet:
    marks: dict[DataSet, tuple[str, ...]] = {
        "cub": ("images.txt", "classes.txt"),
        "spair": ("PairAnnotation",),
        "stanford_dogs": ("StanfordExtra*.json",),
        "ap10k": ("annotations/ap10k-*.json",),
        "pf_pascal": ("*pairs_pf_pascal.csv",),
        "pf_willow": ("test_pairs*.csv",),
    }
    for name, patterns in marks.items():
        if all(next(root.glob(pattern), None) is not None for pattern in patterns):
            return name
    raise InputError(f"{root}: no data set is known by these files; name one with --dataset")


def _photos(root: Path, names: list[str], whole: int | None) -> Iterator[Check]:
    """The photos that annotations name, once each: how many, and whether their headers can be read."""
    from asic_eval import AnnotationError
    from asic_eval.benchmarks.image_size import read_image_size

    distinct = list(dict.fromkeys(names))
    yield Check("photos that annotations name", whole, len(distinct))
    bad = []
    for name in distinct:
        try:
            read_image_size(root / name)
        except AnnotationError:
            bad.append(name)
    named = ", ".join(bad[:_MOST_NAMED]) + (", ..." if len(bad) > _MOST_NAMED else "")
    problem = f"missing or no image: {named}" if bad else None
    yield Check("photos that are there", len(distinct), len(distinct) - len(bad), problem)


def _cub(root: Path) -> Iterator[Check]:
    from asic_eval.fields import read_table

    yield Check("classes", 200, len(read_table(root / "classes.txt", ("class_id", "class_name"))))
    yield Check("parts", 15, len(read_table(root / "parts/parts.txt", ("id", "name"), spaces_in_last=True)))
    images = read_table(root / "images.txt", ("image_id", "image_name"))
    for file, columns in (
        ("image_class_labels.txt", ("image_id", "class_id")),
        ("bounding_boxes.txt", ("image_id", "x", "y", "width", "height")),
        ("train_test_split.txt", ("image_id", "is_training_image")),
    ):
        yield Check(f"rows of {file}", len(images), len(read_table(root / file, columns)))
    locations = read_table(root / "parts/part_locs.txt", ("image_id", "part_id", "x", "y", "visible"))
    yield Check("rows of parts/part_locs.txt", 15 * len(images), len(locations))
    yield from _photos(root / "images", [row["image_name"].relative_path() for row in images], 11_788)


def _spair(root: Path) -> Iterator[Check]:
    from asic_eval.fields import read_json

    names = []
    for split, count in _SPAIR_PAIRS.items():
        files = sorted((root / "PairAnnotation" / split).glob("*.json"))
        yield Check(f"pairs of {split}", count, len(files))
        for file in files:
            pair = read_json(file)
            category = pair.key("category").text()
            names += [f"{category}/{pair.key(end).relative_path()}" for end in ("src_imname", "trg_imname")]
    yield Check("categories", 18, len({name.partition("/")[0] for name in names}))
    yield from _photos(root / "JPEGImages", names, 1_800)


def _stanford_dogs(root: Path) -> Iterator[Check]:
    from asic_eval.fields import read_json

    images = root / "images" if (root / "images").is_dir() else root / "Images"
    for file in sorted(root.glob("StanfordExtra*.json")):
        entries = read_json(file).array()
        yield Check(f"entries of {file.name}", None, len(entries))
        yield from _photos(images, [entry.key("img_path").relative_path() for entry in entries], None)


def _proposal_flow(root: Path, lists: dict[str, int], columns: tuple[str, ...] | int) -> Iterator[Check]:
    from asic_eval.fields import read_csv

    names = []
    for file, count in lists.items():
        if (root / file).exists():
            rows = read_csv(root / file, columns)
            yield Check(f"pairs of {file}", count, len(rows))
            ends = ("source_image", "target_image") if isinstance(columns, tuple) else ("0", "1")
            names += [row[end].relative_path() for row in rows for end in ends]
    yield from _photos(root, names, None)


def _pf_pascal(root: Path) -> Iterator[Check]:
    lists = {f"{split}_pairs_pf_pascal.csv": count for split, count in _PF_PASCAL_PAIRS.items()}
    return _proposal_flow(root, lists, ("source_image", "target_image", "class", "XA", "YA", "XB", "YB"))


def _pf_willow(root: Path) -> Iterator[Check]:
    return _proposal_flow(root, {"test_pairs_pf.csv": 900, "test_pairs.csv": 900}, 42)


def _ap10k(root: Path) -> Iterator[Check]:
    from asic_eval.fields import read_json

    names = []
    for split in ("train", "val", "test"):
        top = read_json(root / "annotations" / f"ap10k-{split}-split1.json")
        images = [image.key("file_name").relative_path() for image in top.key("images").array()]
        yield Check(f"photos of {split}", None, len(images))
        names += images
    yield Check("species", 54, len(top.key("categories").array()))
    yield from _photos(root / "data", names, 10_015)


_CHECKS: dict[DataSet, Callable[[Path], Iterator[Check]]] = {
    "cub": _cub,
    "spair": _spair,
    "stanford_dogs": _stanford_dogs,
    "pf_pascal": _pf_pascal,
    "pf_willow": _pf_willow,
    "ap10k": _ap10k,
}


def _archives(root: Path) -> Iterator[Check]:
    """Archives that lie in the root or beside it."""
    for path in chain(root.iterdir(), root.resolve().parent.iterdir()):
        if path.name in _ARCHIVES_MD5 and path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            yield Check(f"md5 of {path.name}", _ARCHIVES_MD5[path.name], digest)
