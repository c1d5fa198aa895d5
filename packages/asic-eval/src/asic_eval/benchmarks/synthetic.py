"""Collections of drawn creatures with exact truth for every pixel, made from a seed and numpy alone.

A collection shows individuals of one species. They differ in pose, build, mirroring, rotation, scale, place, coat,
light and background, and something may stand before them. A photo that is mirrored shows the same side of the
creature, so `left` names the side that is drawn in front, in every photo.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asic_eval.benchmarks.creature import KEYPOINTS, PART_NAMES, Part, Pose, anatomy
from asic_eval.benchmarks.painting import Canvas, Noise, draw_coat, pixel_grid, vary_coat
from asic_eval.keypoints import ImageKeypoints, KeypointBenchmark, all_pairs, mirror_from_names

CATEGORY = "creature"
# How far a hidden point's material may differ from what its pixel shows: t, along, across. More is a fold.
_SAME_MATERIAL = (0.02, 0.2, 0.2)


@dataclass(frozen=True, eq=False)
class SyntheticCollection:
    """Drawn pictures and the truth about them.

    Args:
        images: (N, H, W, 3) sRGB.
        masks: (N, H, W) pixels whose centre shows the creature.
        part_maps: (N, H, W) index into `part_names`, -1 where there is no creature.
        part_names: The parts.
        canonical: (N, H, W, 2) xy in [-1, 1] of the rest pose, NaN off the creature. Two pixels of any two pictures
            show the same material point when part and coordinate agree.
        benchmark: Named keypoints, visible where nothing hides them, and all ordered pairs.
        poses: How each creature stands; see `transfer`.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    part_maps: NDArray[np.int8]
    part_names: tuple[str, ...]
    canonical: NDArray[np.float32]
    benchmark: KeypointBenchmark
    poses: tuple[Pose, ...]

    def transfer(
        self, points_image: ArrayLike, source: int, target: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The true counterparts of any points.

        Args:
            points_image: (M, 2) xy in the source picture.
            source: Index of the picture they are in.
            target: Index of the picture to find them in.

        Returns:
            (M, 2) xy in the target picture, hidden or not, NaN for points off the creature; (M,) whether they can be
            seen there.
        """
        points = np.asarray(points_image, dtype=np.float64).reshape(-1, 2)
        part_of, material = self.poses[source].find(points)
        part_of[~_at_nearest_pixel(self.masks[source], points)] = -1
        placed = np.full_like(points, np.nan)
        for part in np.unique(part_of[part_of >= 0]):
            own = part_of == part
            placed[own] = self.poses[target].place(part, material[own])
        return placed, _seen(self.poses[target], self.masks[target], placed, part_of, material)


def _at_nearest_pixel(mask: NDArray[np.bool_], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    inside = np.asarray(np.isfinite(points).all(axis=1))
    inside[inside] &= ((points[inside] > -0.5) & (points[inside] < np.array(mask.shape[::-1]) - 0.5)).all(axis=1)
    x, y = np.rint(points[inside]).astype(np.int64).T
    inside[inside] = mask[y, x]
    return inside


def _seen(
    pose: Pose,
    mask: NDArray[np.bool_],
    points: NDArray[np.float64],
    part_of: NDArray[np.int64],
    material: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether each point (M, 2) is in the picture and shows its own part and material, not something before it."""
    seen = _at_nearest_pixel(mask, points)
    found_part, found = pose.find(np.where(seen[:, None], points, -1e6))
    seen &= found_part == part_of
    difference = np.abs(found - material)
    seen[seen] &= (difference[seen] < _SAME_MATERIAL).all(axis=1)
    return seen


def draw_collection(seed: int, num_images: int = 10, size: int = 256) -> SyntheticCollection:
    """Draws a collection: the same seed gives the same pictures.

    Args:
        seed: Chooses the species and every individual.
        num_images: How many pictures.
        size: Their height and width in pixels, at least 32.

    Raises:
        ValueError: There is no picture to draw, or it is too small.
    """
    if num_images < 1 or size < 32:
        raise ValueError(f"expected at least 1 image of at least 32 pixels, got {num_images} of {size}")
    species_rng, *rngs = (
        np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(num_images + 1)
    )
    parts = anatomy(species_rng)
    coat = draw_coat(species_rng)
    rest = Pose(parts, [np.zeros(len(part.joints)) for part in parts], np.eye(2), np.zeros(2))
    low = np.min([rest.bounds(part, 0.0)[0] for part in range(len(parts))], axis=0)
    high = np.max([rest.bounds(part, 0.0)[1] for part in range(len(parts))], axis=0)
    scale = 2.0 / (high - low).max()
    canonical_scale = np.array([[scale, scale], -scale * (low + high) / 2])
    # Spread evenly over the collection, so that no small collection happens to be an easy one.
    rotations = 100.0 * (species_rng.permutation(num_images) + species_rng.random(num_images)) / num_images - 50.0
    mirrors = species_rng.permutation(num_images) % 2 == 0
    pictures, poses = [], []
    for rng, rotation, mirrored in zip(rngs, rotations, mirrors, strict=True):
        pose = _draw_pose(parts, size, rotation, bool(mirrored), rng)
        canvas = Canvas(size, rng)
        canvas.background(rng)
        canvas.creature(pose, rest, canonical_scale, vary_coat(coat, rng), Noise(rng))
        hidden = canvas.foreground(pose, rng)
        pictures.append((canvas.finish(rng), hidden))
        poses.append(pose)
    return _collect(seed, size, pictures, poses, rest, canonical_scale)


def _draw_pose(parts: tuple[Part, ...], size: int, degrees: float, mirrored: bool, rng: np.random.Generator) -> Pose:
    build = rng.uniform(0.9, 1.12)
    own = tuple(
        replace(
            part,
            length=part.length * rng.uniform(0.92, 1.08),
            radii=tuple((t, radius * build * rng.uniform(0.96, 1.04)) for t, radius in part.radii),
        )
        for part in parts
    )
    bends = [np.array([rng.uniform(-joint.limit, joint.limit) for joint in part.joints]) for part in own]
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    # A turn away from the viewer shortens the creature; a mirrored photo swaps its sides.
    view = np.array([[rng.uniform(0.78, 1.0), 0.0], [rng.uniform(-0.12, 0.12), 1.0]])
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0]) @ view
    loose = Pose(own, bends, matrix, np.zeros(2))
    low = np.min([loose.bounds(part, 0.0)[0] for part in range(len(own))], axis=0)
    high = np.max([loose.bounds(part, 0.0)[1] for part in range(len(own))], axis=0)
    scale = size * rng.uniform(0.66, 0.98) / (high - low).max()
    room = size - scale * (high - low)
    offset = room * rng.uniform(0.0, 1.0, 2) - scale * low
    return Pose(own, bends, scale * matrix, offset)


