"""Preparation of photos beside straightforward ways: clusters, surroundings, saliency, pairs, and memory at stride 2.

`ASIC_REAL_DATA`, where it is set, adds the whole preparation of 20 photos of CUB 001. A GPU is asked what 30 photos at
stride 2 take there, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Case, Provider, measure, record, require_green
from PIL import Image
from torch.nn import functional

from asic_eval.benchmarks.synthetic import draw_collection
from asic_features.config import FeatureConfig
from asic_features.describe import Describer
from asic_features.descriptors import VisionTransformer, token_grid
from asic_features.extract import extract_collection
from asic_features.images import list_photos
from asic_features.kmeans import cluster
from asic_features.knn import match_photos
from asic_features.logbin import log_bin
from asic_features.pairs import choose_pairs
from asic_features.prepare import prepare_photos
from asic_features.saliency import attention_saliency, cls_attention

PHOTOS, WIDTH = 30, 384
MOST_MB = 1500.0


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random rows of unit length, drawn on the CPU."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(values, dim=-1)


def clusters() -> Case:
    """k-means of 30,000 tokens, 10 clusters; a tenth of the spread is between ten true centres."""
    from sklearn.cluster import KMeans

    centres = draw(10, WIDTH, seed=1) * 0.5
    which = torch.randint(10, (30_000,), generator=torch.Generator().manual_seed(2))
    points = centres[which] + draw(30_000, WIDTH, seed=3)
    array = points.numpy()
    inertia: dict[str, float] = {}

    def theirs() -> None:
        inertia["theirs"] = float(KMeans(10, n_init=4, random_state=0).fit(array).inertia_)

    def ours() -> None:
        inertia["ours"] = cluster(points, 10).inertia

    def quality() -> str:
        return f"inertia x {inertia['ours'] / inertia['theirs']:.4f}"

    providers = [
        Provider("scikit-learn, 4 starts", theirs),
        Provider("asic_features.kmeans, 4 starts", ours, True, quality),
    ]
    # FLOP: 2 M K D a round of one start; the rounds differ, so one is counted.
    return Case("k-means, 30,000 x 384, 10 clusters", 4 * 2.0 * 30_000 * 10 * WIDTH, "FLOP/s", providers[0].name,
                providers, repeats=3)  # fmt: skip


def loop_over_tokens(maps: torch.Tensor) -> torch.Tensor:
    """Log-binning one token and one cell at a time, as the published way does it: (1, D, rows, cols) to 17 D."""
    _, width, rows, cols = maps.shape
    means = functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
    out = torch.zeros(1, 17 * width, rows, cols)
    for row in range(rows):
        for column in range(cols):
            part = 0
            for reach, source in ((1, maps), (3, means)):
                for down in (-reach, 0, reach):
                    for right in (-reach, 0, reach):
                        if (down, right) == (0, 0) and reach == 3:
                            continue
                        y, x = min(max(row + down, 0), rows - 1), min(max(column + right, 0), cols - 1)
                        out[0, part : part + width, row, column] = source[0, :, y, x]
                        part += width
    return out


def surroundings() -> Case:
    """Log-binned descriptors of one photo of ViT-S/8 at 256 pixels and the published stride of 2."""
    grid = token_grid(256, 8, 2)
    tokens = draw(1, grid.rows * grid.cols, WIDTH)
    maps = tokens.transpose(1, 2).reshape(1, WIDTH, grid.rows, grid.cols)
    if not torch.equal(
        loop_over_tokens(maps).flatten(2).transpose(1, 2).sort(-1).values, log_bin(tokens, grid).sort(-1).values
    ):
        sys.exit("features: the loop and the gather differ, nothing was measured")
    providers = [
        Provider("loop over tokens and cells", lambda: loop_over_tokens(maps)),
        Provider("asic_features.logbin", lambda: log_bin(tokens, grid), True),
    ]
    # B: 17 D float32 written once a token.
    work = 4.0 * 17 * WIDTH * grid.rows * grid.cols
    return Case("log-bin, 125 x 125 x 384", work, "B/s", providers[0].name, providers, repeats=3)


def saliency() -> Case:
    """CLS attention to the patches of ViT-S/8 at 256 pixels and stride 4: 3,969 tokens, 6 heads of 64."""
    tokens, heads, width = 63 * 63 + 1, 6, 64
    query, key = (torch.randn(1, heads, tokens, width, generator=torch.Generator().manual_seed(s)) for s in (0, 1))

    def full() -> torch.Tensor:
        attention = (query @ key.transpose(2, 3) * width**-0.5).softmax(dim=-1)
        found: torch.Tensor = attention[:, :, 0, 1:].mean(dim=1)
        return found

    providers = [
        Provider("full attention, its first row", full),
        Provider("asic_features.saliency", lambda: cls_attention(query[:, :, 0], key, prefix=1), True),
    ]
    # FLOP of the one row that is needed.
    return Case("saliency row, 3,969 tokens", 2.0 * heads * tokens * width, "FLOP/s", providers[0].name, providers)


def pair_stage() -> Case:
    """All pairs of 6 photos of ViT-S/8 at 256 pixels and stride 4, every token foreground."""
    count, grid = 6, token_grid(256, 8, 4)
    tokens = grid.rows * grid.cols
    descriptors = draw(count, tokens, WIDTH).half()
    saliencies, foreground = torch.zeros(count, tokens), torch.ones(count, tokens, dtype=torch.bool)
    pairs = choose_pairs(draw(count, 8))
    single = descriptors.float()

    def products() -> None:
        for a, b in pairs:
            for rows in torch.split(single[a], 512):
                rows @ single[b].T

    def materialised() -> None:
        for a, b in pairs:
            similarity = single[a] @ single[b].T
            forth, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
            (back[forth] == torch.arange(tokens)).nonzero()

    providers = [
        Provider("the matrix products alone", products),
        Provider("whole similarity matrices, two argmax", materialised),
        Provider("asic_features.knn", lambda: match_photos(descriptors, saliencies, foreground, grid, pairs), True),
    ]
    # FLOP: 2 T T D a pair.
    work = 2.0 * len(pairs) * tokens**2 * WIDTH
    return Case("15 pairs of 3,969 x 384", work, "FLOP/s", providers[0].name, providers, target=1.25, repeats=5)


def descriptions(device: torch.device, photos: int = PHOTOS) -> Case:
    """Descriptors and saliency of photos by ViT-S/8 at 256 pixels and stride 2, in bfloat16; at most 1.5 s on a GPU."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        save_file(timm.create_model("vit_small_patch8_224", num_classes=0).state_dict(), weights)
        config = FeatureConfig(
            backbone="dino_vits8", weights=weights, stride=2, device=str(device), precision="bfloat16"
        )
        describer = Describer(config, weights, lambda *_: None, None)
    images = torch.from_numpy(draw_collection(0, photos, 256).images)
    blank = describer.network.blank_attention(256).cpu()

    def run() -> None:
        attention = describer.describe(images).attention
        attention_saliency(attention, blank)

    provider = Provider("asic_features.describe", run, True)
    return Case(
        f"{photos} photos described, ViT-S/8, stride 2", photos, "photos/s", provider.name, [provider], repeats=5
    )


