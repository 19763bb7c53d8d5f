"""A picture of `make bench`: for every row two bars, ours and the peer's, against the limit.

Plain SVG, written here: one file that any browser shows, no package, the same bytes for the same
figures. It knows nothing of benchmarks but bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 880, 220, 200  # RIGHT: for the text beside the bars
ROW, BAR, GROUP, HEAD, FOOT = 46, 13, 34, 74, 44
INK, FAINT, TRACK = "#1f2430", "#6b7280", "#eef0f4"
OURS, PEER, TARGET = "#2563eb", "#9aa3b2", "#b45309"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Bar:
    """A row; shares are parts of the limit, 1 is all of it."""

    group: str
    label: str
    ours: float
    peer: float
    ours_text: str
    peer_text: str
    target: float | None = None  # the share that was asked for


@dataclass(frozen=True)
class Title:
    """What stands around the bars."""

    heading: str
    ours: str
    peer: str
    foot: str


def draw(title: Title, bars: Sequence[Bar]) -> str:
    """Give the picture as SVG."""
    top = max([1.0, *(bar.ours for bar in bars), *(bar.peer for bar in bars)])
    scale = (WIDTH - LEFT - RIGHT) / top
    parts = _head(title, scale)
    y, group = HEAD, ""
    for bar in bars:
        if bar.group != group:
            group = bar.group
            parts.append(_text(16, y + 22, group, "font-weight='600'"))
            y += GROUP
        parts += _bar(bar, y, scale)
        y += ROW
    limit = LEFT + scale
    parts.append(_line(limit, HEAD - 8, y, INK, "1.5"))
    parts.append(_text(16, y + 28, title.foot, f"fill='{FAINT}' font-size='11'"))
    height = y + FOOT
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
            f"width='{WIDTH}' height='{height}' {FONT} font-size='13' fill='{INK}'>",
            f"<title>{escape(title.heading)}</title>",
            f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
            *parts,
            "</svg>\n",
        ]
    )


def _head(title: Title, scale: float) -> list[str]:
    parts = [_text(16, 28, title.heading, "font-size='17' font-weight='600'")]
    x = 16
    for colour, name in ((OURS, title.ours), (PEER, title.peer)):
        parts.append(_rect(x, 43, 11, 11, colour))
        parts.append(_text(x + 17, 53, name, f"fill='{FAINT}'"))
        x += 40 + 7 * len(name)
    limit = "font-size='11' text-anchor='middle'"
    parts.append(_text(LEFT + scale, 60, "limit of the machine", limit))
    return parts


def _bar(bar: Bar, y: float, scale: float) -> list[str]:
    side = LEFT + scale + 12
    parts = [
        _text(LEFT - 12, y + BAR + 5, bar.label, "text-anchor='end'"),
        _rect(LEFT, y, scale, 2 * BAR + 3, TRACK),
        _rect(LEFT, y, bar.ours * scale, BAR, OURS),
        _rect(LEFT, y + BAR + 3, bar.peer * scale, BAR, PEER),
        _text(max(side, LEFT + bar.ours * scale + 6), y + 11, bar.ours_text),
        _text(side, y + BAR + 14, bar.peer_text, f"fill='{FAINT}'"),
    ]
    if bar.target is not None:
        parts.append(_line(LEFT + bar.target * scale, y - 3, y + BAR + 3, TARGET, "2"))
    return parts


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0):.1f}' height='{height}' "
        f"rx='2' fill='{fill}'/>"
    )


def _line(x: float, top: float, bottom: float, colour: str, width: str) -> str:
    return (
        f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top}' y2='{bottom}' stroke='{colour}' "
        f"stroke-width='{width}'/>"
    )


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"
