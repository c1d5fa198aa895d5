"""Salient-object networks that masks may come from, by name, and where their files lie. Imports no ONNX Runtime."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asic_features.extras import ExtraError
from asic_features.weights import WeightsError, check_weights_file, refuse_offline


@dataclass(frozen=True)
class MaskNetworkFile:
    """A network's ONNX file, and how pictures go in and masks come out.

    The file has one input (1, 3, ``side``, ``side``), named as its exporter liked, and the mask is channel 0 of its
    first output.

    Attributes:
        file: The file's name, in the cache and where it is published.
        md5: The checksum that its publisher, rembg, pins it by.
        licence: Licence of the weights.
        side: Pixels a side of what the network sees; the photo's aspect is not kept.
        mean: Subtracted from RGB in [0, 1].
        std: Divides RGB after the mean.
        gives_logits: Whether a sigmoid makes the output a probability; otherwise it is one.
    """

    file: str
    md5: str
    licence: str
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    gives_logits: bool

    @property
    def url(self) -> str:
        """Where it is published."""
        return f"https://github.com/danielgatis/rembg/releases/download/v0.0.0/{self.file}"


MASK_NETWORKS: dict[str, MaskNetworkFile] = {
    # Qin et al., "Highly accurate dichotomous image segmentation", 2022: general use. The sigmoid is in the file.
    "isnet": MaskNetworkFile(
        "isnet-general-use.onnx",
        "fc16ebd8b0c10d971d3513d564d01e29",
        "apache-2.0",
        1024,
        (0.5, 0.5, 0.5),
        (1.0, 1.0, 1.0),
        gives_logits=False,
    ),
    # Zheng et al., "Bilateral reference for high-resolution dichotomous image segmentation", 2024: general.
    "birefnet": MaskNetworkFile(
        "BiRefNet-general-epoch_244.onnx",
        "7a35a0141cbbc80de11d9c9a28f52697",
        "mit",
        1024,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        gives_logits=True,
    ),
}


def locate_mask_network(name: str, file: Path | None = None) -> Path:
    """The ONNX file of a mask network, without touching the network.

    Args:
        name: A key of ``MASK_NETWORKS``.
        file: What the user named, or None to look in the cache.

    Raises:
        WeightsError: No usable file; the message names it and the command that fetches it.
    """
    path = file or cached_mask_network(name)
    if file is None and not path.is_file():
        raise WeightsError(
            f"no weights for --masks {name}: {path} is missing. Fetch them with `asic weights fetch {name}`, "
            "name a file with `--mask-weights FILE`, or use masks that need none: `--masks cosegment`"
        )
    check_weights_file(path)
    return path


def fetch_mask_network(name: str, download: Callable[..., str] | None = None) -> Path:
    """Download a mask network's file into the cache, checked by its md5. Touches the network.

    Args:
        name: A key of ``MASK_NETWORKS``.
        download: ``pooch.retrieve`` or a function with its arguments.

    Returns:
        The file.

    Raises:
        ExtraError: pooch is not installed.
        WeightsError: ``HF_HUB_OFFLINE`` forbids it, the download failed, or its content is another.
    """
    network = MASK_NETWORKS[name]
    refuse_offline(name)
    if download is None:
        try:
            from pooch import retrieve
        except ImportError:
            raise ExtraError(f"fetching {name} needs pooch: pip install 'asic-features[onnx]'") from None
        download = retrieve
    path = cached_mask_network(name)
    try:
        download(network.url, known_hash=f"md5:{network.md5}", fname=path.name, path=str(path.parent))
    except (OSError, ValueError) as error:  # pooch says ValueError of a file with another checksum
        raise WeightsError(f"could not fetch {network.url}: {error}") from error
    verify_mask_network(name)
    return path


def verify_mask_network(name: str) -> str:
    """Compare a cached mask network with its md5.

    Returns:
        The md5.

    Raises:
        WeightsError: It is missing, or another.
    """
    path = locate_mask_network(name)
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    expected = MASK_NETWORKS[name].md5
    if found != expected:
        raise WeightsError(
            f"{path}: expected md5 {expected}, got {found}; delete it and run `asic weights fetch {name}`"
        )
    return found


def cached_mask_network(name: str) -> Path:
    """Where a mask network's file is, or would be: ``asic/masks`` in ``XDG_CACHE_HOME``, else in ``~/.cache``."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return caches / "asic" / "masks" / MASK_NETWORKS[name].file
