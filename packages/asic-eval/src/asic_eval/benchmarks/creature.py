"""The anatomy of the drawn creatures: bent tubes that carry material coordinates, so that truth is exact everywhere.

A part is a tube round a curve. The curve is given by its tangent angle, so joints rotate what comes after them and no
length changes. A material point is (part, t, along, across): t in [0, 1] on the curve, then an offset in the frame of
tangent and normal there, in units of the tube's radius. `Pose.place` maps it to the picture and `Pose.find` maps a
pixel to the nearest curve point and so to its material point: each inverts the other wherever the tube does not fold.

Creature space has x to the right, where the rest pose faces, and y down; the trunk is about 1.2 long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SEGMENTS = 24
PART_NAMES = (
    "trunk",
    "head",
    "left ear",
    "right ear",
    "tail",
    "left front leg",
    "right front leg",
    "left hind leg",
    "right hind leg",
)
TRUNK, HEAD = 0, 1
DRAWING_ORDER = tuple(
    PART_NAMES.index(name)
    for name in (
        "right ear",
        "right hind leg",
        "right front leg",
        "tail",
        "trunk",
        "head",
        "left ear",
        "left hind leg",
        "left front leg",
    )
)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Joint:
    """A place that bends: at `at` on the curve, over a width of `width`, by up to `limit` degrees either way."""

    at: float
    limit: float
    width: float = 0.12


@dataclass(frozen=True)
class Part:
    """A tube.

    Args:
        name: What it is.
        parent: Index of the part it hangs on, or -1 for the trunk.
        base: Material point (t, across) of the parent that it starts at; a position for the trunk.
        length: Length of the curve.
        angles: (t, degrees) of the tangent in the rest pose, clockwise from straight ahead.
        radii: (t, radius).
        joints: Where it bends.
        blend: How far its start melts into the parent when it is painted, as a fraction of its length.
    """

    name: str
    parent: int
    base: tuple[float, float]
    length: float
    angles: tuple[tuple[float, float], ...]
    radii: tuple[tuple[float, float], ...]
    joints: tuple[Joint, ...]
    blend: float = 0.0


def _smooth_interpolation(t: Array, knots: tuple[tuple[float, float], ...]) -> Array:
    positions, values = np.array(knots).T
    index = np.clip(np.searchsorted(positions, t, side="right") - 1, 0, max(len(positions) - 2, 0))
    following = np.minimum(index + 1, len(positions) - 1)
    span = np.maximum(positions[following] - positions[index], 1e-9)
    weight = np.clip((t - positions[index]) / span, 0.0, 1.0)
    weight = weight * weight * (3.0 - 2.0 * weight)
    return np.asarray(values[index] * (1.0 - weight) + values[following] * weight)


@dataclass(frozen=True)
class _Tube:
    """A posed part in creature space."""

    points: Array
    angles: Array
    bend: Array
    radii: Array

    def at(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """Curve point, tangent, normal and radius at t."""
        place = np.clip(t, 0.0, 1.0) * SEGMENTS
        index = np.minimum(place.astype(np.int64), SEGMENTS - 1)
        weight = place - index
        point = self.points[index] + (self.points[index + 1] - self.points[index]) * weight[:, None]
        angle = self.angles[index] + (self.angles[index + 1] - self.angles[index]) * weight
        radius = self.radii[index] + (self.radii[index + 1] - self.radii[index]) * weight
        tangent = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return point, tangent, np.stack([-tangent[:, 1], tangent[:, 0]], axis=1), radius

    def forward(self, material: Array) -> Array:
        """(M, 2) positions of the material points (M, 3): t, along, across."""
        point, tangent, normal, radius = self.at(material[:, 0])
        offset = tangent * material[:, 1:2] + normal * material[:, 2:3]
        return np.asarray(point + offset * radius[:, None])

    def inverse(self, positions: Array) -> tuple[Array, Array]:
        """Material points (M, 3) of positions (M, 2), and their signed distance (M,) to the tube's surface."""
        start, step = self.points[:-1], np.diff(self.points, axis=0)
        # x and y apart: NumPy is slow in adding up pairs along the last axis.
        from_x, from_y = (positions[:, None, axis] - start[:, axis] for axis in (0, 1))
        step_x, step_y = step.T
        weight = np.clip((from_x * step_x + from_y * step_y) / (step_x**2 + step_y**2), 0.0, 1.0)
        distance = (from_x - weight * step_x) ** 2 + (from_y - weight * step_y) ** 2
        nearest = distance.argmin(axis=1)
        t = (nearest + weight[np.arange(len(nearest)), nearest]) / SEGMENTS
        point, tangent, normal, radius = self.at(t)
        offset = positions - point
        along, across = (offset * tangent).sum(axis=1), (offset * normal).sum(axis=1)
        surface = np.sqrt((offset**2).sum(axis=1)) - radius
        return np.stack([t, along / radius, across / radius], axis=1), surface


