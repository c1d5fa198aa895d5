from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from asic_features.backbones import BACKBONES
from asic_features.config import FeatureConfig
from asic_features.consistency import suppress
from asic_features.describe import Describer
from asic_features.descriptors import VisionTransformer
from asic_features.extract import (
    PhotosError,
    SettingsError,
    Shard,
    extract_added,
    extract_collection,
    extract_shard,
)
from asic_features.images import PhotoError, PhotoSource, list_photos
from asic_features.knn import match_photos
from asic_features.masks import MaskError
from asic_features.weights import WeightsError
from asic_flow.collection import ImageCollection, TokenGrid, load_collection, save_collection
from asic_flow.matches import OF_MATCHES, MatchSet

Save = Callable[..., Path]
SIZE = 96


@pytest.fixture
def folder(save: Save, tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:70, :90]
    for index in range(3):
        disc = (x - 40 - 5 * index) ** 2 / 2 + (y - 35) ** 2 < 300
        pixels = np.where(disc[..., None], (210, 60, 40), (40, 80 + 40 * index, 90))
        pixels = pixels + generator.normal(0, 8, pixels.shape)
        save(f"photos/{index}/same.png", np.clip(pixels, 0, 255).astype(np.uint8))
        save(f"masks/{index}/same.png", disc.astype(np.uint8) * 255)
    return tmp_path


def test_a_folder_becomes_a_collection(folder: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    collection, matches = extract_collection(
        list_photos(folder / "photos"), FeatureConfig(size=SIZE), progress=lambda *step: stages.append(step)
    )
    assert [photo.path for photo in collection.photos] == ["0/same.png", "1/same.png", "2/same.png"]
    assert collection.images.shape == (3, SIZE, SIZE, 3)
    assert collection.photos[0].size_hw == (70, 90)
    assert len(matches.pairs) == 3
    assert len(matches) > 20
    assert {name for name, _, _ in stages} == {"photos", "masks", "descriptors", "matches"}
    assert all(0 <= done <= total for _, done, total in stages)
    lengths = collection.descriptors.float().norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), atol=1e-2, rtol=0)
    for name in ("size", "fit", "backbone", "weights_sha256", "block", "facet", "stride", "masks", "candidates"):
        assert name in collection.settings
    save_collection(folder / "out", collection, matches)
    again, matches_again = load_collection(folder / "out")
    assert again.settings == collection.settings
    assert torch.equal(again.descriptors, collection.descriptors)
    np.testing.assert_array_equal(matches_again.xy_a, matches.xy_a)


def test_the_same_photos_give_the_same_collection(folder: Path) -> None:
    one, two = (extract_collection(list_photos(folder / "photos"), FeatureConfig(size=SIZE)) for _ in range(2))
    assert torch.equal(one[0].descriptors, two[0].descriptors)
    assert torch.equal(one[0].masks, two[0].masks)
    np.testing.assert_array_equal(one[1].score, two[1].score)


def test_a_network_describes_too(folder: Path, random_vit: Path) -> None:
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks=folder / "masks", batch=2)
    collection, matches = extract_collection(list_photos(folder / "photos"), config)
    assert collection.descriptors.shape == (3, 121, 192)
    assert 0 <= float(collection.saliency.min()) <= float(collection.saliency.max()) <= 1
    assert len(matches) > 0
    assert collection.settings["block"] == 8
    assert len(collection.settings["weights_sha256"]) == 64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("top_k", [1, 3])
def test_a_gpu_says_what_the_processor_says(folder: Path, random_vit: Path, top_k: int) -> None:
    config = FeatureConfig(
        size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks=folder / "masks", mirror_test=True, top_k=top_k
    )
    (here, matches), (there, matches_there) = (
        extract_collection(list_photos(folder / "photos"), replace(config, device=device)) for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.descriptors, here.descriptors, atol=1e-2, rtol=0)
    torch.testing.assert_close(there.saliency, here.saliency, atol=1e-2, rtol=0)
    assert torch.equal(there.masks, here.masks)
    found, expected = (
        {tuple(row) for row in np.hstack([m.pairs[m.pair_of_match()], m.xy_a, m.xy_b]).tolist()}
        for m in (matches_there, matches)
    )
    assert len(found ^ expected) < 0.1 * len(expected)


