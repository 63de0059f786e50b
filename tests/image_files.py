"""Image files of every mode and size, as folders and as tar shards, for the tests of data and of training."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = (
    "rgb.jpg",
    "grey.jpg",
    "rgba.png",
    "cmyk.jpg",
    "palette.png",
    "deep.png",
    "turned.jpg",
    "pixel.png",
    "rgb.webp",
)
"""Kinds of file that ``encoded`` makes; deep is 16-bit grey, turned is marked as lying on its side."""


def encoded(kind: str, *, label: int = 0, seed: int = 0) -> bytes:
    """Return an image file, of a size drawn by the seed: the higher its label (0, 1, 2), the brighter, under noise."""
    draw = np.random.default_rng(seed)
    height, width = (1, 1) if kind == "pixel.png" else draw.integers(20, 60, 2)
    values = (40 + 80 * label + draw.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(values)
    options = {}
    what, _, suffix = kind.partition(".")
    if what == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    elif what == "deep":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif what != "pixel":
        image = image.convert({"rgb": "RGB", "grey": "L", "rgba": "RGBA", "cmyk": "CMYK", "palette": "P"}[what])
    file = io.BytesIO()
    image.save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[suffix], **options)
    return file.getvalue()


def write_folder(
    root: Path, n: dict[str, int], *, kinds: Sequence[str] = KINDS, classes: Sequence[str] = ("a", "b", "c")
) -> Path:
    """Write ``n`` images of each part, each kind and class in turn, into root/<part>/<class>/ and return root."""
    for part, count in n.items():
        for i in range(count):
            label, kind = i % len(classes), kinds[(i // len(classes)) % len(kinds)]
            file = root / part / classes[label] / f"{i:04d}.{kind.partition('.')[2]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(kind, label=label, seed=hash_of(part, i)))
    return root


def hash_of(part: str, i: int) -> int:
    """Return a seed for an image of a part."""
    return sum(part.encode()) * 100_000 + i


Member = tuple[str, bytes]


def write_shard(path: Path, members: Sequence[Member]) -> Path:
    """Write a tar file of (name, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def sample(key: str, kind: str, label: int, seed: int) -> list[Member]:
    """Return the two members of a sample."""
    suffix = kind.partition(".")[2]
    return [
        (f"{key}.{suffix}", encoded(kind, label=label, seed=seed)),
        (f"{key}.cls", str(label).encode()),
    ]


def write_shards(
    root: Path, n: dict[str, int], *, a_shard: int = 5, kinds: Sequence[str] = KINDS, classes: int = 3
) -> Path:
    """Write ``n`` samples of each part as shards of ``a_shard`` samples and return root."""
    for part, count in n.items():
        for number, start in enumerate(range(0, count, a_shard)):
            members: list[Member] = []
            for i in range(start, min(start + a_shard, count)):
                kind = kinds[(i // classes) % len(kinds)]
                members += sample(f"{i:06d}", kind, i % classes, hash_of(part, i))
            write_shard(root / part / f"set-{number:06d}.tar", members)
    return root
