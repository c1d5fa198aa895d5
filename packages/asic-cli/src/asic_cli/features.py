"""`asic features`: photos to a collection folder of descriptors, masks and matches."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from asic_cli.config import as_toml, given
from asic_cli.console import Stages, printable, say, warn, write_data, write_json
from asic_cli.device import check_device_name, choose_device
from asic_cli.errors import PHOTOS_SKIPPED, InputError, MachineError, explain_os_error
from asic_cli.folder import LOCK_FILE, check_ownership, default_folder, differences, refuse_other_settings, writing
from asic_cli.frames import find_frames, is_video
from asic_cli.options import ConfigFile, Device, DryRun, Fresh, Json, PrintConfig
from asic_cli.photo_sets import LEAST_PHOTOS, DataSet, PhotoSet, Selection, find_photos
from asic_cli.truth import TRUTH_FILE, TruthError, read_truth, truth_file, truth_sha256
from asic_cli.versions import installed_version
from asic_features.backbones import Facet
from asic_features.config import MASK_SOURCES, Candidates, FeatureConfig, PartStages, Precision, one_or_several
from asic_features.images import Fit, PhotoError, PhotoSource, pixels_sha256, read_photo
from asic_features.mask_networks import MASK_NETWORKS, fetch_mask_network, locate_mask_network
from asic_features.weights import WeightsError, fetch_weights, locate_weights, sha256_of

if TYPE_CHECKING:
    from asic_flow.collection import ImageCollection
    from asic_flow.matches import MatchSet

_DEFAULTS = FeatureConfig()
# Where it is computed and where the weights lie decide nothing; the weights' content does.
_NO_PART_OF_KEY = frozenset({"weights", "mask_weights", "device", "batch", "workers"})
_CACHE = "described"
"""Folder, within the collection's, of photos that are described while others are not yet."""


@dataclass(frozen=True)
class Prepared:
    """What `asic features` made, or found made.

    Attributes:
        folder: The collection folder.
        skipped: Photos left out because they cannot be read.
        reused: Whether an earlier command had made it.
        collection: Its photos.
        matches: Its matches.
        seconds: What it took.
    """

    folder: Path
    skipped: tuple[str, ...]
    reused: bool
    collection: ImageCollection
    matches: MatchSet
    seconds: float


