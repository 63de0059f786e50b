"""Weights that have a name: ``nuat.load("quickstart")``. One row each."""

import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from nuat.config import DataConfig
from nuat.data import cache_folder
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NamedWeights:
    """Weights that nuat ships or knows where to download."""

    summary: str
    """Purpose, in one line."""
    address: str | None = None
    """Address of the .safetensors file. None: the package holds the run's folder, ``models/<name>``."""
    sha256: str = ""
    """Checksum of the file at the address, 64 hexadecimal digits."""


NAMED: Mapping[str, NamedWeights] = {
    "quickstart": NamedWeights(summary="the quickstart's model, for a first look"),
}
"""Name to weights. Released weights get a row with their address and checksum; there are none yet."""


def is_named(text: str, named: Mapping[str, NamedWeights] = NAMED) -> bool:
    """Return whether ``text`` is the name of weights; an existing path of that name comes first."""
    return text in named and not Path(text).exists()


def fetch(name: str, named: Mapping[str, NamedWeights] = NAMED) -> Path:
    """Return the run's folder in the package, or the file in the cache, after downloading it if it is not there.

    Raises:
        InputError: the download fails, or its checksum is another one.
    """
    row = named[name]
    if row.address is None:
        return Path(str(resources.files(__package__) / "models" / name))
    target = cache_folder(DataConfig()) / "weights" / f"{name}-{row.sha256[:16]}.safetensors"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(row.address, str(target), hash_prefix=row.sha256, progress=False)
        except (urllib.error.URLError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: another checksum
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"{name}: could not be downloaded from {row.address} ({reason}); try again.") from None
    return target
