"""The score panel of the report: `summary.json` as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

METHOD_LABELS = {
    "box_copy": "Copy the box position",
    "nearest_neighbour": "Nearest neighbour",
    "mls": "Moving least squares",
    "canonical": "Canonical maps",
    "consensus": "Places agreed on",
    "combined": "Maps and descriptors",
}
BASELINE = "nearest_neighbour"
_COPY = "box_copy"
_COMPARED = ("combined", "canonical", "nearest_neighbour")


@dataclass(frozen=True)
class _Column:
    """A score that the table shows: its heading, what it means, and where `summary.json` keeps it, best first."""

    heading: str
    meaning: str
    keys: tuple[tuple[str, ...], ...]

    def read(self, scores: Mapping[str, Any]) -> float | None:
        """The score in per cent, or None where the summary has none."""
        for keys in self.keys:
            value: Any = scores
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
                return 100 * value
        return None


_PCK = _Column(
    "PCK@0.10",
    "keypoints within a tenth of the side, all points alike",
    (("pck", "0.10", "per_point"),),
)
_CYCLES = tuple(
    _Column(
        f"{hops}-cycle@0.10",
        f"points that come back to within a tenth after a round trip through {hops} photos; copied ones always do",
        (("cycle", "0.10", hops, "end"), ("grid_cycle", "0.10", hops)),
    )
    for hops in ("2", "3")
)
_COLUMNS = (
    _PCK,
    _Column("PCK@0.05", "likewise, within a twentieth", (("pck", "0.05", "per_point"),)),
    *_CYCLES,
    _Column(
        "Held out@0.10",
        "matches the fit never saw, within a tenth of the side; they are nearest neighbour's own, and favour it",
        (("held_out", "0.10"),),
    ),
    _Column("Held out@0.05", "likewise, within a twentieth", (("held_out", "0.05"),)),
)


@dataclass(frozen=True)
class Headline:
    """The figures worth a large font.

    Attributes:
        heading: Name of the score.
        score: Of the default method, in per cent.
        gain: Over plain nearest neighbour, in points; None where that was not scored.
    """

    heading: str
    score: float
    gain: float | None


def headline(summary: Mapping[str, Any]) -> Headline | None:
    """The default method's PCK@0.10, or its 2-cycles where nobody marked keypoints; None without either."""
    methods = _methods(summary)
    for column in (_PCK, _CYCLES[0]):
        score = column.read(methods.get(str(summary.get("default")), {}))
        if score is not None:
            baseline = column.read(methods.get(BASELINE, {}))
            return Headline(column.heading, score, None if baseline is None else score - baseline)
    return None


def signed(points: float) -> str:
    r"""A difference with its sign in type, to one decimal.

    >>> signed(10.26), signed(-3.0)
    ('+10.3', '\u22123.0')
    """
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def score_panel(summary: Mapping[str, Any]) -> str:
    """The table of scores, its legend below; a sentence where nothing was scored."""
    methods = _methods(summary)
    columns = [column for column in _COLUMNS if any(column.read(scores) is not None for scores in methods.values())]
    if not columns:
        return '<p class="quiet">Not scored yet; <code>asic eval</code> does that.</p>'
    heads = "".join(f'<th scope="col" title="{escape(column.meaning)}">{column.heading}</th>' for column in columns)
    rows = "".join(_row(name, scores, columns, methods, summary.get("default")) for name, scores in methods.items())
    legend = "".join(f"<div><dt>{column.heading}</dt><dd>{escape(column.meaning)}</dd></div>" for column in columns)
    protocol = f'<p class="quiet">Protocol: {escape(str(summary["protocol"]))}</p>' if summary.get("protocol") else ""
    return (
        f'<div class="scroll"><table class="scores"><thead><tr><th scope="col">Method</th>{heads}'
        f'<th scope="col">Gain</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<dl class="legend">{legend}<div><dt>Gain</dt><dd>points of {columns[0].heading} over nearest neighbour</dd>'
        f"</div></dl>{protocol}"
    )


def comparison_table(first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Both runs' scores of what they differ in, and the second's gain; a sentence where either has none.

    Args:
        first: A summary.
        second: Another.
        names: What to call the two, as HTML.
    """
    ours, theirs = _methods(first), _methods(second)
    rows = []
    for method in _COMPARED:
        for column in _COLUMNS:
            before, after = (column.read(methods.get(method, {})) for methods in (ours, theirs))
            if before is not None and after is not None:
                kind = "gain loss" if after < before else "gain"
                rows.append(
                    f'<tr><th scope="row">{escape(METHOD_LABELS.get(method, method))}</th><td>{column.heading}</td>'
                    f'{bar(before)}{bar(after)}<td class="{kind}">{signed(after - before)}</td></tr>'
                )
    if not rows:
        return '<p class="quiet">At least one of the two was not scored; run `asic eval` on both.</p>'
    return (
        '<div class="scroll"><table class="scores"><thead><tr><th scope="col">Method</th><th scope="col">Score</th>'
        f'<th scope="col">{names[0]}</th><th scope="col">{names[1]}</th><th scope="col">Gain</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def bar(value: float, note: str = "") -> str:
    """A table cell with a percentage and a bar of its length."""
    return f'<td><span class="bar" style="--share:{value:.1f}%"></span><span>{value:.1f}{note}</span></td>'


def _row(
    name: str,
    scores: Mapping[str, Any],
    columns: Sequence[_Column],
    methods: Mapping[str, Mapping[str, Any]],
    default: object,
) -> str:
    values = [column.read(scores) for column in columns]
    baseline = columns[0].read(methods.get(BASELINE, {}))
    # What is copied comes back whatever it shows, which is no gain.
    without = (BASELINE, _COPY) if columns[0] in _CYCLES else (BASELINE,)
    difference = None if values[0] is None or baseline is None or name in without else values[0] - baseline
    gain = "" if difference is None else signed(difference)
    gain_kind = "gain loss" if difference is not None and difference < 0 else "gain"
    mark = ' <span class="badge good">default</span>' if name == default else ""
    cells = "".join("<td>\N{EN DASH}</td>" if value is None else bar(value) for value in values)
    label = escape(METHOD_LABELS.get(name, name))
    kind = ' class="default"' if name == default else ""
    return f'<tr{kind}><th scope="row">{label}{mark}</th>{cells}<td class="{gain_kind}">{gain}</td></tr>'


def _methods(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    methods = summary.get("methods")
    if not isinstance(methods, Mapping):
        return {}
    known = {name: place for place, name in enumerate(METHOD_LABELS)}
    ordered = sorted(methods, key=lambda name: known.get(name, len(known)))
    return {str(name): methods[name] for name in ordered if isinstance(methods[name], Mapping)}
