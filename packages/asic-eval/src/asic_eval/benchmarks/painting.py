"""Colours for the drawn creatures: coats that stick to the material, light, backgrounds, things in front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asic_eval.benchmarks.creature import DRAWING_ORDER, HEAD, PART_NAMES, TRUNK, Pose

Array = NDArray[np.float64]

# Front, rear, belly, pattern, accent; sRGB in 0..1.
_COATS = (
    ((0.93, 0.52, 0.18), (0.62, 0.22, 0.16), (0.99, 0.92, 0.80), (0.30, 0.10, 0.06), (0.99, 0.80, 0.35)),
    ((0.20, 0.66, 0.66), (0.20, 0.32, 0.66), (0.86, 0.97, 0.86), (0.05, 0.16, 0.30), (0.98, 0.62, 0.36)),
    ((0.97, 0.82, 0.46), (0.74, 0.42, 0.22), (1.00, 0.96, 0.86), (0.40, 0.18, 0.08), (0.36, 0.55, 0.52)),
    ((0.93, 0.90, 0.84), (0.45, 0.40, 0.38), (1.00, 0.98, 0.95), (0.13, 0.12, 0.16), (0.95, 0.42, 0.30)),
    ((0.94, 0.58, 0.66), (0.44, 0.30, 0.64), (0.99, 0.88, 0.90), (0.24, 0.12, 0.38), (0.99, 0.80, 0.35)),
    ((0.74, 0.78, 0.30), (0.18, 0.50, 0.38), (0.96, 0.96, 0.76), (0.08, 0.24, 0.16), (0.95, 0.42, 0.30)),
)
_SKIES = (
    ((0.55, 0.78, 0.92), (0.93, 0.93, 0.80), (0.40, 0.58, 0.30)),
    ((0.98, 0.74, 0.52), (0.62, 0.42, 0.55), (0.30, 0.28, 0.42)),
    ((0.30, 0.50, 0.42), (0.72, 0.82, 0.52), (0.18, 0.34, 0.22)),
    ((0.72, 0.84, 0.90), (0.96, 0.92, 0.88), (0.58, 0.64, 0.68)),
    ((0.20, 0.28, 0.46), (0.50, 0.52, 0.70), (0.14, 0.20, 0.32)),
    ((0.90, 0.80, 0.60), (0.78, 0.62, 0.40), (0.55, 0.45, 0.28)),
)


def _step(low: float, high: float, value: Array) -> Array:
    weight = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(weight * weight * (3.0 - 2.0 * weight))


def _mix(first: Array, second: Array, weight: Array) -> Array:
    return np.asarray(first + (second - first) * weight[..., None])


class Noise:
    """Random fields of the plane that repeat every 64 cells.

    Args:
        rng: Draws the lattice.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.values = rng.random((64, 64))
        self.cells = rng.random((64, 64, 3))

    def smooth(self, points: Array) -> Array:
        """(M,) value noise in 0..1 at points (M, 2), one cell a unit."""
        cell = np.floor(points).astype(np.int64)
        weight = points - cell
        weight = weight * weight * (3.0 - 2.0 * weight)
        x, y = cell[:, 0] % 64, cell[:, 1] % 64
        right, below = (x + 1) % 64, (y + 1) % 64
        upper = self.values[y, x] * (1 - weight[:, 0]) + self.values[y, right] * weight[:, 0]
        lower = self.values[below, x] * (1 - weight[:, 0]) + self.values[below, right] * weight[:, 0]
        return np.asarray(upper * (1 - weight[:, 1]) + lower * weight[:, 1])

    def fractal(self, points: Array, octaves: int) -> Array:
        """(M,) a sum of octaves of `smooth`, in 0..1."""
        total, weight = np.zeros(len(points)), 0.0
        for octave in range(octaves):
            total += 0.5**octave * self.smooth(points * 2.0**octave + 17.3 * octave)
            weight += 0.5**octave
        return total / weight

    def spots(self, points: Array) -> tuple[Array, Array]:
        """Distance (M,) to the nearest random dot, in cells, and that dot's own random number (M,)."""
        cell = np.floor(points).astype(np.int64)
        best, own = np.full(len(points), np.inf), np.zeros(len(points))
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                x, y = cell[:, 0] + dx, cell[:, 1] + dy
                dot = self.cells[y % 64, x % 64]
                distance = np.hypot(
                    x + 0.15 + 0.7 * dot[:, 0] - points[:, 0], y + 0.15 + 0.7 * dot[:, 1] - points[:, 1]
                )
                closer = distance < best
                best, own = np.where(closer, distance, best), np.where(closer, dot[:, 2], own)
        return best, own


