from __future__ import annotations

import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from asic_cli.run_pictures import pictures_of
from asic_flow.alignment import Alignment
from asic_flow.collection import load_collection

PAPER = ("--preset", "paper-small", "--steps", 2, "--device", "cpu")
PICTURES = {"average", "objects", "colours"} | {
    f"{kind}/{number}" for kind in ("matches", "correspondences") for number in range(3)
}


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_before_anything_is_trained(asic, collection, monkeypatch, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = asic("train", collection, "--out", "x", f"--{package}", *PAPER)
    assert (result.code, f"pip install 'asic-cli[{package}]'" in result.err) == (3, True)


def test_pictures_of_a_run(collection, run) -> None:
    photos, matches = load_collection(collection)
    alignment = Alignment.load(run)
    shown = dict(pictures_of(photos, matches, alignment))
    assert set(shown) == PICTURES
    height, width = photos.size_hw
    assert shown["colours"].shape == (height, 5 * width, 3)
    assert shown["matches/0"].shape == (height, 2 * width, 3)
    assert shown["correspondences/0"].shape[0] == height
    assert all(picture.dtype == np.uint8 and picture.std() > 5 for picture in shown.values())
    parts = photos.foreground().to(torch.uint8)
    parts[:, :, : width // 2] *= 2
    split = dict(pictures_of(replace(photos, parts=parts), matches, alignment))["parts"]
    assert {(214, 69, 65), (61, 133, 198)} <= {tuple(pixel) for pixel in split.reshape(-1, 3).tolist()}


def test_tensorboard_is_told_what_the_log_is_told(asic, collection, tmp_path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = asic("train", collection, "--out", "x", "--tensorboard", *PAPER)
    assert result.code == 0, result.err
    events = EventAccumulator(str(tmp_path / "x" / "tensorboard")).Reload()
    assert {"losses/matches", "held_out", "learning_rate"} <= set(events.Tags()["scalars"])
    assert events.Scalars("losses/matches")[-1].step == 2
    assert set(events.Tags()["images"]) == PICTURES | {"canonical image"}
    assert asic("train", collection, "--out", "y", "--tensorboard").code == 0
    rounds = EventAccumulator(str(tmp_path / "y" / "tensorboard")).Reload().Scalars("residual")
    assert [event.step for event in rounds] == [1, 2, 3, 4, 5, 6]


def test_wandb_writes_offline_without_asking_and_without_a_network(asic, collection, tmp_path, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    connect = socket.socket.connect

    def stay_here(self: socket.socket, address: object) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", stay_here)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    result = asic("train", collection, "--out", "x", "--wandb", *PAPER)
    assert result.code == 0, result.err
    (written,) = (tmp_path / "x" / "wandb" / "wandb").glob("offline-run-*/run-*.wandb")
    assert written.stat().st_size > 0
    assert list(written.parent.glob("files/media/images/average*.png"))
