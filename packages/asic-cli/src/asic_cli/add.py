"""`asic add`: unseen photos placed in a run's canonical space."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asic_cli.console import Stages, printable, say, warn, write_data, write_json
from asic_cli.device import choose_device
from asic_cli.errors import InputError
from asic_cli.folder import INDEX_FILES, differences, refuse_other_settings, writing
from asic_cli.options import Device, Fresh, Json
from asic_cli.runs import Run, load_run
from asic_cli.truth import TRUTH_FILE, truth_file

if TYPE_CHECKING:
    from asic_features.config import FeatureConfig
    from asic_features.images import PhotoSource
    from asic_flow.alignment import Alignment
    from asic_flow.collection import ImageCollection
    from asic_flow.matches import MatchSet

# Photos of the collection that the new ones are described with.
_COMPANIONS = 4
_LOW_SUPPORT = 0.5  # of the median photo's


def add(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `asic train` wrote.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos that the run has not seen.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The run with all photos [default: RUN-added]; its collection lies beside it."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(envvar="ASIC_WEIGHTS", help="The backbone's weights, where the cache has none.")
    ] = None,
    mask_weights: Annotated[
        Path | None,
        typer.Option(envvar="ASIC_MASK_WEIGHTS", help="The mask network's ONNX file, where the cache has none."),
    ] = None,
    device: Device = "auto",
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Place unseen photos in a run's canonical space.

    The photos are described as the run's collection was, and matched with all of it; nobody else's map changes. The
    result is a run like any other; of a data set it keeps the annotated points, and `asic eval` asks for the same ones.

    Example: `asic add asic-out/teapot-run new.jpg`
    """
    folder = out or run.resolve().with_name(f"{run.resolve().name}-added")
    added = _add(load_run(run), photos, folder, weights=weights, mask_weights=mask_weights, device=device, fresh=fresh)
    _report(added, as_json)


@dataclass(frozen=True)
class _Added:
    folder: Path
    alignment: Alignment
    count: int
    reused: bool
    placing_seconds: float


def _add(
    run: Run,
    photos: Sequence[Path],
    folder: Path,
    *,
    weights: Path | None,
    mask_weights: Path | None,
    device: str,
    fresh: bool,
) -> _Added:
    from asic_flow.alignment import read_run_index
    from asic_flow.atomic import Staging
    from asic_flow.collection import join_collections, save_collection

    if folder.resolve() == run.folder.resolve():
        raise InputError(f"--out {folder} is the run itself; choose another folder")
    sources = _sources(photos, {photo.path for photo in run.collection.photos})
    wanted = {"run": _identity_of(run.folder), "photos": _pixels(sources)}
    beside = folder.resolve().with_name(f"{folder.resolve().name}-collection")
    with writing(folder, "run"):
        made = None if fresh else _find_made(folder, wanted)
        if made is not None:
            return _Added(folder, made, len(sources), True, 0.0)
        with writing(beside, "collection"):
            _check_replaceable(folder, beside, wanted, fresh)
            truth = run.truth()
            config = _feature_config(run.collection.settings, weights, mask_weights, device)
            described, matches = _describe(run, sources, config)
            started = time.monotonic()
            alignment = run.alignment.add_images(run.collection, described)
            seconds = time.monotonic() - started
            joined = join_collections(run.collection, described)
            joined = replace(joined, settings={**joined.settings, "added": wanted})
            kept = {
                key: value
                for key, value in read_run_index(run.folder).items()
                if key in ("preset", "seed", "version_of_asic_flow", "paper")
            }
            path = Path(os.path.relpath(beside, folder.resolve())).as_posix()
            with Staging() as staging:
                truths = {} if truth is None else {TRUTH_FILE: truth_file(truth)}
                where = {"path": path, "identity": save_collection(beside, joined, matches, truths, staging)}
                alignment.save(folder, {**kept, "added": wanted, "collection": where}, staging=staging)
                staging.commit()
    return _Added(folder, alignment, len(sources), False, seconds)


def _find_made(folder: Path, wanted: dict[str, Any]) -> Alignment | None:
    """What an earlier command made of the same, if it and its collection are whole."""
    from asic_flow.collection import CollectionError
    from asic_flow.run_folder import RunError, read_run_index

    if not (folder / INDEX_FILES["run"]).exists():
        return None
    try:
        stored = read_run_index(folder).get("added")
    except RunError as error:
        warn(f"{error}; making it again")
        return None
    refuse_other_settings(folder, differences(stored if isinstance(stored, dict) else {}, wanted))
    try:
        made = load_run(folder)
        made.truth()
    except (RunError, CollectionError, InputError) as error:
        warn(f"{error}; making it again")
        return None
    return made.alignment


def _check_replaceable(folder: Path, beside: Path, wanted: dict[str, Any], fresh: bool) -> None:
    """Makes sure that a collection at `beside` belongs to the run at `folder`.

    Raises:
        InputError: It is another one, or was made of another run or of other photos and is not to be made again.
    """
    from asic_flow.collection import CollectionError, read_index
    from asic_flow.run_folder import RunError, read_run_index

    if not (beside / INDEX_FILES["collection"]).exists():
        return
    for read, path in ((lambda path: read_index(path)["settings"], beside), (read_run_index, folder)):
        try:
            added = read(path).get("added")
        except (CollectionError, RunError, KeyError, AttributeError):
            continue  # damaged: the other one may tell
        if isinstance(added, dict):
            refuse_other_settings(path, [] if fresh else differences(added, wanted))
            return
    raise InputError(f"{beside} holds a collection that `asic add` did not write there; choose another --out")


