"""Figures of matplotlib inside a page: SVG without outside references, and many in one page without clashing names."""

import base64
import re
import xml.etree.ElementTree as ET

from markupsafe import Markup
from matplotlib.figure import Figure

from nuat.figures.style import to_bytes

_MOST_SVG = 250_000
"""Characters. A larger drawing (thousands of patches) is embedded as pixels."""
_DPI = 130
_REFERENCE = re.compile(r"url\(#([^)]*)\)")


def inline(figure: Figure, prefix: str, title: str) -> Markup:
    """Return a figure as HTML: an svg element, or an img if that would be large.

    Args:
        figure: the figure.
        prefix: beginning of every name in it, different for each figure of a page.
        title: text for readers who cannot see it.
    """
    svg = _embedded(ET.fromstring(to_bytes(figure, "svg").decode()), prefix, title)
    if len(svg) <= _MOST_SVG:
        return Markup(svg)
    pixels = base64.b64encode(to_bytes(figure, "png", dpi=_DPI)).decode()
    image = ET.Element("img", {"src": f"data:image/png;base64,{pixels}", "alt": title})
    width, height = (f"{round(side * 96)}" for side in figure.get_size_inches())
    image.attrib |= {"width": width, "height": height}
    return Markup(ET.tostring(image, encoding="unicode"))


def _embedded(root: ET.Element, prefix: str, title: str) -> str:
    """Return an SVG of matplotlib as an element of a page: without name spaces or metadata, names with the prefix."""
    for parent in root.iter():
        for child in list(parent):
            # a style element would style the whole page; the style sheet of the page says the same
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