def _collect(
    seed: int,
    size: int,
    pictures: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
    poses: list[Pose],
    rest: Pose,
    canonical_scale: NDArray[np.float64],
) -> SyntheticCollection:
    pixels = pixel_grid(size)
    part_maps, maps, annotated = [], [], []
    for index, ((_, hidden), pose) in enumerate(zip(pictures, poses, strict=True)):
        part_of, material = pose.find(pixels)
        part_of[hidden.reshape(-1)] = -1
        canonical = np.full((size * size, 2), np.nan)
        for part in np.unique(part_of[part_of >= 0]):
            own = part_of == part
            canonical[own] = rest.place(part, material[own]) * canonical_scale[0] + canonical_scale[1]
        part_map = part_of.reshape(size, size)
        part_maps.append(part_map)
        maps.append(canonical.reshape(size, size, 2))
        annotated.append(_annotate(f"{CATEGORY}/{index:03d}.png", pose, part_map >= 0))
    names = tuple(name for name, _, _ in KEYPOINTS)
    return SyntheticCollection(
        images=np.stack([picture for picture, _ in pictures]),
        masks=np.stack(part_maps) >= 0,
        part_maps=np.stack(part_maps).astype(np.int8),
        part_names=PART_NAMES,
        canonical=np.stack(maps).astype(np.float32),
        benchmark=KeypointBenchmark(
            f"synthetic/{seed}", names, tuple(annotated), all_pairs(len(annotated)), mirror_from_names(names)
        ),
        poses=tuple(poses),
    )


def _annotate(name: str, pose: Pose, mask: NDArray[np.bool_]) -> ImageKeypoints:
    part_of = np.array([PART_NAMES.index(part) for _, part, _ in KEYPOINTS])
    material = np.array([place for _, _, place in KEYPOINTS])
    points = np.concatenate([pose.place(part, place[None]) for part, place in zip(part_of, material, strict=True)])
    visible = _seen(pose, mask, points, part_of, material)
    y, x = np.nonzero(mask)
    left, top, right, bottom = (float(edge) for edge in (x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5))
    size_hw = (mask.shape[0], mask.shape[1])
    return ImageKeypoints(name, size_hw, (left, top, right, bottom), points, visible)
