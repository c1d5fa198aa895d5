from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from asic_flow.alignment import Alignment, RunError
from asic_flow.coarse import NormalisedMatches
from asic_flow.collection import ImageCollection
from asic_flow.config import AlignmentConfig
from asic_flow.kernels import warp_bilinear
from asic_flow.paper.augment import bend_points
from asic_flow.paper.checkpoint import CHECKPOINT_FILE, NETWORK_FILE, Checkpoint, CheckpointError
from asic_flow.paper.config import LossWeights, PaperConfig
from asic_flow.paper.data import draw_batch
from asic_flow.paper.model import total_loss
from asic_flow.paper.network import identity_grid
from asic_flow.paper.placement import Placement
from asic_flow.paper.synchronised import joined
from asic_flow.paper.training import DivergedError, Gauge, Training
from asic_flow.train import AlignmentError, describe_maps

if TYPE_CHECKING:
    from conftest import DrawnCollection

TINY = PaperConfig(
    steps=6,
    photos_per_step=4,
    matches_per_pair=40,
    side=32,
    width=1 / 16,
    components=2,
    canonical_side=16,
    restarts=0,
    averaging_steps=2,
    evaluate_every=2,
)


def training(
    drawn: DrawnCollection, folder: Path | None = None, seed: int = 0, fresh: bool = False, **changes: Any
) -> Training:
    config = dataclasses.replace(TINY, **changes)
    return Training(drawn.collection, drawn.matches, config, seed=seed, folder=folder, fresh=fresh)


def steps_of(drawn: DrawnCollection) -> list[dict[str, float]]:
    """Losses and gradients of steps on pairs and on all pairs, from a head that shows what goes on below it.

    The steps are tiny: Adam's first one has the gradient's sign alone, and the sign of next to nothing is rounding.
    """
    found = []
    for changes in ({}, {"all_pairs": True, "photos_per_step": 6, "start": "coarse", "rematch_every": 2}):
        made = training(drawn, learning_rate=1e-6, **changes)
        torch.nn.init.normal_(made.model.network.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        for _ in range(3):
            if made._rematches_now():
                made._rematch()
            losses = {name: value.item() for name, value in made.advance().items()}
            norms = {name: p.grad.norm().item() for name, p in made.model.named_parameters() if p.grad is not None}
            found.append({**losses, **norms})
    return found


def with_parts(collection: ImageCollection) -> ImageCollection:
    """The left half of every object is one part and the right half another; the first photo lacks the second."""
    parts = torch.ones_like(collection.masks)
    parts[1:, :, collection.size_hw[1] // 2 :] = 2
    return dataclasses.replace(collection, parts=parts * collection.foreground())


def state(made: Training) -> dict[str, torch.Tensor]:
    both = {"model": made.model.state_dict(), "averaged": made.averaged.state_dict()}
    return {f"{name}.{key}": value for name, tensors in both.items() for key, value in tensors.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": "quarter", "all_pairs": True},
        {"network": "components"},
        {"network": "coordinates", "canonical": "network", "learning_rate": 0.02},
    ],
    ids=["published", "quarter", "components", "coordinates"],
)
def test_the_loss_falls(drawn: DrawnCollection, changes: dict[str, Any]) -> None:
    made = training(drawn, steps=24, photos_per_step=6, **changes)
    batch = draw_batch(made.data, made.config, torch.Generator().manual_seed(0))

    def loss() -> float:
        return total_loss(made.model.losses(made.data, batch), made.config).item()

    before = loss()
    for _ in range(24):
        made.advance()
    assert loss() < 0.9 * before


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LossWeights)])
def test_every_loss_moves_the_weights(drawn: DrawnCollection, name: str) -> None:
    none = {field.name: 0.0 for field in dataclasses.fields(LossWeights)}
    config = dataclasses.replace(TINY, weights=LossWeights(**{**none, name: 1.0}))
    made = Training(with_parts(drawn.collection), drawn.matches, config)
    torch.nn.init.normal_(made.model.network.head.weight, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in made.model.named_parameters()}
    losses = made.advance()
    moved = {key for key, value in made.model.named_parameters() if not torch.equal(value, before[key])}
    assert list(losses) == [name]
    assert {"network.head.weight", "network.down.0.first.weight"} <= moved
    assert ("canonical" in moved) == (name in ("reconstruction", "mask"))


class _Interrupted(BaseException):
    pass


