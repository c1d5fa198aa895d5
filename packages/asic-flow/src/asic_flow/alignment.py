"""An aligned collection: maps of all photos into canonical space, point transfer, and the run folder on disk.

A run folder holds `config.json`, `canonical_maps.safetensors` and `consensus.safetensors`. `config.json` is written
last and names the sha256 of the two others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from asic_flow.collection import ImageCollection, Photo, TokenGrid, read_photo
from asic_flow.config import AlignmentConfig
from asic_flow.consensus import ConsensusTokens
from asic_flow.grid import pixel_to_norm
from asic_flow.indexed_folder import IndexedFolder
from asic_flow.kernels import CanonicalIndex, CanonicalNeighbours
from asic_flow.matches import MatchSet
from asic_flow.sides import SecondMaps
from asic_flow.train import FittedMaps, Progress, fit, stay_silent

FORMAT_VERSION = 2
INDEX_FILE = "config.json"
TransferMethod = Literal["canonical", "combined"]
DEFAULT_METHOD: TransferMethod = "combined"

VISIBLE_DISTANCE = 0.1
"""Canonical distance up to which a photo counts as showing a point."""
CALIBRATION = (4.08, -0.80)
"""Logistic regression of being right on agreement: slope and intercept, by benchmarks/calibration.py."""

_SHARED_LEVEL = 0.9  # quantile of a photo's confidence
_SHARED_SHARE = 0.3  # of that level


class RunError(ValueError):
    """A run folder that cannot be used; the message names the file and the field."""


_FOLDER = IndexedFolder(INDEX_FILE, "asic-run", FORMAT_VERSION, "asic train", RunError)


@dataclass(frozen=True)
class Transfer:
    """Where points of one photo lie in another.

    Attributes:
        points_image: (M, 2) float64 xy in the target photo's own pixels; NaN where the target has no foreground.
        confidence: (M,) float64, 0 to 1: agreement of the matches around both ends, falling with the canonical distance
            that remains between them; 0 outside the foreground.
        probability: (M,) float64: the chance that the answer lies within a tenth of the object's size of the right
            place, from the agreement at both ends' nearest foreground. Calibrated on drawn collections; how well that
            holds on real photos is measured in docs/benchmarks.md. 0 where there is no answer.
        visible: (M,) bool, whether the target shows the point at all: canonical distance up to 0.1.
    """

    points_image: NDArray[np.float64]
    confidence: NDArray[np.float64]
    probability: NDArray[np.float64]
    visible: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Alignment:
    """Maps of N photos into one canonical space.

    Attributes:
        photos: N records.
        maps: (N, H, W, 2) float32, canonical xy of every pixel; the object lies mostly within [-1, 1].
        second: Maps of the opposite mirror flag, of photos that show both sides of their object.
        confidence: (N, H, W) float32, 0 to 1, the share of other photos that agree with the map there.
        foreground: (N, H, W) bool, the part of the collection's masks that is seen in other photos too.
        mirrored: (N,) bool, photos whose map mirrors them.
        support: (N,) float32, the share of a photo's matches that fit the others; low for one that does not belong.
        grid: Where descriptors sit.
        token_image: (F,) int64, photo of each foreground token.
        token: (F,) int64, index into the token grid.
        descriptors: (F, D) float16 consensus descriptors, unit length.
        places: (F, 2, 2) float32 consensus places, see `asic_flow.consensus`.
        config: What it was fitted with.
    """

    photos: tuple[Photo, ...]
    maps: Tensor
    second: SecondMaps
    confidence: Tensor
    foreground: Tensor
    mirrored: Tensor
    support: Tensor
    grid: TokenGrid
    token_image: Tensor
    token: Tensor
    descriptors: Tensor
    places: Tensor
    config: AlignmentConfig

    @classmethod
    def fit(
        cls,
        collection: ImageCollection,
        matches: MatchSet,
        config: AlignmentConfig | None = None,
        *,
        progress: Progress = stay_silent,
    ) -> Alignment:
        """Aligns a collection; see `asic_flow.train.fit` for the stages and errors."""
        config = config or AlignmentConfig()
        return cls.of(collection, fit(collection, matches, config, progress=progress), config)

    @classmethod
    def of(cls, collection: ImageCollection, fitted: FittedMaps, config: AlignmentConfig) -> Alignment:
        """Fitted maps of whatever recipe, with the photos they belong to."""
        count, (height, width) = len(collection), collection.size_hw
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = pixel_to_norm(torch.stack((columns, rows), -1).reshape(-1, 2).float(), (height, width))
        tokens = fitted.tokens
        grid = collection.grid
        known = torch.zeros(count, 2, grid.rows * grid.cols)
        known[tokens.image, 0, tokens.token] = fitted.confidence
        known[tokens.image, 1, tokens.token] = 1.0
        first, last = grid.first, grid.first + grid.stride * (max(grid.rows, grid.cols) - 1)
        at_token = ((pixels + 1) / 2 * (max(height, width) - 1) - first) / max(last - first, 1.0) * 2 - 1
        spread = grid_sample(
            known.reshape(count, 2, grid.rows, grid.cols),
            at_token.reshape(1, height, width, 2).expand(count, -1, -1, -1),
            padding_mode="border",
            align_corners=True,
        )
        masked = collection.foreground()
        confidence = spread[:, 0] / spread[:, 1].clamp_min(1e-6) * masked
        return cls(
            photos=collection.photos,
            maps=fitted.maps,
            second=fitted.second,
            confidence=confidence,
            foreground=_shared(confidence, masked),
            mirrored=fitted.mirrored,
            support=fitted.support.float(),
            grid=grid,
            token_image=tokens.image,
            token=tokens.token,
            descriptors=fitted.descriptors.half(),
            places=fitted.places,
            config=config,
        )

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the model's frame, in pixels."""
        return int(self.maps.shape[1]), int(self.maps.shape[2])

    def to_canonical(self, points_image: ArrayLike, source: ArrayLike) -> NDArray[np.float64]:
        """Canonical positions of points.

        Args:
            points_image: (M, 2) xy in the source photos' own pixels.
            source: The photo of all points, or (M,) one each.

        Returns:
            (M, 2) canonical xy, by bilinear sampling of the map; points outside the frame take its border's value.

        Raises:
            ValueError: Points that are not (M, 2) and finite, or a photo that does not exist.
        """
        points, photo = self._checked(points_image, source)
        return self._sample(self.maps, self._to_model(points, photo), photo).double().numpy()

    @torch.no_grad()
    def transfer(
        self, points_image: ArrayLike, source: ArrayLike, target: ArrayLike, method: TransferMethod = DEFAULT_METHOD
    ) -> Transfer:
        """Carries points from photos to photos.

        Args:
            points_image: (M, 2) xy in the source photos' own pixels.
            source: The photo of all points, or (M,) one each.
            target: Likewise.
            method: `canonical` takes the foreground pixel nearest in canonical space, by the photos' own maps or, where
                these differ in left and right, by second ones; `combined` weighs distance in canonical space against
                the similarity of descriptors, at the places that all photos agree on, so it stays right where the
                smooth map cannot follow.

        Raises:
            ValueError: Points that are not (M, 2) and finite, a photo that does not exist, or an unknown method.
        """
        if method not in ("canonical", "combined"):
            raise ValueError(f"method must be 'canonical' or 'combined', got {method!r}")
        points, source_photo = self._checked(points_image, source)
        _, target_photo = self._checked(points_image, target)
        source_px = self._to_model(points, source_photo)
        from_map, to_map = self.second.choose(self.mirrored, source_photo, target_photo)
        canonical = self.places_on_maps(source_px, from_map)
        if method == "canonical":
            found_px, distance = self._nearest(canonical, to_map)
        else:
            found_px = self.tokens.answer(source_px, source_photo, target_photo, self.config)
            there = self.places_on_maps(found_px.nan_to_num(), to_map)
            apart = torch.linalg.vector_norm(there - canonical, dim=1)
            distance = torch.where(found_px[:, 0].isnan(), torch.inf, apart)
        near = self.config.residual_scale**2 / (self.config.residual_scale**2 + distance.square())
        ends = ((source_px, source_photo), (found_px.nan_to_num(), target_photo))
        confidence, agreement = (
            (
                near
                * torch.stack([self._sample(field[..., None], px, photo)[:, 0] for px, photo in ends]).prod(0).sqrt()
            ).nan_to_num()
            for field in (self.confidence, self._nearest_confidence)
        )
        slope, intercept = CALIBRATION
        probability = torch.sigmoid(slope * agreement + intercept) * distance.isfinite()
        answer = np.full((len(points), 2), np.nan)
        for image in torch.unique(target_photo).tolist():
            mine = (target_photo == image).numpy()
            answer[mine] = self.photos[image].to_image(found_px.numpy()[mine])
        visible = (distance <= VISIBLE_DISTANCE).numpy()
        return Transfer(answer, confidence.double().numpy(), probability.double().numpy(), visible)

    def add_images(self, collection: ImageCollection, added: ImageCollection) -> Alignment:
        """An alignment with unseen photos as well, nobody else's map changed; see `asic_flow.add.add_photos`."""
        from asic_flow.add import add_photos

        return add_photos(self, collection, added)

    def save(self, folder: Path, extra: Mapping[str, Any]) -> None:
        """Writes a run folder.

        Args:
            folder: Created where missing.
            extra: JSON values kept in `config.json` beside the settings: the collection's path and identity, say.

        Raises:
            OSError: The folder cannot be written, or the disk is full; what it held before is still there.
        """
        contents = {
            "canonical_maps.safetensors": {
                "maps": self.maps,
                "confidence": self.confidence,
                "foreground": self.foreground.to(torch.uint8),
                "second_maps": self.second.maps,
                "second_photo": self.second.photo,
                "second_symmetry": self.second.symmetry,
            },
            "consensus.safetensors": {
                "descriptors": self.descriptors,
                "places": self.places,
                "image": self.token_image,
                "token": self.token,
            },
        }
        files = {
            name: save({key: value.contiguous().numpy() for key, value in arrays.items()})
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
        _FOLDER.write(folder, document, files)

    @classmethod
    def load(cls, folder: Path) -> Alignment:
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
            grid = TokenGrid(**document["grid"])
            photos = tuple(read_photo(record) for record in document["photos"])
            mirrored = torch.tensor(document["mirrored"], dtype=torch.bool)
            support = torch.tensor(document["support"], dtype=torch.float32)
            maps = _tensors(folder, "canonical_maps.safetensors", document["sha256"])
            consensus = _tensors(folder, "consensus.safetensors", document["sha256"])
            alignment = cls(
                photos=photos,
                maps=maps["maps"],
                second=SecondMaps(maps["second_photo"], maps["second_maps"], maps["second_symmetry"]),
                confidence=maps["confidence"],
                foreground=maps["foreground"].bool(),
                mirrored=mirrored,
                support=support,
                grid=grid,
                token_image=consensus["image"],
                token=consensus["token"],
                descriptors=consensus["descriptors"],
                places=consensus["places"],
                config=AlignmentConfig(**settings),
            )
        except RunError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{path}: malformed field: {error!r}") from error
        if maps["maps"].shape[0] != len(photos) or maps["maps"].shape[:3] != maps["confidence"].shape:
            raise RunError(f"{folder / 'canonical_maps.safetensors'}: expected maps of {len(photos)} photos")
        second = alignment.second
        if not len(second.maps) == len(second.photo) == len(second.symmetry) <= len(photos) or (
            len(second.photo) and not 0 <= int(second.photo.min()) <= int(second.photo.max()) < len(photos)
        ):
            raise RunError(f"{folder / 'canonical_maps.safetensors'}: expected as many second maps as photos they name")
        _check_tokens(alignment, folder / "consensus.safetensors")
        return alignment

    def _checked(self, points_image: ArrayLike, photo: ArrayLike) -> tuple[NDArray[np.float64], Tensor]:
        points = np.asarray(points_image, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"points must be (M, 2) and finite, got shape {points.shape}; drop absent points first")
        index = np.broadcast_to(np.asarray(photo, np.int64), (len(points),))
        if len(index) and not (index.min() >= 0 and index.max() < len(self)):
            raise ValueError(f"photos are numbered 0 to {len(self) - 1}, got {index.min()} to {index.max()}")
        return points, torch.from_numpy(index.copy())

    def _to_model(self, points: NDArray[np.float64], photo: Tensor) -> Tensor:
        scale = np.array([record.scale_xy for record in self.photos])[photo.numpy()]
        offset = np.array([record.offset_xy for record in self.photos])[photo.numpy()]
        return torch.from_numpy(points * scale + offset).float()

    def _sample(self, fields: Tensor, points_px: Tensor, photo: Tensor) -> Tensor:
        """(M, C): bilinear samples of (N, H, W, C) at points of given photos, border replicated."""
        height, width = fields.shape[1:3]
        inside = torch.stack((points_px[:, 0].clamp(0, width - 1), points_px[:, 1].clamp(0, height - 1)), -1)
        low = inside.floor().minimum(torch.tensor([width - 2.0, height - 2.0])).long()
        x, y = (inside - low).unbind(-1)
        column, row = low.unbind(-1)
        total = torch.zeros(len(points_px), fields.shape[3])
        for down, right, weight in ((0, 0, (1 - y) * (1 - x)), (0, 1, (1 - y) * x), (1, 0, y * (1 - x)), (1, 1, y * x)):
            total += weight[:, None] * fields[photo, row + down, column + right]
        return total

    @cached_property
    def _nearest_confidence(self) -> Tensor:
        """(N, H, W): the confidence, and within a token's reach outside the foreground the mean of what is near."""
        reach = max(1, round(self.grid.stride))
        masked = (self.confidence > 0).float()
        near = torch.stack((self.confidence, masked), 1)
        for side in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
            near = avg_pool2d(near, side, 1, (side[0] // 2, side[1] // 2))
        return torch.where(masked > 0, self.confidence, near[:, 0] / near[:, 1].clamp_min(1e-6))

    def _nearest(self, canonical: Tensor, to_map: Tensor) -> tuple[Tensor, Tensor]:
        points = torch.full((len(canonical), 2), torch.nan)
        distance = torch.full((len(canonical),), torch.inf)
        for number in torch.unique(to_map).tolist():
            mine = to_map == number
            found = self.look_up(canonical[mine], number)
            points[mine], distance[mine] = found.points_px[0], found.distance[0]
        return points, distance

    def maps_between(self, source: int, target: int) -> tuple[int, int]:
        """The numbers of the maps by which places travel between two photos: both mirrored or both not, if possible.

        A photo's number stands for its own map, N + s for the second map s; see `SecondMaps.choose`.
        """
        from_map, to_map = self.second.choose(self.mirrored, torch.tensor([source]), torch.tensor([target]))
        return int(from_map), int(to_map)

    def numbered_map(self, number: int) -> Tensor:
        """(H, W, 2): a photo's own map or a second one, as `maps_between` numbers them."""
        return self.maps[number] if number < len(self) else self.second.maps[number - len(self)]

    @cached_property
    def _indices(self) -> dict[int, CanonicalIndex]:
        return {}

    def look_up(self, canonical: Tensor, number: int, max_distance: float = VISIBLE_DISTANCE) -> CanonicalNeighbours:
        """Looks canonical points (P, 2) up on one map's foreground; see `CanonicalIndex.nearest`."""
        if number not in self._indices:
            photo = number if number < len(self) else int(self.second.photo[number - len(self)])
            self._indices[number] = CanonicalIndex(self.numbered_map(number)[None], self.foreground[[photo]])
        return self._indices[number].nearest(canonical, max_distance=max_distance)

    def places_on_maps(self, points_px: Tensor, chosen: Tensor) -> Tensor:
        """(M, 2): canonical places by numbered maps, see `maps_between`.

        Args:
            points_px: (M, 2) float32 xy in model pixels; outside the frame the border's value is taken.
            chosen: (M,) int64, a photo's number for its own map, N + s for the second map s.
        """
        count = len(self)
        own = chosen < count
        sampled = torch.empty(len(points_px), 2)
        sampled[own] = self._sample(self.maps, points_px[own], chosen[own])
        sampled[~own] = self._sample(self.second.maps, points_px[~own], chosen[~own] - count)
        return sampled

    @cached_property
    def tokens(self) -> ConsensusTokens:
        """All foreground tokens at their consensus places."""
        trust = self.second.trust(self.mirrored)
        return ConsensusTokens(self.grid, self.token_image, self.token, self.descriptors.float(), self.places, trust)


def _shared(confidence: Tensor, masked: Tensor) -> Tensor:
    """(N, H, W) bool: what other photos confirm of each mask: a table under one teapot is no part of the object.

    A place stays from three tenths of the confidence that its photo's best tenth exceeds; the measure is the photo's
    own because a rare pose has little confidence everywhere.
    """
    shared = torch.zeros_like(masked)
    for image in torch.nonzero(masked.flatten(1).any(1))[:, 0].tolist():
        level = torch.quantile(confidence[image][masked[image]], _SHARED_LEVEL)
        shared[image] = masked[image] & (confidence[image] >= _SHARED_SHARE * level)
    return shared


def _check_tokens(alignment: Alignment, file: Path) -> None:
    image, token, count = alignment.token_image, alignment.token, len(alignment.token)
    shapes = [tuple(values.shape) for values in (image, alignment.descriptors[:, :1], alignment.places)]
    if shapes != [(count,), (count, 1), (count, 2, 2)]:
        raise RunError(f"{file}: expected photos, descriptors and places of as many tokens, got {count} and {shapes}")
    for field, values, limit, what in (
        ("image", image, len(alignment), "photos"),
        ("token", token, alignment.grid.rows * alignment.grid.cols, "tokens"),
    ):
        if count and not 0 <= int(values.min()) <= int(values.max()) < limit:
            raise RunError(f"{file}, field '{field}': expected {what} 0 to {limit - 1}")
    if not bool((image.diff() >= 0).all()):
        raise RunError(f"{file}, field 'image': expected photos one after the other")


def read_run_index(folder: Path) -> dict[str, Any]:
    """Reads a run's `config.json` and nothing else.

    Raises:
        RunError: No index, or none that this version reads.
    """
    return _FOLDER.read_index(folder)


def _tensors(folder: Path, name: str, digests: Mapping[str, str]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in _FOLDER.read_arrays(folder, name, digests).items()}
