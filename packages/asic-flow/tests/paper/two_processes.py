"""One of two processes that train together; prints losses and gradients as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch.distributed as dist

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from conftest import draw  # noqa: E402
from test_training import steps_of  # noqa: E402


def train() -> None:
    dist.init_process_group("gloo")
    sys.stdout.write(json.dumps(steps_of(draw())))
    dist.destroy_process_group()


if __name__ == "__main__":
    train()