@pytest.mark.parametrize(
    "changes",
    [{}, {"start": "coarse", "rematch_every": 2, "network": "coordinates", "canonical": "network"}],
    ids=["published", "other"],
)
def test_going_on_ends_as_if_never_stopped_to_the_bit(
    drawn: DrawnCollection, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = training(drawn, **changes)
    expected = whole.run()

    def interrupt(stage: str, done: int, total: int) -> None:
        del stage, total
        if done == 3:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        training(drawn, tmp_path, **changes).run(progress=interrupt, save_seconds=0)
    torch.rand(3)
    resumed = training(drawn, tmp_path, **changes)
    assert resumed.step == 3
    found = resumed.run(save_seconds=0)
    assert same(state(resumed), state(whole))
    assert torch.equal(found.maps, expected.maps)
    assert found.score == expected.score
    again = training(drawn, tmp_path, **changes)
    assert again.ended
    assert torch.equal(again.run().maps, expected.maps)


def test_seeds_decide_and_nothing_else_does(drawn: DrawnCollection) -> None:
    torch.manual_seed(5)
    first = training(drawn)
    before = torch.get_rng_state()
    first.advance()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second, other = training(drawn), training(drawn, seed=1)
    second.advance()
    other.advance()
    assert same(state(first), state(second))
    assert not same(state(first), state(other))


def test_scores_and_pictures_change_nothing(drawn: DrawnCollection) -> None:
    often, seldom = training(drawn, evaluate_every=1), training(drawn, evaluate_every=6)
    often.run()
    seldom.run()
    assert same(often.model.state_dict(), seldom.model.state_dict())


def test_results_may_be_asked_for_on_the_way(drawn: DrawnCollection) -> None:
    asked, plain = training(drawn, evaluate_every=1), training(drawn, evaluate_every=1)
    for made in (asked, plain):
        made._score()
        made.advance()
    found = asked.result()
    maps = found.model.maps(asked.data.images, asked.data.placement, drawn.collection.size_hw)
    for made in (asked, plain):
        made.advance()
    assert same(state(asked), state(plain))
    again = found.model.maps(asked.data.images, asked.data.placement, drawn.collection.size_hw)
    assert torch.equal(again, maps)


def test_a_value_that_is_not_finite_is_named_and_the_checkpoint_stays(drawn: DrawnCollection, tmp_path: Path) -> None:
    made = training(drawn, tmp_path)
    made.advance()
    made.save()
    stored = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with torch.no_grad():
        made.model.canonical[0] = torch.nan
    with pytest.raises(DivergedError, match=f"step 1: reconstruction is not finite; the last .*{CHECKPOINT_FILE}"):
        made.run(save_seconds=0)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == stored
    assert training(drawn, tmp_path).run().steps == 6


def test_a_displacement_that_is_not_finite_is_named_before_a_kernel_refuses_it(drawn: DrawnCollection) -> None:
    made = training(drawn)
    with torch.no_grad():
        made.model.network.head.bias[0] = torch.nan
    with pytest.raises(DivergedError, match=r"step 0: the network's displacement is not finite\. Lower"):
        made.run()


def test_a_gradient_that_is_not_finite_is_named(drawn: DrawnCollection) -> None:
    made = training(drawn)
    made.model.network.head.bias.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(DivergedError, match=r"step 0: gradient of network.head.bias is not finite\. Lower"):
        made.run()


def test_a_total_that_is_not_finite_is_named_where_all_else_is(
    drawn: DrawnCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflown = lambda losses, config: total_loss(losses, config) + torch.inf  # noqa: E731 - its gradients are finite
    monkeypatch.setattr("asic_flow.paper.training.total_loss", overflown)
    with pytest.raises(DivergedError, match=r"step 0: the total is not finite\. Lower"):
        training(drawn).run()


def test_room_for_more_matches_changes_no_loss(drawn: DrawnCollection) -> None:
    """A recorded step has room for the most matches of any batch."""
    made = training(drawn, photos_per_step=6, weights=LossWeights(cycle=1.0, match_distance=1.0))
    batch = draw_batch(made.data, made.config, torch.Generator().manual_seed(0))
    assert batch.valid.shape[1] <= made.data.most_matches(made.config) <= made.config.matches_per_pair
    wide = batch.padded(64)
    assert [value.shape[1] for value in (wide.points_a, wide.points_b, wide.valid)] == [64] * 3
    expected, found = (made.model.losses(made.data, one) for one in (batch, wide))
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("changes", [{}, {"all_pairs": True, "start": "coarse"}, {"canonical": "network"}])
def test_a_gpu_takes_the_step_that_the_processor_takes(
    drawn: DrawnCollection, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    config = dataclasses.replace(TINY, **changes)
    here, there = (
        Training(drawn.collection, drawn.matches, config, device=device, half=False) for device in ("cpu", "cuda")
    )
    torch.nn.init.normal_(here.model.network.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    there.model.load_state_dict(here.model.state_dict())
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    expected, found = here.advance(), there.advance()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-5), name
    gradients = {name: p.grad for name, p in here.model.named_parameters() if p.grad is not None}
    for name, p in there.model.named_parameters():
        if p.grad is not None:
            assert float((p.grad.cpu() - gradients[name]).norm() / gradients[name].norm()) < 1e-2, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_trains_in_half_precision_and_names_what_is_not_finite(drawn: DrawnCollection, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, steps=40, evaluate_every=10)
    made = Training(drawn.collection, drawn.matches, config, device="cuda", folder=tmp_path)
    seen: list[float] = []
    made.run(log=lambda record: seen.append(record["losses"]["matches"]))
    assert made.model.reduced
    assert seen[-1] < seen[0]
    stored = (tmp_path / CHECKPOINT_FILE).read_bytes()
    wrong = Training(drawn.collection, drawn.matches, TINY, device="cuda")
    wrong.path = tmp_path / CHECKPOINT_FILE
    wrong.advance()
    with torch.no_grad():
        wrong.model.canonical[0] = torch.nan
    with pytest.raises(DivergedError, match="step 1: reconstruction is not finite"):
        wrong.run(save_seconds=0)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == stored


def test_it_stops_when_held_out_matches_improve_no_more(drawn: DrawnCollection) -> None:
    made = training(drawn, steps=40, evaluate_every=1, patience=2, learning_rate=1e-12)
    assert made.run().steps == 3


def test_the_best_scored_weights_are_kept(drawn: DrawnCollection) -> None:
    made = training(drawn, evaluate_every=1)
    scores: list[float] = []
    result = made.run(log=lambda record: scores.append(record["held_out"]))
    assert len(scores) == 6
    assert result.score == max(scores)


@pytest.mark.parametrize("network", ["rgb", "components", "coordinates"])
def test_it_starts_from_the_identity(drawn: DrawnCollection, network: str) -> None:
    made = training(drawn, network=network)
    places = made.averaged.maps(made.data.images, made.data.placement, (32, 32))
    assert torch.equal(places, identity_grid((32, 32), torch.device("cpu")).expand_as(places))


def test_a_coarse_start_doubts_what_third_photos_do_not_confirm(
    drawn: DrawnCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    support = np.arange(len(drawn.matches), dtype=np.int32) % 2
    confirmed = dataclasses.replace(drawn, matches=dataclasses.replace(drawn.matches, support=support))
    heard: list[NormalisedMatches] = []
    place = Placement.coarse

    def spy(collection: ImageCollection, matches: NormalisedMatches, scales: tuple[float, ...]) -> Placement:
        heard.append(matches)
        return place(collection, matches, scales)

    monkeypatch.setattr(Placement, "coarse", spy)
    made = training(confirmed, start="coarse")
    share = heard[0].weight / made.fitting.weight
    # Four of the six photos could confirm a match.
    assert share.round(decimals=4).unique().tolist() == pytest.approx([made.alignment.unconfirmed**4, 1], abs=1e-4)


def test_a_coarse_start_is_aligned_before_the_first_step(drawn: DrawnCollection) -> None:
    scores = {start: training(drawn, start=start)._score() for start in ("identity", "coarse")}
    assert scores["coarse"] > 0.5 > scores["identity"]


def test_matches_are_made_again_when_it_is_time(drawn: DrawnCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    for start, expected in (("identity", [2, 4]), ("coarse", [0, 2, 4])):
        made = training(drawn, start=start, rematch_every=2)
        steps: list[int] = []
        monkeypatch.setattr(made, "_rematch", lambda steps=steps, made=made: steps.append(made.step))
        made.run()
        assert steps == expected


def test_weights_and_statistics_are_averaged_over_steps(drawn: DrawnCollection) -> None:
    made = training(drawn)
    names = ("canonical", "network.down.0.first_norm.running_mean")
    expected = {name: made.model.state_dict()[name].clone() for name in names}
    for step in (1, 2, 3):
        made.advance()
        kept = min(0.5 ** (1 / TINY.averaging_steps), (1 + step) / (10 + step))
        expected = {name: kept * mean + (1 - kept) * made.model.state_dict()[name] for name, mean in expected.items()}
    for name, mean in expected.items():
        torch.testing.assert_close(made.averaged.state_dict()[name], mean)


def test_components_lie_where_their_tokens_do(drawn: DrawnCollection) -> None:
    grid = drawn.collection.grid
    x, y = torch.from_numpy(grid.centres_px()).unbind(1)
    smooth = torch.stack((x, y.square() / 96, torch.full_like(x, 50)), 1)
    smooth = torch.nn.functional.normalize(smooth, dim=1).half().expand(len(drawn.collection), -1, -1)
    collection = dataclasses.replace(drawn.collection, descriptors=smooth)
    made = Training(collection, drawn.matches, TINY)
    places = torch.stack((x, y), 1)[None].expand(len(collection), -1, -1) / 95 * 2 - 1
    there = warp_bilinear(made.data.targets[:, 3:], places).transpose(1, 2)
    values = smooth[drawn.collection.foreground_tokens()].double()
    variance, basis = torch.linalg.eigh((values - values.mean(0)).T @ (values - values.mean(0)) / len(values))
    own = (values - values.mean(0)) @ (basis[:, 1:] / variance[1:].sqrt())
    # A token further they would differ by 0.2.
    assert (own - there[drawn.collection.foreground_tokens()]).abs().max() < 0.1


def test_the_copies_are_bent_and_recoloured(drawn: DrawnCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(drawn, jitter=0.0)
    batch = draw_batch(made.data, made.config, torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    displace = made.model.displace
    monkeypatch.setattr(made.model, "displace", lambda images, of: seen.append(images) or displace(images, of))
    made.model.losses(made.data, batch)
    images = made.data.images[batch.photos]
    bent = bend_points(made.model.basis, batch.augmentation.bend, (32, 32))
    torch.testing.assert_close(seen[0], torch.cat((images, warp_bilinear(images, bent))), atol=1e-5, rtol=0)
    assert (bent - identity_grid((32, 32), torch.device("cpu"))).abs().max() > 0.05


def test_a_network_that_sees_no_photo_hears_nothing_of_equivariance(drawn: DrawnCollection) -> None:
    made = training(drawn, network="coordinates", canonical="network")
    assert set(made.advance()) == {"reconstruction", "matches", "total_variation", "mask"}
    assert made.model.picture().shape == (16, 16, 3)
    assert len({tuple(code) for code in made.model.codes.tolist()}) == 6


def test_a_map_depends_on_its_photo_alone(drawn: DrawnCollection) -> None:
    made = training(drawn)
    for _ in range(3):
        made.advance()
    size = drawn.collection.size_hw
    together = made.averaged.maps(made.data.images, made.data.placement, size)
    alone = made.averaged.maps(made.data.images[2:3], Placement.identity(1), size)
    torch.testing.assert_close(together[2:3], alone, atol=1e-5, rtol=0)
    assert made.model.training


def test_maps_make_an_alignment_in_the_canonical_gauge(drawn: DrawnCollection, tmp_path: Path) -> None:
    found = training(drawn).run()
    foreground = drawn.collection.foreground()
    moved = found.maps * 3 + 1
    torch.testing.assert_close(Gauge.of(moved, foreground).apply(moved), found.maps, atol=1e-4, rtol=0)
    fitted = describe_maps(
        drawn.collection, drawn.matches, found.maps, found.mirrored, found.support, AlignmentConfig()
    )
    Alignment.of(drawn.collection, fitted, AlignmentConfig()).save(tmp_path, {})
    loaded = Alignment.load(tmp_path)
    assert torch.equal(loaded.maps, found.maps)
    assert loaded.transfer([[90.0, 100.0]], 0, 3).points_image.shape == (1, 2)
    assert not found.mirrored.any()
    assert ((found.support >= 0) & (found.support <= 1)).all()


def test_half_precision_is_of_the_network_alone(drawn: DrawnCollection) -> None:
    whole, half = (Training(drawn.collection, drawn.matches, TINY, half=half) for half in (False, True))
    for _ in range(3):
        expected, found = whole.advance(), half.advance()
    assert {value.dtype for value in half.model.state_dict().values()} == {torch.float32, torch.int64}
    assert any(not torch.equal(found[name], expected[name]) for name in found)
    for name in found:
        assert found[name].item() == pytest.approx(expected[name].item(), rel=0.05, abs=1e-4), name


def test_a_network_may_see_more_components_than_the_thin_convolution_takes(drawn: DrawnCollection) -> None:
    made = training(drawn, network="components", components=16)
    assert torch.isfinite(torch.stack(list(made.advance().values()))).all()


def test_descriptors_may_have_fewer_components_than_are_asked_for(drawn: DrawnCollection) -> None:
    narrow = torch.nn.functional.normalize(drawn.collection.descriptors[..., :4].float(), dim=-1).half()
    collection = dataclasses.replace(drawn.collection, descriptors=narrow)
    config = dataclasses.replace(TINY, network="components", components=8)
    made = Training(collection, drawn.matches, config)
    assert made.data.images.shape[1] == 4
    assert torch.isfinite(torch.stack(list(made.advance().values()))).all()


def test_a_numbered_gpu_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in ("cpu", "cuda", "cuda:1"):
        with joined(device) as mine:
            assert mine == device
    assert chosen == ["cuda:1"]


def test_settings_of_an_earlier_version_are_named(drawn: DrawnCollection, tmp_path: Path) -> None:
    made = training(drawn, tmp_path)
    made.settings["compiled"] = False
    made.save()
    with pytest.raises(CheckpointError, match=r"made with other settings \(compiled\); run `asic train`"):
        training(drawn, tmp_path)


def test_other_settings_do_not_go_on(drawn: DrawnCollection, tmp_path: Path) -> None:
    made = training(drawn, tmp_path)
    made.save()
    with pytest.raises(CheckpointError, match=r"made with other settings \(config\); run .* --fresh to train anew"):
        training(drawn, tmp_path, steps=7)
    assert training(drawn, tmp_path, steps=7, fresh=True).step == 0
    with pytest.raises(CheckpointError, match="made with other settings"):
        training(drawn, tmp_path, seed=1)


def test_damaged_checkpoints_are_told(drawn: DrawnCollection, tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(b"not one")
    with pytest.raises(CheckpointError, match=f"{CHECKPOINT_FILE}: expected a checkpoint"):
        training(drawn, tmp_path)
    path.unlink()
    made = training(drawn, tmp_path)
    made.save()
    stored = Checkpoint.load(path)
    tensors = {name: value for name, value in stored.tensors.items() if name != "generator"}
    dataclasses.replace(stored, tensors=tensors).save(path)
    with pytest.raises(CheckpointError, match=r"expected this version's tensors: 'generator'"):
        training(drawn, tmp_path)


def test_an_ended_training_is_read_back_with_its_settings(drawn: DrawnCollection, tmp_path: Path) -> None:
    made = training(drawn, tmp_path, seed=3, start="coarse", rematch_every=2)
    expected = made.run()
    fitted = describe_maps(
        drawn.collection, drawn.matches, expected.maps, expected.mirrored, expected.support, made.alignment
    )
    alignment = Alignment.of(drawn.collection, fitted, made.alignment)
    alignment.save(tmp_path / "run", {}, {NETWORK_FILE: made.network()})
    read = Training.read(drawn.collection, drawn.matches, tmp_path / "run")
    assert (read.config, read.step) == (made.config, made.step)
    assert torch.equal(read.result().maps, expected.maps)
    assert read.result().score == expected.score > 0
    stored = Checkpoint.from_bytes(made.network(), tmp_path)
    changed = {**stored.settings, "config": {**stored.settings["config"], "depth": 7}}
    alignment.save(tmp_path / "run", {}, {NETWORK_FILE: dataclasses.replace(stored, settings=changed).to_bytes()})
    with pytest.raises(CheckpointError, match=r"expected this version's settings and tensors: .*depth"):
        Training.read(drawn.collection, drawn.matches, tmp_path / "run")
    (tmp_path / "run" / NETWORK_FILE).write_bytes(made.network())
    with pytest.raises(RunError, match=f"{NETWORK_FILE}: the content is not what was recorded"):
        Training.read(drawn.collection, drawn.matches, tmp_path / "run")
    alignment.save(tmp_path / "run", {})
    with pytest.raises(RunError, match=f"'{NETWORK_FILE}' is not recorded"):
        Training.read(drawn.collection, drawn.matches, tmp_path / "run")


def test_what_cannot_be_trained_is_refused(
    drawn: DrawnCollection, draw: Callable[..., DrawnCollection], match_all: Callable[..., Any]
) -> None:
    one = draw(1)
    with pytest.raises(AlignmentError, match="at least two photos"):
        Training(one.collection, match_all(one.collection), TINY)
    blank = dataclasses.replace(drawn.collection, masks=torch.zeros_like(drawn.collection.masks))
    with pytest.raises(AlignmentError, match="no two photos match on their foreground"):
        Training(blank, drawn.matches, TINY)
    for name, network in (("parts", "rgb"), ("equivariance", "coordinates")):
        only = {entry.name: float(entry.name == name) for entry in dataclasses.fields(LossWeights)}
        with pytest.raises(AlignmentError, match="expected a loss that can act"):
            training(drawn, weights=LossWeights(**only), network=network)


def test_a_batch_is_of_different_photos_with_their_own_matches(drawn: DrawnCollection) -> None:
    made = training(drawn)
    fitting = made.fitting
    known = {
        (a, b, *points_a, *points_b)
        for a, b, points_a, points_b in zip(
            fitting.image_a.tolist(),
            fitting.image_b.tolist(),
            fitting.points_a.tolist(),
            fitting.points_b.tolist(),
            strict=True,
        )
    }
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        batch = draw_batch(made.data, made.config, generator)
        assert len(set(batch.photos.tolist())) == 4
        assert batch.valid.sum(1).max() <= 40
        for pair, points_a, points_b, valid in zip(
            batch.photos[batch.pairs].tolist(), batch.points_a, batch.points_b, batch.valid, strict=True
        ):
            for point_a, point_b in zip(points_a[valid].tolist(), points_b[valid].tolist(), strict=True):
                assert (*pair, *point_a, *point_b) in known


def test_centroids_of_parts_run_on_and_absent_parts_stay(drawn: DrawnCollection) -> None:
    collection = with_parts(drawn.collection)
    made = Training(collection, drawn.matches, dataclasses.replace(TINY, photos_per_step=6))
    labels = made.data.parts
    assert labels is not None
    flow = torch.zeros(6, 32, 32, 2)
    flow[labels == 1] = torch.tensor([1.0, 2.0])
    flow[labels == 2] = torch.tensor([3.0, 4.0])
    made.model._move_centroids(flow, labels)
    torch.testing.assert_close(made.model.centroids, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    made.model._move_centroids(flow[:1] + 10, labels[:1])
    assert 1 < made.model.centroids[0, 0] < 11
    assert made.model.centroids[1].tolist() == [3.0, 4.0]


@pytest.mark.parametrize("all_pairs", [False, True])
def test_shares_of_a_batch_are_the_batch(drawn: DrawnCollection, all_pairs: bool) -> None:
    made = training(drawn, all_pairs=all_pairs, photos_per_step=6)
    batch = draw_batch(made.data, made.config, torch.Generator().manual_seed(0))
    shares = [batch.share(rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([share.photos for share in shares]), batch.photos)
    assert sum(int(share.valid.sum()) for share in shares) == int(batch.valid.sum())
    of_batch, of_shares = (
        sorted(
            tuple(batch.photos[one.pairs[pair]].tolist())
            for one in made_of
            for pair in range(len(one.pairs))
            if one.valid[pair].any()
        )
        for made_of in ([batch], shares)
    )
    assert of_batch == of_shares
    with pytest.raises(ValueError, match="5 processes need a multiple of 5 photos a step, got 6"):
        batch.share(0, 5)


def test_photos_that_do_not_split_are_told_before_training(
    drawn: DrawnCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asic_flow.paper.training.world_size", lambda: 3)
    with pytest.raises(AlignmentError, match="3 processes need a multiple of 3 photos a step, got 4; run fewer"):
        training(drawn)
    # Five photos a step are two pairs, which one step of all pairs would not drop.
    monkeypatch.setattr("asic_flow.paper.training.world_size", lambda: 5)
    with pytest.raises(AlignmentError, match="5 processes need a multiple of 5 photos a step, got 4; run fewer"):
        training(drawn, photos_per_step=5)
    made = training(drawn, photos_per_step=5, all_pairs=True)
    assert len(draw_batch(made.data, made.config, made.generator).share(4, 5).photos) == 1


def test_two_processes_train_as_one(drawn: DrawnCollection) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("two_processes.py")
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script)], env=environment | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    alone = steps_of(drawn)
    assert found[0] == found[1]
    for step, expected in zip(found[0], alone, strict=True):
        assert step == pytest.approx(expected, rel=2e-3, abs=1e-5)
