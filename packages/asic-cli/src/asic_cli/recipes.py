"""The presets of `asic train`: which recipe each runs, with which settings."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from asic_cli.console import say
from asic_cli.errors import InputError, MachineError

if TYPE_CHECKING:
    from asic_cli.tracking import Tracker
    from asic_flow.alignment import Alignment
    from asic_flow.collection import ImageCollection
    from asic_flow.config import AlignmentConfig
    from asic_flow.matches import MatchSet
    from asic_flow.paper.config import PaperConfig
    from asic_flow.paper.perceptual import PerceptualDistance
    from asic_flow.train import Round

Preset = Literal["fast", "paper", "paper-small"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
Network = Literal["rgb", "components", "coordinates"]
Canonical = Literal["grid", "network"]
_TRAINED = ("paper", "paper-small")


@dataclass(frozen=True)
class Recipe:
    """A preset with its settings.

    Attributes:
        preset: Its name.
        alignment: Settings of matching and of answers; for the presets that train nothing, of the fit as well.
        paper: Settings of the published recipe, for the presets that train its network.
        perceptual: What its reconstruction is measured by, where files of weights were given.
    """

    preset: Preset
    alignment: AlignmentConfig
    paper: PaperConfig | None
    perceptual: PerceptualDistance | None = None

    def as_json(self) -> dict[str, Any]:
        """What decides a run's content, as `config.json` holds it."""
        settings: dict[str, Any] = {"preset": self.preset, "alignment": asdict(self.alignment)}
        if self.paper is not None:
            settings["paper"] = asdict(self.paper)
        if self.perceptual is not None:
            settings["perceptual"] = self.perceptual.sha256
        returned: dict[str, Any] = json.loads(json.dumps(settings))
        return returned


@dataclass(frozen=True)
class NetworkChoices:
    """What a command line may change of the presets that train a network; None leaves the preset's.

    Attributes:
        steps: Of training.
        network: See `PaperConfig`.
        canonical: Likewise.
        vgg: Weights of a VGG16 that measures reconstruction, see `PerceptualDistance.read`.
        lpips: The heads of LPIPS for it.
    """

    steps: int | None = None
    network: Network | None = None
    canonical: Canonical | None = None
    vgg: Path | None = None
    lpips: Path | None = None


PRESETS_OWN = NetworkChoices()


def check_recipe(preset: Preset, choices: NetworkChoices, device: str) -> None:
    """Checks what can be checked without importing torch.

    Raises:
        InputError: Choices, or several processes, for a preset that trains no network; heads without a network of
            theirs.
        MachineError: A GPU for a preset that runs on the CPU only.
    """
    if choices.lpips is not None and choices.vgg is None:
        raise InputError("--lpips: the heads weigh features of a VGG16; give its file with --vgg as well")
    if preset in _TRAINED:
        return
    for name, value in vars(choices).items():
        if value is not None:
            raise InputError(f"--{name}: the preset {preset} trains no network; give it with {' or '.join(_TRAINED)}")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(f"the preset {preset} trains no network: start it as one process, without torchrun")
    if device not in ("auto", "cpu"):
        raise MachineError(f"--device {device}: the preset {preset} takes seconds on the CPU and runs only there")


def find_recipe(preset: Preset, choices: NetworkChoices = PRESETS_OWN) -> Recipe:
    """A preset's settings.

    Args:
        preset: Its name.
        choices: What replaces settings of the presets that train a network.

    Raises:
        PerceptualWeightsError: A file that cannot be used.
    """
    from asic_flow.config import AlignmentConfig
    from asic_flow.paper.config import PAPER_SMALL, PaperConfig
    from asic_flow.paper.perceptual import PerceptualDistance

    paper = {"paper": PaperConfig(), "paper-small": PAPER_SMALL}.get(preset)
    if paper is None:
        return Recipe(preset, AlignmentConfig(), None)
    chosen = {name: getattr(choices, name) for name in ("steps", "network", "canonical")}
    paper = dataclasses.replace(paper, **{name: value for name, value in chosen.items() if value is not None})
    distance = None if choices.vgg is None else PerceptualDistance.read(choices.vgg, choices.lpips)
    return Recipe(preset, AlignmentConfig(), paper, distance)


def make_alignment(
    recipe: Recipe,
    collection: ImageCollection,
    matches: MatchSet,
    *,
    folder: Path,
    fresh: bool,
    seed: int,
    device: str,
    identity: Mapping[str, Any],
    progress: Callable[[str, int, int], None],
    tracker: Tracker | None = None,
) -> tuple[Alignment, dict[str, bytes]]:
    """Aligns a collection by a recipe, and tells the folder's log how it goes.

    A network's training goes on from the checkpoint that an earlier command left in `folder`. Of several processes that
    train together each returns the alignment; the first one writes.

    Args:
        recipe: What to do.
        collection: The photos.
        matches: Theirs.
        folder: Where log and checkpoint are kept.
        fresh: Pass over a checkpoint of other settings, or a damaged one, instead of refusing it.
        seed: Of whatever is drawn at random.
        device: A torch device; only networks are trained elsewhere than on the CPU.
        identity: What names collection and version, JSON values.
        progress: Told of every stage and step.
        tracker: Told what the log is told, and shown the canonical image of the presets that have one.

    Returns:
        The alignment, and files that belong into its run: the network, of the presets that train one.

    Raises:
        AlignmentError: The collection cannot be aligned.
        CheckpointError: The folder's checkpoint is damaged or was made with other settings.
    """
    from asic_flow.alignment import Alignment
    from asic_flow.held_out import agreeing_share, held_out_share
    from asic_flow.run_log import RunLog
    from asic_flow.train import describe_maps, fit, held_out_matches, normalised_matches

    log: RunLog | None = None
    files: dict[str, bytes] = {}

    def write(record: dict[str, Any]) -> None:
        if log is not None:
            log.write(record)
        if tracker is not None:
            tracker.write(record)

    if recipe.paper is None:
        log = RunLog(folder)
        held = normalised_matches(collection, matches, held_out_matches(collection, matches))

        def tell(one: Round) -> None:
            weight = one.matches.weight
            write(
                {
                    "round": one.number,
                    "matches": len(weight),
                    "residual": float((one.distances(one.matches) * weight).sum() / weight.sum().clamp_min(1e-12)),
                    "held_out": agreeing_share(one.distances(held), held),
                }
            )

        fitted = fit(collection, matches, recipe.alignment, progress=progress, observe=tell)
    else:
        from asic_flow.paper.checkpoint import NETWORK_FILE
        from asic_flow.paper.synchronised import rank
        from asic_flow.paper.training import Training

        training = Training(
            collection,
            matches,
            recipe.paper,
            alignment=recipe.alignment,
            perceptual=recipe.perceptual,
            seed=seed,
            device=device,
            folder=folder,
            identity=identity,
            fresh=fresh,
        )
        if training.step and not rank():
            say(f"going on after step {training.step}, where an earlier command was stopped")
        log = RunLog(folder, after_step=training.step) if not rank() else None
        found = training.run(progress=progress, log=write)
        if tracker is not None:
            tracker.picture("canonical image", found.model.picture())
        files[NETWORK_FILE] = training.network()
        fitted = describe_maps(collection, matches, found.maps, found.mirrored, found.support, recipe.alignment)
    alignment = Alignment.of(collection, fitted, recipe.alignment)
    write(
        {
            "stage": "done",
            "held_out": held_out_share(collection, matches, alignment.maps),
            "support": float(alignment.support.mean()),
        }
    )
    return alignment, files
