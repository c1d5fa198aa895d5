"""The run folder on disk, and what can be asked of its maps without torch.

A run folder holds `config.json`, `canonical_maps.safetensors`, `consensus.safetensors` and, where one was trained,
`network.safetensors`. `config.json` is written last and names the sha256 of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from asic_flow.atomic import Staging
from asic_flow.collection_folder import Photo, TokenGrid, read_grid, read_photo
from asic_flow.config import AlignmentConfig
from asic_flow.foreground_tree import MapIndex, Places
from asic_flow.indexed_folder import IndexedFolder

FORMAT_VERSION = 2
INDEX_FILE = "config.json"
TransferMethod = Literal["canonical", "consensus", "combined"]
DEFAULT_METHOD: TransferMethod = "combined"

VISIBLE_DISTANCE: Mapping[TransferMethod, float] = {"canonical": 0.1, "consensus": 0.16, "combined": 0.16}
"""Canonical distance up to which a photo counts as showing a point, by how the answer was found.

Consensus places are not where the maps say. At these distances 93 of 100 points that drawn photos show are called so.
"""
CALIBRATION: Mapping[TransferMethod, tuple[float, float]] = {
    "canonical": (4.29, -1.24),
    "consensus": (4.12, -0.74),
    "combined": (4.12, -0.74),
}
"""Logistic regression of being right on agreement, by method: slope and intercept, by benchmarks/calibration.py."""

LEAST_FLAG_WEIGHT = 0.05
"""Consensus places on maps of a flag that counts less than this beside the other one are left out."""
NEIGHBOUR_TEMPERATURE = 0.05
"""Of the scores by which an answer is averaged over the best token and those around it."""

# Trust in the place of a photo on maps that it has none of.
_NO_MAP = 0.01
_MAPS_FILE = "canonical_maps.safetensors"
_TOKENS_FILE = "consensus.safetensors"


class RunError(ValueError):
    """A run folder that cannot be used; the message names the file and the field."""


_FOLDER = IndexedFolder(INDEX_FILE, "asic-run", FORMAT_VERSION, "`asic train` (or `asic add`)", RunError)


@dataclass(frozen=True, eq=False)
class AlignmentArrays:
    """An `asic_flow.alignment.Alignment` in NumPy's arrays: what a run folder holds, and look-ups on its maps.

    Attributes:
        photos: N records.
        maps: (N, H, W, 2) float32.
        second_photo: (S,) int64, rising: the photos that have a second map.
        second_maps: (S, H, W, 2) float32.
        second_symmetry: (S,) float32.
        confidence: (N, H, W) float32.
        foreground: (N, H, W) bool.
        mirrored: (N,) bool.
        support: (N,) float32.
        grid: Where descriptors sit.
        token_image: (F,) int64.
        token: (F,) int64.
        descriptors: (F, D) float16.
        places: (F, 2, 2) float32.
        config: What it was fitted with.
    """

    photos: tuple[Photo, ...]
    maps: NDArray[np.float32]
    second_photo: NDArray[np.int64]
    second_maps: NDArray[np.float32]
    second_symmetry: NDArray[np.float32]
    confidence: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    mirrored: NDArray[np.bool_]
    support: NDArray[np.float32]
    grid: TokenGrid
    token_image: NDArray[np.int64]
    token: NDArray[np.int64]
    descriptors: NDArray[np.float16]
    places: NDArray[np.float32]
    config: AlignmentConfig

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the model's frame, in pixels."""
        return int(self.maps.shape[1]), int(self.maps.shape[2])

    def save(
        self,
        folder: Path,
        extra: Mapping[str, Any],
        beside: Mapping[str, bytes] | None = None,
        staging: Staging | None = None,
    ) -> None:
        """Writes a run folder.

        Args:
            folder: Created where missing.
            extra: JSON values kept in `config.json` beside the settings: the collection's path and identity, say.
            beside: Further files by name; `read_run_file` reads them.
            staging: Where all of it is to wait until that is committed; None to commit at once.

        Raises:
            OSError: The folder cannot be written, or the disk is full; what it held before is still there.
        """
        contents = {
            _MAPS_FILE: {
                "maps": self.maps,
                "confidence": self.confidence,
                "foreground": self.foreground.astype(np.uint8),
                "second_maps": self.second_maps,
                "second_photo": self.second_photo,
                "second_symmetry": self.second_symmetry,
            },
            _TOKENS_FILE: {
                "descriptors": self.descriptors,
                "places": self.places,
                "image": self.token_image,
                "token": self.token,
            },
        }
        files = {
            name: save({key: np.ascontiguousarray(value) for key, value in arrays.items()})
            for name, arrays in contents.items()
        }
        document = {
            "alignment": asdict(self.config),
            "grid": asdict(self.grid),
            "photos": [asdict(photo) for photo in self.photos],
            "mirrored": self.mirrored.tolist(),
            "support": [round(value, 6) for value in self.support.tolist()],
            **extra,
        }
        _FOLDER.write(folder, document, files | dict(beside or {}), staging)

    @classmethod
    def load(cls, folder: Path) -> AlignmentArrays:
        """Reads a run folder and checks every file against its recorded sha256.

        Raises:
            RunError: A file is missing, changed, or not what `config.json` says.
        """
        document = read_run_index(folder)
        path = folder / INDEX_FILE
        try:
            settings: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in document["alignment"].items()
            }
            grid = read_grid(document["grid"])
            photos = tuple(read_photo(record) for record in document["photos"])
            mirrored = np.array(document["mirrored"], np.bool_)
            support = np.array(document["support"], np.float32)
            maps = _FOLDER.read_arrays(folder, _MAPS_FILE, document["sha256"])
            tokens = _FOLDER.read_arrays(folder, _TOKENS_FILE, document["sha256"])
            arrays = cls(
                photos=photos,
                maps=maps["maps"],
                second_photo=maps["second_photo"],
                second_maps=maps["second_maps"],
                second_symmetry=maps["second_symmetry"],
                confidence=maps["confidence"],
                foreground=maps["foreground"].astype(np.bool_),
                mirrored=mirrored,
                support=support,
                grid=grid,
                token_image=tokens["image"],
                token=tokens["token"],
                descriptors=tokens["descriptors"],
                places=tokens["places"],
                config=AlignmentConfig(**settings),
            )
        except RunError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise RunError(f"{path}: malformed field: {error!r}") from error
        arrays._check(folder)
        return arrays

    def choose(
        self, source: NDArray[np.int64], target: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The maps by which points travel from photos to photos; see `choose_maps`."""
        return choose_maps(self.mirrored, self.second_photo, self.second_symmetry, source, target)

    def numbered_map(self, number: int) -> NDArray[np.float32]:
        """(H, W, 2): a photo's own map or a second one, as `choose_maps` numbers them."""
        second = number >= len(self)
        return np.asarray(self.second_maps[number - len(self)] if second else self.maps[number])

    @cached_property
    def _indices(self) -> dict[int, MapIndex]:
        return {}

    def look_up(self, canonical: NDArray[np.float32], number: int) -> Places:
        """Looks canonical points (P, 2) up on one map's foreground; see `MapIndex.look_up`."""
        if number not in self._indices:
            photo = number if number < len(self) else int(self.second_photo[number - len(self)])
            self._indices[number] = MapIndex.of_map(self.numbered_map(number), self.foreground[photo])
        return self._indices[number].look_up(canonical)

    def places_on_maps(self, points_px: NDArray[np.float32], chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """(M, 2): canonical places by numbered maps, see `choose_maps`.

        Args:
            points_px: (M, 2) xy in model pixels; outside the frame the border's value is taken.
            chosen: (M,), a photo's number for its own map, N + s for the second map s.
        """
        count = len(self)
        own = chosen < count
        sampled = np.empty((len(points_px), 2), np.float32)
        sampled[own] = sample(self.maps, points_px[own], chosen[own])
        sampled[~own] = sample(self.second_maps, points_px[~own], chosen[~own] - count)
        return sampled

    def _check(self, folder: Path) -> None:
        file, count = folder / _MAPS_FILE, len(self.photos)
        if self.maps.shape[0] != count or self.maps.shape[:3] != self.confidence.shape:
            raise RunError(f"{file}: expected maps of {count} photos")
        for field, of_photos in (("mirrored", self.mirrored), ("support", self.support)):
            if of_photos.shape != (count,):
                raise RunError(f"{folder / INDEX_FILE}, field '{field}': expected a value for each of {count} photos")
        photo = self.second_photo
        if not len(self.second_maps) == len(photo) == len(self.second_symmetry) <= count or (
            len(photo) and not 0 <= int(photo.min()) <= int(photo.max()) < count
        ):
            raise RunError(f"{file}: expected as many second maps as photos they name")
        file, image, token = folder / _TOKENS_FILE, self.token_image, self.token
        shapes = [values.shape for values in (image, self.descriptors[:, :1], self.places)]
        if shapes != [(len(token),), (len(token), 1), (len(token), 2, 2)]:
            raise RunError(
                f"{file}: expected photos, descriptors and places of as many tokens, got {len(token)} and {shapes}"
            )
        for field, values, limit, what in (
            ("image", image, count, "photos"),
            ("token", token, self.grid.rows * self.grid.cols, "tokens"),
        ):
            if len(token) and not 0 <= int(values.min()) <= int(values.max()) < limit:
                raise RunError(f"{file}, field '{field}': expected {what} 0 to {limit - 1}")
        if not (np.diff(image) >= 0).all():
            raise RunError(f"{file}, field 'image': expected photos one after the other")


def read_run_index(folder: Path) -> dict[str, Any]:
    """Reads a run's `config.json` and nothing else.

    Raises:
        RunError: No index, or none that this version reads.
    """
    return _FOLDER.read_index(folder)


def read_run_file(folder: Path, name: str) -> bytes:
    """Reads a file that was written with a run, and checks it against its recorded sha256.

    Raises:
        RunError: It is not recorded, missing or changed.
    """
    return _FOLDER.read_file(folder, name, read_run_index(folder)["sha256"])


def choose_maps(
    mirrored: NDArray[np.bool_],
    second_photo: NDArray[np.int64],
    second_symmetry: NDArray[np.float32],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The maps by which points travel from photos to photos: both mirrored or both not, if possible.

    Args:
        mirrored: (N,), the flags of the photos' own maps.
        second_photo: (S,), the photos that have a second map, of the other flag.
        second_symmetry: (S,), how well these fit.
        source: (M,) numbers of photos.
        target: (M,) likewise.

    Returns:
        Two (M,): the photo's number for its own map, N + s for the second map s. Where the flags of two photos differ,
        the one of higher symmetry changes its map, if it can.
    """
    count = len(mirrored)
    row = np.full(count, -1)
    row[second_photo] = np.arange(len(second_photo))
    symmetry = np.zeros(count, np.float32)
    symmetry[second_photo] = second_symmetry
    differ = (mirrored[source] != mirrored[target]) & ((row[source] >= 0) | (row[target] >= 0))
    at_source = (row[source] >= 0) & ((row[target] < 0) | (symmetry[source] >= symmetry[target]))
    return (
        np.where(differ & at_source, count + row[source], source),
        np.where(differ & ~at_source, count + row[target], target),
    )


def trust_in_places(
    mirrored: NDArray[np.bool_], second_photo: NDArray[np.int64], second_symmetry: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, 2), 0 to 1: trust in photos' places on maps that are not mirrored and on mirrored ones.

    Those by their own maps fully, by second maps as far as these are symmetric; a photo without one is taken to lie
    where its own map says, which counts where there is nothing else.

    Args:
        mirrored: (N,), the flags of the photos' own maps.
        second_photo: (S,), the photos that have a second map, of the other flag.
        second_symmetry: (S,), how well these fit.
    """
    photos = np.arange(len(mirrored))
    other = np.full(len(mirrored), _NO_MAP, np.float32)
    other[second_photo] = second_symmetry.clip(_NO_MAP, 1)
    trust = np.ones((len(mirrored), 2), np.float32)
    trust[photos, 1 - mirrored.astype(np.int64)] = other
    return trust


def sample(fields: NDArray[Any], points_px: NDArray[np.float32], field: NDArray[np.int64] | int) -> NDArray[np.float32]:
    """(M, C) float32: bilinear samples of (N, H, W, C) at (M, 2) pixels of given fields, the border replicated."""
    height, width = fields.shape[1:3]
    limit = np.array([width - 1, height - 1], np.float32)
    inside = points_px.clip(0, limit)
    low = np.minimum(np.floor(inside), limit - 1)
    x, y = (inside - low).T
    column, row = low.astype(np.int64).T
    flat = fields.reshape(-1, fields.shape[3])
    first = (field * height + row) * width + column
    total = np.zeros((len(points_px), fields.shape[3]), np.float32)
    corners = ((0, (1 - y) * (1 - x)), (1, (1 - y) * x), (width, y * (1 - x)), (width + 1, y * x))
    for step, weight in corners:
        total += weight[:, None] * flat.take(first + step, axis=0)
    return total