def features(
    context: typer.Context,
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="A folder of photos, a video, or the root of a data set.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", envvar="ASIC_OUT", help="The collection folder [default: asic-out/<name>].")
    ] = None,
    dataset: Annotated[
        DataSet | None, typer.Option(envvar="ASIC_DATASET", help="PHOTOS is the root of this data set.")
    ] = None,
    species: Annotated[
        str | None, typer.Option(envvar="ASIC_SPECIES", help="cub: the class, a number or a name.")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(envvar="ASIC_CATEGORY", help="The category; stanford_dogs: a breed; ap10k: a species."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            envvar="ASIC_SPLIT",
            help="spair, pf_pascal: trn, val or test (default); ap10k: train; cub: train, ACSM's val, test.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(envvar="ASIC_LIMIT", min=2, help="Only the first photos.")] = None,
    every: Annotated[int, typer.Option(envvar="ASIC_EVERY", min=1, help="Of frames, only every so many-th.")] = 1,
    size: Annotated[int, typer.Option(envvar="ASIC_SIZE", help="Side of the model's square, pixels.")] = _DEFAULTS.size,
    fit: Annotated[Fit, typer.Option(envvar="ASIC_FIT", help="How a whole photo fills the square.")] = _DEFAULTS.fit,
    backbone: Annotated[
        str,
        typer.Option(
            envvar="ASIC_BACKBONE", help="gradients needs no weights; dino_vits8, ...: see `asic weights list`."
        ),
    ] = _DEFAULTS.backbone,
    weights: Annotated[
        Path | None, typer.Option(envvar="ASIC_WEIGHTS", help="A file of weights, instead of the cache's.")
    ] = None,
    block: Annotated[
        str | None, typer.Option(envvar="ASIC_BLOCK", metavar="N[,N]", help="Blocks to read, from 0.")
    ] = None,
    facet: Annotated[
        str | None,
        typer.Option(envvar="ASIC_FACET", metavar="FACET[,FACET]", help="key, query, value or token of each block."),
    ] = None,
    stride: Annotated[int | None, typer.Option(envvar="ASIC_STRIDE", help="Pixels between tokens.")] = None,
    scales: Annotated[
        str | None,
        typer.Option(envvar="ASIC_SCALES", metavar="N[,N]", help="Describe photos at these sides, pixels, as well."),
    ] = None,
    masks: Annotated[
        str,
        typer.Option(
            envvar="ASIC_MASKS",
            metavar=f"{'|'.join(MASK_SOURCES)}|FOLDER",
            help="What is foreground; isnet and birefnet are networks, box is the data set's.",
        ),
    ] = str(_DEFAULTS.masks),
    mask_weights: Annotated[
        Path | None, typer.Option(envvar="ASIC_MASK_WEIGHTS", help="isnet, birefnet: an ONNX file, not the cache's.")
    ] = None,
    grabcut: Annotated[
        bool, typer.Option("--grabcut", envvar="ASIC_GRABCUT", help="Draw found masks again along edges, by OpenCV.")
    ] = _DEFAULTS.grabcut,
    components: Annotated[
        int | None, typer.Option(envvar="ASIC_COMPONENTS", help="Keep so many joint principal components.")
    ] = _DEFAULTS.components,
    log_bin: Annotated[
        bool, typer.Option("--log-bin", envvar="ASIC_LOG_BIN", help="Join each token with its surroundings.")
    ] = _DEFAULTS.log_bin,
    candidates: Annotated[
        Candidates, typer.Option(envvar="ASIC_CANDIDATES", help="Which tokens compete for a match.")
    ] = _DEFAULTS.candidates,
    top_k: Annotated[
        int, typer.Option(envvar="ASIC_TOP_K", help="Match tokens that are among each other's so many best.")
    ] = _DEFAULTS.top_k,
    neighbours: Annotated[
        int, typer.Option(envvar="ASIC_NEIGHBOURS", help="Past 60 photos: match each with so many most similar ones.")
    ] = _DEFAULTS.neighbours,
    mirror_test: Annotated[
        bool,
        typer.Option("--mirror-test", envvar="ASIC_MIRROR_TEST", help="Match mirrored photos too; keep the better."),
    ] = _DEFAULTS.mirror_test,
    least_support: Annotated[
        int, typer.Option(envvar="ASIC_LEAST_SUPPORT", help="Keep matches that so many third photos confirm.")
    ] = _DEFAULTS.least_support,
    suppress_px: Annotated[
        float, typer.Option(envvar="ASIC_SUPPRESS_PX", help="Of matches closer than this keep the best; 0: all.")
    ] = _DEFAULTS.suppress_px,
    parts: Annotated[
        int | None, typer.Option(envvar="ASIC_PARTS", help="Divide the objects into so many shared parts.")
    ] = _DEFAULTS.parts,
    part_stages: Annotated[
        int, typer.Option(envvar="ASIC_PART_STAGES", help="2, or 3 for few photos with much that distracts.")
    ] = _DEFAULTS.part_stages,
    device: Device = "auto",
    precision: Annotated[
        Precision, typer.Option(envvar="ASIC_PRECISION", help="What a network computes in; GPUs, new CPUs: bfloat16.")
    ] = _DEFAULTS.precision,
    batch: Annotated[
        int | None, typer.Option(envvar="ASIC_BATCH", help="Photos described at once [default: 8 on a GPU, else 1].")
    ] = _DEFAULTS.batch,
    workers: Annotated[int, typer.Option(envvar="ASIC_WORKERS", help="Photos decoded at once.")] = _DEFAULTS.workers,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Do only the I-th of N shares; then give no --shard."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unreadable photos out and exit with 4, instead of stopping.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch weights that are missing; uses the network.")
    ] = False,
    fresh: Fresh = False,
    as_json: Json = False,
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    dry_run: DryRun = False,
) -> None:
    """Turn photos into descriptors, masks and matches.

    The same command again goes on where it stopped, and does nothing when all is done.

    Examples:
    `asic features photos/teapot`,
    `asic features CUB_200_2011 --dataset cub --species 1 --limit 20 --backbone dino_vits8`
    """
    del config
    check_device_name(device)
    selection = Selection(dataset, species, category, split, limit, every)
    try:
        settings = FeatureConfig(
            size=size,
            fit=fit,
            backbone=backbone,
            weights=weights,
            block=None if block is None else tuple(_whole_number("block", part) for part in block.split(",")),
            facet=None if facet is None else cast("tuple[Facet, ...]", tuple(map(str.strip, facet.split(",")))),
            stride=stride,
            scales=() if scales is None else tuple(_whole_number("scales", part) for part in scales.split(",")),
            masks=next((source for source in MASK_SOURCES if source == masks), Path(masks)),
            mask_weights=mask_weights,
            grabcut=grabcut,
            components=components,
            log_bin=log_bin,
            candidates=candidates,
            top_k=top_k,
            neighbours=neighbours,
            mirror_test=mirror_test,
            least_support=least_support,
            suppress_px=suppress_px,
            parts=parts,
            part_stages=cast("PartStages", part_stages),
            precision=precision,
            batch=batch,
            workers=workers,
        )
        share = None if shard is None else _parse_share(shard)
        if print_config:
            chosen = settings.resolve()
            resolved: dict[str, Any] = {"stride": chosen.stride}
            if chosen.backbone.needs_weights:
                resolved |= {"block": ",".join(map(str, chosen.blocks)), "facet": ",".join(chosen.facets)}
            write_data(as_toml("features", given(context) | resolved))
            return
        settings.resolve()
        if download and not dry_run:
            _download(settings)
        locate_weights(backbone, weights)
    except ValueError as error:
        raise InputError(str(error)) from error
    found: AbstractContextManager[PhotoSet]
    if is_video(photos):
        folder = out or default_folder(photos.stem)
        found = find_frames(photos, selection, folder, decode=not dry_run, fresh=fresh)
    else:
        found = nullcontext(find_photos(photos, selection))
    with found as photo_set:
        folder = out or default_folder(photo_set.title)
        if dry_run:
            _show_plan(photo_set, settings, folder, as_json)
            return
        config_here = replace(settings, device=choose_device(device))
        if share is not None:
            _take_share(photo_set, config_here, folder, share, fresh=fresh, skip_bad=skip_bad, as_json=as_json)
            return
        prepared = prepare(photo_set, config_here, folder, fresh=fresh, skip_bad=skip_bad)
    _report(prepared, as_json)
    if prepared.skipped:
        raise typer.Exit(PHOTOS_SKIPPED)


