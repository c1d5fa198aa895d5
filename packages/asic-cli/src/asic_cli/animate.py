"""`asic animate`: a run as a moving picture, or a video's frames with what was painted on one of them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from asic_cli.console import Stages, printable, write_data
from asic_cli.errors import InputError, MachineError
from asic_cli.options import check_out_file
from asic_cli.runs import load_run
from asic_flow import atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Frame = NDArray[np.uint8]

_PALETTE_FRAMES = 4
_TRANSPARENT = 255  # the last colour of a palette


def animate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `asic train` wrote.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", callback=check_out_file, help="A .gif, .webp or .mp4; the last needs asic-cli[video]."
        ),
    ],
    kind: Annotated[
        Literal["morph", "tour", "edit"],
        typer.Option(
            help="Photos gliding into canonical space, a tour through what corresponds, or a layer on a video's frames."
        ),
    ] = "morph",
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="morph, tour: length of one round.")] = 5.0,
    fps: Annotated[int, typer.Option(min=1, max=60, help="Frames a second; a GIF shows 50 at most.")] = 15,
    side: Annotated[int, typer.Option(min=32, max=512, help="morph, tour: pixels along one photo.")] = 160,
    limit: Annotated[
        int, typer.Option(min=1, max=64, help="morph, tour: show so many photos at most, evenly chosen.")
    ] = 11,
    source: Annotated[
        Path | None, typer.Option(metavar="FRAME", help="edit: the original frame that the layer belongs to.")
    ] = None,
    layer: Annotated[
        Path | None, typer.Option(metavar="LAYER.png", help="edit: what is painted on it, as for `asic edit`.")
    ] = None,
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FRAMES",
            help="edit: the folder of frames, if FRAME's path does not say; again for a folder of added photos.",
        ),
    ] = None,
    steady: Annotated[
        int, typer.Option(min=0, max=30, help="edit: smooth over so many frames before and after; 0 for none.")
    ] = 4,
) -> None:
    """Make a moving picture of a run.

    With `--kind edit` the run's photos are taken as a video's frames, in their order, each shown at its own resolution
    with the layer that was painted on one of them.

    Example: `asic animate asic-out/teapot-run --out teapot.webp`
    """
    encode = _ENCODERS.get(out.suffix.lower())
    if encode is None:
        raise InputError(f"--out {out}: expected a file ending in {', '.join(_ENCODERS)}")
    if (kind == "edit") != (source is not None) or (kind == "edit") != (layer is not None):
        raise InputError("--source and --layer say what --kind edit paints: expected all three or none")
    frames, count = (
        _scene(run, kind, max(2, round(seconds * fps)), side, limit)
        if source is None or layer is None
        else _edited(run, source, layer, photos or [], steady)
    )
    with Stages() as stages:
        data = encode(_counted(frames, count, stages), fps)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(out, data)
    write_data(printable(out))


def _scene(run: Path, kind: str, count: int, side: int, limit: int) -> tuple[Iterator[Frame], int]:
    from asic_cli.scenes import morph, set_up, tour

    loaded = load_run(run)
    try:
        stage = set_up(loaded.collection, loaded.alignment, side, limit)
    except ValueError as error:
        raise InputError(f"{run}: {error}") from error
    return (morph if kind == "morph" else tour)(stage, count), count


def _edited(run: Path, source: Path, layer: Path, photos: Sequence[Path], reach: int) -> tuple[Iterator[Frame], int]:
    from asic_cli.blend import over
    from asic_cli.edit import LEAST_CONFIDENCE, read_layer
    from asic_cli.originals import find_originals
    from asic_cli.propagate import Propagation
    from asic_cli.steady import steady
    from asic_flow.alignment import Alignment

    alignment = Alignment.load(run)
    originals, painted = find_originals(alignment.photos, source, photos)
    if len({photo.size_hw for photo in alignment.photos}) > 1:
        raise InputError(f"{run}: expected frames of one size, as a video has them")
    pixels, _ = read_layer(layer, alignment.photos[painted].size_hw)
    try:
        propagation = Propagation(steady(alignment, reach) if reach else alignment, painted, pixels, LEAST_CONFIDENCE)
    except ValueError as error:
        raise InputError(f"--source {source}: {error}") from error
    count = len(alignment)
    height, width = alignment.photos[0].size_hw
    # Videos have even sides.
    frames = (
        propagation.onto(index, originals.read(index), over)[: max(height & -2, 1), : max(width & -2, 1)]
        for index in range(count)
    )
    return frames, count


def _counted(frames: Iterator[Frame], total: int, stages: Stages) -> Iterator[Frame]:
    for done, frame in enumerate(frames):
        stages("frames", done, total)
        yield frame


def _gif(frames: Iterator[Frame], fps: int) -> bytes:
    import numpy as np
    from PIL import Image

    made = [_dithered(frame) for frame in frames]
    palette = _palette(np.stack(made[:: max(1, len(made) // _PALETTE_FRAMES)]))
    shown, pictures = None, []
    for frame in made:
        colours = np.asarray(Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE))
        # What stays as it was is left out.
        changed = colours if shown is None else np.where(colours == shown, np.uint8(_TRANSPARENT), colours)
        shown = colours
        pictures.append(Image.fromarray(changed))
        pictures[-1].putpalette(palette.getpalette() or [])
    # Its unit is a hundredth of a second, and viewers show no less than two of them.
    durations = [10 * ticks for ticks in _durations(len(pictures), 100, fps, least=2)]
    return _animation(pictures, durations, "GIF", optimize=False, transparency=_TRANSPARENT, disposal=1)


def _palette(frames: Frame) -> Image.Image:
    """One palette of 255 colours for all of (F, H, W, 3), so that nothing flickers.

    A quarter of it is for what moves, as marks of few pixels would have no colour of their own otherwise, and one is
    the commonest colour as it is, the paper.
    """
    import numpy as np
    from PIL import Image

    moving = frames[1:][(frames[1:] != frames[:-1]).any(axis=3)]
    kinds, counts = np.unique(frames.reshape(-1, 3), axis=0, return_counts=True)
    colours = kinds[counts.argmax()].tolist()
    for pixels, most in ((frames.reshape(1, -1, 3), 190), (moving[None], 64)):
        if pixels.size:
            colours += (Image.fromarray(pixels).quantize(most).getpalette() or [])[: 3 * most]
    palette = Image.new("P", (1, 1))
    # Of equal colours the first is taken, so that the transparent one never is.
    palette.putpalette(colours + colours[:3] * (_TRANSPARENT + 1 - len(colours) // 3))
    return palette


def _durations(count: int, units: int, fps: int, least: int = 0) -> list[int]:
    """Of frames, in whole units of so many a second, so that none is lost or won on the way; at least so many each."""
    ends = [max(least * index, round(units * index / fps)) for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]


def _dithered(frame: Frame) -> Frame:
    """A frame with a fixed pattern laid over it: what stands still compresses, unlike with diffused errors.

    Nothing is laid over what is all of one colour, as paper is.
    """
    import numpy as np

    pattern = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.int16) - 7
    height, width = frame.shape[:2]
    laid = np.tile(pattern, (height // 4 + 1, width // 4 + 1))[:height, :width]
    around = np.pad(frame, ((1, 1), (1, 1), (0, 0)), "edge")
    neighbours = (around[1:-1, :-2], around[1:-1, 2:], around[:-2, 1:-1], around[2:, 1:-1])
    varied = np.any([neighbour != frame for neighbour in neighbours], axis=(0, 3))
    dithered: Frame = (frame + (laid * varied)[..., None]).clip(0, 255).astype(np.uint8)
    return dithered


def _webp(frames: Iterator[Frame], fps: int) -> bytes:
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    return _animation(pictures, _durations(len(pictures), 1000, fps), "WEBP", quality=78, method=3)


def _animation(pictures: list[Any], durations: list[int], kind: str, **options: object) -> bytes:
    """Pictures, each shown for so many milliseconds."""
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options)
    return buffer.getvalue()


def _mp4(frames: Iterator[Frame], fps: int) -> bytes:
    try:
        from imageio_ffmpeg import write_frames
    except ImportError:
        raise MachineError(
            "no encoder for .mp4 is installed: pip install 'asic-cli[video]', or write a .gif or .webp"
        ) from None
    first = next(frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        writer = write_frames(str(path), first.shape[1::-1], fps=fps, macro_block_size=2, quality=7)
        writer.send(None)
        writer.send(first.tobytes())
        for frame in frames:
            writer.send(frame.tobytes())
        writer.close()
        return path.read_bytes()


_ENCODERS: Mapping[str, Callable[[Iterator[Frame], int], bytes]] = {".gif": _gif, ".webp": _webp, ".mp4": _mp4}
