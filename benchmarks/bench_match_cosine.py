"""Mutual matching of two photos' descriptors, and of all pairs of a collection."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from harness import Case, Provider, main, peer

from asic_flow.kernels import match_cosine, match_cosine_pairs
from asic_flow.kernels.match_cosine.api import Precision

TOKENS, WIDTH = 15_625, 384
# On a CPU pykeops takes seconds for these, and its time grows with their square.
FEW_TOKENS = 1_024
# A product of so many rows and columns at this depth has the FLOP of one pair, and is bound by the matrix units alone.
DEPTH = 4_096
SQUARE = round(TOKENS * (WIDTH / DEPTH) ** 0.5)


def tokens_of_two_photos(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw unit rows as a ViT's at a small stride: one category's common part, smooth over the grid, noise."""
    side = int(TOKENS**0.5)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, WIDTH, 20, 20, generator=generator)
    coarse[1] = 0.7 * coarse[0] + 0.7 * coarse[1]
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").flatten(2).transpose(1, 2)
    tokens = smooth + 0.3 * torch.randn(smooth.shape, generator=generator) + torch.randn(WIDTH, generator=generator)
    a, b = torch.nn.functional.normalize(tokens, dim=2)
    return a.to(device), b.to(device)


def dense(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mutual pairs from the whole matrix."""
    scores = a @ b.T
    best_b, best_a = scores.argmax(1), scores.argmax(0)
    index_a = torch.nonzero(best_a[best_b] == torch.arange(len(a), device=a.device)).squeeze(1)
    return index_a, best_b[index_a]


def chunked_product(a: torch.Tensor, b: torch.Tensor, rows: int = 512) -> None:
    """Multiply in chunks into one buffer and look at nothing."""
    buffer = a.new_empty(rows, len(b))
    for chunk in torch.split(a, rows):
        torch.mm(chunk, b.T, out=buffer[: len(chunk)])


def chunked_maxima(a: torch.Tensor, b: torch.Tensor, rows: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply in chunks; both directions with indices, as one writes it first."""
    best_b = torch.empty(len(a), dtype=torch.int64)
    score_a, best_a = torch.full((len(b),), -2.0), torch.zeros(len(b), dtype=torch.int64)
    for start in range(0, len(a), rows):
        scores = a[start : start + rows] @ b.T
        best_b[start : start + rows] = scores.argmax(1)
        score, index = scores.max(0)
        better = score > score_a
        score_a, best_a = torch.where(better, score, score_a), torch.where(better, index + start, best_a)
    return torch.nonzero(best_a[best_b] == torch.arange(len(a))).squeeze(1), best_b


def kept(found: object, expected: set[tuple[int, int]]) -> str:
    """Say which share of the expected pairs was found, and how many others."""
    pairs = set(zip(found.index_a.tolist(), found.index_b.tolist(), strict=True))  # type: ignore[attr-defined]
    return f"{100 * len(pairs & expected) / len(expected):.2f} % of the float64 pairs, {len(pairs - expected)} others"


def float64_pairs(a: torch.Tensor, b: torch.Tensor) -> set[tuple[int, int]]:
    """Return the mutual pairs of the float64 products."""
    a, b = (torch.nn.functional.normalize(tokens.double(), dim=1) for tokens in (a, b))
    best_b = torch.empty(len(a), dtype=torch.int64, device=a.device)
    score_a = torch.full((len(b),), -2.0, dtype=torch.float64, device=a.device)
    best_a = torch.zeros(len(b), dtype=torch.int64, device=a.device)
    for start in range(0, len(a), 1024):
        scores = a[start : start + 1024] @ b.T
        best_b[start : start + 1024] = scores.argmax(1)
        score, index = scores.max(0)
        better = score > score_a
        score_a, best_a = torch.where(better, score, score_a), torch.where(better, index + start, best_a)
    mutual = best_a[best_b] == torch.arange(len(a), device=a.device)
    return set(zip(torch.nonzero(mutual).squeeze(1).tolist(), best_b[mutual].tolist(), strict=True))


def keops_provider(a: torch.Tensor, b: torch.Tensor) -> list[Provider]:
    """Return both reductions of pykeops' symbolic matrix, compiled; nothing where it is not installed."""
    keops = peer("pykeops.torch")
    if keops is None:
        return []
    if a.is_cuda and not peer("pykeops.config").gpu_available:  # type: ignore[union-attr]
        print("left out: pykeops finds no CUDA toolkit")
        return []
    rows, columns = keops.LazyTensor(a[:, None].contiguous()), keops.LazyTensor(b[None].contiguous())
    scores = rows | columns
    return [Provider("pykeops, both ways", lambda: (scores.argmax(1), scores.argmax(0)))]


def ours(a: torch.Tensor, b: torch.Tensor, names: dict[str, Precision]) -> list[Provider]:
    """Return our ways by name, with what they keep of the float64 pairs."""
    expected = float64_pairs(a, b)

    def way(name: str, precision: Precision) -> Provider:
        def run() -> object:
            return match_cosine(a, b, precision=precision)

        return Provider(name, run, True, lambda: kept(run(), expected))

    return [way(name, precision) for name, precision in names.items()]


def cpu_cases(a: torch.Tensor, b: torch.Tensor) -> list[Case]:
    """Compare with the product itself, and with what one would use instead."""
    rows, columns = a.numpy(), b.numpy()
    names: dict[str, Precision] = {"match_cosine": "float32", "match_cosine, half": "half"}

    def numpy_dense() -> None:
        scores = rows @ columns.T
        scores.argmax(1), scores.argmax(0)

    providers = [
        Provider("floor: the product alone, in chunks", lambda: chunked_product(a, b)),
        *ours(a, b, names),
        Provider("torch, chunked, indices both ways", lambda: chunked_maxima(a, b)),
        Provider("torch, dense, two argmax", lambda: dense(a, b)),
        Provider("numpy, dense, two argmax", numpy_dense),
    ]
    if metrics := peer("sklearn.metrics"):
        # Of unit rows the nearest is the most similar.
        nearest = metrics.pairwise_distances_argmin
        providers.append(Provider("scikit-learn, both ways", lambda: (nearest(rows, columns), nearest(columns, rows))))
    if faiss := peer("faiss"):
        search = partial(faiss.knn, k=1, metric=faiss.METRIC_INNER_PRODUCT)
        providers.append(Provider("faiss flat, both ways", lambda: (search(rows, columns), search(columns, rows))))
    # FLOP: one multiplication and one addition for each of M * N * D products.
    name = f"{TOKENS:,} x {WIDTH} against {TOKENS:,} x {WIDTH}, mutual"
    large = Case(
        name, 2.0 * TOKENS * TOKENS * WIDTH, "FLOP/s", "floor: the product alone, in chunks", providers, 1.2, 3
    )
    c, d = a[:FEW_TOKENS].contiguous(), b[:FEW_TOKENS].contiguous()
    few = [
        Provider("floor: the product alone, in chunks", lambda: chunked_product(c, d)),
        *ours(c, d, names),
        *keops_provider(c, d),
    ]
    name = f"{FEW_TOKENS:,} x {WIDTH} against {FEW_TOKENS:,} x {WIDTH}, mutual"
    small = Case(
        name, 2.0 * FEW_TOKENS * FEW_TOKENS * WIDTH, "FLOP/s", "floor: the product alone, in chunks", few, None, 3
    )
    return [large, small]


def faiss_gpu_provider(a: torch.Tensor, b: torch.Tensor) -> list[Provider]:
    """Return faiss' search on the GPU both ways; nothing where it is not installed, or was built without CUDA."""
    faiss = peer("faiss")
    if faiss is None or peer("faiss.contrib.torch_utils") is None:
        return []
    if not hasattr(faiss, "StandardGpuResources"):
        print("left out: faiss is installed without its GPU part")
        return []
    resources = faiss.StandardGpuResources()
    search = partial(faiss.knn_gpu, resources, k=1, metric=faiss.METRIC_INNER_PRODUCT)
    return [Provider("faiss-gpu flat, both ways", lambda: (search(a, b), search(b, a)))]


def cuda_cases(a: torch.Tensor, b: torch.Tensor) -> list[Case]:
    """Compare with the matrix ceiling, with the 16-bit product and its maxima, and time a whole collection."""
    a, b = a.half(), b.half()
    compiled = torch.compile(dense)
    square = torch.randn(2, SQUARE, DEPTH, device=a.device, dtype=torch.bfloat16)
    ceiling = "floor: as many FLOP of square bfloat16 products"
    providers = [
        Provider(ceiling, lambda: square[0] @ square[1].T),
        Provider("the product alone, in float16", lambda: a @ b.T),
        *ours(a, b, {"match_cosine": "half", "match_cosine, float32": "float32"}),
        Provider("torch, dense, two argmax", lambda: dense(a, b)),
        Provider("torch.compile of it", lambda: compiled(a, b)),
        *keops_provider(a.float(), b.float()),
        *faiss_gpu_provider(a, b),
    ]
    flop = 2.0 * TOKENS * TOKENS * WIDTH
    single = Case(f"{TOKENS:,} x {WIDTH}, one pair, mutual", flop, "FLOP/s", ceiling, providers, 1 / 0.7, 20)
    photos = torch.cat([a.roll(shift, 1) for shift in range(30)])
    offsets = torch.arange(31, device=a.device) * TOKENS
    pairs = list(itertools.combinations(range(30), 2))
    on_device = torch.tensor(pairs, device=a.device)
    sets = torch.split(photos, TOKENS)

    def every_square() -> None:
        for _ in pairs:
            square[0] @ square[1].T

    def every_product() -> None:
        for i, j in pairs:
            sets[i] @ sets[j].T

    collection = [
        Provider(ceiling, every_square),
        Provider("the products alone, in float16", every_product),
        Provider("match_cosine_pairs", lambda: match_cosine_pairs(photos, offsets, on_device), True),
        Provider("torch, dense, two argmax", lambda: [dense(sets[i], sets[j]) for i, j in pairs]),
    ]
    name = f"all {len(pairs)} pairs of 30 x {TOKENS:,} x {WIDTH}"
    return [single, Case(name, len(pairs) * flop, "FLOP/s", ceiling, collection)]


def cases(device: torch.device) -> list[Case]:
    """Return the cases of the device."""
    a, b = tokens_of_two_photos(device)
    return cpu_cases(a, b) if device.type == "cpu" else cuda_cases(a, b)


if __name__ == "__main__":
    main("match_cosine", cases)
