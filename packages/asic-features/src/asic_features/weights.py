"""Where a backbone's weights lie. Standard library only, so that a missing file is reported before torch loads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asic_features.backbones import BACKBONES, WEIGHT_FREE, Backbone, find_backbone

WEIGHTS_FILE = "model.safetensors"
_REVISION = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class WeightsError(Exception):
    """Weights are absent or cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class WeightsStatus:
    """One line of ``asic weights list``.

    Attributes:
        backbone: The table's entry.
        path: The file in the cache, or None.
        size_bytes: Its size, or 0.
        revision: The commit of the hub's repository that it is from or would be fetched from, or None.
        sha256: The checksum to expect, by the table or by the hub, or None; `verify_weights` compares the content.
    """

    backbone: Backbone
    path: Path | None
    size_bytes: int
    revision: str | None
    sha256: str | None


def cache_folder() -> Path:
    """The Hugging Face hub's cache: ``HF_HUB_CACHE``, else ``HF_HOME/hub``, else under ``XDG_CACHE_HOME``."""
    if explicit := os.environ.get("HF_HUB_CACHE"):
        return Path(explicit).expanduser()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    return (home / "hub").expanduser()


def locate_weights(backbone: str, weights: Path | None = None) -> Path | None:
    """File that holds a backbone's weights, without touching the network.

    For the short names neither torch nor timm is imported.

    Args:
        backbone: A name that ``find_backbone`` knows.
        weights: The file the user named, or None to look in the Hugging Face cache.

    Returns:
        The file, or None for the descriptor that needs no weights.

    Raises:
        WeightsError: No usable file; the message names it, the command that fetches it and the weight-free choice.
        ValueError: Unknown backbone, or weights given for the descriptor that has none.
    """
    spec = find_backbone(backbone)
    if not spec.needs_weights:
        if weights is not None:
            raise ValueError(f"--weights {weights} was given, but the descriptor {backbone!r} has no weights: drop one")
        return None
    if weights is not None:
        check_weights_file(weights)
        return weights
    path = _cached(spec)
    if path is None:
        expected = _repository_folder(spec) / "snapshots" / "<revision>" / WEIGHTS_FILE
        raise WeightsError(
            f"no weights for {backbone}: {expected} is missing. Fetch them with `asic weights fetch {backbone}`, "
            f"name a file with `--weights FILE`, or, for a new collection, take the descriptor without weights: "
            f"`--backbone {WEIGHT_FREE}`"
        )
    check_weights_file(path)
    return path


def list_weights() -> tuple[WeightsStatus, ...]:
    """State of every short name's weights in the cache; reads no file."""
    rows = []
    for spec in BACKBONES.values():
        path = _cached(spec) if spec.needs_weights else None
        rows.append(
            WeightsStatus(spec, None, 0, spec.revision, spec.sha256)
            if path is None
            else WeightsStatus(spec, path, path.stat().st_size, path.parent.name, _expected_sha256(spec, path))
        )
    return tuple(rows)


def verify_weights(backbone: str, sha256: str | None = None) -> str:
    """Compare cached weights with a checksum.

    Of weights that are pinned, ``BACKBONES`` has it. The cache keeps a large file as ``blobs/<sha256 of its content>``,
    so that for others the name is what the hub announced; whoever knows the checksum from elsewhere gives it.

    Args:
        backbone: A name that ``find_backbone`` knows.
        sha256: What is expected; None for the table's checksum, or what the hub announced.

    Returns:
        The file's sha256.

    Raises:
        WeightsError: Missing, changed, or stored without a checksum.
        ValueError: ``sha256`` is none.
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise ValueError(f"sha256: expected 64 hexadecimal digits in lower case, got {sha256!r}")
    path = locate_weights(backbone)
    if path is None:
        raise WeightsError(f"{backbone} has no weights: there is nothing to verify")
    return _verify(find_backbone(backbone), path, sha256)


def _verify(spec: Backbone, path: Path, sha256: str | None) -> str:
    expected = sha256 or _expected_sha256(spec, path)
    if expected is None:
        raise WeightsError(
            f"{path}: the cache holds no checksum for it; fetch it again: `asic weights fetch {spec.name}`"
        )
    found = sha256_of(path)
    if found != expected:
        raise WeightsError(
            f"{path}: expected sha256 {expected}, got {found}; delete {path.resolve()} and run "
            f"`asic weights fetch {spec.name}`"
        )
    return found


def fetch_weights(
    backbone: str, download: Callable[..., str] | None = None, *, revision: str | None = None
) -> WeightsStatus:
    """Download a backbone's weights into the Hugging Face cache and verify them. Touches the network.

    Args:
        backbone: A name that ``find_backbone`` knows.
        revision: Commit of the hub's repository, 40 hexadecimal digits; None for the pinned one, else the newest.
        download: ``huggingface_hub.hf_hub_download`` or a function with its arguments.

    Returns:
        The file in the cache, with the revision and the checksum to pin.

    Raises:
        WeightsError: ``HF_HUB_OFFLINE`` forbids it, the download failed, or its content is not what was
            announced or pinned.
        ValueError: ``revision`` is no commit.
    """
    if revision is not None and not _REVISION.fullmatch(revision):
        raise ValueError(f"revision: expected the 40 hexadecimal digits of a commit, got {revision!r}")
    spec = find_backbone(backbone)
    if not spec.needs_weights:
        raise WeightsError(f"{backbone} has no weights: there is nothing to fetch")
    refuse_offline(backbone)
    if download is None:
        from huggingface_hub import hf_hub_download

        download = hf_hub_download
    try:
        fetched = Path(
            download(
                repo_id=f"timm/{spec.timm_name}",
                filename=WEIGHTS_FILE,
                revision=revision or spec.revision,
                cache_dir=str(cache_folder()),
            )
        )
    except OSError as error:  # the hub's and httpx's network errors derive from it
        raise WeightsError(f"could not fetch timm/{spec.timm_name}/{WEIGHTS_FILE}: {error}") from error
    check_weights_file(fetched)
    return WeightsStatus(spec, fetched, fetched.stat().st_size, fetched.parent.name, _verify(spec, fetched, None))


def refuse_offline(name: str) -> None:
    """Keep from the network whom ``HF_HUB_OFFLINE`` forbids it.

    Raises:
        WeightsError: It does.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise WeightsError(f"cannot fetch {name}: HF_HUB_OFFLINE is set; unset it, or name a file of weights")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _repository_folder(spec: Backbone) -> Path:
    return cache_folder() / f"models--timm--{spec.timm_name}"


def _cached(spec: Backbone) -> Path | None:
    # Revisions are content hashes without order: the newest file is the last one fetched.
    found = [path for path in _repository_folder(spec).glob(f"snapshots/*/{WEIGHTS_FILE}") if path.is_file()]
    return max(found, key=lambda path: (path.stat().st_mtime, str(path)), default=None)


def _expected_sha256(spec: Backbone, path: Path) -> str | None:
    """The table's checksum where it is about the revision that lies here, else the name the hub's client stored."""
    if spec.sha256 is not None and path.parent.name == spec.revision:
        return spec.sha256
    return _stored_sha256(path)


def _stored_sha256(path: Path) -> str | None:
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) else None


def check_weights_file(path: Path) -> None:
    """Make sure that a file can be read, and is neither empty nor a web page.

    Raises:
        WeightsError: It is not so.
    """
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise WeightsError(f"weights file {path} cannot be read: {error.strerror}") from error
    if not head:
        raise WeightsError(f"weights file {path} is empty: fetch it again")
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"weights file {path} is a web page, not weights: fetch it again")