def _identity_of(run: Path) -> str:
    """The sha256 of a run's `config.json`, which names the content of its other files."""
    import hashlib

    return hashlib.sha256((run / INDEX_FILES["run"]).read_bytes()).hexdigest()


def _sources(photos: Sequence[Path], known: set[str]) -> list[PhotoSource]:
    from asic_features.images import PhotoSource, check_name

    names = [photo.name for photo in photos]
    for name in names:
        check_name(Path(name))
        if name in known or names.count(name) > 1:
            raise InputError(f"{printable(name)}: a photo of that name is there already; give it another name")
    return [PhotoSource(photo, photo.name) for photo in photos]


def _pixels(sources: Sequence[PhotoSource]) -> dict[str, str]:
    from asic_features.images import pixels_sha256, read_photo

    return {source.name: pixels_sha256(read_photo(source.path)) for source in sources}


def _feature_config(
    settings: dict[str, Any], weights: Path | None, mask_weights: Path | None, device: str
) -> FeatureConfig:
    """The settings the collection was made with, as far as they decide a photo's descriptors, mask and matches.

    Raises:
        InputError: They cannot be met: other weights, or a basis that depends on all photos.
    """
    from asic_features.config import MASK_SOURCES, FeatureConfig
    from asic_features.mask_networks import locate_mask_network
    from asic_features.weights import locate_weights, sha256_of

    if settings.get("components") is not None:
        raise InputError(
            "the collection's descriptors are principal components of its own photos, which new photos have no part "
            "in; run `asic features` on all photos"
        )
    without_boxes = (source for source in MASK_SOURCES if source != "box")
    masks = next((source for source in without_boxes if source == settings.get("masks")), None)
    if masks is None:
        warn("the collection has masks of its own; those of new photos are found by co-segmentation")
    try:
        config = FeatureConfig(
            **{
                name: settings[name] for name in ("size", "fit", "backbone", "stride", "candidates", "top_k", "log_bin")
            },
            block=_several(settings["block"]) if settings["weights_sha256"] else None,
            facet=_several(settings["facet"]) if settings["weights_sha256"] else None,
            scales=tuple(settings.get("scales", ())),
            masks=masks or "cosegment",
            grabcut=bool(masks and settings.get("grabcut")),
            mirror_test=bool(settings.get("mirror_test")),
            least_support=settings.get("least_support", 0),
            suppress_px=settings.get("suppress_px", 0.0),
            precision=settings.get("precision", "float32"),
            weights=weights,
            mask_weights=mask_weights,
            device=choose_device(device),
        )
        found = locate_weights(config.backbone, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the collection's settings: {error}") from error
    networks = [(found, "weights_sha256", "--weights")]
    if config.needs_mask_network:
        networks.append((locate_mask_network(str(config.masks), mask_weights), "masks_sha256", "--mask-weights"))
    for file, key, flag in networks:
        if file is not None and sha256_of(file) != settings.get(key):
            raise InputError(f"{file}: not the weights that the collection was made with (sha256); give those: {flag}")
    return config


def _several(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _describe(run: Run, sources: list[PhotoSource], config: FeatureConfig) -> tuple[ImageCollection, MatchSet]:
    """The new photos alone, and the matches of all."""
    from asic_features.extract import extract_added
    from asic_features.images import PhotoSource
    from asic_flow.collection import read_index

    records = read_index(run.collection_folder)["photos"][:_COMPANIONS]
    companions = [
        PhotoSource(run.collection_folder / "images" / record["picture"], f"companion/{record['picture']}")
        for record in records
    ]
    try:
        with Stages() as stages:
            return extract_added(sources, companions, config, run.collection, run.matches, progress=stages)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise InputError(f"{run.collection_folder / INDEX_FILES['collection']}, field 'settings': {error}") from error


def _report(added: _Added, as_json: bool) -> None:
    alignment, folder = added.alignment, printable(added.folder)
    known = len(alignment) - added.count
    low = _LOW_SUPPORT * float(alignment.support[:known].median())
    for photo, support in list(zip(alignment.photos, alignment.support.tolist(), strict=True))[known:]:
        if support < low:
            warn(f"{printable(photo.path)}: only {support:.0%} of its matches fit the others; does it belong here?")
    state = "already done" if added.reused else f"placed in {added.placing_seconds:.2f} s"
    say(f"{folder}: {state}: {added.count} photos among {known}. Next: asic eval {shlex.quote(folder)}")
    if not as_json:
        write_data(folder)
        return
    write_json(
        {
            "run": str(added.folder),
            "photos": [photo.path for photo in alignment.photos],
            "added": [photo.path for photo in alignment.photos[known:]],
            "mirrored": alignment.mirrored[known:].tolist(),
            "support": [round(value, 6) for value in alignment.support[known:].tolist()],
            "reused": added.reused,
            "placing_seconds": round(added.placing_seconds, 3),
        }
    )