def all_pairs(device: torch.device, photos: int = PHOTOS) -> Case:
    """All pairs of photos of ViT-S/8 at 256 pixels and stride 2, every token foreground; at most 0.16 s on a GPU."""
    grid = token_grid(256, 8, 2)
    tokens = grid.rows * grid.cols
    descriptors = torch.stack([draw(tokens, WIDTH, seed=seed).half() for seed in range(photos)]).to(device)
    saliencies = torch.zeros(photos, tokens, device=device)
    foreground = torch.ones(photos, tokens, dtype=torch.bool, device=device)
    pairs = choose_pairs(draw(photos, 8))
    provider = Provider(
        "asic_features.knn", lambda: match_photos(descriptors, saliencies, foreground, grid, pairs), True
    )
    # FLOP: 2 T T D a pair.
    work = 2.0 * len(pairs) * tokens**2 * WIDTH
    return Case(f"{len(pairs)} pairs of 15,625 x 384", work, "FLOP/s", provider.name, [provider], repeats=5)


def choice_of_pairs() -> list[Case]:
    """Which pairs to match, past 60 photos the nearest: their number grows with N, not with its square."""
    cases = []
    for count in (30, 100, 300, 1000):
        summaries = draw(count, WIDTH)
        number = len(choose_pairs(summaries))
        every = count * (count - 1) // 2
        provider = Provider(
            "asic_features.pairs",
            partial(choose_pairs, summaries),
            True,
            partial("{} of {} pairs".format, number, every),
        )
        # FLOP: similarities of all summaries.
        work = 2.0 * count * count * WIDTH
        cases.append(Case(f"choice of pairs, {count} photos", work, "FLOP/s", provider.name, [provider], repeats=3))
    return cases


def twenty_birds(data: Path) -> Case:
    """Descriptors, saliency, masks, all 190 pairs and parts of the first 20 photos of CUB 001, ViT-Tiny, stride 8."""
    from asic_eval.benchmarks.cub import read_cub
    from asic_features.images import PhotoSource

    images = data / "CUB_200_2011" / "images"
    birds = read_cub(data / "CUB_200_2011", 1, limit=20).images
    sources = [PhotoSource(images / bird.name, bird.name, bird.box_xyxy) for bird in birds]
    weights = next((data / "weights" / "vit_tiny_in1k").glob("*.pth"))
    config = FeatureConfig(backbone="vit_tiny_p16", weights=weights, stride=8, parts=4)
    plain = FeatureConfig(backbone="vit_tiny_p16", weights=weights, stride=8)
    providers = [
        Provider("without parts", lambda: extract_collection(sources, plain), True),
        Provider("with parts", lambda: extract_collection(sources, config), True),
    ]
    # Photos a second.
    return Case("20 photos of CUB 001, ViT-Tiny, stride 8", 20, "photos/s", providers[0].name, providers, repeats=3)


