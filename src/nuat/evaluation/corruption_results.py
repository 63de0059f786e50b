"""Results of a model on corrupted images: a verdict per image, corruption and severity, as JSON and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from nuat.core.intervals import clustered_interval
from nuat.data.corruptions import CATEGORIES, CORRUPTIONS, SEVERITIES
from nuat.errors import InputError, did_you_mean
from nuat.evaluation.corruption_table import as_html, as_text, corruption_table
from nuat.evaluation.results import flags_to_text, indices_to_json, json_to_indices, text_to_flags
from nuat.files import write_json

CORRUPTION_KEYS = frozenset({"format", "corruptions", "indices"})
"""Entries by which a JSON file is known as results on corrupted images."""
CORRUPTION_FORMAT = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class CorruptionResults:
    """Accuracies under the common corruptions, all on the same n images. It prints as a table.

    Wherever a name is asked for, it is that of a corruption, of a category (noise, blur, weather, digital), "clean", or
    "mean", which is over all corruptions that there are.
    """

    clean: Tensor
    """bool [n]: whether each image is classified correctly as it is."""
    correct: Mapping[str, Tensor]
    """bool [5, n] of each corruption, in the order of the paper: the same at each severity."""
    indices: Tensor
    """int64 [n]: positions of the images in the test set."""
    source: str
    """Package and versions, or files, that the corrupted images came from."""
    seed: int | None
    """Seed of the corruptions' random draws. None: the images came from files."""
    batch_size: int
    """Images passed at once."""
    hardware: str
    """Processor or graphics card."""
    images: str
    """SHA-256 of the n images without corruption and their labels, in order."""
    seconds: float
    """Wall time of the corruptions and of the passes."""
    forwards: int
    """Images passed forward, those without corruption too."""
    versions: dict[str, str | None] = field(default_factory=dict)
    """Versions of nuat and of the packages that numbers depend on."""
    warnings: tuple[str, ...] = ()
    """Warnings about the model and the files; not written when empty."""

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.indices)

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of the 15 corruptions that were not there."""
        return tuple(name for name in CORRUPTIONS if name not in self.correct)

    @property
    def mean_name(self) -> str:
        """Name of the mean for people. It is the mean of the 15 only if all of them were there."""
        return f"mean of {len(self.correct)}" + (f" found, of {len(CORRUPTIONS)}" if self.missing else "")

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Categories with a corruption that was there, each with these corruptions."""
        found = {of: tuple(name for name in names if name in self.correct) for of, names in CATEGORIES.items()}
        return {category: names for category, names in found.items() if names}

    def verdicts(self, name: str = "mean", severity: int | None = None) -> Tensor:
        """Return bool [k, n]: the verdicts behind an accuracy, k on each image.

        Args:
            name: see above.
            severity: 1 to 5. None: all of them.

        Raises:
            InputError: there is no such corruption, or no such severity.
        """
        if name == "clean" and severity is None:
            return self.clean[None]
        names = {"mean": tuple(self.correct), **self.categories}.get(name, (name,))
        unknown = [one for one in names if one not in self.correct]
        if unknown:
            there = ["clean", "mean", *self.categories, *self.correct]
            raise InputError(f"no corruption {name!r}.{did_you_mean(name, there)} There are: {', '.join(there)}.")
        if severity is not None and severity not in SEVERITIES:
            raise InputError(f"severity={severity}: expected 1 to {SEVERITIES[-1]}, or None for all.")
        rows = slice(None) if severity is None else slice(severity - 1, severity)
        return torch.cat([self.correct[one][rows] for one in names])

    def accuracy(self, name: str = "mean", severity: int | None = None) -> float:
        """Return an accuracy in [0, 1]; of several verdicts on an image, their mean."""
        return float(self.verdicts(name, severity).double().mean())

    def interval(self, name: str = "mean", severity: int | None = None) -> tuple[float, float]:
        """Return the 95 % interval of an accuracy over images drawn like these, see ``clustered_interval``."""
        return clustered_interval(self.verdicts(name, severity))

    def table(self) -> Table:
        """Return a table for the terminal."""
        return corruption_table(self)

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; verdicts as strings of 0 and 1, one per image, and all test images as "0-9999"."""

        def told(name: str, severity: int | None = None) -> dict[str, Any]:
            return {"accuracy": self.accuracy(name, severity), "interval": list(self.interval(name, severity))}

        def at(name: str, severity: int) -> dict[str, Any]:
            flags = flags_to_text(self.correct[name][severity - 1])
            return {"severity": severity, **told(name, severity), "correct": flags}

        return {
            "format": CORRUPTION_FORMAT,
            "n": self.n,
            "source": self.source,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "images_sha256": self.images,
            "hardware": self.hardware,
            "seconds": self.seconds,
            "forwards": self.forwards,
            "versions": self.versions,
            **({"warnings": list(self.warnings)} if self.warnings else {}),
            "clean": {**told("clean"), "correct": flags_to_text(self.clean)},
            "mean": {**told("mean"), "of": len(self.correct), "missing": list(self.missing)},
            "categories": {name: told(name) for name in self.categories},
            "corruptions": [
                {"name": name, **told(name), "severities": [at(name, severity) for severity in SEVERITIES]}
                for name in self.correct
            ],
            "indices": indices_to_json(self.indices),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CorruptionResults":
        """Return the results that ``to_json`` wrote."""
        if values.get("format") != CORRUPTION_FORMAT:
            raise InputError(f"format {values.get('format')!r} of results on corruptions: this version reads 1.")
        kept = ("source", "seed", "batch_size", "hardware", "seconds", "forwards", "versions")
        return cls(
            clean=text_to_flags(values["clean"]["correct"]),
            correct={
                row["name"]: torch.stack([text_to_flags(at["correct"]) for at in row["severities"]])
                for row in values["corruptions"]
            },
            indices=json_to_indices(values["indices"]),
            images=values["images_sha256"],
            warnings=tuple(values.get("warnings", ())),
            **{name: values[name] for name in kept},
        )

    def save(self, path: Path) -> None:
        """Write the JSON of ``to_json`` to ``path``, whole."""
        write_json(path, self.to_json())
