from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

CONTENT = b"these stand for weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REVISION = "0123456789" * 4


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds one file the way the hub's client lays it down."""
    repository = tmp_path / "hub" / "models--timm--vit_small_patch8_224.dino"
    blob = repository / "blobs" / SHA256
    link = repository / "snapshots" / REVISION / "model.safetensors"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(CONTENT)
    link.symlink_to(blob)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return link


def test_list_shows_what_to_pin(asic, hub) -> None:
    row = next(row for row in asic("weights", "list", "--json").json if row["backbone"] == "dino_vits8")
    assert (row["revision"], row["sha256"], row["path"]) == (REVISION, SHA256, str(hub))
    assert f"{REVISION[:12]} │ {SHA256[:12]}" in asic("weights", "list").out
    pinned = next(row for row in asic("weights", "list", "--json").json if row["backbone"] == "dinov3_vits16")
    assert (pinned["revision"][:7], pinned["sha256"][:7], pinned["path"]) == ("3bf4720", "2a1ec16", None)


def test_verify_says_what_it_compared_with(asic, hub) -> None:
    result = asic("weights", "verify", "dino_vits8")
    assert (result.code, result.out.strip()) == (0, SHA256)
    assert "no checksum of it is pinned" in result.err
    result = asic("weights", "verify", "dino_vits8", "--sha256", SHA256)
    assert (result.code, result.err) == (0, "")
    result = asic("weights", "verify", "dino_vits8", "--sha256", "0" * 64)
    assert (result.code, "expected sha256 0000" in result.err) == (3, True)
    result = asic("weights", "verify", "dino_vits8", "--sha256", "x")
    assert (result.code, "--sha256: expected 64 hexadecimal digits" in result.err) == (2, True)
    hub.resolve().write_bytes(CONTENT + b"!")
    assert asic("weights", "verify", "dino_vits8").code == 3


def test_fetch_says_revision_and_checksum(asic, hub, monkeypatch) -> None:
    import huggingface_hub

    asked = {}

    def download(**arguments: str) -> str:
        asked.update(arguments)
        return str(hub)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    result = asic("weights", "fetch", "dino_vits8", "--revision", REVISION)
    assert (result.code, result.out.strip()) == (0, str(hub))
    assert asked["revision"] == REVISION
    assert "licence: apache-2.0" in result.err
    assert f"revision {REVISION}, sha256 {SHA256}" in result.err
    result = asic("weights", "fetch", "dino_vits8", "--revision", "main")
    assert (result.code, "--revision: expected the 40 hexadecimal digits" in result.err) == (2, True)


def test_offline_is_offline(asic, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = asic("weights", "fetch", "dino_vits8")
    assert (result.code, "HF_HUB_OFFLINE is set" in result.err) == (3, True)


def test_a_licence_is_told_once_and_only_where_there_are_weights(asic, photos, network) -> None:
    line = "licence of the weights of vit_tiny_p16: apache-2.0"
    command = ("features", photos, *network, "--masks", "none", "--size", 64, "--out", "x")
    assert asic(*command).err.count(line) == 1
    assert line not in asic(*command).err  # made already, nothing is used
    assert "licence" not in asic("features", photos, "--size", 64, "--stride", 16).err


def test_mask_networks_are_listed_fetched_and_verified(asic, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = {row["masks"]: row for row in asic("weights", "list", "--json").json if "masks" in row}
    assert (rows["isnet"]["path"], rows["birefnet"]["licence"]) == (None, "mit")
    result = asic("weights", "verify", "isnet")
    assert (result.code, "asic weights fetch isnet" in result.err) == (3, True)
    assert asic("weights", "fetch", "isnet", "--revision", REVISION).code == 2
    assert asic("weights", "verify", "isnet", "--sha256", SHA256).code == 2
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = asic("weights", "fetch", "birefnet")
    assert (result.code, "HF_HUB_OFFLINE is set" in result.err) == (3, True)
    path = tmp_path / "asic" / "masks" / "isnet-general-use.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert "isnet" in asic("weights", "list").out
    result = asic("weights", "verify", "isnet")
    assert (result.code, "expected md5 fc16ebd8b0c1" in result.err) == (3, True)
