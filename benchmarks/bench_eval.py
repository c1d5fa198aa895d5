"""Scoring SPair-71k's test split, 4-cycles of a collection and reading annotations, beside straightforward ways.

All on one thread. Needs torchmetrics, which `nox -s bench -- eval` brings. The ways of a case must agree before they
are timed.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import Case, Provider, measure, record, require_green
from numpy.typing import NDArray

from asic_eval import ImageKeypoints, KeypointBenchmark, cycle_pck, pck
from asic_eval.benchmarks.spair import CATEGORIES, read_spair, write_spair_annotations
from asic_eval.torch_metric import PckMetric

PAIRS, KEYPOINTS, ALPHAS = 12_234, 30, [index / 100 for index in range(1, 11)]
IMAGES_IN_A_CYCLE_SET, SIDE = 27, 32


def draw_benchmark(num_images: int, num_keypoints: int, pairs: NDArray[np.int64]) -> KeypointBenchmark:
    """Random keypoints of which about a half are visible, as in SPair-71k."""
    rng = np.random.default_rng(0)
    images = tuple(
        ImageKeypoints(
            f"cat/{index:04d}.jpg",
            (400, 500),
            (1, 2, *rng.integers(100, 390, 2)),
            rng.integers(0, 390, (num_keypoints, 2)).astype(np.float64),
            rng.random(num_keypoints) < 0.55,
        )
        for index in range(num_images)
    )
    return KeypointBenchmark("random", tuple(map(str, range(num_keypoints))), images, pairs)


def per_pair_loop(predicted: NDArray[np.float64], benchmark: KeypointBenchmark) -> tuple[list[float], list[float]]:
    """One pair and one alpha at a time, as evaluation scripts of the field do it."""
    per_image: list[list[float]] = [[] for _ in ALPHAS]
    hits, total = [0] * len(ALPHAS), 0
    for row, (source, target) in enumerate(benchmark.pairs.tolist()):
        start, end = benchmark.images[source], benchmark.images[target]
        asked = start.visible & end.visible
        if not asked.any():
            continue
        left, top, right, bottom = end.box_xyxy or (0, 0, 0, 0)
        distance = np.linalg.norm(predicted[row, asked] - end.points_image[asked], axis=1)
        total += len(distance)
        for index, alpha in enumerate(ALPHAS):
            correct = int((distance <= alpha * max(right - left, bottom - top)).sum())
            hits[index] += correct
            per_image[index].append(correct / len(distance))
    return [hit / total for hit in hits], [float(np.mean(ratios)) for ratios in per_image]


def with_torchmetrics(tensors: list[torch.Tensor]) -> tuple[list[float], list[float]]:
    """The package's metric for torchmetrics, in batches of 32 pairs, as a validation loop would feed it."""
    metric = PckMetric(ALPHAS)
    for batch in range(0, len(tensors[0]), 32):
        metric.update(*(tensor[batch : batch + 32] for tensor in tensors))
    found = metric.compute()
    return found["per_point"].tolist(), found["per_image"].tolist()


