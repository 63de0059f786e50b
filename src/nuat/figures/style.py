"""Style of the figures, and their way into files: the same record gives the same bytes.

Colours are those of Okabe and Ito, distinct for colour-blind readers too; colour maps are perceptually even. Text in an
SVG stays text: the file is small, searchable and sharp. The background is white on a dark page as well.
"""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuat.files import atomic_write

if TYPE_CHECKING:  # drawing functions import matplotlib when they are called
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#555555"
_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: Any = ("-", "--", ":", "-.")
COLOUR_MAP = "viridis"

WIDTH = 7.0
"""Width of the text on a page [inches]. Halved, a figure is still readable in a column."""

SMALL = 6.5
"""Size of small print [points]."""

_RC: Any = {
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
_OUTPUT: Any = {"svg.fonttype": "none", "svg.hashsalt": "nuat", "pdf.fonttype": 42, "text.parse_math": False}
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def applied() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in this style."""
    import matplotlib as mpl

    return mpl.rc_context(_RC)


def new_figure(width: float, height: float, *, layout: Any = "constrained") -> "Figure":
    """Return an empty figure of ``width`` x ``height`` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def colour(index: int) -> str:
    """Return the colour of the model, or series, at ``index``."""
    return _COLOURS[index % len(_COLOURS)]


def marker(index: int) -> str:
    """Return the marker of the model, or series, at ``index``. After eight, colours recur with other markers."""
    return _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)]


def dashes(index: int) -> Any:
    """Return the line style of the series at ``index``."""
    return _DASHES[index % len(_DASHES)]


def percent_axis(axis: Any, text: str) -> None:
    """Make the vertical axis one of accuracies in %, from 0 to 100."""
    axis.set_ylabel(f"{text} (%)")
    axis.set_ylim(-2, 102)
    axis.set_yticks(range(0, 101, 20))


def note(figure: "Figure", lines: Sequence[str]) -> None:
    """Write small print under a figure of constrained layout, wrapped at its width."""
    text = "\n".join(wrapped(lines, figure.get_figwidth()))
    if text:
        figure.supxlabel(text, fontsize=SMALL, color=GREY, x=0.01, ha="left")


def wrapped(lines: Sequence[str], inches: float) -> list[str]:
    """Return small print in lines that fit into a figure ``inches`` wide."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=_RC["font.family"], size=SMALL)
    room = 72 * inches * 0.94  # less the margin at the left, and the pixels that a raster rounds letters up to

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
    """Return the end of a name that is longer than ``most`` characters: file names differ there."""
    return text if len(text) <= most else "\u2026" + text[len(text) - most + 1 :]


def class_name(text: str, most: int = 12) -> str:
    """Return the beginning of the name of a class that is longer than ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def save(figure: "Figure", path: Path) -> None:
    """Write a figure to ``path``, whole, in the format of its suffix: .svg, .png or .pdf."""
    with atomic_write(path) as file:
        file.write(to_bytes(figure, path.suffix[1:]))


def to_bytes(figure: "Figure", kind: str, *, dpi: int | None = None) -> bytes:
    """Return a figure as a file of ``kind``: svg, png or pdf."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context(_OUTPUT):
        # in an SVG or a PDF only dense parts are pixels, for which fewer do
        resolution = dpi or (200 if kind == "png" else 130)
        figure.savefig(buffer, format=kind, dpi=resolution, metadata=_METADATA[kind], facecolor="white")
    return buffer.getvalue()