def prepare(photos: PhotoSet, config: FeatureConfig, folder: Path, *, fresh: bool, skip_bad: bool) -> Prepared:
    """Makes a collection folder, or finds it made.

    Args:
        photos: What to describe.
        config: How.
        folder: Where to.
        fresh: Make it again whatever is there.
        skip_bad: Leave unreadable photos out.

    Raises:
        InputError: The folder was made with other settings.
        MachineError: The folder cannot be written.
    """
    import torch

    from asic_features.cache import clear_cache
    from asic_features.extract import SettingsError, extract_collection
    from asic_flow.collection import INDEX_FILE, save_collection

    started = time.monotonic()
    with writing(folder, "collection"):
        if not fresh and (folder / INDEX_FILE).exists():
            made = _find_made(folder, photos, config, skip_bad)
            if made is not None:
                return replace(made, seconds=time.monotonic() - started)
        say(f"{len(photos.sources)} photos, {config.backbone} on {config.device}, {torch.get_num_threads()} threads")
        backbone = config.resolve().backbone
        if backbone.needs_weights:
            say(f"licence of the weights of {backbone.name}: {backbone.licence}")
        else:
            say(
                "described without a network: enough for drawings, and for photos of one and the same thing; of "
                "different things of a kind it aligns outlines rather than parts, which `--backbone` tells apart"
            )
        try:
            with Stages() as stages:
                collection, matches = extract_collection(
                    photos.sources,
                    config,
                    progress=stages,
                    on_bad=_tell_skipped if skip_bad else None,
                    cache=folder / _CACHE,
                )
        except SettingsError as error:
            raise InputError(str(error)) from error
        kept = photos.keep([photo.path for photo in collection.photos])
        collection = replace(
            collection,
            settings=collection.settings | _settings(kept, config),
            photos=tuple(replace(photo, box_xyxy=photos.boxes.get(photo.path)) for photo in collection.photos),
        )
        beside = {} if kept.truth is None else {TRUTH_FILE: truth_file(kept.truth)}
        save_collection(folder, collection, matches, beside)
        clear_cache(folder / _CACHE)
    skipped = _missing(photos, kept)
    return Prepared(folder, skipped, False, collection, matches, time.monotonic() - started)