def test_batches_halve_when_memory_runs_out(
    folder: Path, random_vit: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    photos = list_photos(folder / "photos")
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks="none", batch=3)
    expected, _ = extract_collection(photos, config)
    forward = VisionTransformer.__call__

    def small(self: VisionTransformer, images: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if len(images) > limit:
            raise torch.OutOfMemoryError("too much")
        return forward(self, images, *arguments, **options)

    monkeypatch.setattr(VisionTransformer, "__call__", small)
    monkeypatch.setattr(VisionTransformer, "blank_attention", lambda *_: torch.zeros(121))
    limit = 1
    collection, _ = extract_collection(photos, config)
    assert "going on with 1 photos at once" in caplog.text
    torch.testing.assert_close(collection.descriptors, expected.descriptors, atol=1e-3, rtol=0)
    limit = 0
    with pytest.raises(torch.OutOfMemoryError, match="too much"):
        extract_collection(photos, config)


@pytest.mark.parametrize(("most", "shared_out"), [(121, True), (120, False)])
def test_photos_of_many_tokens_are_for_all_cores_together(
    folder: Path, random_vit: Path, monkeypatch: pytest.MonkeyPatch, most: int, shared_out: bool
) -> None:
    monkeypatch.setattr("asic_features.describe.MOST_TOKENS_A_CORE", most)
    forward, threads = VisionTransformer.__call__, []

    def noted(self: VisionTransformer, *arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return forward(self, *arguments, **options)

    photos = list_photos(folder / "photos")
    describer = Describer(
        FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit), random_vit, lambda *_: None, None
    )
    images = torch.zeros(len(photos), SIZE, SIZE, 3, dtype=torch.uint8)
    monkeypatch.setattr(VisionTransformer, "__call__", noted)
    describer.describe(images)
    assert len(threads) == len(photos)
    assert all((thread is not threading.main_thread()) == shared_out for thread in threads)


@pytest.mark.parametrize("backbone", ["vit_tiny_p16", "gradients"])
def test_the_same_bits_for_any_number_of_threads(folder: Path, random_vit: Path, backbone: str) -> None:
    weights = None if backbone == "gradients" else random_vit
    config = FeatureConfig(size=SIZE, backbone=backbone, weights=weights, parts=3)
    usual = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(extract_collection(list_photos(folder / "photos"), config))
        finally:
            torch.set_num_threads(usual)
    (alone, matches_alone), (together, matches_together) = found
    for name in ("images", "masks", "descriptors", "saliency", "parts"):
        assert torch.equal(getattr(alone, name), getattr(together, name)), name
    assert np.array_equal(matches_alone.xy_b, matches_together.xy_b)
    assert np.array_equal(matches_alone.score, matches_together.score)


def test_options_shape_descriptors(folder: Path, random_vit: Path) -> None:
    photos = list_photos(folder / "photos")
    config = FeatureConfig(
        size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks=folder / "masks", components=10, log_bin=True
    )
    collection, matches = extract_collection(photos, config)
    assert collection.descriptors.shape == (3, 121, 170)
    assert len(matches) > 0


def test_photos_go_one_after_the_other_where_memory_suffices_for_no_more(
    folder: Path, random_vit: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks="none")
    expected, _ = extract_collection(list_photos(folder / "photos"), config)
    forward = VisionTransformer.__call__

    def alone(self: VisionTransformer, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("not enough memory: you tried to allocate 1 TB")
        return forward(self, *arguments, **options)

    monkeypatch.setattr(VisionTransformer, "__call__", alone)
    collection, _ = extract_collection(list_photos(folder / "photos"), config)
    assert "going on with one photo after the other" in caplog.text
    torch.testing.assert_close(collection.descriptors, expected.descriptors, atol=1e-3, rtol=0)


def test_the_machines_own_memory_may_run_out(folder: Path, random_vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks="none", batch=2)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(fault)

    monkeypatch.setattr(VisionTransformer, "__call__", fail)
    monkeypatch.setattr(VisionTransformer, "blank_attention", lambda *_: torch.zeros(121))
    fault = "not enough memory: you tried to allocate 1 TB"
    with pytest.raises(MemoryError, match="one photo needs more memory than there is"):
        extract_collection(list_photos(folder / "photos"), config)
    fault = "another fault"
    with pytest.raises(RuntimeError, match="another fault"):
        extract_collection(list_photos(folder / "photos"), config)


def _same(one: tuple[ImageCollection, MatchSet], two: tuple[ImageCollection, MatchSet]) -> bool:
    tensors = [
        (a, b)
        for name in ("images", "masks", "descriptors", "saliency")
        for a, b in [(getattr(one[0], name), getattr(two[0], name))]
    ]
    return all(torch.equal(a, b) for a, b in tensors) and one[1].to_bytes() == two[1].to_bytes()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos each call of the network was about."""
    calls: list[int] = []
    forward = VisionTransformer.__call__

    def count(self: VisionTransformer, images: torch.Tensor, requests: Any, **options: Any) -> Any:
        if requests:  # not for blank images
            calls.append(len(images))
        return forward(self, images, requests, **options)

    monkeypatch.setattr(VisionTransformer, "__call__", count)
    return calls


def test_interrupted_it_goes_on(folder: Path, random_vit: Path, asked: list[int]) -> None:
    photos = list_photos(folder / "photos")
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks=folder / "masks")
    whole = extract_collection(photos, config)
    assert asked == [1, 1, 1]

    def stop(stage: str, done: int, total: int) -> None:
        del total
        if (stage, done) == ("descriptors", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_collection(photos, config, progress=stop, cache=folder / "c")
    assert len(list((folder / "c").iterdir())) == 2
    asked.clear()
    assert _same(extract_collection(photos, config, cache=folder / "c"), whole)
    assert asked == [1]
    asked.clear()
    # A renamed photo is known by its pixels; a changed one, and other settings, are not.
    (folder / "photos" / "0" / "same.png").rename(folder / "photos" / "0" / "other.png")
    plain = replace(config, masks="none")
    extract_collection(list_photos(folder / "photos"), plain, cache=folder / "c")
    assert asked == []
    extract_collection(list_photos(folder / "photos"), replace(plain, fit="stretch"), cache=folder / "c")
    extract_collection(list_photos(folder / "photos"), replace(plain, block=3), cache=folder / "c")
    assert asked == [1] * 6


@pytest.mark.parametrize("count", [2, 4])
def test_shards_merge_exactly(folder: Path, random_vit: Path, asked: list[int], count: int) -> None:
    photos = list_photos(folder / "photos")
    config = FeatureConfig(
        size=SIZE,
        backbone="vit_tiny_p16",
        weights=random_vit,
        masks=folder / "masks",
        parts=2,
        mirror_test=True,
        least_support=1,
        scales=(64,),
    )
    whole = extract_collection(photos, config)
    assert len(whole[1]) > 0
    shares = [len(photos[index::count]) for index in range(count)]
    first, second = (
        [extract_shard(photos, config, folder / "c", index, count) for index in range(count)] for _ in range(2)
    )
    # A share without photos has nothing to do, from the beginning.
    assert first == [Shard(photos, None if photos else 0) for photos in shares]
    assert [shard.photos for shard in second] == shares
    assert sum(shard.pairs or 0 for shard in second) == 3
    assert max(shard.pairs or 0 for shard in second) == 2
    asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asic_features.matching.match_photos", _only_no_pairs)
        merged = extract_collection(photos, config, cache=folder / "c")
    assert asked == [1, 1, 1]  # the copies for parts, which need all masks
    assert _same(merged, whole)
    assert torch.equal(merged[0].parts, whole[0].parts)


def test_a_shard_asks_the_network_before_masks_are_cut(folder: Path, random_vit: Path) -> None:
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, grabcut=True)
    assert extract_shard(list_photos(folder / "photos"), config, folder / "c", 0, 2) == Shard(2, None)


def _only_no_pairs(*arguments: Any, **options: Any) -> MatchSet:
    assert arguments[4] == []
    return match_photos(*arguments, **options)


def test_some_pairs_found_and_the_others_made(folder: Path) -> None:
    """The descriptor without weights has pairs to share out and nothing else."""
    photos, config = list_photos(folder / "photos"), FeatureConfig(size=SIZE, suppress_px=5)
    whole = extract_collection(photos, config)
    assert extract_shard(photos, config, folder / "c", 1, 2) == Shard(1, 1)
    (kept,) = (folder / "c").iterdir()
    assert _same(extract_collection(photos, config, cache=folder / "c"), whole)
    # Other settings of what is kept of the matches find them, other candidates and other masks do not.
    for change, misses in (({"least_support": 1}, 0), ({"candidates": "all"}, 1), ({"masks": folder / "masks"}, 1)):
        other = replace(config, **change)
        assert extract_shard(photos, other, folder / "c", 1, 2) == Shard(1, 1)
        assert len(list((folder / "c").iterdir())) == 1 + misses
        assert _same(extract_collection(photos, other, cache=folder / "c"), extract_collection(photos, other))
        for path in set((folder / "c").iterdir()) - {kept}:
            path.unlink()


def test_a_shard_cannot_do_without_its_photos(folder: Path, random_vit: Path) -> None:
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks="none")
    (folder / "photos" / "bad.png").write_bytes(b"")
    photos = list_photos(folder / "photos")
    bad = next(index for index, photo in enumerate(photos) if photo.name == "bad.png")
    with pytest.raises(PhotosError, match=r"bad\.png: is empty"):
        extract_shard(photos, config, folder / "c", bad, len(photos))
    assert extract_shard(photos, config, folder / "c", (bad + 1) % 4, len(photos)) == Shard(1, None)
    with pytest.raises(PhotosError, match=r"bad\.png: is empty"):  # pairs need all photos
        extract_shard(photos, config, folder / "c", (bad + 1) % 4, len(photos))


def test_any_number_of_workers_gives_the_same(folder: Path) -> None:
    photos = list_photos(folder / "photos")
    one, four = (extract_collection(photos, FeatureConfig(size=SIZE, workers=count)) for count in (1, 4))
    assert _same(one, four)


def test_several_facets_of_several_blocks_count_alike(folder: Path, random_vit: Path) -> None:
    photos = list_photos(folder / "photos")
    plain = {"size": SIZE, "backbone": "vit_tiny_p16", "weights": random_vit, "masks": folder / "masks"}
    joined, _ = extract_collection(photos, FeatureConfig(**plain, block=(3, 8), facet=("key", "token")))
    assert joined.descriptors.shape == (3, 121, 4 * 192)
    assert joined.settings["block"] == [3, 8]
    assert joined.settings["facet"] == ["key", "token"]
    one, _ = extract_collection(photos, FeatureConfig(**plain, block=3, facet="token"))
    assert one.settings["block"] == 3
    torch.testing.assert_close(2 * joined.descriptors[..., 192:384], one.descriptors, atol=2e-3, rtol=0)


def test_scales_join_what_larger_squares_say_at_the_same_places(folder: Path, random_vit: Path) -> None:
    photos = list_photos(folder / "photos")
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit)
    plain, _ = extract_collection(photos, config)
    joined, _ = extract_collection(photos, replace(config, scales=(2 * SIZE,)))
    assert joined.settings["scales"] == [2 * SIZE]
    assert joined.descriptors.shape == (3, 121, 2 * 192)
    assert torch.equal(joined.masks, plain.masks)
    own, larger = (joined.descriptors.float() * 2**0.5).split(192, dim=2)
    torch.testing.assert_close(own, plain.descriptors.float(), atol=2e-3, rtol=0)
    # At twice the side and stride 16, the centre of every token lies amid four others: 8 j + 7.5 is 16 j + 15.5 there.
    twice = torch.nn.functional.interpolate(
        plain.images.permute(0, 3, 1, 2).float(), scale_factor=2, mode="bicubic", antialias=True
    )
    pixels = twice.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    network = VisionTransformer(BACKBONES["vit_tiny_p16"], random_vit, stride=16)
    tokens = torch.nn.functional.normalize(network(pixels, [(8, "key")]).facets[0], dim=-1).view(3, 12, 12, 192)
    between = tokens[:, 1:, 1:] + tokens[:, 1:, :-1] + tokens[:, :-1, 1:] + tokens[:, :-1, :-1]
    wanted = torch.nn.functional.normalize(between, dim=-1).flatten(1, 2)
    torch.testing.assert_close(larger, wanted, atol=4e-3, rtol=0)


def test_only_squares_of_the_size_take_the_last_block(random_vit: Path) -> None:
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, scales=(64, 128))
    describer = Describer(config, random_vit, lambda *_: None, None)
    runs: list[int] = []
    describer.network.model.blocks[-1].norm1.register_forward_hook(lambda *_: runs.append(1))
    images = torch.randint(0, 256, (1, SIZE, SIZE, 3), dtype=torch.uint8)
    said = describer.describe(images)
    assert said.attention.shape == (1, 121)
    assert runs == [1]
    describer.join(images, said)
    assert runs == [1]


def test_what_was_said_at_a_scale_is_not_taken_for_what_is_asked_at_the_size(random_vit: Path, tmp_path: Path) -> None:
    def describer(**config: Any) -> Describer:
        of_network = FeatureConfig(backbone="vit_tiny_p16", weights=random_vit, **config)
        return Describer(of_network, random_vit, lambda *_: None, tmp_path / "cache")

    grey = torch.full((1, 96, 96, 3), 128, dtype=torch.uint8)
    describer(size=96, stride=12, scales=(64,)).fill_caches(grey)
    assert describer(size=64, stride=8).describe(grey[:, :64, :64]).attention.shape == (1, 49)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scales": (64, 64)}, "scales: expected sides other than the size of 96, each once"),
        ({"scales": (SIZE,)}, "scales: expected sides other than the size of 96, each once"),
        ({"scales": (8,)}, "scales: expected 32 to 4096 pixels, got 8"),
        ({"scales": (64,), "backbone": "gradients"}, "scales are of a network's descriptors; 'gradients' is none"),
    ],
)
def test_scales_that_cannot_be(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureConfig(**{"size": SIZE, "backbone": "vit_tiny_p16"} | setting).resolve()


def test_more_components_than_there_are(folder: Path, random_vit: Path) -> None:
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, masks="none", components=193)
    with pytest.raises(SettingsError, match="components: expected at most the 192 values of a descriptor, got 193"):
        extract_collection(list_photos(folder / "photos"), config)


@pytest.mark.parametrize("network", [False, True])
def test_a_mirrored_photo_matches_its_mirror_image(folder: Path, random_vit: Path, network: bool) -> None:
    """Photo 0 and its mirror image: only the mirrored hypothesis can hold for a network, and it holds everywhere."""
    pixels = np.random.default_rng(5).integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for name, shown in (("a", pixels), ("b", pixels[:, ::-1])):
        Image.fromarray(np.ascontiguousarray(shown)).save(folder / f"photos/{name}.png")
    photos = [source for source in list_photos(folder / "photos") if source.name in {"a.png", "b.png"}]
    chosen = {"backbone": "vit_tiny_p16", "weights": random_vit, "stride": 8} if network else {}
    config = FeatureConfig(size=SIZE, masks="none", mirror_test=True, log_bin=True, **chosen)
    collection, matches = extract_collection(photos, config)
    assert collection.settings["mirror_test"] is True
    mirrored = SIZE - 1 - matches.xy_a[:, 0]
    assert np.mean(np.abs(mirrored - matches.xy_b[:, 0]) <= 1) > 0.95
    assert matches.score.mean() > 0.99


def test_of_matches_of_a_photo_that_joins_those_that_third_photos_confirm_stay() -> None:
    matches = MatchSet(
        pairs=np.array([[0, 1], [0, 2], [1, 2]], np.int32),
        offsets=np.array([0, 1, 3, 4]),
        xy_a=np.array([(2, 2), (2, 2), (6, 2), (6, 2)], np.float32),
        xy_b=np.array([(6, 2), (2, 2), (6, 2), (10, 2)], np.float32),
        score=np.array([0.9, 0.8, 0.9, 0.9], np.float32),
        saliency=np.ones(4, np.float32),
        support=np.array([0, 1, 0, 0], np.int32),
    )
    kept = suppress(matches.of_pairs(1, 3), radius_px=6, confidence=matches.confidence()[1:])
    np.testing.assert_array_equal(kept.score, np.float32([0.8, 0.9]))


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_photo_that_joins_is_matched_as_if_it_had_been_there(folder: Path, random_vit: Path, top_k: int) -> None:
    """The last photo but one is the first one's mirror image, which only mirrored tokens are matched with."""
    pixels = np.random.default_rng(5).integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for name, shown in (("a", pixels), ("b", pixels.swapaxes(0, 1)), ("c", pixels[:, ::-1]), ("d", pixels[::-1])):
        Image.fromarray(np.ascontiguousarray(shown)).save(folder / f"photos/{name}.png")
    photos = [source for source in list_photos(folder / "photos") if source.name.endswith(".png")][-4:]
    config = FeatureConfig(
        size=SIZE,
        backbone="vit_tiny_p16",
        weights=random_vit,
        masks="none",
        stride=8,
        mirror_test=True,
        top_k=top_k,
    )
    whole, together = extract_collection(photos, config)
    known, matches = extract_collection(photos[:2], config)
    added, joined = extract_added(photos[2:], photos[:1], config, known, matches)
    assert [photo.path for photo in added.photos] == ["c.png", "d.png"]
    assert torch.equal(added.descriptors, whole.descriptors[2:])
    order = np.lexsort(together.pairs.T)  # new photos come after all pairs of those before them
    together = MatchSet.concatenate([together.of_pairs(row, row + 1) for row in order])
    for name in ("pairs", "offsets", *OF_MATCHES):
        np.testing.assert_array_equal(getattr(joined, name), getattr(together, name), err_msg=name)
    turned = joined.of_pairs(1, 2)
    assert turned.pairs.tolist() == [[0, 2]]
    assert np.mean(np.abs(SIZE - 1 - turned.xy_a[:, 0] - turned.xy_b[:, 0]) <= 1) > 0.6


@pytest.mark.parametrize("network", [False, True])
def test_parts_come_with_the_collection(folder: Path, random_vit: Path, network: bool) -> None:
    chosen = {"backbone": "vit_tiny_p16", "weights": random_vit} if network else {}
    config = FeatureConfig(size=SIZE, masks=folder / "masks", parts=2, part_stages=3, **chosen)
    collection, _ = extract_collection(list_photos(folder / "photos"), config)
    assert collection.parts is not None
    assert collection.parts.shape == collection.masks.shape
    assert int(collection.parts.max()) <= 2
    assert (collection.settings["parts"], collection.settings["part_stages"]) == (2, 3)
    if network:  # never trained: where its parts lie means nothing
        return
    inside = collection.foreground()
    assert (collection.parts > 0)[inside].float().mean() > (collection.parts > 0)[~inside].float().mean()


def test_masks_and_parts_take_no_more_tokens_than_they_need(
    folder: Path, random_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = list_photos(folder / "photos")
    config = FeatureConfig(size=SIZE, backbone="vit_tiny_p16", weights=random_vit, parts=2, stride=4)
    seen: list[tuple[int, TokenGrid]] = []

    def record(_: torch.Tensor, inside: torch.Tensor, saliency: torch.Tensor, *rest: Any, **__: Any) -> Any:
        seen.append((saliency.shape[1], rest[0]))
        return inside

    monkeypatch.setattr("asic_features.extract.saliency_masks", record)
    collection, _ = extract_collection(photos, config)
    assert seen[0] == (21 * 21, collection.grid)
    monkeypatch.setattr("asic_features.extract._MOST_TOKENS_A_SIDE", 8)
    thinned, _ = extract_collection(photos, config)
    assert seen[1] == (7 * 7, TokenGrid(7, 7, 12.0, collection.grid.first))
    assert torch.equal(thinned.descriptors, collection.descriptors)


def test_dinov3_descriptors_lack_the_directions_of_noise(folder: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    backbone = BACKBONES["dinov3_vits16"]
    torch.manual_seed(0)
    model = timm.create_model(backbone.timm_name, pretrained=False, num_classes=0)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    config = FeatureConfig(
        size=SIZE, backbone=backbone.name, weights=tmp_path / "w.safetensors", stride=16, masks=folder / "masks"
    )
    collection, _ = extract_collection(list_photos(folder / "photos"), config)
    network = VisionTransformer(backbone, tmp_path / "w.safetensors", stride=16)
    directions = network.noise_directions(SIZE, (11, "token"))
    assert (collection.descriptors.float() @ directions).abs().max() < 1e-2


def test_options_thin_the_matches(folder: Path) -> None:
    photos = list_photos(folder / "photos")
    plain = {"size": SIZE, "masks": folder / "masks"}
    _, matches = extract_collection(photos, FeatureConfig(**plain))
    _, supported = extract_collection(photos, FeatureConfig(**plain, least_support=1))
    assert 0 < len(supported) < len(matches)
    _, apart = extract_collection(photos, FeatureConfig(**plain, suppress_px=20))
    assert 0 < len(apart) < len(matches)
    for start, stop in zip(apart.offsets[:-1], apart.offsets[1:], strict=True):
        ends = torch.from_numpy(apart.xy_a[start:stop])
        assert (torch.cdist(ends, ends) + 100 * torch.eye(len(ends)) > 20).all()


def test_users_masks_are_used_as_they_are(folder: Path) -> None:
    collection, matches = extract_collection(
        list_photos(folder / "photos"), FeatureConfig(size=SIZE, masks=folder / "masks")
    )
    y, x = collection.photos[1].to_model(np.array([45.0, 35.0]))[::-1].round().astype(int)
    assert collection.masks[1, y, x] == 255
    assert collection.masks[1, 0, 0] == 0
    rows, columns = matches.xy_a.round().astype(int)[:, 1], matches.xy_a.round().astype(int)[:, 0]
    photo = matches.pairs[matches.pair_of_match(), 0]
    assert (collection.masks.numpy()[photo, rows, columns] >= 128).all()


def test_without_masks_all_of_the_photo_counts(folder: Path) -> None:
    collection, _ = extract_collection(list_photos(folder / "photos"), FeatureConfig(size=SIZE, masks="none"))
    assert (collection.masks[:, SIZE // 2] == 255).all()
    assert (collection.masks[:, 0] == 0).all()  # padding


def test_boxes_are_masks(folder: Path) -> None:
    sources = [replace(source, object_xyxy=(20.0, 10.0, 60.4, 50.0)) for source in list_photos(folder / "photos")]
    collection, _ = extract_collection(sources, FeatureConfig(size=90, masks="box"))
    rows, columns = (collection.masks[0] >= 128).nonzero().unbind(1)
    # Rows 10 to 49 of 70, below 10 rows of padding; columns 20 to 59.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 20, 59)
    cropped = [replace(source, object_xyxy=None, box_xyxy=(20, 10, 60, 50)) for source in sources]
    collection, _ = extract_collection(cropped, FeatureConfig(size=88, masks="box"))
    rows = (collection.masks[0] >= 128).nonzero()[:, 0]
    assert (rows.min(), rows.max()) == (4, 83)  # the box less 5 % on each side
    with pytest.raises(PhotosError, match="has no box to take as its mask"):
        extract_collection(list_photos(folder / "photos"), FeatureConfig(size=SIZE, masks="box"))


def test_found_masks_are_tidied(folder: Path, random_vit: Path) -> None:
    pytest.importorskip("cv2", reason="opencv cuts")
    photos = list_photos(folder / "photos")
    network = {"backbone": "vit_tiny_p16", "weights": random_vit}
    for config in (FeatureConfig(size=SIZE), FeatureConfig(size=SIZE, **network, precision="bfloat16")):
        plain, _ = extract_collection(photos, config)
        tidied, _ = extract_collection(photos, replace(config, grabcut=True))
        assert tidied.settings["grabcut"]
        assert not torch.equal(plain.masks, tidied.masks)
        undecided = (plain.masks >= 26) & (plain.masks < 230)
        assert torch.equal(plain.masks[~undecided], tidied.masks[~undecided])


def test_bad_photos_are_all_named(folder: Path) -> None:
    (folder / "photos" / "empty.jpg").write_bytes(b"")
    (folder / "photos" / "page.png").write_bytes(b"<html>")
    sources = list_photos(folder / "photos")
    with pytest.raises(PhotosError, match=r"2 of 5 photos cannot be used:\n.*empty\.jpg.*\n.*page\.png") as caught:
        extract_collection(sources, FeatureConfig(size=SIZE))
    assert len(caught.value.failures) == 2
    skipped: list[PhotoError] = []
    collection, _ = extract_collection(sources, FeatureConfig(size=SIZE), on_bad=skipped.append)
    assert len(collection.photos) == 3
    assert [error.path.name for error in skipped] == ["empty.jpg", "page.png"]


def test_every_kind_of_photo_is_taken_or_named(folder: Path, save: Save) -> None:
    """All at once, in two threads; what each looks like is tested with the reader."""
    root, pixels = folder / "all", np.full((20, 30, 3), 90, dtype=np.uint8)
    pixels[5:15, 10:20] = 220
    good = ["a/same stem.png", "b/same stem.png", "a/same stem.bmp", "new\nline [/].png", "\U0001f426.webp"]
    for name in good:
        save(f"all/{name}", pixels)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        save(f"all/exif{orientation}.png", pixels, exif=exif)
    picture = Image.fromarray(pixels)
    picture.convert("CMYK").save(root / "cmyk.jpg")
    picture.convert("P").save(root / "palette.png", transparency=1)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(root / "deep.png")
    picture.save(root / "moving.webp", save_all=True, append_images=[picture.rotate(180)])
    save("all/dot.png", pixels[:1, :1])
    save("all/line.png", np.zeros((1, 5000, 3), dtype=np.uint8))
    bad = {"empty.jpg": b"", "page.jpg": b"<!doctype html>", "cut.png": (root / "exif1.png").read_bytes()[:90]}
    for name, content in bad.items():
        (root / name).write_bytes(content)
    Image.new("1", (20_000, 10_000)).save(root / "bomb.png")
    refused: list[PhotoError] = []
    collection, _ = extract_collection(list_photos(root), FeatureConfig(size=32, masks="none"), on_bad=refused.append)
    assert sorted(error.path.name for error in refused) == sorted([*bad, "bomb.png"])
    assert len(collection) == len(good) + 8 + 6
    sizes = {photo.path: photo.size_hw for photo in collection.photos}
    assert (sizes["exif1.png"], sizes["exif6.png"], sizes["line.png"], sizes["dot.png"]) == (
        (20, 30),
        (30, 20),
        (1, 5000),
        (1, 1),
    )


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_photos(folder: Path, count: int) -> None:
    with pytest.raises(PhotosError, match=f"expected at least 2 photos, got {count}"):
        extract_collection(list_photos(folder / "photos")[:count], FeatureConfig(size=SIZE))


def test_names_must_differ(folder: Path) -> None:
    source = list_photos(folder / "photos")[0]
    with pytest.raises(PhotosError, match="must differ"):
        extract_collection([source, source], FeatureConfig(size=SIZE))


def test_annotated_size_and_box_are_checked(folder: Path) -> None:
    path = folder / "photos/0/same.png"
    others = list(list_photos(folder / "photos")[1:])
    with pytest.raises(PhotosError, match="is 90 x 70 pixels, its annotation says 100 x 70"):
        extract_collection([PhotoSource(path, "a", size_hw=(70, 100)), *others], FeatureConfig(size=SIZE))
    with pytest.raises(PhotosError, match="expected x0 < x1"):
        extract_collection([PhotoSource(path, "a", box_xyxy=(50, 0, 40, 9)), *others], FeatureConfig(size=SIZE))


def test_no_foreground_at_all(folder: Path, save: Save) -> None:
    for index in range(3):
        save(f"black/{index}/same.png", np.zeros((70, 90), dtype=np.uint8))
    with pytest.raises(MaskError, match="no foreground was found in any photo"):
        extract_collection(list_photos(folder / "photos"), FeatureConfig(size=SIZE, masks=folder / "black"))


def test_a_photo_without_object_is_reported(folder: Path, save: Save, caplog: pytest.LogCaptureFixture) -> None:
    save("masks/1/same.png", np.zeros((70, 90), dtype=np.uint8))
    collection, matches = extract_collection(
        list_photos(folder / "photos"), FeatureConfig(size=SIZE, masks=folder / "masks")
    )
    assert "1/same.png: no object was found" in caplog.text
    assert collection.masks[1].max() == 0
    assert np.diff(matches.offsets).tolist()[0] == 0


def test_missing_weights_stop_before_any_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    sources = [PhotoSource(tmp_path / "gone.png", "gone.png")]
    with pytest.raises(WeightsError, match="asic weights fetch dino_vits8"):
        extract_collection(sources, FeatureConfig(backbone="dino_vits8"))