@dataclass(frozen=True)
class Coat:
    """What a species looks like.

    Args:
        colours: (5, 3) front, rear, belly, pattern, accent.
        pattern: 0 spots, 1 stripes, 2 rosettes, 3 patches.
        scale: Cells of the pattern over the canonical square's half side.
        marks: For each part, where its sock begins on the curve: the species' own way to tell limbs apart.
        noise: The pattern's randomness.
    """

    colours: Array
    pattern: int
    scale: float
    marks: Array
    noise: Noise

    def paint(self, part: int, material: Array, canonical: Array) -> Array:
        """(M, 3) colours of material points (M, 3) whose canonical coordinates are (M, 2)."""
        front, rear, belly, dark, accent = self.colours
        t, across = material[:, 0], material[:, 2]
        warp = self.noise.smooth(canonical * 3.0 + 9.0) - 0.5
        is_leg = PART_NAMES[part].endswith("leg")
        underside = _step(0.15, 0.75, across + 0.5 * warp)
        if part not in (TRUNK, HEAD):
            underside = _step(0.55, 0.95, t + 0.15 * warp) if is_leg or PART_NAMES[part] == "tail" else np.zeros(len(t))
        colour = _mix(np.broadcast_to(rear, (len(t), 3)), front, _step(-0.45, 0.5, canonical[:, 0] + 0.3 * warp))
        colour = _mix(colour, belly, underside)
        amount = self._pattern(canonical, warp) * (1.0 - 0.85 * underside)
        colour = _mix(colour, dark, amount)
        if is_leg:
            # Odd socks: every leg has its own.
            sock = np.stack([accent, belly, dark, 0.5 * (belly + accent)])[part % 4]
            colour = _mix(colour, sock, _step(self.marks[part], self.marks[part] + 0.05, t + 0.04 * warp))
            toes = np.abs(np.abs(across) - 0.35)
            colour = _mix(colour, 0.3 * dark, _step(0.97, 1.0, t) * (1.0 - _step(0.05, 0.13, toes)))
        elif PART_NAMES[part].endswith("ear"):
            inner = (1.0 - _step(0.35, 0.6, np.abs(across))) * _step(0.1, 0.25, t) * (1.0 - _step(0.75, 0.9, t))
            colour = _mix(colour, 0.5 * accent + 0.5 * belly, 0.85 * inner)
            colour = _mix(colour, dark, _step(0.8, 0.95, t))
        elif PART_NAMES[part] == "tail":
            colour = _mix(colour, dark, _step(self.marks[part], self.marks[part] + 0.04, t) * (1.0 - underside))
        elif part == TRUNK:
            ridge = _step(0.55, 0.85, -across + 0.3 * warp) * (0.5 + 0.5 * np.sin(t * 60.0))
            colour = _mix(colour, dark, 0.8 * ridge)
        elif part == HEAD:
            colour = self._face(colour, material)
        return colour

    def _pattern(self, canonical: Array, warp: Array) -> Array:
        place = canonical * self.scale + 20.0
        if self.pattern == 1:
            wave = np.sin(2.2 * place[:, 0] + 7.0 * warp + 0.8 * place[:, 1])
            return _step(0.15, 0.45, wave) * _step(0.25, 0.5, self.noise.smooth(place * 0.7 + 5.0))
        if self.pattern == 3:
            return _step(0.50, 0.55, self.noise.fractal(place * 1.1, 2))
        distance, own = self.noise.spots(place)
        size = 0.2 + 0.26 * own
        disc = 1.0 - _step(0.0, 0.08, distance - size)
        if self.pattern == 2:
            return disc - 0.85 * (1.0 - _step(0.0, 0.08, distance - 0.5 * size))
        return disc

    def _face(self, colour: Array, material: Array) -> Array:
        _, _, belly, dark, accent = self.colours
        # Straight head coordinates: forward and down, in radii of the skull.
        forward, down = material[:, 0] * 2.6 + material[:, 1] * 0.5, material[:, 2]
        colour = _mix(colour, accent, _step(2.62, 2.7, forward) * (1.0 - _step(0.3, 0.5, down)))
        mouth = np.abs(down - 0.38 - 0.08 * np.sin(3.0 * forward)) + 0.2 * _step(1.5, 1.4, forward)
        colour = _mix(colour, 0.6 * dark, 0.8 * (1.0 - _step(0.04, 0.1, mouth)) * _step(1.5, 1.6, forward))
        cheek = np.hypot(forward - 1.25, 1.1 * (down - 0.35))
        colour = _mix(colour, np.array([0.98, 0.55, 0.5]), 0.45 * (1.0 - _step(0.1, 0.34, cheek)))
        eye = np.hypot(forward - 0.88, down + 0.3)
        colour = _mix(colour, belly, 1.0 - _step(0.27, 0.31, eye))
        colour = _mix(colour, np.array([0.08, 0.06, 0.09]), 1.0 - _step(0.21, 0.25, eye))
        glint = np.hypot(forward - 0.95, down + 0.39)
        return _mix(colour, np.ones(3), 1.0 - _step(0.05, 0.09, glint))


