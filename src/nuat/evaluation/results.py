"""Results of an evaluation: per image, per attack and in the worst case, as JSON and back."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from nuat.attacks.catalogue import WORST_CASE, needs_gradient
from nuat.config import ThreatConfig
from nuat.core.intervals import wilson_interval
from nuat.core.threat import Norm
from nuat.errors import InputError
from nuat.evaluation.answers import Answers, worst
from nuat.evaluation.calibration import BINS, calibration_error
from nuat.evaluation.per_class import ClassResult, class_results
from nuat.evaluation.result_table import as_html, as_text, evaluation_table
from nuat.evaluation.union import part_within
from nuat.files import write_json

EVALUATION_KEYS = frozenset({"format", "results", "indices"})
"""Entries by which a JSON file is known as an evaluation."""
_FORMAT = 2
FORMATS = (1, 2)
"""Those that can be read: 1 writes every index out, 2 writes consecutive ones as their first and last."""


def black_box_note(names: Iterable[str]) -> str:
    """Return what black-box attacks alone say of a model, without a full stop.

    Empty: one of the attacks ``names`` needs the gradient, or there is none.
    """
    attacks = [name for name in names if name not in ("clean", WORST_CASE)]
    if not attacks or any(map(needs_gradient, attacks)):
        return ""
    return (
        f"black-box attacks alone ({', '.join(attacks)}): no gradient of the model was followed, so the accuracies are "
        "upper bounds of those under attacks by gradients"
    )


def caveats(warnings: Iterable[str], names: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the warnings that results came with, and the ``black_box_note`` on the attacks ``names``.

    Each is there once, without a full stop. Whoever shows the results shows these with them.
    """
    told = (text.strip().removesuffix(".") for text in (*warnings, black_box_note(names)))
    return tuple(text for text in dict.fromkeys(told) if text)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """One attack on n images."""

    name: str
    """Name of the attack, such as pgd-100."""
    settings: dict[str, Any]
    """Settings of the attack, as JSON values."""
    correct: Tensor
    """bool [n]: whether the model still predicts each image's label."""
    seconds: float | None
    """Wall time. None: the result was read off the trajectory of ``shared_with``."""
    forwards: int | None
    """Images passed forward. None: as above, or not known, of a function that calls the model itself."""
    backwards: int | None
    """Images passed backward. None: as above."""
    shared_with: str | None = None
    """Attack whose run also produced this result. None: this one."""
    answers: Answers | None = None
    """Answers on the attacked images; of an image that the attack did not take, those on the example that broke it
    before. None: a file of a version that kept none."""

    @property
    def accuracy(self) -> float:
        """Fraction of images withstood, in [0, 1]."""
        return float(self.correct.double().mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy over images drawn like these."""
        return wilson_interval(int(self.correct.sum()), len(self.correct))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All attacks on the same n images. It prints as a table, on a terminal and in a notebook."""

    results: tuple[AttackResult, ...]
    """In the order asked for."""
    indices: Tensor
    """int64 [n]: positions of the images in the test set."""
    eps: float
    """Radius of the ball."""
    seed: int
    """Seed of the random starts."""
    batch_size: int
    """Images attacked at once."""
    hardware: str
    """Processor or graphics card."""
    norm: Norm = "Linf"
    """Norm of the ball."""
    also: str | None = None
    """Further balls of a union, such as L2:0.5,L1:12; the names of the attacks in them begin with the norm."""
    images: str | None = None
    """SHA-256 of the n images and their labels, in order. None: a file of format 1. Evaluations with one digest can be
    compared image by image."""
    versions: dict[str, str | None] = field(default_factory=dict)
    """Versions of nuat and of the packages that numbers depend on."""
    warnings: tuple[str, ...] = ()
    """Warnings about the model; not written when empty."""
    search_precision: str = "fp32"
    """Arithmetic in which attacks searched, fp32, tf32 or bf16; every success was confirmed in fp32."""
    compiled: bool = False
    """Whether attacks searched on a compiled copy; not written when false."""
    labels: Tensor | None = None
    """int64 [n]: labels of the images. None: a file of a version that kept none."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the labels; numbers where the images have no names."""
    temperature: float = 1.0
    """Temperature of the probabilities, which the model brings (``nuat export --temperature``)."""

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.indices)

    @property
    def worst_case(self) -> Tensor:
        """Images that withstood every attack and are classified correctly, bool [n]."""
        return torch.stack([result.correct for result in self.results]).all(dim=0)

    @property
    def by_ball(self) -> tuple["Evaluation", ...]:
        """For each ball of a union that was attacked, its part of this evaluation as if it were alone. Else empty."""
        if self.also is None:
            return ()
        balls = ThreatConfig(norm=self.norm, eps=self.eps, also=self.also).parts
        parts = (part_within(self, ball.norm, ball.eps) for ball in balls)
        return tuple(part for part in parts if part is not None)

    @property
    def worst_cases(self) -> dict[str, Tensor]:
        """For each norm of a union, the images that withstood every attack in its ball, bool [n]. Else empty."""
        return {one.norm: one.worst_case for one in self.by_ball}

    @property
    def by_norm(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """For each norm of a union, the worst case's accuracy and its 95 % interval. Else empty."""
        return {
            norm: (float(flags.double().mean()), wilson_interval(int(flags.sum()), self.n))
            for norm, flags in self.worst_cases.items()
        }

    @property
    def black_box(self) -> str:
        """Note that only black-box attacks ran, see ``black_box_note``; empty: others did."""
        return black_box_note(result.name for result in self.results)

    @property
    def caveats(self) -> tuple[str, ...]:
        """Warnings to read before the accuracies are believed, see ``caveats``."""
        return caveats(self.warnings, (result.name for result in self.results))

    def accuracy(self, name: str) -> float:
        """Return the accuracy, in [0, 1], of the attack of that name, or of ``WORST_CASE``."""
        if name in (WORST_CASE, "worst case"):  # as the table writes it
            return float(self.worst_case.double().mean())
        for result in self.results:
            if result.name == name:
                return result.accuracy
        raise InputError(f"no result {name!r}; there are: {', '.join(r.name for r in self.results)}, {WORST_CASE}.")

    def answers(self, name: str = WORST_CASE) -> Answers | None:
        """Return the answers under the attack of that name, or the worst of all, see ``nuat.evaluation.answers.worst``.

        None: the file is of a version that kept none.
        """
        self.accuracy(name)  # refuse an unknown one
        of = [one.answers for one in self.results if name in (one.name, WORST_CASE)]
        known = [answers for answers in of if answers is not None]
        if self.labels is None or len(known) < len(of):
            return None
        return worst(known, self.labels)

    def per_class(self, name: str = WORST_CASE) -> tuple[ClassResult, ...]:
        """Return a result for each class under the attack of that name; empty: the file is of an older version."""
        return class_results(self, name)

    def calibration_error(self, name: str) -> float | None:
        """Return the expected calibration error, in [0, 1], under the attack of that name, see ``answers``.

        Source: Guo et al. 2017, with 15 bins.
        """
        answers = self.answers(name)
        if answers is None or self.labels is None:
            return None
        return calibration_error(answers.confidence, answers.predicted == self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the worst case."""
        return wilson_interval(int(self.worst_case.sum()), self.n)

    def table(self) -> Table:
        """Return a table for the terminal."""
        return evaluation_table(self)

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with one row per attack, the worst case last.

        Its columns are attack, accuracy, low and high (the 95 % interval), correct, n, seconds, forwards and backwards.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-not-found, import-untyped, unused-ignore]  # not among our requirements
        except ImportError:
            raise InputError("to_pandas needs pandas; install it with: pip install pandas") from None
        rows = [
            (one.name, one.accuracy, *one.interval, int(one.correct.sum()), one.seconds, one.forwards, one.backwards)
            for one in self.results
        ]
        worst = self.worst_case
        rows.append((WORST_CASE, self.accuracy(WORST_CASE), *self.interval, int(worst.sum()), None, None, None))
        columns = ["attack", "accuracy", "low", "high", "correct", "seconds", "forwards", "backwards"]
        frame = pandas.DataFrame(rows, columns=columns)
        frame.insert(5, "n", self.n)
        return frame

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; ``correct`` as a string of 0 and 1, one per image, and all test images as "0-9999"."""
        rows = [
            {
                **{k: v for k, v in asdict(replace(result, answers=None)).items() if k not in ("correct", "answers")},
                "accuracy": result.accuracy,
                "interval": list(result.interval),
                "correct": flags_to_text(result.correct),
                **({} if result.answers is None else result.answers.to_json()),
            }
            for result in self.results
        ]
        by_norm = {norm: {"accuracy": one, "interval": list(ends)} for norm, (one, ends) in self.by_norm.items()}
        return {
            "format": _FORMAT,
            "norm": self.norm,
            "eps": self.eps,
            **({} if self.also is None else {"also": self.also}),
            "n": self.n,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "images_sha256": self.images,
            "hardware": self.hardware,
            "search_precision": self.search_precision,
            **({"compiled": True} if self.compiled else {}),
            "versions": self.versions,
            **({"warnings": list(self.warnings)} if self.warnings else {}),
            "worst_case": {"accuracy": self.accuracy(WORST_CASE), "interval": list(self.interval)},
            **({} if self.also is None else {"worst_case_by_norm": by_norm}),
            **self._classes_to_json(),
            "results": rows,
            "indices": indices_to_json(self.indices),
        }

    def _classes_to_json(self) -> dict[str, Any]:
        """Return labels and names of the classes, and what follows from them and the answers."""
        if self.labels is None:
            return {}
        rows = [{**asdict(one), "accuracy": one.accuracy, "interval": list(one.interval)} for one in self.per_class()]
        names = [*(result.name for result in self.results), WORST_CASE]
        errors = {name: self.calibration_error(name) for name in names}
        return {
            "temperature": self.temperature,
            "calibration_error": {"bins": BINS, **errors},
            "per_class": {"attack": WORST_CASE, "classes": rows},
            "classes": list(self.classes),
            "labels": self.labels.tolist(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Evaluation":
        """Return the evaluation that ``to_json`` wrote."""
        if values.get("format") not in FORMATS:
            raise InputError(f"evaluation format {values.get('format')!r}: this version reads {FORMATS}.")
        kept = ("name", "settings", "seconds", "forwards", "backwards", "shared_with")
        results = tuple(
            AttackResult(
                correct=text_to_flags(row["correct"]),
                answers=Answers.from_json(row) if {"predicted", "confidence"} <= row.keys() else None,
                **{k: row[k] for k in kept},
            )
            for row in values["results"]
        )
        indices = json_to_indices(values["indices"])
        rest = {k: values[k] for k in ("norm", "eps", "seed", "batch_size", "hardware")}
        # the first files had none of these
        known = {"images": values.get("images_sha256"), "versions": values.get("versions", {})}
        known["warnings"] = tuple(values.get("warnings", ()))
        known["also"] = values.get("also")
        known["search_precision"] = values.get("search_precision", "fp32")
        known["compiled"] = values.get("compiled", False)
        known["labels"] = torch.tensor(values["labels"], dtype=torch.int64) if "labels" in values else None
        known["classes"], known["temperature"] = tuple(values.get("classes", ())), values.get("temperature", 1.0)
        return cls(results=results, indices=indices, **known, **rest)

    def save(self, path: Path) -> None:
        """Write the JSON of ``to_json`` to ``path``, whole."""
        write_json(path, self.to_json())


def flags_to_text(flags: Tensor) -> str:
    """Return bool [n] as a string of n characters 0 and 1."""
    return "".join("1" if flag else "0" for flag in flags.tolist())


def text_to_flags(text: str) -> Tensor:
    """Return the bool [n] of ``flags_to_text``."""
    return torch.tensor([character == "1" for character in text], dtype=torch.bool)


def indices_to_json(indices: Tensor) -> str | list[int]:
    """Return int64 [n] as "first-last" where they are consecutive, else as a list."""
    if len(indices) and bool((indices.diff() == 1).all()):
        return f"{int(indices[0])}-{int(indices[-1])}"
    return indices.tolist()


def json_to_indices(written: str | list[int]) -> Tensor:
    """Return the int64 [n] of ``indices_to_json``."""
    if isinstance(written, str):
        first, _, last = written.partition("-")
        return torch.arange(int(first), int(last) + 1)
    return torch.tensor(written, dtype=torch.int64)
