"""Training: steps that can be stopped and gone on with to the bit, guarded against values that are not finite."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from asic_flow.coarse import CANONICAL_RADIUS, NormalisedMatches, geman_mcclure
from asic_flow.collection import ImageCollection
from asic_flow.config import AlignmentConfig
from asic_flow.held_out import WITHIN, agreeing_share, match_distances
from asic_flow.matches import MatchSet
from asic_flow.paper.adam import Adam
from asic_flow.paper.captured import CapturedStep
from asic_flow.paper.checkpoint import (
    ANEW,
    CHECKPOINT_FILE,
    NETWORK_FILE,
    Checkpoint,
    CheckpointError,
    as_json,
    pack,
    unpack,
)
from asic_flow.paper.config import LossWeights, PaperConfig
from asic_flow.paper.data import Batch, TrainingData, draw_batch
from asic_flow.paper.device import FiniteCheck
from asic_flow.paper.model import PaperModel, total_loss
from asic_flow.paper.perceptual import PerceptualDistance
from asic_flow.paper.placement import Placement
from asic_flow.paper.rematching import rematch
from asic_flow.paper.synchronised import average, average_gradients, rank, world_size
from asic_flow.run_folder import read_run_file
from asic_flow.train import AlignmentError, Progress, held_out_matches, normalised_matches, stay_silent

Log = Callable[[dict[str, Any]], None]
"""Called with one record a step that is worth a line of the log."""

_ALIGNMENT = AlignmentConfig()
_SAVE_SECONDS = 30.0
_SAVE_SHARE = 0.01  # of the time, at most: a full-size checkpoint is 171 MB
_LOG_EVERY = 10
# On a GPU, room for matches comes in multiples of this: another shape is another recording of the step.
_MATCHES_MULTIPLE = 64


class DivergedError(AlignmentError):
    """Training met a value that is not finite; the message names the step and the tensor."""


@dataclass(frozen=True, eq=False)
class Gauge:
    """The shift and scale that centre the foreground of all photos and give it a root-mean-square radius of 0.5.

    Attributes:
        centre: (2,) xy.
        scale: () factor.
    """

    centre: Tensor
    scale: Tensor

    @classmethod
    def of(cls, flows: Tensor, foreground: Tensor) -> Gauge:
        """The gauge of (N, H, W, 2) flows, in which every photo that has (N, H, W) foreground counts the same."""
        weight = foreground / foreground.sum((1, 2), keepdim=True).clamp_min(1)
        weight = weight / weight.sum().clamp_min(1e-12)
        centre = (flows * weight[..., None]).sum((0, 1, 2))
        radius = ((flows - centre).square().sum(-1) * weight).sum().sqrt()
        return cls(centre, CANONICAL_RADIUS / radius.clamp_min(1e-9))

    def apply(self, flows: Tensor) -> Tensor:
        """Takes (..., 2) places to the gauge."""
        placed: Tensor = (flows - self.centre) * self.scale
        return placed


@dataclass(frozen=True, eq=False)
class TrainedMaps:
    """What training found.

    Attributes:
        maps: (N, H, W, 2) float32, foreground centred with root-mean-square radius 0.5.
        mirrored: (N,) bool, photos whose map turns most of their object over.
        support: (N,) float32, the share of a photo's matches that fit the others.
        model: with the averaged weights that scored best.
        gauge: what took the model's flow to these maps.
        score: the share of held-out matches whose ends lie within 0.1 canonical distance.
        steps: done in all.
    """

    maps: Tensor
    mirrored: Tensor
    support: Tensor
    model: PaperModel
    gauge: Gauge
    score: float
    steps: int


class Training:
    """A collection's model under training; `run` goes on from wherever `folder` holds a checkpoint."""

    def __init__(
        self,
        collection: ImageCollection,
        matches: MatchSet,
        config: PaperConfig,
        *,
        alignment: AlignmentConfig = _ALIGNMENT,
        perceptual: PerceptualDistance | None = None,
        seed: int = 0,
        device: str = "cpu",
        half: bool | None = None,
        folder: Path | None = None,
        identity: Mapping[str, Any] | None = None,
        fresh: bool = False,
    ) -> None:
        """Prepares the data, and reads the folder's checkpoint if there is one.

        Args:
            collection: Two photos or more with descriptors and masks.
            matches: Of its pairs; the held-out tenth scores the maps, the others train them.
            config: Settings.
            alignment: Settings of the coarse stage and of re-matching, where `config` asks for them.
            perceptual: What reconstruction is measured by, as published; None measures by RGB and components.
            seed: Of weights and draws; nothing else touches either.
            device: A torch device.
            half: Whether the network computes in bfloat16, channels last; None: on a GPU.
            folder: Where the checkpoint is kept; None keeps none.
            identity: What else must be the same for a checkpoint to be gone on with, JSON values only.
            fresh: Pass over a checkpoint that cannot be read or is of other settings; the first one that is saved
                replaces it.

        Raises:
            AlignmentError: Fewer than two photos, no foreground, no match to train on, no loss that can act, or photos
                of a step that do not split among the processes.
            CheckpointError: A checkpoint that is damaged or was made with other settings, and not `fresh`.
        """
        if len(collection) < 2:
            raise AlignmentError(f"expected at least two photos to align, got {len(collection)}")
        idle = {"parts": collection.parts is None, "equivariance": config.network == "coordinates"}
        if not any(weight for name, weight in asdict(config.weights).items() if not idle.get(name)):
            raise AlignmentError(
                "expected a loss that can act: parts wants a collection with parts, equivariance a network that looks "
                "at photos; give another one a weight"
            )
        held = held_out_matches(collection, matches)
        fitting = normalised_matches(collection, matches, ~held)
        if not len(fitting.image_a):
            raise AlignmentError("no two photos match on their foreground; are they of one kind of object?")
        drawn = config.photos_drawn(len(collection))
        if drawn % world_size():
            raise AlignmentError(
                f"{world_size()} processes need a multiple of {world_size()} photos a step, got {drawn}; "
                "run fewer processes"
            )
        self.collection, self.config, self.alignment = collection, config, alignment
        self.device = torch.device(device)
        self.fitting, self.held_out = fitting, normalised_matches(collection, matches, held)
        self.pairs = torch.from_numpy(matches.pairs).long()
        self.rematched: NormalisedMatches | None = None
        if config.start == "coarse":
            heard = normalised_matches(collection, matches.doubted(alignment.unconfirmed), ~held)
            placement = Placement.coarse(collection, heard, alignment.coarse_scales)
        else:
            placement = Placement.identity(len(collection))
        self.data = TrainingData.prepare(collection, fitting, placement, config, self.device, perceptual)
        self.model = PaperModel(config, self.data.targets.shape[1], len(collection), _num_parts(collection), seed).to(
            self.device
        )
        self.model.reduced = self.device.type == "cuda" if half is None else half
        if self.model.reduced:
            self.model.network.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = Adam(self.model.parameters())
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0
        self._asked: FiniteCheck | None = None
        self._captured: CapturedStep | None = None
        self.best: dict[str, Tensor] = {}
        self.best_score, self.stale = -1.0, 0
        self.path = None if folder is None else folder / CHECKPOINT_FILE
        settings = {
            "config": asdict(config),
            "alignment": asdict(alignment),
            "perceptual": [] if perceptual is None else perceptual.sha256,
            "seed": seed,
            "device": self.device.type,
            "half": self.model.reduced,
            "world": world_size(),
        }
        self.settings = as_json({**settings, **(identity or {})})
        if self.path is not None and self.path.exists():
            try:
                stored = self._stored(self.path)
            except CheckpointError:
                if not fresh:
                    raise
            else:
                self._restore(stored, self.path)

    @classmethod
    def read(cls, collection: ImageCollection, matches: MatchSet, folder: Path) -> Training:
        """The training that left its network in a run, with its settings, on the CPU: its `result` can be asked for.

        Args:
            collection: What it was begun with.
            matches: Likewise.
            folder: The run's.

        Raises:
            RunError: The run has no network, or it is damaged.
            CheckpointError: It is of another version, or does not fit the collection.
        """
        path = folder / NETWORK_FILE
        stored = Checkpoint.from_bytes(read_run_file(folder, NETWORK_FILE), path)
        try:
            config, alignment = dict(stored.settings["config"]), dict(stored.settings["alignment"])
            config["weights"] = LossWeights(**config["weights"])
            alignment["coarse_scales"] = tuple(alignment["coarse_scales"])
            made = cls(collection, matches, PaperConfig(**config), alignment=AlignmentConfig(**alignment))
            made.averaged.load_state_dict(unpack("averaged", stored.tensors))
            made.best_score = float(stored.progress["best_score"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: expected this version's settings and tensors: {error!r}; {ANEW}") from error
        made.step = stored.step
        return made

    @property
    def ended(self) -> bool:
        """Whether no step is left, or the held-out matches have stopped improving."""
        return self.step >= self.config.steps or self.stale >= self.config.patience

    def run(
        self,
        *,
        progress: Progress = stay_silent,
        log: Log | None = None,
        save_seconds: float = _SAVE_SECONDS,
    ) -> TrainedMaps:
        """Trains to the end.

        Args:
            progress: Told of every step.
            log: Given losses every tenth step and scores where they are taken.
            save_seconds: Least time between two checkpoints, more where writing one takes long; 0 writes every step.

        Raises:
            DivergedError: A loss or gradient that is not finite; the last checkpoint stays.
        """
        saved, wait = time.monotonic(), save_seconds
        while not self.ended:
            progress("steps", self.step, self.config.steps)
            if self._rematches_now():
                self._rematch()
            losses = self.advance()
            scored = self.step % self.config.evaluate_every == 0 or self.step == self.config.steps
            record = {"step": self.step, "learning_rate": self.config.learning_rate_at(self.step - 1)}
            if scored:
                record["held_out"] = self._score()
            if log is not None and (scored or self.step % _LOG_EVERY == 0):
                log({**record, "losses": {name: float(value) for name, value in losses.items()}})
            if (now := time.monotonic()) - saved >= wait or self.ended:
                self.save()
                saved = time.monotonic()
                wait = max(save_seconds, (saved - now) / _SAVE_SHARE) if save_seconds else 0
        progress("steps", self.config.steps, self.config.steps)
        return self.result()

    def advance(self) -> dict[str, Tensor]:
        """Takes one step; returns its losses, unweighted, as they were before it."""
        batch = draw_batch(self.data, self.config, self.generator)
        if world_size() > 1:
            batch = batch.share(rank(), world_size())
        try:
            losses = self._replay(batch) if self._captures else self._differentiate(batch.to(self.device))
        except FloatingPointError as error:
            raise self._divergence(self.step, str(error)) from error
        average_gradients(self.model.parameters())
        gradients = {f"gradient of {name}": p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        total = {"the total": total_loss(losses, self.config)}
        asked = FiniteCheck.of(self.step, {**losses, **gradients, **total})
        # A GPU has answered the last step's question by now, and waiting for this one's would leave it idle.
        self._require_finite()
        self._asked = asked
        if self.device.type != "cuda":
            self._require_finite()
        self.optimiser.step(self.config.learning_rate_at(self.step))
        self.step += 1
        self._average()
        return {name: average(value) for name, value in losses.items()}

    @property
    def _captures(self) -> bool:
        """Whether steps are replayed as a CUDA graph; several processes meet within a step, which is not recorded."""
        return self.device.type == "cuda" and world_size() == 1

    def _differentiate(self, batch: Batch) -> dict[str, Tensor]:
        """A batch's losses; leaves their weighted sum's gradients with the parameters."""
        self.model.zero_grad()
        losses = self.model.losses(self.data, batch)
        total_loss(losses, self.config).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _replay(self, batch: Batch) -> dict[str, Tensor]:
        """The same by a CUDA graph."""
        room = -(-self.data.most_matches(self.config) // _MATCHES_MULTIPLE) * _MATCHES_MULTIPLE
        batch = batch.padded(room)
        if self._captured is None or not self._captured.fits(batch):
            self._captured = CapturedStep(self._differentiate, batch.to(self.device), self.model)
        return self._captured(batch)

    def save(self) -> None:
        """Writes the checkpoint, by the first process."""
        if self.path is None or rank():
            return
        self._require_finite()
        rematched = {} if self.rematched is None else vars(self.rematched)
        Checkpoint(
            self.step,
            self.settings,
            {"best_score": self.best_score, "stale": self.stale},
            {
                **pack("model", self.model.state_dict()),
                **pack("averaged", self.averaged.state_dict()),
                **pack("best", self.best),
                **pack("adam", self.optimiser.state()),
                **pack("rematched", rematched),
                "generator": self.generator.get_state(),
            },
        ).save(self.path)

    def network(self) -> bytes:
        """The content of a run's `network.safetensors`: the averaged weights that scored best, for `read`."""
        self._require_finite()
        weights = pack("averaged", self.best or self.averaged.state_dict())
        return Checkpoint(self.step, self.settings, {"best_score": self.best_score}, weights).to_bytes()

    def result(self) -> TrainedMaps:
        """The maps of the best scored weights; may be asked for between steps, which it does not change."""
        self._require_finite()
        model = copy.deepcopy(self.averaged)
        if self.best:
            model.load_state_dict(self.best)
        flows = model.maps(self.data.images, self.data.placement, self.collection.size_hw)
        gauge = Gauge.of(flows, self.collection.foreground())
        maps = gauge.apply(flows)
        match = self.fitting
        agreement = geman_mcclure(match_distances(maps, match).square(), WITHIN) * match.weight
        agreed, all_of_it = (
            sum(torch.bincount(image, values, len(maps)) for image in (match.image_a, match.image_b))
            for values in (agreement, match.weight)
        )
        support = torch.as_tensor(agreed) / torch.as_tensor(all_of_it).clamp_min(1e-12)
        mirrored = _mirrored(maps, self.collection.foreground())
        return TrainedMaps(maps, mirrored, support.float(), model, gauge, self.best_score, self.step)

    def _score(self) -> float:
        """Scores the averaged weights by held-out matches, and keeps them when they are the best."""
        self._require_finite()
        flows = self.averaged.maps(self.data.images, self.data.placement, self.collection.size_hw)
        maps = Gauge.of(flows, self.collection.foreground()).apply(flows)
        score = agreeing_share(match_distances(maps, self.held_out), self.held_out)
        if score > self.best_score:
            self.best_score, self.stale = score, 0
            self.best = {name: value.clone() for name, value in self.averaged.state_dict().items()}
        else:
            self.stale += 1
        return score

    def _rematches_now(self) -> bool:
        """Maps that start from nowhere are no guide at the first step."""
        every = self.config.rematch_every
        return every > 0 and self.step % every == 0 and (self.step > 0 or self.config.start == "coarse")

    def _rematch(self) -> None:
        flows = self.averaged.maps(self.data.images, self.data.placement, self.collection.size_hw)
        maps = Gauge.of(flows, self.collection.foreground()).apply(flows)
        found = rematch(self.collection, maps, self.pairs, self.alignment)
        # Maps that let no two tokens be partners are worse guides than none.
        if len(found.weight):
            self._take_matches(found)

    def _take_matches(self, found: NormalisedMatches) -> None:
        self.rematched = found
        self.data = self.data.with_matches(found)

    @torch.no_grad()
    def _average(self) -> None:
        """Averages weights and buffers; a short history counts the less the shorter it is."""
        kept = min(0.5 ** (1 / self.config.averaging_steps), (1 + self.step) / (10 + self.step))
        now, means = (list(model.state_dict().values()) for model in (self.model, self.averaged))
        averaged = [(mean, value) for mean, value in zip(means, now, strict=True) if mean.is_floating_point()]
        update = get_ema_multi_avg_fn(kept)  # type: ignore[no-untyped-call]
        update([mean for mean, _ in averaged], [value for _, value in averaged], None)
        for mean, value in zip(means, now, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)

    def _stored(self, path: Path) -> Checkpoint:
        stored = Checkpoint.load(path)
        if stored.settings != self.settings:
            names = sorted(stored.settings.keys() | self.settings.keys())
            differ = [name for name in names if stored.settings.get(name) != self.settings.get(name)]
            raise CheckpointError(f"{path}: made with other settings ({', '.join(differ)}); {ANEW}")
        return stored

    def _restore(self, stored: Checkpoint, path: Path) -> None:
        try:
            self.model.load_state_dict(unpack("model", stored.tensors))
            self.averaged.load_state_dict(unpack("averaged", stored.tensors))
            self.optimiser.load(unpack("adam", stored.tensors))
            self.generator.set_state(stored.tensors["generator"])
            if rematched := unpack("rematched", stored.tensors):
                self._take_matches(NormalisedMatches(**rematched))
            self.best_score, self.stale = float(stored.progress["best_score"]), int(stored.progress["stale"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: expected this version's tensors: {error}; remove it to train anew"
            ) from error
        self.best = {name: value.to(self.device) for name, value in unpack("best", stored.tensors).items()}
        self.step = stored.step

    def _require_finite(self) -> None:
        """Raises the divergence that the last step asked about, if it was one."""
        asked, self._asked = self._asked, None
        if asked is not None and (name := asked.strange()) is not None:
            raise self._divergence(asked.step, name)

    def _divergence(self, step: int, name: str) -> DivergedError:
        kept = f"; the last checkpoint is in {self.path}" if self.path is not None and self.path.exists() else ""
        return DivergedError(f"step {step}: {name} is not finite{kept}. Lower the learning rate or the loss weights")


def _num_parts(collection: ImageCollection) -> int:
    return 0 if collection.parts is None else int(collection.parts.max())


def _mirrored(maps: Tensor, foreground: Tensor) -> Tensor:
    along_x, along_y = maps[:, :-1].diff(dim=2), maps[:, :, :-1].diff(dim=1)
    area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    return (area * foreground[:, :-1, :-1]).sum((1, 2)) < 0
