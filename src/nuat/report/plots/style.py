"""How every figure looks, and how it becomes a file: the same record gives the same bytes.

Colours are Okabe and Ito's, told apart also by the colour-blind; images use perceptually even maps. Text stays text in
an SVG, so that files are small, searchable and sharp; the background is white, so that it is read on a dark page too.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from nuat.files import atomic_write

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#555555"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Any = ("-", "--", ":", "-.")
MAP = "viridis"

WIDTH = 7.0
"""inches: the text width of a page; halved it is still readable in a column."""

SMALL = 6.5
"""points: of small print."""

RC: Any = {
    "font.size": 8.0,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
}
"""Settings that a figure is drawn with: ``with mpl.rc_context(RC)``."""

_OUTPUT: Any = {"svg.fonttype": "none", "svg.hashsalt": "nuat", "pdf.fonttype": 42}
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def colour(index: int) -> str:
    """Return the colour of the model, or series, at ``index``."""
    return CYCLE[index % len(CYCLE)]


def marker(index: int) -> str:
    """Return the marker of the model, or series, at ``index``; after eight the colours come round with others."""
    return MARKERS[(index + index // len(CYCLE)) % len(MARKERS)]


def percent(axis: Axes, text: str) -> None:
    """Make the vertical axis one of accuracies in %, 0 to 100."""
    axis.set_ylabel(f"{text} (%)")
    axis.set_ylim(-2, 102)
    axis.set_yticks(range(0, 101, 20))


def note(figure: Figure, lines: Sequence[str]) -> None:
    """Write small print under a figure of constrained layout, wrapped at its width."""
    text = "\n".join(wrapped(lines, figure.get_figwidth()))
    if text:
        figure.supxlabel(text, fontsize=SMALL, color=GREY, x=0.01, ha="left")


def wrapped(lines: Sequence[str], inches: float) -> list[str]:
    """Return small print in lines that fit between the edges of a figure that is so many inches wide."""
    font = FontProperties(family=RC["font.family"], size=SMALL)
    room = 72 * inches * 0.94  # the margin at the left, and the pixels that a raster rounds letters up to

    def width(text: str) -> float:
        return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])

    found = []
    for line in lines:
        words = line.split(" ")
        current = words[0]
        for word in words[1:]:
            if width(f"{current} {word}") > room:
                found.append(current)
                current = word
            else:
                current = f"{current} {word}"
        found.append(current)
    return found


def shorten(text: str, most: int = 28) -> str:
    """Return a name short enough for a title; file names keep their end."""
    return text if len(text) <= most else "\u2026" + text[len(text) - most + 1 :]


def save(figure: Figure, path: Path) -> None:
    """Write a figure to ``path``, whole, as its suffix says: .svg, .png or .pdf."""
    with atomic_write(path) as file:
        file.write(_bytes(figure, path.suffix[1:]))


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG, to be put into a page."""
    return _bytes(figure, "svg").decode()


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(_OUTPUT):
        # of an SVG or a PDF only the dense parts are pixels
        figure.savefig(
            buffer, format=kind, dpi=200 if kind == "png" else 130, metadata=_METADATA[kind], facecolor="white"
        )
    return buffer.getvalue()
