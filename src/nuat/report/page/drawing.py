"""matplotlib's figures as part of a page: SVG without outside references, many in one page without a clash of names."""

import base64
import io
import re
import xml.etree.ElementTree as ET

from markupsafe import Markup
from matplotlib.figure import Figure

from nuat.report.plots.style import to_svg

_MOST_SVG = 250_000
"""Characters; a drawing of more (thousands of patches) is embedded as pixels."""
_DPI = 130
_REFERENCE = re.compile(r"url\(#([^)]*)\)")


def inline(figure: Figure, prefix: str, title: str) -> Markup:
    """Return a figure as HTML: an svg element, or an img where that would be large.

    Args:
        figure: to draw.
        prefix: of every name in it; another for each figure of a page.
        title: what it shows, for those who cannot see it.
    """
    svg = _embedded(ET.fromstring(to_svg(figure)), prefix, title)
    if len(svg) <= _MOST_SVG:
        return Markup(svg)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI, facecolor="white")
    image = ET.Element(
        "img", {"src": "data:image/png;base64," + base64.b64encode(out.getvalue()).decode(), "alt": title}
    )
    width, height = (f"{round(side * 96)}" for side in figure.get_size_inches())
    image.attrib |= {"width": width, "height": height}
    return Markup(ET.tostring(image, encoding="unicode"))


def _embedded(root: ET.Element, prefix: str, title: str) -> str:
    """Return matplotlib's SVG as an element of an HTML page: no name spaces, no metadata, names with the prefix."""
    for parent in root.iter():
        for child in list(parent):
            # a style element would style the whole page; the page's own says what it said
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(name): _renamed(_local(name), value, prefix) for name, value in element.attrib.items()}
    for side in ("width", "height"):
        root.set(side, f"{float(root.attrib[side].removesuffix('pt')) * 4 / 3:.0f}")  # CSS pixels
    root.attrib |= {"role": "img", "aria-label": title}
    return ET.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]


def _renamed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return _REFERENCE.sub(lambda match: f"url(#{prefix}-{match[1]})", value)
