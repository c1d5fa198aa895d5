"""`asic train`: a collection folder to a run folder, the maps of all photos into one canonical space."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from asic_cli.config import as_toml, given
from asic_cli.console import Stages, printable, say, warn, write_data, write_json
from asic_cli.device import check_device_name, choose_device
from asic_cli.errors import MachineError
from asic_cli.folder import differences, refuse_other_settings, writing
from asic_cli.options import ConfigFile, Device, DryRun, Fresh, Json, PrintConfig, Seed
from asic_cli.versions import installed_version

if TYPE_CHECKING:
    from asic_flow.alignment import Alignment

Preset = Literal["fast"]
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
    preset: Annotated[Preset, typer.Option(envvar="ASIC_PRESET", help="Which recipe; fast takes seconds.")] = "fast",
    device: Device = "auto",
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: Json = False,
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    dry_run: DryRun = False,
) -> None:
    """Find every photo's map into one canonical space.

    The same command again does nothing when all is done.

    Example: `asic train asic-out/teapot`
    """
    del config
    check_device_name(device)
    if print_config:
        write_data(as_toml("train", given(context)))
        return
    folder = out or default_run(collection)
    if dry_run:
        write_data(f"collection: {printable(collection)}\npreset: {preset}\nout: {printable(folder)}")
        return
    if device != "auto" and choose_device(device) != "cpu":
        raise MachineError(f"--device {device}: the preset {preset} takes seconds on the CPU and runs only there")
    _report(align(collection, folder, preset=preset, seed=seed, fresh=fresh), as_json)


def default_run(collection: Path) -> Path:
    """The run folder of a collection when no `--out` is given: beside it."""
    resolved = collection.resolve()
    return collection.parent / f"{resolved.name}-run" if collection.name else resolved.with_name(f"{resolved.name}-run")


def align(collection_folder: Path, folder: Path, *, preset: Preset, seed: int, fresh: bool) -> Trained:
    """Makes a run folder, or finds it made.

    Args:
        collection_folder: What to align.
        folder: Where to.
        preset: Which recipe.
        seed: Of torch's generator; the preset fast draws nothing.
        fresh: Make it again whatever is there.

    Raises:
        InputError: The folder was made with other settings.
        MachineError: The folder cannot be written.
    """
    import torch

    from asic_flow.alignment import INDEX_FILE, Alignment, RunError, read_run_index
    from asic_flow.collection import identity, load_collection
    from asic_flow.config import AlignmentConfig

    started = time.monotonic()
    collection, matches = load_collection(collection_folder)
    config = AlignmentConfig()
    extra: dict[str, Any] = {
        "collection": {"identity": identity(collection_folder)},
        "preset": preset,
        "seed": seed,
        "version_of_asic_flow": installed_version("asic-flow"),
    }
    with writing(folder, "run"):
        if not fresh and (folder / INDEX_FILE).exists():
            try:
                stored = read_run_index(folder)
                made = Alignment.load(folder)
            except RunError as error:
                warn(f"{error}; making it again")
            else:
                lines = differences(_comparable(stored), _comparable({**extra, "alignment": asdict(config)}))
                refuse_other_settings(folder, lines)
                return Trained(folder, True, made, time.monotonic() - started)
        say(f"{len(collection)} photos, preset {preset} on cpu, {torch.get_num_threads()} threads")
        torch.manual_seed(seed)
        with Stages() as stages:
            alignment = Alignment.fit(collection, matches, config, progress=stages)
        path = os.path.relpath(collection_folder.resolve(), folder.resolve())
        where = {"collection": {"path": Path(path).as_posix(), **extra["collection"]}}
        alignment.save(folder, {**extra, **where})
    return Trained(folder, False, alignment, time.monotonic() - started)


def _comparable(stored: dict[str, Any]) -> dict[str, Any]:
    """What decides a run's content: not where its collection lies; lists as JSON has them."""
    keys = ("preset", "seed", "version_of_asic_flow")
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in stored["alignment"].items()}
    collection = {"identity": dict(stored.get("collection", {})).get("identity")}
    return {"collection": collection, **{key: stored.get(key) for key in keys}, "alignment": settings}


def _report(trained: Trained, as_json: bool) -> None:
    from asic_flow.views import collapsed

    alignment = trained.alignment
    lost = collapsed(alignment)
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
        f"{float(alignment.support.mean()):.0%} of matches fit. Next: asic eval {folder}"
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
