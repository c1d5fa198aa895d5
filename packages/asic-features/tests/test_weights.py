from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from asic_features.backbones import BACKBONES
from asic_features.weights import (
    WeightsError,
    cache_folder,
    fetch_weights,
    list_weights,
    locate_weights,
    verify_weights,
)

CONTENT = b"these stand for weights"
REPOSITORY = "models--timm--vit_small_patch8_224.dino"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def store(hub: Path, content: bytes = CONTENT, revision: str = "abc") -> Path:
    """Lay a file down the way the hub's client does."""
    blob = hub / REPOSITORY / "blobs" / hashlib.sha256(CONTENT).hexdigest()
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link = hub / REPOSITORY / "snapshots" / revision / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    return link


def test_cache_folder_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", "c")
    assert cache_folder() == Path("c/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "h")
    assert cache_folder() == Path("h/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "x")
    assert cache_folder() == Path("x")


def test_missing_weights_name_file_command_and_way_out(hub: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        locate_weights("dino_vits8")
    message = str(caught.value)
    assert str(hub / REPOSITORY) in message
    assert "model.safetensors" in message
    assert "`asic weights fetch dino_vits8`" in message
    assert "`--backbone gradients`" in message


def test_cached_weights_are_found(hub: Path) -> None:
    link = store(hub)
    assert locate_weights("dino_vits8") == link
    assert locate_weights("vit_small_patch8_224.dino") == link
    row = next(row for row in list_weights() if row.backbone.name == "dino_vits8")
    assert (row.path, row.size_bytes) == (link, len(CONTENT))
    assert (row.revision, row.sha256) == ("abc", hashlib.sha256(CONTENT).hexdigest())
    absent = next(row for row in list_weights() if row.backbone.name == "dino_vitb8")
    assert (absent.path, absent.size_bytes, absent.revision, absent.sha256) == (None, 0, None, None)


def test_nothing_to_find_for_the_weight_free_descriptor(tmp_path: Path) -> None:
    assert locate_weights("gradients") is None
    with pytest.raises(ValueError, match="has no weights: drop one"):
        locate_weights("gradients", tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="nothing to verify"):
        verify_weights("gradients")
    with pytest.raises(WeightsError, match="nothing to fetch"):
        fetch_weights("gradients")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "does not exist"), (b"", "is empty"), (b"\n<html>404</html>", "is a web page")]
)
def test_files_that_are_no_weights(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=reason):
        locate_weights("dino_vits8", path)


def test_verify_compares_with_the_blobs_name(hub: Path) -> None:
    link = store(hub)
    assert verify_weights("dino_vits8") == hashlib.sha256(CONTENT).hexdigest()
    link.resolve().write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="expected sha256"):
        verify_weights("dino_vits8")


def test_verify_takes_a_checksum_from_elsewhere(hub: Path) -> None:
    path = hub / REPOSITORY / "snapshots" / "abc" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert verify_weights("dino_vits8", hashlib.sha256(CONTENT).hexdigest())
    with pytest.raises(WeightsError, match="expected sha256 0000"):
        verify_weights("dino_vits8", "0" * 64)
    with pytest.raises(ValueError, match="sha256: expected 64 hexadecimal digits"):
        verify_weights("dino_vits8", "abc")


def test_verify_needs_a_recorded_checksum(hub: Path) -> None:
    path = hub / REPOSITORY / "snapshots" / "abc" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="no checksum"):
        verify_weights("dino_vits8")


@pytest.mark.parametrize("revision", [None, "0123456789" * 4])
def test_fetch_downloads_into_the_cache_and_verifies(hub: Path, revision: str | None) -> None:
    asked: dict[str, str] = {}
    store(hub, revision="newer")

    def download(**arguments: str) -> str:
        asked.update(arguments)
        return str(store(hub, revision=arguments["revision"] or "newest"))

    fetched = fetch_weights("dino_vits8", download, revision=revision)
    assert fetched.path == hub / REPOSITORY / "snapshots" / (revision or "newest") / "model.safetensors"
    assert (fetched.revision, fetched.sha256) == (revision or "newest", hashlib.sha256(CONTENT).hexdigest())
    assert asked == {
        "repo_id": "timm/vit_small_patch8_224.dino",
        "filename": "model.safetensors",
        "revision": revision,
        "cache_dir": str(hub),
    }


def test_pinned_weights_are_fetched_as_pinned(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(BACKBONES["dino_vits8"], revision="0123456789" * 4, sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(BACKBONES, "dino_vits8", spec)
    asked: list[str | None] = []

    def download(**arguments: str) -> str:
        asked.append(arguments["revision"])
        path = hub / REPOSITORY / "snapshots" / arguments["revision"] / "model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    absent = next(row for row in list_weights() if row.backbone.name == "dino_vits8")
    assert (absent.path, absent.revision, absent.sha256) == (None, spec.revision, spec.sha256)
    content = CONTENT
    assert fetch_weights("dino_vits8", download).sha256 == spec.sha256
    assert verify_weights("dino_vits8") == spec.sha256
    content = b"changed at the hub"
    with pytest.raises(WeightsError, match=f"expected sha256 {spec.sha256}"):
        fetch_weights("dino_vits8", download)
    # Another revision is another file, of which nothing is pinned.
    with pytest.raises(WeightsError, match="no checksum"):
        fetch_weights("dino_vits8", download, revision="f" * 40)
    assert asked == [spec.revision, spec.revision, "f" * 40]


def test_fetch_wants_a_commit() -> None:
    with pytest.raises(ValueError, match="revision: expected the 40 hexadecimal digits of a commit, got 'main'"):
        fetch_weights("dino_vits8", revision="main")


def test_offline_is_offline(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="cannot fetch dino_vits8: HF_HUB_OFFLINE is set"):
        fetch_weights("dino_vits8", lambda **_: pytest.fail("the network was asked"))


def test_fetch_refuses_content_that_was_not_announced(hub: Path) -> None:
    with pytest.raises(WeightsError, match="expected sha256"):
        fetch_weights("dino_vits8", lambda **_: str(store(hub, b"something else")))


def test_fetch_says_why_it_failed(hub: Path) -> None:
    del hub

    def download(**_: str) -> str:
        raise ConnectionError("no route")

    with pytest.raises(WeightsError, match=r"could not fetch timm/vit_small_patch8_224\.dino/.*no route"):
        fetch_weights("dino_vits8", download)
