from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from asic_flow.alignment import Alignment
from asic_flow.collection import load_collection
from asic_flow.paper.checkpoint import NETWORK_FILE
from asic_flow.paper.training import Training


def _without_onnxscript(*_: object, **__: object) -> None:
    raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")


SMALL = ("--preset", "paper-small", "--steps", 2, "--device", "cpu")


def test_a_run_without_a_network_is_told(asic, run) -> None:
    result = asic("export", run)
    assert (result.code, "its preset trains no network" in result.err) == (2, True)


def test_the_network_of_a_run_that_was_replaced_is_not_taken_for_the_new_ones(asic, collection, tmp_path) -> None:
    assert asic("train", collection, "--out", "x", *SMALL).code == 0
    assert (tmp_path / "x" / NETWORK_FILE).exists()
    assert asic("train", collection, "--out", "x", "--fresh").code == 0
    assert not (tmp_path / "x" / NETWORK_FILE).exists()
    assert asic("export", "x").code == 2


def test_the_file_holds_the_network_of_the_run(asic, collection, tmp_path, monkeypatch) -> None:
    assert asic("train", collection, "--out", "x", *SMALL).code == 0
    with monkeypatch.context() as patched:
        patched.setattr(torch.onnx, "export", _without_onnxscript)
        result = asic("export", "x")
    assert (result.code, "pip install 'asic-flow[export]'" in result.err) == (3, True)
    assert not Path("flow.onnx").exists()
    pytest.importorskip("onnxscript", reason="onnxscript writes the file")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        result = asic("export", "x", "--out", "made/flow.onnx")
    assert (result.code, result.out) == (0, "made/flow.onnx\n")
    session = onnxruntime.InferenceSession(Path("made/flow.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    training = Training.read(*load_collection(collection), tmp_path / "x")
    (places,) = session.run(["places"], {"images": training.data.images.numpy()})
    assert places.shape == (5, 16, 16, 2)
    found = training.result()
    np.testing.assert_array_equal(found.maps.numpy(), Alignment.load(tmp_path / "x").maps.numpy())
