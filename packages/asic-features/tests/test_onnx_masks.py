from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from asic_features.config import FeatureConfig
from asic_features.extract import extract_collection
from asic_features.extras import ExtraError
from asic_features.images import list_photos
from asic_features.onnx_masks import MaskNetwork
from asic_features.weights import WeightsError
from asic_flow.cores import torch_alone

Save = Callable[..., Path]


@pytest.fixture
def network_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an ONNX file whose mask is ``gain`` times the red channel it is given."""
    onnx = pytest.importorskip("onnx", reason="onnx writes the file")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the file")

    def write(gain: float = 1.0, side: int | str = 32, channels: int = 3) -> Path:
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        weight = np.zeros((1, channels, 1, 1), dtype=np.float32)
        weight[0, 0] = gain
        graph = helper.make_graph(
            [helper.make_node("Conv", ["picture", "weight"], ["mask"])],
            "red",
            [helper.make_tensor_value_info("picture", kind, [1, channels, side, side])],
            [helper.make_tensor_value_info("mask", kind, [1, 1, side, side])],
            [onnx.numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        path = tmp_path / "network.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def halves(red_left: int, red_right: int) -> npt.NDArray[np.uint8]:
    """64 rows, 96 columns, red on the left and on the right."""
    pixels = np.full((64, 96, 3), 77, dtype=np.uint8)
    pixels[:, :48, 0], pixels[:, 48:, 0] = red_left, red_right
    return pixels


def test_probabilities_are_taken_as_they_are(network_file: Callable[..., Path]) -> None:
    """IS-Net sees RGB less one half; its answer is cut to [0, 1] and never stretched."""
    found = MaskNetwork("isnet", network_file())(halves(51, 204))
    assert found.shape == (64, 96)
    assert found.dtype == np.uint8
    assert found[32, 5] == 0  # 0.2 - 0.5
    assert found[32, 90] == pytest.approx(0.3 * 255, abs=1)
    faint = MaskNetwork("isnet", network_file())(halves(128, 140))
    assert faint.max() < 0.06 * 255


def test_logits_become_probabilities(network_file: Callable[..., Path]) -> None:
    """BiRefNet sees RGB in units of ImageNet's mean and spread."""
    found = MaskNetwork("birefnet", network_file(gain=2.0))(halves(0, 255))
    for column, red in ((5, 0.0), (90, 1.0)):
        expected = 1 / (1 + np.exp(-2 * (red - 0.485) / 0.229))
        assert found[32, column] == pytest.approx(255 * expected, abs=1)
    steep = MaskNetwork("birefnet", network_file(gain=1e6))(halves(0, 255))
    assert (steep[32, 5], steep[32, 90]) == (0, 255)


def test_a_file_that_leaves_its_side_open_is_shown_the_tables(network_file: Callable[..., Path]) -> None:
    stripes = np.zeros((1024, 1024, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    found = MaskNetwork("isnet", network_file(side="side"))(stripes)
    assert (found[:, ::2].min(), found[:, 1::2].max()) == (128, 0)


def test_unfit_files_are_refused(network_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(WeightsError, match=r"text\.onnx cannot be read"):
        MaskNetwork("isnet", tmp_path / "text.onnx")
    with pytest.raises(WeightsError, match=r"network\.onnx cannot be run"):
        MaskNetwork("isnet", network_file(channels=4))(halves(0, 255))


def test_other_inputs_are_refused(network_file: Callable[..., Path]) -> None:
    onnx = pytest.importorskip("onnx")
    helper, path = onnx.helper, network_file()
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        WeightsError, match=r"expected one input tensor\(float\) \[1, 3, S, S\], got .*, tensor\(float\)"
    ):
        MaskNetwork("isnet", path)


def test_masks_of_a_collection(network_file: Callable[..., Path], save: Save, tmp_path: Path) -> None:
    """The network sees the photo alone, not its padding; its answers are kept."""
    for index in range(2):
        save(f"photos/{index}.png", halves(51, 255))
    config = FeatureConfig(size=96, masks="birefnet", mask_weights=network_file(gain=9.0))
    collection, matches = extract_collection(list_photos(tmp_path / "photos"), config, cache=tmp_path / "cache")
    assert collection.masks[0, 48, 90] > 250
    assert collection.masks[0, 48, 5] == 0
    assert collection.masks[:, :14].max() == 0  # padding
    assert len(matches) > 0
    assert len(collection.settings["masks_sha256"]) == 64
    config.mask_weights.unlink()  # type: ignore[union-attr]
    network_file(gain=9.0)
    again, _ = extract_collection(list_photos(tmp_path / "photos"), config, cache=tmp_path / "cache")
    assert (again.masks == collection.masks).all()
    assert len(list((tmp_path / "cache").iterdir())) == 1  # equal photos, asked once


def test_a_network_has_the_threads_that_torch_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[SimpleNamespace] = []

    def session(file: str, options: SimpleNamespace, providers: list[str]) -> SimpleNamespace:
        del file, providers
        made.append(options)
        given = SimpleNamespace(name="picture", type="tensor(float)", shape=[1, 3, 32, 32])
        return SimpleNamespace(get_inputs=lambda: [given])

    runtime = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with torch_alone():
            MaskNetwork("isnet", tmp_path / "n.onnx")
    finally:
        torch.set_num_threads(before)
    assert made[0].intra_op_num_threads == 3


def test_without_onnx_runtime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraError, match=r"masks 'isnet' need ONNX Runtime: pip install 'asic-features\[onnx\]'"):
        MaskNetwork("isnet", tmp_path / "n.onnx")
