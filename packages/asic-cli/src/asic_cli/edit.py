"""`asic edit`: what is painted on one photo, painted on all."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from asic_cli.console import Stages, printable, write_data, write_json
from asic_cli.errors import InputError
from asic_cli.folder import INDEX_FILES, writing
from asic_cli.options import Json
from asic_cli.originals import find_originals, picture_name
from asic_flow import atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_CONFIDENCE = 0.2
_LAYER_FORMATS = ("PNG", "WEBP", "TIFF")


def edit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `asic train` wrote.")],
    source: Annotated[Path, typer.Option(metavar="PHOTO", help="The original photo that the layer belongs to.")],
    layer: Annotated[
        Path,
        typer.Option(
            metavar="LAYER.png", help="What is painted: RGBA, in the photo's frame, at any size of its shape."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Write one PNG a photo into this folder.")],
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTOS",
            help="The folder of the original photos, if PHOTO's path does not say; again for a folder of added photos.",
        ),
    ] = None,
    blend: Annotated[
        Literal["alpha", "laplacian"], typer.Option(help="By transparency alone, or by bands of a pyramid.")
    ] = "alpha",
    least_confidence: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Paint nothing where confidence is lower; fade in up to twice it.")
    ] = LEAST_CONFIDENCE,
    as_json: Json = False,
) -> None:
    """Carry a painted layer from one photo to all, at their own resolution.

    Photos are painted where they show the place and the maps are confident, and within the object.

    Example: `asic edit asic-out/teapot-run --source photos/teapot/00.jpg --layer painted.png --out edited`
    """
    from asic_cli.blend import over, over_by_bands
    from asic_cli.propagate import Propagation
    from asic_flow.alignment import Alignment

    alignment = Alignment.load(run)
    originals, painted = find_originals(alignment.photos, source, photos or [])
    pixels, digest = read_layer(layer, alignment.photos[painted].size_hw)
    try:
        propagation = Propagation(alignment, painted, pixels, least_confidence)
    except ValueError as error:
        raise InputError(f"--source {source}: {error}") from error
    records: list[dict[str, Any]] = []
    with writing(out, "edit"), Stages() as stages, atomic.Staging() as staging:
        stale = _written(out)
        for index, photo in enumerate(alignment.photos):
            stages("photos", index, len(alignment))
            before = originals.read(index)
            after = propagation.onto(index, before, over if blend == "alpha" else over_by_bands)
            name = picture_name(alignment.photos, index, ".png")
            sha256 = staging.add(out / name, _png(after))
            changed = float((before != after).any(axis=2).mean())
            records.append({"photo": photo.path, "picture": name, "sha256": sha256, "changed": round(changed, 6)})
        document = {
            "format": "asic-edit",
            "version": 1,
            "run": str(run),
            "source": alignment.photos[painted].path,
            "layer_sha256": digest,
            "blend": blend,
            "least_confidence": least_confidence,
            "pictures": records,
        }
        text = json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False)
        stale -= {record["picture"] for record in records}
        staging.seal(out / INDEX_FILES["edit"], text.encode(), [out / name for name in stale])
        staging.commit()
    if as_json:
        write_json(document)
    else:
        write_data(printable(out))


def read_layer(path: Path, size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], str]:
    """(h, w, 4) RGBA of a layer and the sha256 of its file.

    Args:
        path: A PNG, WebP or TIFF picture with transparency.
        size_hw: The size of the photo that it was painted on; the layer may have any size in proportion.

    Raises:
        InputError: It cannot be read, has another shape, or nothing or everything is painted.
    """
    import hashlib
    import warnings

    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--layer {path}: expected a readable file, got {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_LAYER_FORMATS) as picture:
                picture.load()
                transparent = picture.has_transparency_data
                layer = np.array(picture.convert("RGBA"))
    except MemoryError:
        raise
    # Decoders meet hostile bytes with errors of many kinds.
    except Exception as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise InputError(f"--layer {path}: expected a PNG, WebP or TIFF picture{reason}") from error
    if not transparent or layer[..., 3].min() == 255:
        raise InputError(f"--layer {path}: expected transparency where nothing is painted, got an opaque picture")
    if layer[..., 3].max() == 0:
        raise InputError(f"--layer {path}: expected something painted, got a picture that is transparent throughout")
    height, width = size_hw
    rows, columns = layer.shape[:2]
    if min(abs(columns - rows * width / height), abs(rows - columns * height / width)) > 1:
        raise InputError(
            f"--layer {path}: expected the photo's shape, {width} x {height} pixels or any size in proportion, "
            f"got {columns} x {rows}"
        )
    return layer, hashlib.sha256(data).hexdigest()


def _written(folder: Path) -> set[str]:
    """The pictures of an earlier edit in a folder."""
    try:
        records = json.loads((folder / INDEX_FILES["edit"]).read_bytes())["pictures"]
        # A name with a folder in it is not one of ours.
        return {str(record["picture"]) for record in records if "/" not in str(record["picture"])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