class Pose:
    """An individual's parts, bent and placed into a picture.

    Args:
        parts: The anatomy, parents before children.
        bends: For each part, the angle of each of its joints in degrees.
        matrix: (2, 2) creature space to pixels.
        offset: (2,) pixels.
    """

    def __init__(self, parts: tuple[Part, ...], bends: list[Array], matrix: Array, offset: Array) -> None:
        self.parts, self.matrix, self.offset = parts, matrix, offset
        self.inverse_matrix = np.linalg.inv(matrix)
        self.pixels_per_unit = float(np.sqrt(abs(np.linalg.det(matrix))))
        t = np.linspace(0.0, 1.0, SEGMENTS + 1)
        self.tubes: list[_Tube] = []
        for part, joint_angles in zip(parts, bends, strict=True):
            base, turned = np.array(part.base), 0.0
            if part.parent >= 0:
                parent = self.tubes[part.parent]
                base = parent.forward(np.array([[part.base[0], 0.0, part.base[1]]]))[0]
                turned = float(np.interp(part.base[0], t, parent.bend))
            bend = np.full(SEGMENTS + 1, turned)
            for joint, angle in zip(part.joints, joint_angles, strict=True):
                weight = np.clip((t - joint.at) / joint.width + 0.5, 0.0, 1.0)
                bend += np.deg2rad(angle) * weight * weight * (3.0 - 2.0 * weight)
            angles = np.deg2rad(_smooth_interpolation(t, part.angles)) + bend
            middle = (angles[1:] + angles[:-1]) / 2
            steps = np.stack([np.cos(middle), np.sin(middle)], axis=1) * (part.length / SEGMENTS)
            points = base + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
            self.tubes.append(_Tube(points, angles, bend, _smooth_interpolation(t, part.radii)))

    def to_creature(self, points_px: Array) -> Array:
        """Pixels to creature space."""
        return np.asarray((points_px - self.offset) @ self.inverse_matrix.T)

    def place(self, part: int, material: Array) -> Array:
        """(M, 2) pixels of material points (M, 3) of one part."""
        return np.asarray(self.tubes[part].forward(material) @ self.matrix.T + self.offset)

    def bounds(self, part: int, margin: float) -> tuple[Array, Array]:
        """Lowest and highest xy, in pixels, that a part and a margin (creature units) round it reach."""
        tube = self.tubes[part]
        reach = (tube.radii + margin)[:, None] * np.sqrt((self.matrix**2).sum(axis=1))
        centres = tube.points @ self.matrix.T + self.offset
        return (centres - reach).min(axis=0), (centres + reach).max(axis=0)

    def find(self, points_px: Array) -> tuple[NDArray[np.int64], Array]:
        """The frontmost part (-1: none) at pixels (M, 2), and the material points (M, 3) there (NaN: none)."""
        part_of = np.full(len(points_px), -1)
        material = np.full((len(points_px), 3), np.nan)
        for part in DRAWING_ORDER:
            low, high = self.bounds(part, 0.0)
            near = np.flatnonzero(((points_px >= low) & (points_px <= high)).all(axis=1))
            found, surface = self.tubes[part].inverse(self.to_creature(points_px[near]))
            inside = surface <= 0.0
            part_of[near[inside]] = part
            material[near[inside]] = found[inside]
        return part_of, material


def _leg(name: str, at: float, across: float, lean: float, length: float, thick: float, hind: bool) -> Part:
    bow = -14.0 if hind else 10.0
    angles = ((0.0, 90.0 + lean), (0.3, 90.0 + lean - bow), (0.65, 90.0 + lean + 1.5 * bow), (1.0, 90.0 + lean))
    radii = ((0.0, 1.6 * thick), (0.25, 1.35 * thick), (0.6, 0.85 * thick), (0.86, 0.8 * thick), (1.0, 1.1 * thick))
    joints = (Joint(0.0, 22.0, 0.02), Joint(0.5, 26.0, 0.24))
    return Part(name, TRUNK, (at, across), length, angles, radii, joints, blend=0.42)


