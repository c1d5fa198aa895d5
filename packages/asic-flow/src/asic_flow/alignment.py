"""An aligned collection: maps of all photos into canonical space, and transfer of points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from asic_flow.atomic import Staging
from asic_flow.collection import ImageCollection, Photo, TokenGrid
from asic_flow.config import AlignmentConfig
from asic_flow.consensus import ConsensusTokens
from asic_flow.cores import torch_alone
from asic_flow.grid import pixel_to_token_norm
from asic_flow.groups import rows_of_each
from asic_flow.matches import MatchSet
from asic_flow.run_folder import (
    CALIBRATION,
    DEFAULT_METHOD,
    INDEX_FILE,
    VISIBLE_DISTANCE,
    AlignmentArrays,
    RunError,
    TransferMethod,
    read_run_index,
    sample,
)
from asic_flow.sides import SecondMaps
from asic_flow.train import FittedMaps, Progress, fit, nearness, stay_silent

__all__ = [
    "CALIBRATION",
    "DEFAULT_METHOD",
    "INDEX_FILE",
    "VISIBLE_DISTANCE",
    "Alignment",
    "RunError",
    "Transfer",
    "TransferMethod",
    "read_run_index",
]

_SHARED_LEVEL = 0.9  # quantile of a photo's confidence
_SHARED_SHARE = 0.3  # of that level


@dataclass(frozen=True)
class Transfer:
    """Where points of one photo lie in another.

    Attributes:
        points_image: (M, 2) float64 xy in the target photo's own pixels; NaN where the target has no foreground, and,
            but by the method `canonical`, where the source has none.
        confidence: (M,) float64, 0 to 1: agreement of the matches around both ends, falling with the canonical distance
            that remains between them; 0 outside the foreground.
        probability: (M,) float64: the chance that the answer lies within a tenth of the object's size of the right
            place, from the agreement at both ends' nearest foreground. Calibrated on drawn collections; how well that
            holds on real photos is measured in docs/benchmarks.md. 0 where there is no answer.
        visible: (M,) bool, whether the target shows the point at all: canonical distance up to `VISIBLE_DISTANCE`.
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
        tokens = fitted.tokens
        grid = collection.grid
        known = torch.zeros(count, 2, grid.rows * grid.cols)
        known[tokens.image, 0, tokens.token] = fitted.confidence
        known[tokens.image, 1, tokens.token] = 1.0
        at_token = pixel_to_token_norm(torch.stack((columns, rows), -1).float(), grid)
        spread = grid_sample(
            known.reshape(count, 2, grid.rows, grid.cols),
            at_token.expand(count, -1, -1, -1),
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
    @torch_alone()
    def transfer(
        self, points_image: ArrayLike, source: ArrayLike, target: ArrayLike, method: TransferMethod = DEFAULT_METHOD
    ) -> Transfer:
        """Carries points from photos to photos.

        Args:
            points_image: (M, 2) xy in the source photos' own pixels.
            source: The photo of all points, or (M,) one each.
            target: Likewise.
            method: `canonical` takes the foreground pixel nearest in canonical space, by the photos' own maps or, where
                these differ in left and right, by second ones; `consensus` the nearest by the places that all photos
                agree on, so it stays right where the smooth map cannot follow; `combined` weighs that distance against
                the similarity of descriptors.

        Raises:
            ValueError: Points that are not (M, 2) and finite, a photo that does not exist, or an unknown method.
        """
        if method not in get_args(TransferMethod):
            raise ValueError(f"method must be one of {', '.join(get_args(TransferMethod))}, got {method!r}")
        points, source_photo = self._checked(points_image, source)
        _, target_photo = self._checked(points_image, target)
        source_px = self._to_model(points, source_photo)
        from_map, to_map = self.second.choose(self.mirrored, source_photo, target_photo)
        canonical = self.places_on_maps(source_px, from_map)
        if method == "canonical":
            found_px, distance = self._nearest(canonical, to_map)
        else:
            by_looks = method == "combined"
            found_px = self.tokens.answer(source_px, source_photo, target_photo, self.config, by_looks=by_looks)
            there = self.places_on_maps(found_px.nan_to_num(), to_map)
            apart = torch.linalg.vector_norm(there - canonical, dim=1)
            distance = torch.where(found_px[:, 0].isnan(), torch.inf, apart)
        near = nearness(distance.square(), self.config)
        ends = ((source_px, source_photo), (found_px.nan_to_num(), target_photo))
        confidence, agreement = (
            (
                near
                * torch.stack([self._sample(field[..., None], px, photo)[:, 0] for px, photo in ends]).prod(0).sqrt()
            ).nan_to_num()
            for field in (self.confidence, self._nearest_confidence)
        )
        slope, intercept = CALIBRATION[method]
        probability = torch.sigmoid(slope * agreement + intercept) * distance.isfinite()
        answer = np.full((len(points), 2), np.nan)
        for image, mine in rows_of_each(target_photo.numpy()):
            answer[mine] = self.photos[image].to_image(found_px.numpy()[mine])
        visible = (distance <= VISIBLE_DISTANCE[method]).numpy()
        return Transfer(answer, confidence.double().numpy(), probability.double().numpy(), visible)

    def add_images(self, collection: ImageCollection, added: ImageCollection) -> Alignment:
        """An alignment with unseen photos as well, nobody else's map changed; see `asic_flow.add.add_photos`."""
        from asic_flow.add import add_photos

        return add_photos(self, collection, added)

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
            beside: Further files by name, a trained network's, say; `read_run_file` reads them.
            staging: Where all of it is to wait until that is committed; None to commit at once.

        Raises:
            OSError: The folder cannot be written, or the disk is full; what it held before is still there.
        """
        self.arrays.save(folder, extra, beside, staging)

    @classmethod
    def load(cls, folder: Path) -> Alignment:
        """Reads a run folder and checks every file against its recorded sha256.

        Raises:
            RunError: A file is missing, changed, or not what `config.json` says.
        """
        return cls.of_arrays(AlignmentArrays.load(folder))

    @classmethod
    def of_arrays(cls, arrays: AlignmentArrays) -> Alignment:
        """The same as torch's tensors, in the same memory."""
        tensors = {
            name: torch.from_numpy(value) for name, value in vars(arrays).items() if isinstance(value, np.ndarray)
        }
        second = SecondMaps(*(tensors.pop(f"second_{name}") for name in ("photo", "maps", "symmetry")))
        return cls(photos=arrays.photos, second=second, grid=arrays.grid, config=arrays.config, **tensors)

    @cached_property
    def arrays(self) -> AlignmentArrays:
        """The same memory as NumPy's arrays, for what needs no torch."""
        return AlignmentArrays(
            photos=self.photos,
            maps=self.maps.numpy(),
            second_photo=self.second.photo.numpy(),
            second_maps=self.second.maps.numpy(),
            second_symmetry=self.second.symmetry.numpy(),
            confidence=self.confidence.numpy(),
            foreground=self.foreground.numpy(),
            mirrored=self.mirrored.numpy(),
            support=self.support.numpy(),
            grid=self.grid,
            token_image=self.token_image.numpy(),
            token=self.token.numpy(),
            descriptors=self.descriptors.numpy(),
            places=self.places.numpy(),
            config=self.config,
        )

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
        return torch.from_numpy(sample(fields.numpy(), points_px.numpy(), photo.numpy()))

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
        for number, rows in rows_of_each(to_map.numpy()):
            mine = torch.from_numpy(rows)
            points[mine], distance[mine] = self.look_up(canonical[mine], number)
        return points, distance

    def maps_between(self, source: int, target: int) -> tuple[int, int]:
        """The numbers of the maps by which places travel between two photos: both mirrored or both not, if possible.

        A photo's number stands for its own map, N + s for the second map s; see `SecondMaps.choose`.
        """
        from_map, to_map = self.second.choose(self.mirrored, torch.tensor([source]), torch.tensor([target]))
        return int(from_map), int(to_map)

    def numbered_map(self, number: int) -> Tensor:
        """(H, W, 2): a photo's own map or a second one, as `maps_between` numbers them."""
        return torch.from_numpy(self.arrays.numbered_map(number))

    def look_up(self, canonical: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Where canonical points (P, 2) lie on one map, (P, 2) in model pixels, and how far off, (P,).

        See `MapIndex.look_up`.
        """
        found = self.arrays.look_up(canonical.numpy(), number)
        return torch.from_numpy(found.points_px), torch.from_numpy(found.distance)

    def places_on_maps(self, points_px: Tensor, chosen: Tensor) -> Tensor:
        """(M, 2): canonical places by numbered maps, see `maps_between`.

        Args:
            points_px: (M, 2) float32 xy in model pixels; outside the frame the border's value is taken.
            chosen: (M,) int64, a photo's number for its own map, N + s for the second map s.
        """
        return torch.from_numpy(self.arrays.places_on_maps(points_px.numpy(), chosen.numpy()))

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
