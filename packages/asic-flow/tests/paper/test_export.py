from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from asic_flow.paper.config import PaperConfig
from asic_flow.paper.export import export_onnx
from asic_flow.paper.placement import Placement
from asic_flow.paper.training import Training
from asic_flow.train import AlignmentError

if TYPE_CHECKING:
    from conftest import DrawnCollection


def test_a_network_that_sees_no_photo_is_not_exported(drawn: DrawnCollection, tmp_path: Path) -> None:
    config = PaperConfig(steps=1, side=32, network="coordinates", head="quarter", canonical_side=16, restarts=0)
    training = Training(drawn.collection, drawn.matches, config)
    with pytest.raises(AlignmentError, match="does not look at photos"):
        export_onnx(training, tmp_path / "flow.onnx")


def test_the_exported_network_says_what_the_run_says(drawn: DrawnCollection, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript writes the file")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the file")
    config = PaperConfig(
        steps=3,
        photos_per_step=4,
        side=32,
        width=1 / 16,
        head="quarter",
        start="coarse",
        components=2,
        canonical_side=16,
        restarts=0,
    )
    training = Training(drawn.collection, drawn.matches, config)
    found = training.run()
    path = tmp_path / "flow.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        export_onnx(training, path)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    images = training.data.images
    for photos in (images, images[:1]):
        (places,) = session.run(["places"], {"images": photos.numpy()})
        with torch.no_grad():
            flows = found.model.maps(photos, Placement.identity(len(photos)), (8, 8))
        np.testing.assert_allclose(places, found.gauge.apply(flows).numpy(), atol=1e-4)
    placements = json.loads(session.get_modelmeta().custom_metadata_map["placements"])
    assert list(placements) == [photo.path for photo in drawn.collection.photos]
    np.testing.assert_allclose(placements["3.png"], training.data.placement.inverse[3].numpy(), atol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == ["flow.onnx"]