def anatomy(rng: np.random.Generator) -> tuple[Part, ...]:
    """The proportions of a species: the trunk first, then what hangs on it in the order of `PART_NAMES`."""
    fat = rng.uniform(0.9, 1.15)
    neck = rng.uniform(0.24, 0.4)
    leg = rng.uniform(0.46, 0.6)
    thick = rng.uniform(0.068, 0.082)
    ear = rng.uniform(0.28, 0.42)
    tail = rng.uniform(0.55, 0.85)
    fluff = rng.uniform(0.09, 0.14)
    snout = rng.uniform(0.2, 0.32)
    body = 0.8
    length = body + neck
    chest, collar = 0.78 * body / length, body / length
    trunk = Part(
        "trunk",
        -1,
        (-0.45, 0.0),
        length,
        ((0.0, -2.0), (0.4 * collar, 3.0), (chest, -6.0), (0.5 + 0.5 * collar, -62.0), (1.0, -58.0)),
        (
            (0.0, 0.15 * fat),
            (0.25 * collar, 0.185 * fat),
            (0.55 * collar, 0.17 * fat),
            (0.9 * chest, 0.195 * fat),
            (0.5 + 0.5 * collar, 0.12 * fat),
            (1.0, 0.11),
        ),
        (Joint(0.45 * collar, 14.0, 0.4), Joint(0.35 * chest + 0.65 * collar, 30.0, 0.25), Joint(0.9, 10.0, 0.2)),
    )
    head = Part(
        "head",
        TRUNK,
        (1.0, -0.1),
        0.16 + snout,
        ((0.0, 6.0), (1.0, 16.0)),
        ((0.0, 0.17), (0.3, 0.18), (0.7, 0.105), (1.0, 0.082)),
        (Joint(0.0, 24.0, 0.02),),
        blend=0.25,
    )
    ear_radii = ((0.0, 0.05), (0.4, 0.085), (0.8, 0.05), (1.0, 0.01))
    near_ear = Part(
        "left ear", HEAD, (0.08, -0.7), ear, ((0.0, -112.0), (1.0, -124.0)), ear_radii, (Joint(0.0, 30.0, 0.02),)
    )
    far_ear = replace(near_ear, name="right ear", base=(0.34, -0.75), angles=((0.0, -84.0), (1.0, -74.0)))
    tail_part = Part(
        "tail",
        TRUNK,
        (0.0, -0.35),
        tail,
        ((0.0, 188.0), (0.5, 216.0), (1.0, 250.0)),
        ((0.0, 0.05), (0.45, 0.45 * fluff + 0.03), (0.75, fluff), (1.0, 0.012)),
        (Joint(0.0, 40.0, 0.02), Joint(0.35, 40.0, 0.4), Joint(0.75, 40.0, 0.4)),
        blend=0.12,
    )
    return (
        trunk,
        head,
        near_ear,
        far_ear,
        tail_part,
        _leg("left front leg", chest, 0.35, -12.0, leg, thick, hind=False),
        _leg("right front leg", chest + 0.02, 0.35, -42.0, leg * 0.96, thick * 0.95, hind=False),
        _leg("left hind leg", 0.1, 0.25, 6.0, leg, thick * 1.1, hind=True),
        _leg("right hind leg", 0.04, 0.3, 38.0, leg * 0.96, thick, hind=True),
    )


KEYPOINTS: tuple[tuple[str, str, tuple[float, float, float]], ...] = (
    ("nose", "head", (1.0, 0.45, -0.1)),
    ("eye", "head", (0.34, 0.0, -0.3)),
    ("cheek", "head", (0.42, 0.0, 0.4)),
    ("muzzle", "head", (0.72, 0.0, -0.3)),
    ("left ear base", "left ear", (0.2, 0.0, 0.0)),
    ("right ear base", "right ear", (0.3, 0.0, 0.0)),
    ("left ear tip", "left ear", (0.93, 0.0, 0.0)),
    ("right ear tip", "right ear", (0.93, 0.0, 0.0)),
    ("throat", "trunk", (0.86, 0.0, 0.7)),
    ("chest", "trunk", (0.66, 0.0, 0.75)),
    ("back", "trunk", (0.27, 0.0, -0.75)),
    ("belly", "trunk", (0.28, 0.0, 0.75)),
    ("rump", "trunk", (0.0, -0.35, -0.65)),
    ("neck", "trunk", (0.82, 0.0, -0.3)),
    ("tail middle", "tail", (0.5, 0.0, 0.0)),
    ("tail tip", "tail", (0.96, 0.0, 0.0)),
    ("left front knee", "left front leg", (0.52, 0.0, 0.0)),
    ("left front paw", "left front leg", (0.97, 0.0, 0.0)),
    ("right front knee", "right front leg", (0.52, 0.0, 0.0)),
    ("right front paw", "right front leg", (0.97, 0.0, 0.0)),
    ("left hind knee", "left hind leg", (0.5, 0.0, 0.0)),
    ("left hind paw", "left hind leg", (0.97, 0.0, 0.0)),
    ("right hind knee", "right hind leg", (0.5, 0.0, 0.0)),
    ("right hind paw", "right hind leg", (0.97, 0.0, 0.0)),
)
