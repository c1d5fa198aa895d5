"""`asic demo`: a drawn collection, taken the whole way from photos to scores and report."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from asic_cli.console import printable, say, show, warn, write_data, write_json
from asic_cli.device import choose_device
from asic_cli.evaluate import score_folder, table_of
from asic_cli.features import prepare
from asic_cli.folder import (
    INDEX_FILES,
    default_folder,
    differences,
    is_whole,
    read_files_index,
    refuse_other_settings,
    writing,
)
from asic_cli.options import Device, Fresh, Json, Seed
from asic_cli.photo_sets import Selection, find_photos
from asic_cli.runs import REPORT_FILE
from asic_cli.train import align
from asic_cli.versions import installed_version
from asic_features.config import FeatureConfig
from asic_flow import atomic


@dataclass(frozen=True)
class Drawing:
    """What is drawn; kept in `demo.json` once all of it is there, with the sha256 of every file.

    Attributes:
        seed: Chooses the species and every individual.
        num_images: How many pictures.
        size: Their sides in pixels.
        version: asic-eval's.
    """

    seed: int
    num_images: int = 10
    size: int = 256
    version: str | None = field(default_factory=lambda: installed_version("asic-eval"))


def demo(
    out: Annotated[
        Path | None, typer.Option("--out", help="Where everything goes [default: asic-out/demo-<seed>].")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Draw ten creatures, align and score them.

    Needs no photos, no weights and no network. The pictures are written in SPair-71k's layout, and read back like any
    data set.

    Example: `asic demo`
    """
    from asic_eval.benchmarks.synthetic import CATEGORY

    folder = out or default_folder(f"demo-{seed}")
    photos, collection, run = folder / "photos", folder / "collection", folder / "run"
    with writing(folder, "demo"):
        _draw(folder, Drawing(seed), fresh)
        say(f"$ asic features {printable(photos)} --dataset spair --category {CATEGORY} --out {printable(collection)}")
        found = find_photos(photos, Selection("spair", category=CATEGORY))
        prepare(found, FeatureConfig(device=choose_device(device)), collection, fresh=fresh, skip_bad=False)
        seeded = f" --seed {seed}" if seed else ""
        say(f"$ asic train {printable(collection)} --out {printable(run)}{seeded}")
        align(collection, run, preset="fast", seed=seed, fresh=fresh)
        say(f"$ asic eval {printable(run)}{seeded}")
        summary = score_folder(run, seed=seed)
    if as_json:
        write_json(summary)
        return
    show(table_of(summary))
    write_data(printable(run / REPORT_FILE))


def _draw(folder: Path, drawing: Drawing, fresh: bool) -> None:
    """Draws the pictures and writes them with their annotations in SPair-71k's layout, unless they are there."""
    from PIL import Image

    from asic_eval.benchmarks.spair import write_spair_annotations
    from asic_eval.benchmarks.synthetic import CATEGORY, draw_collection

    index, photos = folder / INDEX_FILES["demo"], folder / "photos"
    if not fresh and index.exists():
        stored = read_files_index(index, "sha256")
        if stored is not None:
            digests = stored.pop("sha256")
            refuse_other_settings(folder, differences(stored, asdict(drawing)))
            if all(is_whole(photos / name, digest) for name, digest in digests.items()):
                return
        warn(f"{folder} is damaged: drawing again")
    say(f"drawing {drawing.num_images} pictures with seed {drawing.seed}")
    drawn = draw_collection(drawing.seed, drawing.num_images, drawing.size)
    for part in (photos, *(path for path in photos.rglob("*") if path.is_dir())):
        atomic.sweep(part)
    with tempfile.TemporaryDirectory() as temporary, atomic.Staging() as staging:
        write_spair_annotations(Path(temporary), drawn.benchmark, CATEGORY)
        files = {
            path.relative_to(temporary).as_posix(): path.read_bytes()
            for path in Path(temporary).rglob("*")
            if path.is_file()
        }
        for image, pixels in zip(drawn.benchmark.images, drawn.images, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, format="PNG")
            files[f"JPEGImages/{image.name}"] = buffer.getvalue()
        digests = {name: staging.add(photos / name, data) for name, data in files.items()}
        staging.seal(index, json.dumps({**asdict(drawing), "sha256": digests}, indent=1).encode())
        staging.commit()