def _download(config: FeatureConfig) -> None:
    """Fetches what the cache lacks of the weights that are asked for and not named.

    Raises:
        WeightsError: A download failed, or its content is not what was announced.
    """
    backbone = config.resolve().backbone
    if backbone.needs_weights and config.weights is None:
        try:
            locate_weights(config.backbone)
        except WeightsError:
            say(f"fetching {backbone.name} (licence: {backbone.licence})")
            fetch_weights(config.backbone)
    if config.needs_mask_network and config.mask_weights is None:
        try:
            locate_mask_network(str(config.masks))
        except WeightsError:
            say(f"fetching {config.masks} (licence: {MASK_NETWORKS[str(config.masks)].licence})")
            fetch_mask_network(str(config.masks))


def _parse_share(text: str) -> tuple[int, int]:
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ValueError(f"--shard: expected I/N with I from 1 to N, such as 1/4, got {text!r}")
    return int(first), int(last)


def _take_share(
    photos: PhotoSet,
    config: FeatureConfig,
    folder: Path,
    share: tuple[int, int],
    *,
    fresh: bool,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Does every N-th part of the work for the command without `--shard`; any number of processes may, at once.

    Raises:
        InputError: The folder is somebody else's, or was made with other settings.
        MachineError: The folder cannot be written.
    """
    from asic_features.extract import SettingsError, Shard, extract_shard
    from asic_flow.collection import INDEX_FILE

    index, count = share
    skipped: list[str] = []

    def tell_skipped(error: PhotoError) -> None:
        if str(error.path) not in skipped:
            skipped.append(str(error.path))
            _tell_skipped(error)

    check_ownership(folder, "collection")
    if not fresh and (folder / INDEX_FILE).exists() and _find_made(folder, photos, config, skip_bad) is not None:
        done, what = Shard(0, 0), "nothing is left to share out, all is done"
    else:
        try:
            # Ours from the first moment on; nothing is locked, as files that shards write never differ.
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LOCK_FILE).touch()
            with Stages() as stages:
                on_bad = tell_skipped if skip_bad else None
                done = extract_shard(
                    photos.sources, config, folder / _CACHE, index - 1, count, progress=stages, on_bad=on_bad
                )
        except (SettingsError, OSError) as error:
            if isinstance(error, OSError):
                raise MachineError(f"cannot write {folder}: {explain_os_error(error)}") from error
            raise InputError(str(error)) from error
        what = f"{done.pairs} pairs matched. When all shards are done, give the same command without --shard"
        if done.pairs is None:
            what = (
                f"{done.photos} of {len(photos.sources)} photos described. When all shards are done, give the same "
                "command again to share out the matching as well, or without --shard to finish"
            )
    say(f"{printable(folder)}: shard {index} of {count}: {what}")
    if as_json:
        found = {"collection": str(folder), "shard": f"{index}/{count}"}
        write_json(found | {"described": done.photos, "matched": done.pairs, "skipped": skipped})
    if skipped:
        raise typer.Exit(PHOTOS_SKIPPED)


def _whole_number(name: str, text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"{name}: expected whole numbers with commas between, got {text!r}")
    return int(text)


def _tell_skipped(error: PhotoError) -> None:
    warn(f"left out: {error}")


def _missing(photos: PhotoSet, kept: PhotoSet) -> tuple[str, ...]:
    names = {source.name for source in kept.sources}
    return tuple(source.name for source in photos.sources if source.name not in names)


def _find_made(folder: Path, photos: PhotoSet, config: FeatureConfig, skip_bad: bool) -> Prepared | None:
    """The collection in a folder, if it is whole and what is asked for; None if it must be made again.

    Raises:
        InputError: It was made with other settings or from other photos.
    """
    from asic_flow.collection import CollectionError, load_collection, read_index

    pixels = _read_pixels(photos.sources)
    kept = photos.keep(list(pixels))
    if len(pixels) < LEAST_PHOTOS or (len(pixels) < len(photos.sources) and not skip_bad):
        return None
    try:
        index = read_index(folder)
        stored = {str(record["path"]): str(record["pixels_sha256"]) for record in index["photos"]}
        lines = _photo_differences(stored, pixels) or _setting_differences(index["settings"], _settings(kept, config))
    except (CollectionError, KeyError, TypeError) as error:
        warn(f"{folder} is damaged: {error}; making it again")
        return None
    refuse_other_settings(folder, lines)
    try:
        collection, matches = load_collection(folder)
        read_truth(folder, collection.settings)
    except (CollectionError, TruthError) as error:
        warn(f"{error}; making it again")
        return None
    return Prepared(folder, _missing(photos, kept), True, collection, matches, 0.0)


def _read_pixels(sources: Sequence[PhotoSource]) -> dict[str, str]:
    """The sha256 of every readable photo's pixels by name."""
    pixels = {}
    for source in sources:
        with suppress(PhotoError):
            pixels[source.name] = pixels_sha256(read_photo(source.path))
    return pixels


def _photo_differences(stored: dict[str, str], wanted: dict[str, str]) -> list[str]:
    lines = [f"photo {printable(name)}: in the folder, now gone" for name in stored if name not in wanted]
    for name, digest in wanted.items():
        if name not in stored:
            lines.append(f"photo {printable(name)}: not in the folder, now there")
        elif stored[name] != digest:
            lines.append(f"photo {printable(name)}: other pixels than in the folder")
    return lines


def _settings(photos: PhotoSet, config: FeatureConfig) -> dict[str, Any]:
    """Everything that decides what a collection holds, beside the pixels of its photos."""
    resolved = config.resolve()
    weights = locate_weights(config.backbone, config.weights)
    options = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in _NO_PART_OF_KEY}
    return options | {
        "backbone": resolved.backbone.name,
        "weights_sha256": None if weights is None else sha256_of(weights),
        "block": one_or_several(resolved.blocks),
        "facet": one_or_several(resolved.facets),
        "stride": resolved.stride,
        "scales": list(config.scales),
        "masks": "folder" if isinstance(config.masks, Path) else config.masks,
        "masks_sha256": _masks_sha256(photos, config),
        "source": photos.source,
        "truth_sha256": None if photos.truth is None else truth_sha256(photos.truth),
        "version": installed_version("asic-features"),
    }


