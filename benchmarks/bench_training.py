"""One step of the published recipe: at full size on a GPU, at the size that stands for it on a CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from harness import Case, Provider, main
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from asic_eval.benchmarks.synthetic import draw_collection
from asic_features.config import FeatureConfig
from asic_features.extract import extract_collection
from asic_features.images import list_photos
from asic_flow.collection import ImageCollection
from asic_flow.matches import MatchSet
from asic_flow.paper.config import PAPER_SMALL, PaperConfig
from asic_flow.paper.network import FlowNetwork
from asic_flow.paper.training import Training

PHOTOS = 20


def drawn_photos() -> tuple[ImageCollection, MatchSet]:
    """Twenty drawn photos of 256 pixels, described without weights."""
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(draw_collection(0, PHOTOS, 256).images):
            Image.fromarray(image).save(Path(folder) / f"{index:02d}.png")
        return extract_collection(list_photos(Path(folder)), FeatureConfig(size=256))


def cases(device: torch.device) -> list[Case]:
    """Return a step of 20 photos (CPU: 10) and their augmented copies, beside the network alone."""
    on_gpu = device.type == "cuda"
    config = PaperConfig() if on_gpu else PAPER_SMALL
    collection, matches = drawn_photos()
    training = Training(collection, matches, config, device=str(device))
    photos = torch.arange(min(PHOTOS, config.photos_per_step), device=device).repeat(2)
    images = training.data.images[photos]

    def network_alone() -> None:
        training.model.displace(images, photos)[0].square().sum().backward()  # type: ignore[no-untyped-call]

    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        network = FlowNetwork(config.width, quarter=config.head == "quarter")
        network(torch.zeros(len(photos), 3, config.side, config.side)).sum().backward()
    providers = [
        Provider("floor: the network alone, both ways", network_alone),
        Provider("Training.advance", training.advance, True),
    ]
    # FLOP of the network's convolutions, forward and backward, counted by torch.
    name = f"a step of {len(photos)} x {config.side} x {config.side}, {len(photos) // 2} of them augmented copies"
    return [Case(name, float(counter.get_total_flops()), "FLOP/s", providers[0].name, providers)]


if __name__ == "__main__":
    main("training", cases, tests="packages/asic-flow/tests/paper")
