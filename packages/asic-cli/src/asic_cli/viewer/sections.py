"""The still parts of the report as HTML: they need no script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import takewhile
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from asic_cli.viewer import pictures
from asic_cli.viewer.canonical import CanonicalWindow
from asic_cli.viewer.flags import MIRRORED, Flag, flags_of
from asic_flow.collection_folder import CollectionArrays
from asic_flow.matches import MatchSet
from asic_flow.run_folder import AlignmentArrays

_GALLERY_SIDE = 208
_GAP = 12
_LONG_BEGINNING = 8
_LONGEST_END = 10


def visible_text(text: str, keep: str = "") -> str:
    """Makes control characters and broken Unicode visible, so that a name can neither hide nor break a line.

    >>> visible_text("a" + chr(10) + "b")
    'a␊b'
    """
    return "".join(_visible(character) if character not in keep else character for character in text)


def text(value: str) -> str:
    """Any text as HTML that shows it and does nothing else."""
    return escape(visible_text(value))


def photo_name(path: str) -> str:
    """A photo's name, kept apart from the text around it in whatever direction it is written."""
    return _name(path, path.rsplit("/", 1)[-1])


def captions(paths: Sequence[str]) -> list[str]:
    """Photos' names as HTML, without the ending that all have and what all begin with where that is long.

    >>> captions(["a/Black_footed_0046.jpg", "a/Black_footed_0051.jpg"])[0]
    '<bdi class="name" title="a/Black_footed_0046.jpg"><span></span><span>0046</span></bdi>'
    >>> captions(["n02087394_36.jpg", "n02092339_1013.jpg"])[1]
    '<bdi class="name" title="n02092339_1013.jpg"><span>n02092339_</span><span>1013</span></bdi>'
    """
    names = [path.rsplit("/", 1)[-1] for path in paths]
    endings = {PurePosixPath(name).suffix for name in names}
    if len(endings) == 1:
        names = [name.removesuffix(*endings) for name in names]
    # A name is cut where a word ends, and never whole.
    words = (re.split(r"(?<=[_\-. ])", name)[:-1] for name in names)
    shared = takewhile(lambda alike: len(set(alike)) == 1, zip(*words, strict=False))
    cut = sum(len(alike[0]) for alike in shared)
    cut = cut if cut >= _LONG_BEGINNING and len(names) > 1 else 0
    return [_name(path, name[cut:]) for path, name in zip(paths, names, strict=True)]


def averages(
    collection: CollectionArrays,
    alignment: AlignmentArrays,
    window: CanonicalWindow,
    seen: NDArray[np.float32],
) -> str:
    """The average photo before and after alignment, each cropped to what it shows.

    Args:
        collection: The photos.
        alignment: Their maps.
        window: What of canonical space is shown.
        seen: The photos in the window.
    """
    crop = pictures.crop_to_content(pictures.average(collection.images, alignment.foreground))
    after = pictures.average(seen, window.visible)
    return "".join(
        f'<figure class="average"><img id="{name}" alt="{alt}" '
        f'src="{pictures.data_address(picture, kind="WEBP", quality=88)}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for name, picture, caption, alt in (
            ("plain-average", crop, "Average of the photos", "Average of all photos as they are"),
            ("average", after, "Average after alignment", "Average of all photos in canonical space"),
        )
    )


def photo_tiles(collection: CollectionArrays, alignment: AlignmentArrays) -> str:
    """Every photo as the model sees it, with its name and flags; the script turns these tiles into the viewer."""
    names = captions([photo.path for photo in collection.photos])
    return "".join(
        f'<figure class="tile" data-photo="{index}"><div class="picture">'
        f'<img src="{pictures.data_address(image)}" alt="" width="{image.shape[1]}" height="{image.shape[0]}"></div>'
        f'<figcaption>{name}<span class="flags">{_badges(flags)}</span></figcaption></figure>'
        for index, (name, flags, image) in enumerate(zip(names, flags_of(alignment), collection.images, strict=True))
    )


def aligned_gallery(collection: CollectionArrays, window: CanonicalWindow, seen: NDArray[np.float32]) -> str:
    """Every photo's object in canonical space; `seen` are the photos in the window."""
    return _gallery(collection, pictures.cut_outs(seen, window.visible), "WEBP")


def wheel_gallery(collection: CollectionArrays, alignment: AlignmentArrays, window: CanonicalWindow) -> str:
    """The colour wheel, and how it looks carried to every photo."""
    wheel = pictures.data_address(pictures.wheel(96), kind="PNG")
    return (
        f'<figure class="wheel"><img id="wheel" src="{wheel}" alt="The colour wheel on canonical space">'
        "<figcaption>Canonical space</figcaption></figure>"
        + _gallery(collection, pictures.wheel_on_photos(collection, alignment, window.wheel_radius), "JPEG")
    )


