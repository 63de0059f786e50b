"""Picture of the adversarial examples of a run inside a page, small enough that many fit."""

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

_WIDTH = 1200
"""Largest width of a picture [pixels]. Wider ones are made smaller."""

_LEAST = 4_000
"""Smallest size of a picture [bytes]: less room is not tried."""


def data_uri(path: Path, most: int) -> tuple[str, int, int] | None:
    """Return a picture as a data URI of at most ``most`` bytes, with its width and height.

    None: it does not fit, or the file is not a picture. The page then says that there is none to show.
    """
    if most < _LEAST:
        return None
    try:
        with Image.open(path, formats=["PNG"]) as file:
            picture = file.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    if picture.width > _WIDTH:
        picture = picture.resize(
            (_WIDTH, max(1, round(picture.height * _WIDTH / picture.width))), Image.Resampling.LANCZOS
        )
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=80, method=2)
    text = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
    return (text, picture.width, picture.height) if len(text) <= most else None
