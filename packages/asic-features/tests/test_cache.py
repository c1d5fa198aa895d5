from __future__ import annotations

from pathlib import Path

import pytest
import torch

from asic_features.cache import DescriptionCache, clear_cache

IMAGE = torch.arange(48, dtype=torch.uint8).view(4, 4, 3)
REQUESTS = [(8, "key")]
TENSORS = {"0": torch.randn(5, 3).half(), "attention": torch.randn(5)}


def test_what_is_saved_is_loaded_exactly(tmp_path: Path) -> None:
    cache = DescriptionCache(tmp_path / "c", {"stride": 8})
    key = cache.key(REQUESTS, IMAGE)
    assert cache.load(key) is None
    assert cache.misses == 1
    cache.save(key, TENSORS)
    again = DescriptionCache(tmp_path / "c", {"stride": 8})
    found = again.load(key)
    assert found is not None
    assert again.misses == 0
    assert set(found) == set(TENSORS)
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_every_part_of_a_key_counts(tmp_path: Path) -> None:
    changed = IMAGE.clone()
    changed[3, 3, 2] += 1
    cache = DescriptionCache(tmp_path, {"stride": 8, "weights": "a"})
    keys = [
        cache.key(REQUESTS, IMAGE),
        cache.key(REQUESTS, changed),
        cache.key(REQUESTS, IMAGE.view(2, 8, 3)),
        cache.key(REQUESTS, IMAGE.view(torch.int8)),
        cache.key(REQUESTS, IMAGE, IMAGE),
        cache.key([(9, "key")], IMAGE),
        cache.key([(8, "key"), (8, "token")], IMAGE),
        DescriptionCache(tmp_path, {"stride": 4, "weights": "a"}).key(REQUESTS, IMAGE),
        DescriptionCache(tmp_path, {"stride": 8, "weights": "b"}).key(REQUESTS, IMAGE),
    ]
    assert len(set(keys)) == len(keys)
    # The order of settings and where the pixels lie in memory do not.
    turned = IMAGE.transpose(0, 1).contiguous().transpose(0, 1)
    assert DescriptionCache(tmp_path, {"weights": "a", "stride": 8}).key(REQUESTS, turned) == keys[0]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    cache = DescriptionCache(tmp_path, {})
    cache.save("a", TENSORS)
    path = tmp_path / "a.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-7], "empty": b"", "other": b"x" * 100}[damage])
    assert cache.load("a") is None


def test_clearing_removes_what_is_ours_alone(tmp_path: Path) -> None:
    cache = DescriptionCache(tmp_path / "c", {})
    cache.save("a", TENSORS)
    (tmp_path / "c" / ".asic-tmp-left").write_bytes(b"half")
    (tmp_path / "c" / "mine.txt").write_text("precious")
    clear_cache(tmp_path / "c")
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["mine.txt"]
    (tmp_path / "c" / "mine.txt").unlink()
    clear_cache(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    clear_cache(tmp_path / "c")