def match_drawings(
    collection: CollectionArrays, matches: MatchSet, alignment: AlignmentArrays, window: CanonicalWindow
) -> str:
    """Three pairs side by side with lines between matched points; a sentence where nothing matched."""
    drawings = [
        _drawing(collection, lines) for lines in pictures.lines_of_pairs(matches, alignment, window.wheel_radius)
    ]
    return "".join(drawings) or '<p class="quiet">No pair has matches.</p>'


def flag_table(alignment: AlignmentArrays) -> str:
    """The photos whose maps are in doubt and why, then those that are mirrored, which is a fact and no fault."""
    flags = flags_of(alignment)
    doubtful = [(photo, flag) for photo, own in enumerate(flags) for flag in own if flag.doubtful]
    mirrored = [photo_name(alignment.photos[photo].path) for photo, own in enumerate(flags) if MIRRORED in own]
    rows = "".join(
        f'<tr><th scope="row">{photo_name(alignment.photos[photo].path)}</th><td>{_badges([flag])}</td>'
        f"<td>{escape(flag.meaning)}</td><td>{100 * float(alignment.support[photo]):.0f} %</td></tr>"
        for photo, flag in doubtful
    )
    table = (
        '<div class="scroll"><table><thead><tr><th scope="col">Photo</th><th scope="col">Flag</th>'
        '<th scope="col">Meaning</th><th scope="col" title="Share of its matches that fit the others">Support</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    fit = 100 * float(np.median(alignment.support))
    nobody = f"<p>No photo stands out from the others, of whose matches {fit:.0f} % fit (the median).</p>"
    names = ", ".join(mirrored) or "none"
    return (
        f"{table if rows else nobody}"
        f'<p class="quiet">Seen from the other side, so that their maps mirror them: {names}.</p>'
    )


def _name(path: str, shown: str) -> str:
    """A name in two parts: where room is short the first is cut, never its last number and what follows that."""
    ending = PurePosixPath(shown).suffix
    stem = shown.removesuffix(ending)
    end = re.findall(r"\d*\D*\Z", stem)[0][-_LONGEST_END:]
    parts = (stem[: len(stem) - len(end)], end + ending)
    return f'<bdi class="name" title="{text(path)}">{"".join(f"<span>{text(part)}</span>" for part in parts)}</bdi>'


def _gallery(collection: CollectionArrays, shown: Sequence[pictures.Pixels], kind: str) -> str:
    tiles = (
        f'<img src="{pictures.data_address(picture, kind=kind, quality=82, longer_side=_GALLERY_SIDE)}" '
        f'alt="{text(photo.path)}" title="{text(photo.path)}">'
        for photo, picture in zip(collection.photos, shown, strict=True)
    )
    return f'<div class="gallery">{"".join(tiles)}</div>'


def _drawing(collection: CollectionArrays, lines: pictures.PairLines) -> str:
    height, width = collection.size_hw
    second_x = width + _GAP
    photos = "".join(
        f'<image x="{x}" width="{width}" height="{height}" '
        f'href="{pictures.data_address(collection.images[photo], quality=82)}"/>'
        for photo, x in ((lines.first, 0), (lines.second, second_x))
    )
    strokes = "".join(
        _stroke(x1, y1, x2 + second_x, y2, "#{:02x}{:02x}{:02x}".format(*colour) if agrees else None)
        for (x1, y1, x2, y2), agrees, colour in zip(
            lines.ends_px.tolist(), lines.agrees.tolist(), lines.colours.tolist(), strict=True
        )
    )
    names = " and ".join(photo_name(collection.photos[photo].path) for photo in (lines.first, lines.second))
    return (
        f'<figure class="pair"><svg viewBox="0 0 {second_x + width} {height}" role="img" '
        f'aria-label="Matches of two photos">{photos}{strokes}</svg><figcaption>{lines.num_agreeing} of '
        f"{lines.num_matches} matches agree: {names}</figcaption></figure>"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str | None) -> str:
    kind = 'class="weak"' if colour is None else f'stroke="{colour}" fill="{colour}"'
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in ((x1, y1), (x2, y2)))
    return f'<g {kind}><line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>{dots}</g>'


def _badges(flags: Iterable[Flag]) -> str:
    return "".join(
        f' <span class="badge{" doubtful" if flag.doubtful else ""}" title="{escape(flag.meaning)}">{flag.label}</span>'
        for flag in flags
    )


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    # Surrogates are bytes of a file name that are not UTF-8; the others are control characters and marks of direction.
    if 0xD800 <= code < 0xE000 or 0x7F <= code < 0xA0 or code in _DIRECTION_MARKS:
        return "\N{REPLACEMENT CHARACTER}"
    return character


_DIRECTION_MARKS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