def accumulated(
    predicted: torch.Tensor, truth: torch.Tensor, visible: torch.Tensor, lengths: torch.Tensor
) -> tuple[list[float], list[float]]:
    """Batches of 32 pairs added to tensors, as a torchmetrics metric does it (without its own bookkeeping)."""
    alphas = torch.tensor(ALPHAS, dtype=torch.float64)
    hits, points = torch.zeros(len(ALPHAS), dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    ratios, pairs = torch.zeros(len(ALPHAS), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
    for batch in range(0, len(predicted), 32):
        rows = slice(batch, batch + 32)
        distance = torch.linalg.vector_norm(predicted[rows] - truth[rows], dim=-1)
        within = (distance[..., None] <= lengths[rows, None, None] * alphas) & visible[rows, :, None]
        own_hits, own_points = within.sum(dim=1), visible[rows].sum(dim=1)
        asked = own_points > 0
        hits += own_hits.sum(dim=0)
        points += own_points.sum()
        ratios += (own_hits[asked].double() / own_points[asked, None]).sum(dim=0)
        pairs += asked.sum()
    return (hits.double() / points).tolist(), (ratios / pairs).tolist()


def must_agree(providers: list[Provider]) -> None:
    """Stop where two ways of the same work give different scores."""
    first, *others = (np.array(provider.run()) for provider in providers)
    for provider, found in zip(providers[1:], others, strict=True):
        if not np.allclose(first, found, rtol=0.0, atol=1e-12):
            sys.exit(f"eval: {provider.name} gives {found.tolist()}, {providers[0].name} {first.tolist()}")


def scoring() -> Case:
    """12,234 pairs of 30 keypoints at 10 alphas, per point and per image."""
    rng = np.random.default_rng(1)
    benchmark = draw_benchmark(500, KEYPOINTS, rng.integers(500, size=(PAIRS, 2)))
    truth = benchmark.points_image[benchmark.pairs[:, 1]]
    predicted = truth + rng.normal(0.0, 20.0, truth.shape)
    boxes = np.array([image.box_xyxy for image in benchmark.images])
    lengths = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)[benchmark.pairs[:, 1]]
    tensors = [torch.from_numpy(array) for array in (predicted, truth, benchmark.asked.copy(), lengths)]

    def ours() -> tuple[list[float], list[float]]:
        counts = pck(predicted, benchmark, ALPHAS)
        return counts.per_point().tolist(), counts.per_image().tolist()

    providers = [
        Provider("loop over pairs", lambda: per_pair_loop(predicted, benchmark)),
        Provider("torch, batches of 32", lambda: accumulated(*tensors)),
        Provider("torchmetrics Metric, batches of 32", lambda: with_torchmetrics(tensors)),
        Provider("asic_eval.pck", ours, True),
    ]
    must_agree(providers)
    # FLOP: 6 a distance, and 2 comparisons and additions for each of 10 alphas.
    work = PAIRS * KEYPOINTS * (6.0 + 2 * len(ALPHAS))
    name = f"PCK of {PAIRS:,} pairs x {KEYPOINTS} keypoints x {len(ALPHAS)} alphas"
    return Case(name, work, "FLOP/s", "loop over pairs", providers, repeats=5)


def cycles() -> Case:
    """All 421,200 4-cycles of 27 images, both definitions, 10 alphas, over tables of 32 x 32 cells."""
    benchmark = draw_benchmark(IMAGES_IN_A_CYCLE_SET, 15, np.zeros((0, 2), dtype=np.int64))
    count, cells = IMAGES_IN_A_CYCLE_SET, SIDE * SIDE
    tables = np.random.default_rng(2).integers(0, cells, (count, count, cells))
    step = 400 / SIDE

    def transfer(
        points: NDArray[np.float64], source: NDArray[np.int64], target: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        cell = np.clip((points / step).astype(np.int64), 0, SIDE - 1)
        landed = tables[source, target, cell[:, 1] * SIDE + cell[:, 0]]
        return np.stack([landed % SIDE, landed // SIDE], axis=1) * step + step / 2

    lengths = np.full(count, 256.0)
    all_tuples = np.array(list(itertools.permutations(range(count), 4)))

    def every_hop_anew() -> tuple[list[float], list[float]]:
        """All cycles at once and no hop shared."""
        points, visible = benchmark.points_image, benchmark.visible
        row, keypoint = np.nonzero(visible[all_tuples].all(axis=1))
        chain = all_tuples[row]
        here = points[chain[:, 0], keypoint]
        hits = []
        for hop in range(4):
            target = chain[:, (hop + 1) % 4]
            here = transfer(here, chain[:, hop], target)
            distance = np.linalg.norm(here - points[target, keypoint], axis=1)
            hits.append([int((distance <= alpha * lengths[target]).sum()) for alpha in ALPHAS])
        return (np.array(hits[-1]) / len(row)).tolist(), (np.sum(hits, axis=0) / (4 * len(row))).tolist()

    def ours() -> tuple[list[float], list[float]]:
        found = cycle_pck(transfer, benchmark, 4, ALPHAS, lengths)
        return found.end.per_point().tolist(), found.every_hop.per_point().tolist()

    providers = [
        Provider("every hop anew", every_hop_anew),
        Provider("asic_eval.cycle_pck", ours, True),
    ]
    must_agree(providers)
    # FLOP: about 30 for each of 15 keypoints and 4 hops.
    work = len(all_tuples) * 15 * 4 * 30.0
    return Case(
        f"{len(all_tuples):,} 4-cycles of {count} images", work, "FLOP/s", providers[0].name, providers, repeats=3
    )


def write_spair_test(folder: Path) -> list[Path]:
    """As many pair annotations as SPair-71k's test split has, of 18 categories that share their photos."""
    pairs = np.array(list(itertools.permutations(range(27), 2)))[: PAIRS // 18 + 1]
    write_spair_annotations(folder, draw_benchmark(27, KEYPOINTS, pairs), "cat")
    listing = folder / "Layout" / "large" / "test.txt"
    written = [
        (name, (folder / "PairAnnotation" / "test" / f"{name}.json").read_text())
        for name in listing.read_text().split()
    ]
    names = [name for name, _ in written]
    for category in CATEGORIES:
        if category == "cat":
            continue
        shutil.copytree(folder / "ImageAnnotation" / "cat", folder / "ImageAnnotation" / category)
        for name, text in written:
            if len(names) < PAIRS:
                names.append(name.replace(":cat", f":{category}"))
                path = folder / "PairAnnotation" / "test" / f"{names[-1]}.json"
                path.write_text(
                    text.replace(':cat"', f':{category}"').replace('"category": "cat"', f'"category": "{category}"')
                )
    listing.write_text("\n".join(names) + "\n")
    return [folder / "PairAnnotation" / "test" / f"{name}.json" for name in names]


def reading(folder: Path) -> Case:
    """All pair annotations of SPair-71k's test split, and the photos' own."""
    files = write_spair_test(folder)
    size = sum(path.stat().st_size for path in files)

    def ours() -> int:
        return sum(len(read_spair(folder, category).pairs) for category in CATEGORIES)

    if ours() != PAIRS:
        sys.exit(f"eval: {ours()} pairs were read of {PAIRS}")
    providers = [
        Provider("json.loads of each file", lambda: [json.loads(path.read_bytes()) for path in files]),
        Provider("asic_eval.benchmarks.spair.read_spair", ours, True),
    ]
    # B: the pair annotations once.
    return Case(f"reading {len(files):,} pair annotations", size, "B/s", providers[0].name, providers, repeats=3)


def main() -> None:
    """Run the package's tests, then the cases, and write the result file."""
    require_green("packages/asic-eval/tests")
    torch.set_num_threads(1)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        cases = [measure(case, device) for case in (scoring(), cycles(), reading(Path(folder)))]
    record("eval", "asic-eval", device, 1, cases)


if __name__ == "__main__":
    main()