def stride_2() -> Case:
    """Peak resident memory of 30 photos with ViT-S/8 at stride 2, in a process of its own.

    Only the last two of the network's twelve equal blocks are run, which take as much memory as all of them. They speak
    about the two blank images and as many photos as there are threads, one after the other as these are large; the
    answers about the other photos are drawn and laid into the cache.
    """
    answers: list[tuple[float, float, int]] = []

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            script = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
            subprocess.run([*script, "--draw-stride-2", folder], check=True)
            done = subprocess.run([*script, "--run-stride-2", folder], check=True, capture_output=True, text=True)
        seconds, peak, matches = done.stdout.split()
        answers.append((float(seconds), float(peak), int(matches)))

    def quality() -> str:
        seconds, peak, matches = answers[-1]
        verdict = "below" if peak < MOST_MB else "ABOVE"
        return f"{peak:.0f} MB resident at most, {verdict} {MOST_MB:.0f}; {matches} matches, {seconds:.0f} s"

    # B: the descriptors in half precision, written once.
    work = 2.0 * PHOTOS * 125**2 * WIDTH
    provider = Provider("asic_features.extract", run, True, quality)
    return Case("30 photos, ViT-S/8, 256 px, stride 2", work, "B/s", provider.name, [provider], repeats=1)


def _stride_2_config(folder: Path) -> FeatureConfig:
    weights = folder / "model.safetensors"
    return FeatureConfig(backbone="dino_vits8", weights=weights, stride=2, block=1, masks=folder / "masks")


def _keep_two_blocks() -> None:
    """From here on networks run their last two blocks alone; the weights of the others stay in memory."""
    build = VisionTransformer.__init__

    def build_and_cut(self: VisionTransformer, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **options)
        self.idle_blocks = self.model.blocks  # type: ignore[attr-defined]
        self.model.blocks = self.model.blocks[-2:]

    VisionTransformer.__init__ = build_and_cut  # type: ignore[method-assign]


def _draw_stride_2(folder: Path) -> None:
    """Photos, masks, weights, and in the cache answers about all photos but the first ones, one a thread."""
    import timm
    from safetensors.torch import save_file

    drawn = draw_collection(0, PHOTOS, 256)
    for index, (image, mask) in enumerate(zip(drawn.images, drawn.masks, strict=True)):
        for kind, pixels in (("photos", image), ("masks", mask.astype(np.uint8) * 255)):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{index:02d}.png")
    torch.manual_seed(0)
    save_file(timm.create_model("vit_small_patch8_224", num_classes=0).state_dict(), folder / "model.safetensors")
    config = _stride_2_config(folder)
    sources = list_photos(folder / "photos")
    images = prepare_photos(sources, replace(config, masks="none"), lambda *_: None, None).images
    describer = Describer(config, folder / "model.safetensors", lambda *_: None, folder / "cache")
    cache = describer.caches[256]
    for index in range(torch.get_num_threads(), PHOTOS):
        answer = {"0": draw(125**2, WIDTH, seed=index).half(), "attention": torch.rand(125**2)}
        cache.save(cache.key(describer.requests, images[index]), answer)


def _run_stride_2(folder: Path) -> None:
    started = time.monotonic()
    sources, config = list_photos(folder / "photos"), _stride_2_config(folder)
    collection, matches = extract_collection(sources, config, cache=folder / "cache")
    if collection.descriptors.shape != (PHOTOS, 125**2, WIDTH):
        sys.exit(f"features: expected {PHOTOS} photos at stride 2, got {tuple(collection.descriptors.shape)}")
    if len(list((folder / "cache").iterdir())) != PHOTOS:
        sys.exit(f"features: expected an answer about each of {PHOTOS} photos in the cache")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.monotonic() - started, peak, len(matches))


def main() -> None:
    """Run the package's tests, then the cases, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--draw-stride-2", type=Path, metavar="FOLDER", help="Only draw what the memory run reads.")
    parser.add_argument("--run-stride-2", type=Path, metavar="FOLDER", help="Only the memory run, in this process.")
    parser.add_argument("--skip-stride-2", action="store_true", help="All but the memory run, which takes minutes.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if folder := arguments.draw_stride_2 or arguments.run_stride_2:
        _keep_two_blocks()
        (_draw_stride_2 if arguments.draw_stride_2 else _run_stride_2)(folder)
        return
    require_green("packages/asic-features/tests")
    device = torch.device(arguments.device)
    if device.type == "cuda":
        cases = [descriptions(device), all_pairs(device)]
        record("features", "asic-features", device, arguments.threads, [measure(case, device) for case in cases])
        return
    cases = [clusters(), surroundings(), saliency(), pair_stage(), *choice_of_pairs()]
    if data := os.environ.get("ASIC_REAL_DATA"):
        cases.append(twenty_birds(Path(data)))
    if not arguments.skip_stride_2:
        cases.append(stride_2())
    record("features", "asic-features", device, arguments.threads, [measure(case, device) for case in cases])


if __name__ == "__main__":
    main()
