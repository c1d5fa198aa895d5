"""The flow network as an ONNX file, which needs no torch to run; writing it needs the packages onnx and onnxscript."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from asic_flow import atomic
from asic_flow.paper.network import flow_of
from asic_flow.paper.training import TrainedMaps


class _PhotoToMap(nn.Module):
    """Images in [0, 1] to canonical places, in the gauge of a run's maps."""

    def __init__(self, found: TrainedMaps) -> None:
        super().__init__()
        self.network = found.model.network
        self.gauge = found.gauge

    def forward(self, images: Tensor) -> Tensor:
        return self.gauge.apply(flow_of(self.network(images * 2 - 1)))


def export_onnx(found: TrainedMaps, path: Path) -> None:
    """Writes the trained flow network.

    The file's input is `images`, (B, 3, S, S) float32 RGB in [0, 1] with S the network's side, and its output `places`,
    (B, h, w, 2) float32 canonical xy of a grid with corners aligned: the run's maps, at the flow's own resolution. The
    batch size is free.

    Args:
        found: What training returned, on the CPU.
        path: Where to.

    Raises:
        ImportError: onnx or onnxscript is missing; they come with the extra `export`.
        OSError: The file cannot be written.
    """
    side = found.model.config.side
    module = _PhotoToMap(found).eval()
    program = torch.onnx.export(
        module,
        (torch.zeros(2, 3, side, side),),
        dynamo=True,
        input_names=["images"],
        output_names=["places"],
        dynamic_shapes={"images": {0: torch.export.Dim("photos")}},
        verbose=False,
    )
    atomic.write_bytes(path, cast("torch.onnx.ONNXProgram", program).model_proto.SerializeToString())
