from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asic_features import mask_networks
from asic_features.extras import ExtraError
from asic_features.mask_networks import MASK_NETWORKS, fetch_mask_network, locate_mask_network, verify_mask_network
from asic_features.weights import WeightsError

CONTENT = b"these stand for a network"
FILE = "isnet-general-use.onnx"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known = replace(MASK_NETWORKS["isnet"], md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    monkeypatch.setitem(mask_networks.MASK_NETWORKS, "isnet", known)
    return tmp_path / "asic" / "masks"


def deliver(content: bytes) -> Callable[..., str]:
    def download(url: str, *, known_hash: str, fname: str, path: str) -> str:
        assert url.startswith("https://")
        assert known_hash == f"md5:{MASK_NETWORKS['isnet'].md5}"
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path, fname).write_bytes(content)
        return str(Path(path, fname))

    return download


def test_checksums_are_those_that_rembg_pins() -> None:
    assert {name: network.md5 for name, network in MASK_NETWORKS.items()} == {
        "isnet": "fc16ebd8b0c10d971d3513d564d01e29",
        "birefnet": "7a35a0141cbbc80de11d9c9a28f52697",
    }


def test_a_missing_network_names_file_command_and_way_out(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        locate_mask_network("isnet")
    for part in (str(cache / FILE), "`asic weights fetch isnet`", "`--mask-weights FILE`", "`--masks cosegment`"):
        assert part in str(caught.value)
    with pytest.raises(WeightsError, match=r"gone\.onnx does not exist"):
        locate_mask_network("isnet", tmp_path / "gone.onnx")
    (tmp_path / "page.onnx").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match=r"page\.onnx is a web page"):
        locate_mask_network("isnet", tmp_path / "page.onnx")


def test_fetched_it_is_found_and_verified(cache: Path) -> None:
    assert fetch_mask_network("isnet", deliver(CONTENT)) == cache / FILE
    assert locate_mask_network("isnet") == cache / FILE
    assert verify_mask_network("isnet") == MASK_NETWORKS["isnet"].md5
    (cache / FILE).write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"expected md5 [0-9a-f]{32}, got .* run `asic weights fetch isnet`"):
        verify_mask_network("isnet")


@pytest.mark.usefixtures("cache")
def test_what_is_not_the_network_is_refused() -> None:
    with pytest.raises(WeightsError, match="expected md5"):
        fetch_mask_network("isnet", deliver(b"another"))

    def fail(*_: object, **__: object) -> str:
        raise ValueError("MD5 hash of downloaded file does not match")

    with pytest.raises(WeightsError, match=r"could not fetch https://.*does not match"):
        fetch_mask_network("isnet", fail)


def test_without_pooch_the_extra_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ExtraError, match=r"pip install 'asic-features\[onnx\]'"):
        fetch_mask_network("isnet")
    assert not cache.exists()
