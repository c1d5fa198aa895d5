from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from asic_flow.alignment import Alignment
from asic_flow.coarse import place_photo
from asic_flow.collection import ImageCollection, join_collections, take_photos
from asic_flow.matches import MatchSet
from asic_flow.train import AlignmentError, held_out_tokens

if TYPE_CHECKING:
    from conftest import DrawnCollection


@pytest.fixture(scope="module")
def known(drawn: DrawnCollection, match_all: Callable[[ImageCollection], MatchSet]) -> Alignment:
    """An alignment of all photos but the last two; the last but one is mirrored."""
    first = take_photos(drawn.collection, slice(0, 4))
    return Alignment.fit(first, match_all(first))


@pytest.fixture(scope="module")
def extended(drawn: DrawnCollection, known: Alignment) -> Alignment:
    return known.add_images(take_photos(drawn.collection, slice(0, 4)), take_photos(drawn.collection, slice(4, 6)))


def test_added_photos_lie_where_the_truth_says(drawn: DrawnCollection, extended: Alignment) -> None:
    collection = drawn.collection
    assert [photo.path for photo in extended.photos] == [photo.path for photo in collection.photos]
    assert extended.mirrored[4:].tolist() == [True, False]
    for source, target in ((4, 0), (0, 4), (5, 2), (4, 5)):
        row, column = torch.nonzero(collection.foreground()[source]).unbind(1)
        points = torch.stack((column, row), 1)[::37].double().numpy()
        truth = drawn.truth(points, source, target)
        photos = collection.photos
        for method in ("canonical", "consensus", "combined"):
            found = extended.transfer(photos[source].to_image(points), source, target, method).points_image
            missed = np.linalg.norm(photos[target].to_model(found) - truth, axis=1)
            assert (missed <= 0.06 * collection.size_hw[0]).mean() > 0.9


def test_nothing_about_the_others_changes(known: Alignment, extended: Alignment) -> None:
    tokens = len(known.token)
    for name in ("maps", "confidence", "foreground", "mirrored", "support"):
        assert torch.equal(getattr(extended, name)[:4], getattr(known, name))
    for name in ("token_image", "token", "descriptors", "places"):
        assert torch.equal(getattr(extended, name)[:tokens], getattr(known, name))
    assert torch.unique(extended.token_image[tokens:]).tolist() == [4, 5]


def test_photos_do_not_see_each_other(drawn: DrawnCollection, known: Alignment, extended: Alignment) -> None:
    first = take_photos(drawn.collection, slice(0, 4))
    alone = known.add_images(first, take_photos(drawn.collection, slice(4, 5)))
    assert torch.equal(alone.maps[4], extended.maps[4])


def test_an_intruder_has_little_support(
    draw: Callable[..., DrawnCollection], match_all: Callable[[ImageCollection], MatchSet]
) -> None:
    drawn = draw(6, intruder=True)
    first = take_photos(drawn.collection, slice(0, 5))
    added = Alignment.fit(first, match_all(first)).add_images(first, take_photos(drawn.collection, slice(5, 6)))
    assert added.support[5] < 0.5 * added.support[:5].median()


def test_what_does_not_fit_is_refused(drawn: DrawnCollection, known: Alignment) -> None:
    first, last = take_photos(drawn.collection, slice(0, 4)), take_photos(drawn.collection, slice(4, 5))
    with pytest.raises(ValueError, match="expected the photos that were aligned"):
        known.add_images(take_photos(drawn.collection, slice(1, 5)), last)
    with pytest.raises(ValueError, match=r"a photo '3\.png' already"):
        known.add_images(first, take_photos(drawn.collection, slice(3, 4)))
    narrow = dataclasses.replace(last, descriptors=last.descriptors[..., :8])
    with pytest.raises(ValueError, match="descriptors' width: expected 32"):
        known.add_images(first, narrow)
    blank = dataclasses.replace(last, masks=torch.zeros_like(last.masks))
    with pytest.raises(AlignmentError, match=r"4\.png: no object was found"):
        known.add_images(first, blank)
    empty = dataclasses.replace(known, token_image=known.token_image[:0], token=known.token[:0])
    with pytest.raises(AlignmentError, match="no photo of the alignment has foreground"):
        empty.add_images(first, last)