def draw_coat(rng: np.random.Generator) -> Coat:
    """A species' coat."""
    colours = np.array(_COATS[rng.integers(len(_COATS))])
    return Coat(
        colours, int(rng.integers(4)), rng.uniform(4.0, 5.5), rng.uniform(0.5, 0.85, len(PART_NAMES)), Noise(rng)
    )


def vary_coat(coat: Coat, rng: np.random.Generator) -> Coat:
    """An individual's coat: its own pattern, as among cats, in colours between the species' and others. Marks stay."""
    others = np.array(_COATS[rng.integers(len(_COATS))])
    colours = coat.colours + rng.random() * (others - coat.colours)
    tint = 1.0 + rng.normal(0.0, 0.05, 3)
    colours = np.clip(colours * tint * rng.uniform(0.85, 1.1), 0.0, 1.0)
    colours[3] += rng.uniform(0.0, 0.2) * (colours[0] - colours[3])
    return Coat(colours, int(rng.integers(4)), coat.scale, coat.marks, Noise(rng))


def pixel_grid(size: int) -> Array:
    """(size * size, 2) xy of the pixels' centres, row by row."""
    y, x = np.mgrid[:size, :size]
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)


class Canvas:
    """A picture in the making: colours in 0..1 and light from one side.

    Args:
        size: Height and width in pixels.
        rng: Draws the light.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.pixels = pixel_grid(size)
        self.colour = np.zeros((size, size, 3))
        direction = np.pi * rng.uniform(-0.8, -0.2)
        height = rng.uniform(0.5, 1.1)
        self.light = np.array([np.cos(direction), np.sin(direction), height])
        self.light /= np.linalg.norm(self.light)

    def window(self, low: Array, high: Array) -> tuple[slice, slice]:
        """The rows and columns that cover a box of pixels."""
        first = np.clip(np.floor(low), 0, self.size).astype(int)
        last = np.clip(np.ceil(high) + 1, 0, self.size).astype(int)
        return slice(first[1], last[1]), slice(first[0], last[0])

    def points_in(self, window: tuple[slice, slice]) -> Array:
        """(M, 2) xy of a window's pixels."""
        return self.pixels.reshape(self.size, self.size, 2)[window].reshape(-1, 2)

    def lay(self, window: tuple[slice, slice], colour: Array, cover: Array) -> None:
        """Lays colours (M, 3) over a window's pixels with a coverage (M,) of 0..1."""
        shape = self.colour[window].shape
        self.colour[window] = _mix(self.colour[window], colour.reshape(shape), cover.reshape(shape[:2]))

    def ellipse(
        self, centre: Array, radii: tuple[float, float], angle: float, colour: Array, softness: float, leaf: bool
    ) -> tuple[tuple[slice, slice], Array]:
        """Draws a disc, or a leaf with a midrib; returns its window and coverage."""
        window = self.window(centre - max(radii) - softness, centre + max(radii) + softness)
        offset = self.points_in(window) - centre
        u = (offset @ np.array([np.cos(angle), np.sin(angle)])) / radii[0]
        v = (offset @ np.array([-np.sin(angle), np.cos(angle)])) / radii[1]
        edge = np.abs(v) / np.maximum(1.0 - u * u, 1e-3) if leaf else np.hypot(u, v)
        inside = (1.0 - edge) * min(radii) * (1.0 - np.minimum(u * u, 1.0) if leaf else 1.0)
        cover = np.clip(0.5 + inside / softness, 0.0, 1.0) * (np.abs(u) < 1.0)
        shade = np.full(len(u), 1.0)
        if leaf:
            veins = np.abs(np.sin(9.0 * u + 6.0 * np.abs(v)))
            shade = 1.0 + 0.16 * np.sign(v) * self.light[0] + 0.1 * veins - 0.3 * (np.abs(v) < 0.06)
        self.lay(window, np.clip(colour * shade[:, None], 0.0, 1.0), cover)
        return window, cover

    def background(self, rng: np.random.Generator) -> None:
        """A soft landscape with blurred lights and sharp leaves, so that not every edge is the creature's."""
        sky, haze, ground = np.array(_SKIES[rng.integers(len(_SKIES))])
        noise = Noise(rng)
        place = self.pixels / self.size
        height = place[:, 1] + 0.25 * (noise.fractal(place * 3.0, 3) - 0.5)
        colour = _mix(np.broadcast_to(sky, (len(place), 3)), haze, _step(0.05, 0.6, height))
        colour = _mix(colour, ground, _step(0.5, 0.95, height))
        colour = colour * (0.87 + 0.26 * noise.fractal(place * 9.0 + 30.0, 3))[:, None]
        self.colour = np.clip(colour, 0.0, 1.0).reshape(self.size, self.size, 3)
        for _ in range(rng.integers(10, 22)):
            radius = self.size * rng.uniform(0.02, 0.11)
            tone = np.clip(haze * rng.uniform(0.7, 1.35) + rng.normal(0.0, 0.08, 3), 0.0, 1.0)
            centre = self.size * rng.random(2)
            window = self.window(centre - radius, centre + radius)
            distance = np.hypot(*(self.points_in(window) - centre).T) / radius
            self.lay(window, np.broadcast_to(tone, (len(distance), 3)), 0.35 * (1.0 - _step(0.7, 1.0, distance)))
        for _ in range(rng.integers(8, 18)):
            tone = np.clip(ground * rng.uniform(0.6, 1.6) + rng.normal(0.0, 0.05, 3), 0.0, 1.0)
            length = self.size * rng.uniform(0.03, 0.1)
            self.ellipse(
                self.size * rng.random(2),
                (length, length * rng.uniform(0.25, 0.5)),
                rng.uniform(0.0, 2.0 * np.pi),
                tone,
                rng.uniform(1.0, 6.0),
                leaf=True,
            )

    def creature(self, pose: Pose, rest: Pose, canonical_scale: Array, coat: Coat, fur: Noise) -> None:
        """Paints all parts from back to front, each with the shadow it throws on what is behind."""
        for part in DRAWING_ORDER:
            far = PART_NAMES[part].startswith("right")
            shadow_width = 0.06
            window = self.window(*pose.bounds(part, shadow_width))
            points = self.points_in(window)
            if not len(points):
                continue
            material, surface = pose.tubes[part].inverse(pose.to_creature(points))
            blend = pose.parts[part].blend
            attached = _step(0.0, blend, material[:, 0]) if blend else np.ones(len(points))
            self._shadow(window, surface, shadow_width, 0.34 * attached)
            canonical = rest.place(part, material) * canonical_scale[0] + canonical_scale[1]
            colour = coat.paint(part, material, canonical)
            streaks = fur.smooth(np.stack([material[:, 0] * 22.0, material[:, 2] * 9.0], axis=1) + 7.0 * part)
            colour = colour * (0.92 + 0.16 * streaks)[:, None] * (0.8 if far else 1.0)
            cover = np.clip(0.5 - surface * pose.pixels_per_unit, 0.0, 1.0)
            cover = cover * np.sqrt(attached)
            self.lay(window, np.clip(colour * self._shading(pose, part, material)[:, None], 0.0, 1.0), cover)

    def _shadow(self, window: tuple[slice, slice], surface: Array, width: float, strength: Array) -> None:
        dark = strength * (1.0 - _step(0.0, width, surface))
        shape = self.colour[window].shape
        self.colour[window] *= (1.0 - dark.reshape(shape[:2]))[..., None]

    def _shading(self, pose: Pose, part: int, material: Array) -> Array:
        _, tangent, normal, _ = pose.tubes[part].at(material[:, 0])
        bulge = tangent * material[:, 1:2] + normal * material[:, 2:3]
        slope = 0.9 * bulge @ (pose.matrix / pose.pixels_per_unit).T
        up = np.sqrt(np.clip(1.0 - (slope**2).sum(axis=1), 0.05, 1.0))
        lit = slope @ self.light[:2] + up * self.light[2]
        rim = _step(0.82, 1.0, np.hypot(material[:, 1], material[:, 2]))
        return np.asarray(
            (0.60 + 0.5 * np.clip(lit, 0.0, 1.0) + 0.2 * np.clip(lit, 0.0, 1.0) ** 12) * (1.0 - 0.3 * rim)
        )

    def foreground(self, pose: Pose, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Puts leaves before the creature; returns the pixels (H, W) that they hide."""
        hidden = np.zeros((self.size, self.size), dtype=np.bool_)
        tone = np.array([0.25, 0.48, 0.2]) * rng.uniform(0.7, 1.3, 3)
        for _ in range(rng.integers(1, 4)):
            part = int(rng.integers(len(PART_NAMES)))
            spot = pose.place(part, np.array([[rng.random(), 0.0, rng.normal(0.0, 0.8)]]))[0]
            length = self.size * rng.uniform(0.05, 0.11)
            shape = (length, length * rng.uniform(0.22, 0.4))
            colour = np.clip(tone * rng.uniform(0.8, 1.25), 0.0, 1.0)
            window, cover = self.ellipse(spot, shape, rng.uniform(0.0, 2.0 * np.pi), colour, 1.0, leaf=True)
            hidden[window] |= cover.reshape(hidden[window].shape) >= 0.5
        return hidden

    def finish(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Exposure, warmth, vignette and a little grain."""
        place = self.pixels.reshape(self.size, self.size, 2) / self.size - 0.5
        vignette = 1.0 - 0.35 * (place**2).sum(axis=2)
        warmth = 1.0 + rng.uniform(-0.07, 0.07) * np.array([1.0, 0.1, -1.0])
        picture = (self.colour * vignette[..., None] * warmth) ** rng.uniform(0.82, 1.15) * rng.uniform(0.88, 1.08)
        picture = picture + rng.normal(0.0, 0.008, picture.shape)
        return np.asarray(np.clip(np.rint(255.0 * picture), 0, 255), dtype=np.uint8)
