from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from asic_flow.collection import (
    INDEX_FILE,
    CollectionError,
    ImageCollection,
    Photo,
    TokenGrid,
    foreground_tokens,
    identity,
    load_collection,
    save_collection,
)

if TYPE_CHECKING:
    from conftest import DrawnCollection


@pytest.fixture
def folder(tmp_path: Path, drawn: DrawnCollection) -> Path:
    save_collection(tmp_path / "c", drawn.collection, drawn.matches)
    return tmp_path / "c"


def test_photo_frames_are_each_others_inverse() -> None:
    photo = Photo("a", "", (100, 200), (0.5, 0.25), (3.0, -1.0), None)
    points = np.array([[10.0, 20.0]])
    np.testing.assert_allclose(photo.to_model(points), [[8.0, 4.0]])
    np.testing.assert_allclose(photo.to_image(photo.to_model(points)), points)


def test_token_centres_run_row_by_row() -> None:
    centres = TokenGrid(2, 3, 8.0, 7.5).centres_px()
    assert centres.tolist() == [[7.5, 7.5], [15.5, 7.5], [23.5, 7.5], [7.5, 15.5], [15.5, 15.5], [23.5, 15.5]]


def test_a_token_is_foreground_when_the_pixel_at_its_centre_is() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, 2, 6] = 128
    assert foreground_tokens(masks, TokenGrid(2, 2, 4.0, 2.0)).tolist() == [[False, True, False, False]]
    masks[0, 2, 6] = 127
    assert not foreground_tokens(masks, TokenGrid(2, 2, 4.0, 2.0)).any()


def test_a_folder_round_trips_exactly(folder: Path, drawn: DrawnCollection) -> None:
    collection, matches = load_collection(folder)
    assert collection.photos == drawn.collection.photos
    assert collection.grid == drawn.collection.grid
    assert collection.settings == drawn.collection.settings
    for field in ("images", "masks", "descriptors", "saliency"):
        assert torch.equal(getattr(collection, field), getattr(drawn.collection, field))
    np.testing.assert_array_equal(matches.xy_b, drawn.matches.xy_b)


def test_parts_round_trip_and_go_with_a_collection_that_has_none(folder: Path) -> None:
    collection, matches = load_collection(folder)
    assert collection.parts is None
    parts = (collection.masks > 0).to(torch.uint8) * 3
    save_collection(folder, dataclasses.replace(collection, parts=parts), matches)
    again, _ = load_collection(folder)
    assert again.parts is not None
    assert torch.equal(again.parts, parts)
    save_collection(folder, collection, matches)
    assert load_collection(folder)[0].parts is None
    assert not list((folder / "parts").iterdir())
    with pytest.raises(ValueError, match=r"field 'parts': expected uint8"):
        dataclasses.replace(collection, parts=parts.int())


def test_identity_follows_content(folder: Path, tmp_path: Path, drawn: DrawnCollection) -> None:
    first = identity(folder)
    assert save_collection(folder, drawn.collection, drawn.matches) == first
    changed = dataclasses.replace(drawn.collection, masks=255 - drawn.collection.masks)
    assert save_collection(tmp_path / "other", changed, drawn.matches) != first


def test_photos_of_one_stem_and_hostile_names_stay_apart(tmp_path: Path, drawn: DrawnCollection) -> None:
    names = ("a/x.png", "b/x.png", "../../x.png", "<script>.png", "line\nbreak.png", "\udcff.png")
    photos = tuple(
        dataclasses.replace(photo, path=name) for photo, name in zip(drawn.collection.photos, names, strict=True)
    )
    save_collection(tmp_path / "c", dataclasses.replace(drawn.collection, photos=photos), drawn.matches)
    collection, _ = load_collection(tmp_path / "c")
    assert tuple(photo.path for photo in collection.photos) == names
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c"]
    assert len(list((tmp_path / "c" / "images").iterdir())) == len(names)


def test_files_of_an_earlier_collection_go_and_nobody_elses(folder: Path) -> None:
    collection, matches = load_collection(folder)
    renamed = dataclasses.replace(collection.photos[0], path="renamed.png")
    changed = dataclasses.replace(collection, photos=(renamed, *collection.photos[1:]))
    save_collection(folder, changed, matches, {"truth.json": b"{}"})
    (folder / "mine.txt").write_bytes(b"kept")
    assert min(path.name for path in (folder / "images").iterdir()) == "000-renamed.png"
    assert len(list((folder / "masks").iterdir())) == len(collection)
    save_collection(folder, collection, matches)
    assert not (folder / "truth.json").exists()
    assert (folder / "mine.txt").exists()


@pytest.mark.parametrize(
    "name",
    ["descriptors.safetensors", "saliency.safetensors", "matches.safetensors", "images/000-0.png", "masks/000-0.png"],
)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damage_is_detected_and_the_file_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(CollectionError, match=re.escape(path.name)):
        load_collection(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "field 'format'"),
        ({"version": 99}, "field 'version'"),
        ({"grid": {}}, "malformed field"),
        ({"photos": [{}]}, "malformed field"),
        ({"sha256": {}}, "is not recorded"),
    ],
)
def test_a_malformed_index_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / INDEX_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CollectionError, match=message):
        load_collection(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_an_index_that_is_no_document_is_refused(folder: Path, text: str) -> None:
    (folder / INDEX_FILE).write_text(text)
    with pytest.raises(CollectionError, match=re.escape(INDEX_FILE)):
        load_collection(folder)


def test_a_picture_name_may_not_leave_the_folder(folder: Path) -> None:
    path = folder / INDEX_FILE
    document = json.loads(path.read_text())
    document["photos"][0]["picture"] = "../../etc/passwd"
    path.write_text(json.dumps(document))
    with pytest.raises(CollectionError, match="inside the folder"):
        load_collection(folder)


def test_an_absent_collection_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="asic features"):
        load_collection(tmp_path / "nothing")


def test_tensors_of_another_shape_or_type_are_refused(drawn: DrawnCollection) -> None:
    collection = drawn.collection
    with pytest.raises(ValueError, match=r"'masks': expected uint8"):
        dataclasses.replace(collection, masks=collection.masks.float())
    with pytest.raises(ValueError, match="'descriptors'"):
        dataclasses.replace(collection, descriptors=collection.descriptors[:, 1:])
    assert isinstance(collection, ImageCollection)


def test_matches_of_photos_that_do_not_exist_are_refused(tmp_path: Path, drawn: DrawnCollection) -> None:
    pairs = drawn.matches.pairs + np.int32(1)
    save_collection(tmp_path / "c", drawn.collection, dataclasses.replace(drawn.matches, pairs=pairs))
    with pytest.raises(CollectionError, match="expected indices below 6"):
        load_collection(tmp_path / "c")
