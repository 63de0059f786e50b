"""A stranger's model, evaluated by the library, by ``nuat evaluate`` and by ``nuat diagnose``."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_models import THREAT, tiny_case, verdicts
from torch import Tensor, nn

import nuat
from nuat.cli import main
from nuat.data import ImageSet
from nuat.diagnostics import strength, substitute
from nuat.errors import InputError

MODEL: nn.Module
"""The model that theirs.py returns."""
ATTACKS = ("clean", "fgsm", "pgd-5")


class Theirs(nn.Module):
    """A network of theirs, and what they do with it and the images."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Any], model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = tiny_case(60)[0].eval() if model is None else model
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(self.model, x)


@dataclass(frozen=True)
class Outcome:
    """Verdicts of one of the three ways, or why it refused."""

    verdicts: dict[str, list[bool]] = field(default_factory=dict)
    """By attack: the images that withstood it."""
    said: str = ""
    """The warnings, or everything that was printed."""
    error: str = ""
    """Why it was refused; empty: it was not."""

    def accuracy(self, attack: str) -> float:
        return sum(self.verdicts[attack]) / len(self.verdicts[attack])


def case() -> ImageSet:
    """60 images of four classes, 55 of which ``Theirs`` predicts as labelled."""
    return tiny_case(60)[1]


def library(model: nn.Module, images: ImageSet | None = None, attacks: tuple[str, ...] = ATTACKS, **settings: Any):
    """Return the outcome of ``nuat.evaluate``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = nuat.evaluate(model, case() if images is None else images, attacks, threat=THREAT, **settings)
        except InputError as error:
            return Outcome(error=str(error))
    said = [str(warning.message) for warning in caught]
    assert [text for text in said if text in found.warnings] == list(found.warnings)
    return Outcome(verdicts(found), " ".join(found.warnings))


def write_files(model: nn.Module, images: ImageSet, train: ImageSet | None = None) -> None:
    """Write theirs.py, whose ``make`` returns ``model``, and images.npz; None: it trains on the test images."""
    global MODEL
    MODEL = model
    arrays = {}
    for part, taken in (("train", images if train is None else train), ("test", images)):
        arrays |= {f"x_{part}": taken.images.permute(0, 2, 3, 1).numpy(), f"y_{part}": taken.labels.numpy()}
    np.savez("images.npz", **arrays)
    Path("theirs.py").write_text("from strangers import three_ways\n\n\ndef make():\n    return three_ways.MODEL\n")


class ThreeWays:
    """Runs a model in all three ways, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(
        self, model: nn.Module, images: ImageSet | None = None, *, options: tuple[str, ...] = (), **settings: Any
    ) -> tuple[Outcome, Outcome, Outcome]:
        """Return the outcomes: of the library with ``settings``, of the two commands with ``options``."""
        images = case() if images is None else images
        return (
            library(model, images, **settings),
            self.command("evaluate", model, images, "--attacks", ",".join(ATTACKS), *options),
            self.command("diagnose", model, images, *(word for word in options if word != "--black-box")),
        )

    def command(self, name: str, model: nn.Module, images: ImageSet, *options: str, out: str = "out.json") -> Outcome:
        """Return the outcome of a command whose results go to ``out``."""
        write_files(model, images)
        if out == "out.json":
            Path(out).unlink(missing_ok=True)
        threat = ("--eps", str(THREAT.eps), "--pgd-alpha", str(THREAT.pgd_alpha))
        self._capsys.readouterr()
        with self._quick():
            words = (name, "theirs.py:make", "--data.path", "images.npz", "--json", out, *threat, *options)
            code = main(list(words))
        printed, err = self._capsys.readouterr()
        assert "Traceback" not in printed + err
        if code == 2:
            assert len(err.splitlines()) == 1
            return Outcome(said=" ".join(printed.split()), error=err.strip())
        values = json.loads(Path(out).read_text())
        rows = values["evaluation"]["results"] if name == "diagnose" else values["results"]
        found = {row["name"]: [flag == "1" for flag in row["correct"]] for row in rows}
        return Outcome(found, " ".join(printed.split()))

    @contextmanager
    def _quick(self) -> Iterator[None]:
        """Let diagnose run the attacks of these tests alone."""
        with self._monkeypatch.context() as patch:
            patch.setattr("nuat.diagnostics.examination._STEPS", 5)
            patch.setattr(substitute, "BATCHES", 2)
            patch.setattr(strength, "COMPARISONS", ())
            patch.setattr(strength, "ATTACKS", ATTACKS)
            yield


def alike(outcomes: tuple[Outcome, ...], expected: Outcome) -> None:
    """Assert that all ways give the same verdicts, image by image, as ``expected``."""
    for outcome in outcomes:
        assert outcome.error == ""
        assert {name: outcome.verdicts[name] for name in ATTACKS} == {name: expected.verdicts[name] for name in ATTACKS}


def broken() -> Outcome:
    """Return the outcome of the plain network, most of whose images do not stand."""
    found = library(tiny_case(60)[0])
    assert found.accuracy("pgd-5") < 0.3 < 0.9 < found.accuracy("clean")
    return found