def _setting_differences(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return differences({key: stored[key] for key in wanted if key in stored}, wanted)


def _masks_sha256(photos: PhotoSet, config: FeatureConfig) -> str | None:
    """Of the mask network's file, or of all pictures of masks; None where masks follow from the photos."""
    from asic_features.masks import find_user_masks

    if config.needs_mask_network:
        return sha256_of(locate_mask_network(str(config.masks), config.mask_weights))
    if not isinstance(config.masks, Path):
        return None
    digest = hashlib.sha256()
    for source in find_user_masks(photos.sources, config.masks):
        if source.mask_path is not None:
            digest.update(f"{source.name}\0{sha256_of(source.mask_path)}\0".encode())
    return digest.hexdigest()


def _show_plan(photos: PhotoSet, config: FeatureConfig, folder: Path, as_json: bool) -> None:
    resolved = config.resolve()
    side = (config.size - resolved.backbone.patch) // resolved.stride + 1
    plan = {
        "photos": len(photos.sources),
        "tokens_per_photo": side * side,
        "backbone": resolved.backbone.name,
        "block": one_or_several(resolved.blocks),
        "facet": one_or_several(resolved.facets),
        "stride": resolved.stride,
        "truth": photos.truth is not None,
        "out": str(folder),
    }
    if as_json:
        write_json(plan)
        return
    for name, value in plan.items():
        write_data(f"{name}: {printable(value)}")


def _report(prepared: Prepared, as_json: bool) -> None:
    collection, matches = prepared.collection, prepared.matches
    if not len(matches):
        warn("no two photos match: there is nothing to align")
    share = float(collection.foreground().float().mean())
    state = "already done" if prepared.reused else f"done in {prepared.seconds:.1f} s"
    folder = printable(prepared.folder)
    say(
        f"{folder}: {state}: {len(collection)} photos, {len(collection.grid.centres_px())} tokens each, "
        f"{share:.0%} foreground, {len(matches)} matches. Next: asic train {shlex.quote(folder)}"
    )
    if not as_json:
        write_data(folder)
        return
    write_json(
        {
            "collection": str(prepared.folder),
            "photos": [photo.path for photo in collection.photos],
            "skipped": list(prepared.skipped),
            "matches": len(matches),
            "foreground": share,
            "reused": prepared.reused,
            "seconds": round(prepared.seconds, 3),
            "settings": collection.settings,
        }
    )
