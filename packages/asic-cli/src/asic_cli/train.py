"""`asic train`: a collection folder to a run folder, the maps of all photos into one canonical space."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asic_cli.config import as_toml, given
from asic_cli.console import Stages, printable, say, warn, write_data, write_json
from asic_cli.device import check_device_name, choose_device
from asic_cli.folder import differences, refuse_other_settings, writing
from asic_cli.options import ConfigFile, Device, DryRun, Fresh, Json, PrintConfig, Seed
from asic_cli.recipes import (
    PRESETS_OWN,
    Canonical,
    Network,
    NetworkChoices,
    Preset,
    check_recipe,
    find_recipe,
    make_alignment,
)
from asic_cli.tracking import Tracker
from asic_cli.versions import installed_version

if TYPE_CHECKING:
    from asic_flow.alignment import Alignment

_LOW_SUPPORT = 0.5  # of the median photo's


@dataclass(frozen=True)
class Trained:
    """What `asic train` made, or found made.

    Attributes:
        folder: The run folder.
        reused: Whether an earlier command had made it.
        alignment: The maps.
        seconds: What it took.
    """

    folder: Path
    reused: bool
    alignment: Alignment
    seconds: float


def train(
    context: typer.Context,
    collection: Annotated[Path, typer.Argument(metavar="COLLECTION", help="What `asic features` wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", envvar="ASIC_OUT", help="The run folder [default: COLLECTION-run].")
    ] = None,
    preset: Annotated[
        Preset,
        typer.Option(
            envvar="ASIC_PRESET",
            help="Which recipe: fast takes seconds; paper trains the published network, and wants a GPU; paper-small "
            "does so at a size for the CPU, in about a minute.",
        ),
    ] = "fast",
    steps: Annotated[
        int | None, typer.Option(envvar="ASIC_STEPS", min=1, help="Steps of training [default: the preset's].")
    ] = None,
    network: Annotated[
        Network | None,
        typer.Option(envvar="ASIC_NETWORK", help="What paper's flow is a function of [default: rgb, as published]."),
    ] = None,
    canonical: Annotated[
        Canonical | None, typer.Option(envvar="ASIC_CANONICAL", help="Paper's canonical image [default: grid].")
    ] = None,
    vgg: Annotated[
        Path | None,
        typer.Option(
            "--vgg",
            envvar="ASIC_VGG",
            metavar="FILE",
            help="Measure paper's reconstruction by this VGG16, torchvision's state dictionary, as published "
            "[default: by RGB and components of the descriptors].",
        ),
    ] = None,
    lpips: Annotated[
        Path | None,
        typer.Option("--lpips", envvar="ASIC_LPIPS", metavar="FILE", help="The heads of LPIPS for that VGG16."),
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write log and pictures for TensorBoard, into the run folder.")
    ] = False,
    wandb: Annotated[
        bool,
        typer.Option(
            "--wandb",
            help="Also write log and pictures for Weights & Biases, into the run folder; WANDB_MODE=online sends them.",
        ),
    ] = False,
    fresh: Fresh = False,
    as_json: Json = False,
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    dry_run: DryRun = False,
) -> None:
    """Find every photo's map into one canonical space.

    The same command again does nothing when all is done, and goes on with a training that was stopped. Several
    processes train a network as one: `torchrun --nproc-per-node 2 -m asic_cli train COLLECTION --preset paper`.

    Example: `asic train asic-out/teapot`
    """
    del config
    check_device_name(device)
    choices = NetworkChoices(steps=steps, network=network, canonical=canonical, vgg=vgg, lpips=lpips)
    check_recipe(preset, choices, device)
    if print_config:
        write_data(as_toml("train", given(context)))
        return
    folder = out or default_run(collection)
    if dry_run:
        write_data(f"collection: {printable(collection)}\npreset: {preset}\nout: {printable(folder)}")
        return
    trained = align(
        collection,
        folder,
        preset=preset,
        seed=seed,
        fresh=fresh,
        choices=choices,
        device=device,
        tensorboard=tensorboard,
        wandb=wandb,
    )
    if os.environ.get("RANK", "0") == "0":  # of several processes, the first one speaks
        _report(trained, as_json)


def default_run(collection: Path) -> Path:
    """The run folder of a collection when no `--out` is given: beside it."""
    resolved = collection.resolve()
    return collection.parent / f"{resolved.name}-run" if collection.name else resolved.with_name(f"{resolved.name}-run")


def align(
    collection_folder: Path,
    folder: Path,
    *,
    preset: Preset,
    seed: int,
    fresh: bool,
    choices: NetworkChoices = PRESETS_OWN,
    device: str = "auto",
    tensorboard: bool = False,
    wandb: bool = False,
) -> Trained:
    """Makes a run folder, or finds it made; by several processes together where torchrun has started this one.

    Args:
        collection_folder: What to align.
        folder: Where to.
        preset: Which recipe.
        seed: Of weights and draws; the preset fast draws nothing.
        fresh: Make it again whatever is there.
        choices: What replaces settings of the presets that train a network.
        device: As given with `--device`; the preset fast runs on the CPU.
        tensorboard: Whether to write for TensorBoard as well; see `Tracker`.
        wandb: Whether to write for Weights & Biases as well.

    Raises:
        InputError: The folder was made with other settings.
        MachineError: The folder cannot be written, there is no such device, or a tracker's package is missing.
    """
    import torch

    from asic_flow.alignment import Alignment
    from asic_flow.collection import identity, load_collection
    from asic_flow.paper.checkpoint import CHECKPOINT_FILE
    from asic_flow.paper.synchronised import agreed, joined, rank, world_size
    from asic_flow.run_log import RunLog
    from asic_flow.train import stay_silent

    started = time.monotonic()
    collection, matches = load_collection(collection_folder)
    recipe = find_recipe(preset, choices)
    made_of: dict[str, Any] = {
        "collection": {"identity": identity(collection_folder)},
        "version_of_asic_flow": installed_version("asic-flow"),
    }
    wanted = {**made_of, "seed": seed, **recipe.as_json()}
    place = choose_device(device) if recipe.paper is not None else "cpu"
    with joined(place) as mine, nullcontext() if rank() else writing(folder, "run"):
        if not rank():
            _tidy(folder)
        made = None if fresh or rank() else _find_made(folder, wanted)
        if agreed(made is not None):
            return Trained(folder, True, made or Alignment.load(folder), time.monotonic() - started)
        if not rank():
            together = f", {world_size()} processes" if world_size() > 1 else ""
            say(f"{len(collection)} photos, preset {preset} on {mine}, {torch.get_num_threads()} threads{together}")
        tracker = Tracker(folder, wanted, tensorboard=tensorboard and not rank(), wandb=wandb and not rank())
        with tracker, Stages() if not rank() else nullcontext(stay_silent) as stages:
            alignment, beside = make_alignment(
                recipe,
                collection,
                matches,
                folder=folder,
                fresh=fresh,
                seed=seed,
                device=mine,
                identity=made_of,
                progress=stages,
                tracker=tracker,
            )
            if tracker.wanted:
                from asic_cli.run_pictures import pictures_of

                for name, pixels in pictures_of(collection, matches, alignment):
                    tracker.picture(name, pixels)
        if not rank():
            path = os.path.relpath(collection_folder.resolve(), folder.resolve())
            where = {"collection": {"path": Path(path).as_posix(), **made_of["collection"]}}
            alignment.save(folder, {**wanted, **where}, beside)
            RunLog.finish(folder)
            if beside:  # the network has taken its place
                (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        agreed(True)  # nobody reports before the run is written
    return Trained(folder, False, alignment, time.monotonic() - started)


def _find_made(folder: Path, wanted: Mapping[str, Any]) -> Alignment | None:
    """The alignment that an earlier command made with the same settings, if it is whole."""
    from asic_flow.alignment import INDEX_FILE, Alignment, RunError, read_run_index
    from asic_flow.paper.checkpoint import NETWORK_FILE
    from asic_flow.run_folder import read_run_file

    if not (folder / INDEX_FILE).exists():
        return None
    try:
        stored = read_run_index(folder)
        made = Alignment.load(folder)
        refuse_other_settings(folder, differences(_comparable(stored), _comparable(wanted)))
        if "paper" in wanted:
            read_run_file(folder, NETWORK_FILE)
    except RunError as error:
        warn(f"{error}; making it again")
        return None
    return made


def _tidy(folder: Path) -> None:
    """Ends what a command left undone that was killed when its run was written: the log, and the checkpoint's end."""
    from asic_flow.paper.checkpoint import CHECKPOINT_FILE, is_of_the_run
    from asic_flow.run_log import RunLog

    if is_of_the_run(folder):
        RunLog.finish(folder)
        (folder / CHECKPOINT_FILE).unlink()