def test_a_photo_of_which_only_a_held_out_token_is_foreground_is_placed(
    drawn: DrawnCollection, known: Alignment
) -> None:
    first, last = take_photos(drawn.collection, slice(0, 4)), take_photos(drawn.collection, slice(4, 5))
    held = held_out_tokens(join_collections(first, last))[4] & last.foreground_tokens()[0]
    x, y = last.grid.centres_px()[int(held.nonzero()[0])].round().astype(int)
    mask = torch.zeros_like(last.masks)
    mask[0, y, x] = 255
    found = known.add_images(first, dataclasses.replace(last, masks=mask))
    assert (found.token_image == 4).sum() == 1
    assert torch.isfinite(found.maps[4]).all()


def test_joined_collections_keep_the_first_ones_settings_and_no_parts(drawn: DrawnCollection) -> None:
    first, last = take_photos(drawn.collection, slice(0, 4)), take_photos(drawn.collection, slice(4, 6))
    joined = join_collections(dataclasses.replace(first, parts=torch.ones_like(first.masks)), last)
    assert torch.equal(joined.descriptors, drawn.collection.descriptors)
    assert joined.settings == first.settings
    assert joined.parts is None


def test_a_photo_is_placed_among_wrong_matches() -> None:
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(300, 2, generator=generator) - 1
    affine = torch.tensor([[-0.6, 0.1, 0.05], [0.1, 0.5, -0.1]])
    canonical = points @ affine[:, :2].T + affine[:, 2]
    canonical[:120] = torch.rand(120, 2, generator=generator) - 0.5
    found = place_photo(points, canonical, torch.ones(300), (0.28, 0.21, 0.14))
    assert found.mirrored.tolist() == [True]
    torch.testing.assert_close(found.affine[0].float(), affine, atol=0.03, rtol=0)
    assert 0.5 < found.support[0] < 0.75


def test_a_twin_lies_where_its_twin_lies(
    drawn: DrawnCollection, match_all: Callable[[ImageCollection], MatchSet]
) -> None:
    first = take_photos(drawn.collection, slice(0, 4))
    # What all descriptors share, as those of networks do, says nothing.
    shared = torch.nn.functional.normalize(first.descriptors.float() + 0.5, dim=-1).half()
    first = dataclasses.replace(first, descriptors=shared)
    alignment = Alignment.fit(first, match_all(first))
    twin = take_photos(first, slice(2, 3))
    twin = dataclasses.replace(twin, photos=(dataclasses.replace(twin.photos[0], path="twin.png"),))
    added = alignment.add_images(first, twin)
    apart = (added.maps[4] - added.maps[2])[first.foreground()[2]].norm(dim=-1)
    assert apart.mean() < 0.03
    mine, theirs = (added.descriptors[added.token_image == photo].float() for photo in (4, 2))
    assert (mine * theirs).sum(1).mean() > 0.97


def test_held_out_tokens_take_no_part(drawn: DrawnCollection, known: Alignment, extended: Alignment) -> None:
    held = held_out_tokens(drawn.collection)
    descriptors = drawn.collection.descriptors.clone()
    noise = torch.randn(descriptors.shape, generator=torch.Generator().manual_seed(0)).half()
    descriptors[4:][held[4:]] = torch.nn.functional.normalize(noise, dim=-1)[4:][held[4:]]
    changed = dataclasses.replace(drawn.collection, descriptors=descriptors)
    again = known.add_images(take_photos(changed, slice(0, 4)), take_photos(changed, slice(4, 6)))
    assert torch.equal(again.maps, extended.maps)
