"""How sure answers are and how often they are right: `python benchmarks/calibration.py`.

For each way to answer, fits the two numbers that make a probability of the agreement around an answer, on collections
drawn with seeds 0 to 7, and says how well they hold on eight others and, where `ASIC_REAL_DATA` names them, on real
photos. Writes the table between the markers of `docs/benchmarks.md`; the numbers go into `asic_flow.run_folder` by
hand.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from study import PAGE, WEIGHTS
from study_features import read_sets

from asic_eval import KeypointBenchmark, calibration_error, threshold_lengths
from asic_eval.benchmarks.synthetic import draw_collection
from asic_features.config import FeatureConfig
from asic_features.extract import extract_collection
from asic_features.images import PhotoSource
from asic_flow import atomic
from asic_flow.alignment import Alignment, TransferMethod

FITTED, CHECKED = range(8), range(8, 16)
METHODS: tuple[TransferMethod, ...] = ("combined", "consensus", "canonical")
MARKERS = ("<!-- calibration -->\n", "<!-- calibration end -->")


@dataclasses.dataclass(frozen=True)
class Answers:
    """All transfers of one collection.

    Attributes:
        right: (M,) bool, within a tenth of the size, the box's longer side.
        probability: (M,) as the library says now.
        shown: (S,) bool, whether keypoints that the target shows are called visible.
        hidden: (H,) bool, likewise of those that it does not show.
    """

    right: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float64]
    shown: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]


ByMethod = dict[TransferMethod, Answers]


def answer(sources: list[PhotoSource], truth: KeypointBenchmark, config: FeatureConfig, side: bool) -> ByMethod:
    """Aligns a collection and asks for every keypoint in every other photo; `side` is the crop's, not the box's."""
    collection, matches = extract_collection(sources, config)
    alignment = Alignment.fit(collection, matches)
    shown = np.asarray(np.isfinite(truth.points_image).all(2))
    photos = np.arange(len(shown))
    source, target, keypoint = (
        grid.flatten() for grid in np.meshgrid(photos, photos, np.arange(shown.shape[1]), indexing="ij")
    )
    asked = shown[source, keypoint] & (source != target)
    source, target, keypoint = source[asked], target[asked], keypoint[asked]
    both = shown[target, keypoint]
    length = np.array([config.size / photo.scale_xy[0] for photo in collection.photos])
    if not side:
        length = threshold_lengths(truth, "box")
    answers: ByMethod = {}
    for method in METHODS:
        found = alignment.transfer(truth.points_image[source, keypoint], source, target, method)
        distance = np.linalg.norm(found.points_image - truth.points_image[target, keypoint], axis=1)[both]
        answers[method] = Answers(
            distance <= 0.1 * length[target[both]],
            found.probability[both],
            found.visible[both],
            found.visible[~both],
        )
    return answers


def draw(seed: int, folder: Path) -> ByMethod:
    """The answers of a drawn collection, no weights."""
    drawn = draw_collection(seed)
    sources = []
    for picture, record in zip(drawn.images, drawn.benchmark.images, strict=True):
        path = (folder / f"{seed}" / record.name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        sources.append(PhotoSource(path, record.name, None, size_hw=record.size_hw))
    return answer(sources, drawn.benchmark, FeatureConfig(), side=False)


def fit_logistic(value: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the most likely logistic curve, by Newton's method."""
    design = np.stack((value, np.ones_like(value)), 1)
    found = np.zeros(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ found))
        normal = design.T @ ((chance * (1 - chance))[:, None] * design)
        found = found + np.linalg.solve(normal, design.T @ (right - chance))
    return float(found[0]), float(found[1])


def logit(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What a logistic curve was taken of."""
    return np.log(probability / (1 - probability))


def row(name: str, found: Answers) -> str:
    """A line of the table."""
    sure, unsure = found.probability >= 0.9, found.probability < 0.5
    error = calibration_error(found.probability, found.right)
    return (
        " | ".join(
            (
                f"| {name}",
                *(f"{100 * share:.1f}" for share in (found.probability.mean(), found.right.mean(), error)),
                *(
                    f"{100 * found.right[said].mean():.1f} of {said.sum():,}" if said.any() else "none said"
                    for said in (sure, unsure)
                ),
                *(f"{100 * called.mean():.1f}" if len(called) else "" for called in (found.shown, found.hidden)),
            )
        )
        + " |"
    )


def main() -> None:
    """Draws, aligns, fits and writes."""
    rows: dict[TransferMethod, list[str]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        drawn = {seed: draw(seed, Path(folder)) for seed in (*FITTED, *CHECKED)}
    for method in METHODS:
        known = [drawn[seed][method] for seed in FITTED]
        # The logit undoes the library's curve; a line remains, of slope 1 and intercept 0 where the curve holds.
        value = np.concatenate([logit(found.probability.clip(1e-6, 1 - 1e-6)) for found in known])
        slope, intercept = fit_logistic(value, np.concatenate([found.right for found in known]))
        print(
            f"{method}, on the present logit: slope {slope:.3f}, intercept {intercept:+.3f} "
            "(1 and 0 where nothing is to change)"
        )
        for name, seeds in (("drawn, fitted", FITTED), ("drawn, others", CHECKED)):
            together = [drawn[seed][method] for seed in seeds]
            joined = (
                np.concatenate([getattr(found, column.name) for found in together])
                for column in dataclasses.fields(Answers)
            )
            rows[method].append(row(f"{method}: {name}", Answers(*joined)))
    if data := os.environ.get("ASIC_REAL_DATA"):
        sets = read_sets(Path(data), limit=25)
        network = FeatureConfig(backbone="vit_tiny_p16", weights=Path(data) / WEIGHTS)
        for config, by in ((network, ""), (FeatureConfig(), ", no weights")):
            for name, (sources, truth) in sets.items():
                kept = range(min(20, len(truth.images))) if name != "dogs" else range(len(truth.images))
                chosen = truth.select(kept)
                answers = answer(sources[: len(chosen.images)], chosen, config, side=name != "dogs")
                for method, found in answers.items():
                    rows[method].append(row(f"{method}: {name}{by}", found))
    head = (
        "| collection | said to be right, % | right, % | calibration error, % | right of those said >= 90 % "
        "| right of those said < 50 % | shown, called visible, % | hidden, called visible, % |"
    )
    table = "\n".join([head, "|" + " --- |" * 8, *(line for method in METHODS for line in rows[method])]) + "\n"
    sys.stdout.write(table)
    text = PAGE.read_text()
    before, rest = text.split(MARKERS[0])
    atomic.write_bytes(PAGE, f"{before}{MARKERS[0]}{table}{rest[rest.index(MARKERS[1]) :]}".encode())


if __name__ == "__main__":
    main()