def _comparable(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a run's content: not where its collection lies."""
    keys = ("preset", "seed", "version_of_asic_flow", "alignment", "paper", "perceptual")
    kept: dict[str, Any] = {key: stored[key] for key in keys if key in stored}
    collection = stored.get("collection")
    identity = collection.get("identity") if isinstance(collection, Mapping) else None
    return {"collection": {"identity": identity}, **kept}


def _report(trained: Trained, as_json: bool) -> None:
    from asic_flow.overlap import collapsed

    alignment = trained.alignment
    lost = collapsed(alignment.arrays)
    for index in lost:
        warn(f"{printable(alignment.photos[index].path)}: its map has collapsed; it takes no part in the alignment")
    low = _LOW_SUPPORT * float(alignment.support.median())
    for photo, support in zip(alignment.photos, alignment.support.tolist(), strict=True):
        if support < low:
            warn(f"{printable(photo.path)}: only {support:.0%} of its matches fit the others; does it belong here?")
    folder = printable(trained.folder)
    state = "already done" if trained.reused else f"done in {trained.seconds:.1f} s"
    say(
        f"{folder}: {state}: {len(alignment)} photos, {int(alignment.mirrored.sum())} of them mirrored, "
        f"{float(alignment.support.mean()):.0%} of matches fit. Next: asic eval {shlex.quote(folder)}"
    )
    if not as_json:
        write_data(folder)
        return
    write_json(
        {
            "run": str(trained.folder),
            "photos": [photo.path for photo in alignment.photos],
            "mirrored": alignment.mirrored.tolist(),
            "support": [round(value, 6) for value in alignment.support.tolist()],
            "collapsed": lost,
            "reused": trained.reused,
            "seconds": round(trained.seconds, 3),
        }
    )
