"""The flow network as an ONNX file, which needs no torch to run; writing it needs the packages onnx and onnxscript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from asic_flow import atomic
from asic_flow.paper.coordinates import CoordinateNetwork
from asic_flow.paper.network import flow_of
from asic_flow.paper.training import TrainedMaps, Training
from asic_flow.train import AlignmentError


class _PhotoToMap(nn.Module):
    """Images in [0, 1] to canonical places, in the gauge of a run's maps."""

    def __init__(self, found: TrainedMaps) -> None:
        super().__init__()
        self.model = found.model
        self.gauge = found.gauge

    def forward(self, images: Tensor) -> Tensor:
        return self.gauge.apply(flow_of(self.model.network(self.model.seen(images))))


def export_onnx(training: Training, path: Path) -> None:
    """Writes the flow network of a training that has ended.

    The file's input is `images`, (B, 3, S, S) float32 RGB in [0, 1] with S the network's side (or what it sees in place
    of RGB), and its output `places`,
    (B, h, w, 2) float32 canonical xy of a grid with corners aligned: the run's maps, at the flow's own resolution. The
    batch size is free. Where training started from placed photos, images are to be placed likewise: the metadata
    `placements` holds, as JSON, each photo's name with the 2 x 3 matrix from [-1, 1] of the network's frame to [-1, 1]
    of the photo.

    Args:
        training: On the CPU.
        path: Where to.

    Raises:
        AlignmentError: The network is one of coordinates.
        ImportError: onnx or onnxscript is missing; they come with the extra `export`.
        OSError: The file cannot be written.
    """
    found = training.result()
    if isinstance(found.model.network, CoordinateNetwork):
        raise AlignmentError("the run's network does not look at photos: there is nothing to export")
    module = _PhotoToMap(found).eval()
    program = torch.onnx.export(
        module,
        (torch.zeros_like(training.data.images[:2]),),
        dynamo=True,
        input_names=["images"],
        output_names=["places"],
        dynamic_shapes={"images": {0: torch.export.Dim("photos")}},
        verbose=False,
    )
    model = cast("torch.onnx.ONNXProgram", program).model_proto
    names = [photo.path for photo in training.collection.photos]
    inverse = training.data.placement.inverse.tolist()
    model.metadata_props.add(key="placements", value=json.dumps(dict(zip(names, inverse, strict=True))))
    atomic.write_bytes(path, model.SerializeToString())
