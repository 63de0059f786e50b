"""Arguments that evaluate() refuses before anything runs."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from evaluation_models import THREAT, Watched, tiny_case
from torch import Tensor, nn

from nuat.attacks.catalogue import CATALOGUE
from nuat.data import ImageSet
from nuat.errors import InputError
from nuat.evaluation.evaluate import evaluate


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        (("clean", "pgd10"), "unknown attack 'pgd10'. Did you mean 'pgd-100'?"),
        (("clean", "gama100"), "Did you mean 'gama-100'?"),
        (("fsgm",), "Did you mean 'fgsm'?"),
        (("autoatack",), "Did you mean 'autoattack'?"),
        (("gama-0",), "unknown attack 'gama-0'"),
        (("pgd-0",), "unknown attack 'pgd-0'"),
        (("pgd--5",), "unknown attack 'pgd--5'"),
        (("pgd-05",), "unknown attack 'pgd-05'"),
        (("pgd-1.5",), "unknown attack 'pgd-1.5'"),
        (("pgd-<steps>",), "unknown attack"),
        (("CLEAN",), "unknown attack 'CLEAN'"),
        (("zzz",), f"unknown attack 'zzz'. Attacks: {', '.join(CATALOGUE)}; or FILE.py:NAME, your own."),
        ((), "give at least one attack"),
        (("clean", "pgd-2", "clean"), "attacks='clean,pgd-2,clean': give at least one attack, and each once."),
        (("pgd-2", "pgd-2"), "each once"),
        (("clean", "transfer"), "transfer: needs a surrogate; give --surrogate MODEL (surrogate=model)."),
    ],
)
def test_attacks_that_cannot_be_named(attacks: tuple[str, ...], message: str) -> None:
    model, images = tiny_case(8)
    watched = Watched(model)
    with pytest.raises(InputError) as refused:
        evaluate(watched, images, attacks, threat=THREAT)
    assert message in str(refused.value)
    assert watched.calls == 0


def test_a_missing_extra_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    model, images = tiny_case(8)
    watched = Watched(model)
    with pytest.raises(InputError, match=r"pip install 'nuat\[autoattack\]'"):
        evaluate(watched, images, ("clean", "pgd-5", "autoattack"), threat=THREAT)
    assert watched.calls == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 9}, r"n=9: expected 1 to 8"),
        ({"n": 0}, r"n=0: expected 1 to 8"),
        ({"n": -1}, r"n=-1: expected 1 to 8"),
        ({"batch_size": 0}, r"batch_size=0"),
        ({"batch_size": -3}, r"batch_size=-3"),
    ],
)
def test_numbers_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    model, images = tiny_case(8)
    watched = Watched(model)
    with pytest.raises(InputError, match=message):
        evaluate(watched, images, ("clean",), threat=THREAT, **settings)
    assert watched.calls == 0


class Changed(nn.Module):
    """A model whose output is changed."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model, _ = tiny_case(8)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.model(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits * float("nan"), "infinite or NaN"),
        (lambda logits: logits.index_fill(1, torch.tensor([2]), float("inf")), "infinite or NaN"),
        (lambda logits: logits.index_fill(0, torch.tensor([7]), float("-inf")), "infinite or NaN"),
        (lambda logits: (logits, logits), "it returned tuple"),
        (lambda logits: {"logits": logits}, "it returned dict"),
        (lambda logits: logits[:, :, None], r"it returned \[8, 4, 1\]"),
        (lambda logits: logits.argmax(dim=1), r"it returned \[8\]"),
        (lambda logits: logits[:, :3], "returns 3 logits, but the images have 4 classes"),
    ],
    ids=["nan", "inf", "one image", "tuple", "dict", "three dimensions", "no logits", "too few classes"],
)
def test_models_that_do_not_return_logits(change: Callable[[Tensor], Any], message: str) -> None:
    _, images = tiny_case(8)
    images = ImageSet(images.images, torch.arange(8) % 4)
    with pytest.raises(InputError, match=message):
        evaluate(Changed(change), images, ("clean", "fgsm"), threat=THREAT)


def test_more_logits_than_classes_are_fine() -> None:
    _, images = tiny_case(8)
    wider = Changed(lambda logits: torch.cat([logits, logits[:, :1] - 1.0], dim=1))
    assert evaluate(wider, images, ("clean",), threat=THREAT).accuracy("clean") > 0.5


@pytest.mark.parametrize("attack", ["clean", "fgsm"])
def test_nan_that_shows_up_later_is_no_prediction_of_class_0(attack: str) -> None:
    """argmax calls NaN class 0: a model that fails on attacked images, or on later ones, must not count as robust."""
    model, images = tiny_case(12)
    seen = 0

    class Late(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            logits: Tensor = model(x)
            return logits if seen < late else logits * float("nan")

    late = 3 if attack == "clean" else 5  # the check, then two batches of the clean images, then the attack

    with pytest.raises(InputError, match=f"infinite or NaN under {attack}"):
        evaluate(Late(), images, (attack,), threat=THREAT, batch_size=6, inspected=True)


def test_attacks_by_gradients_are_refused_on_a_model_without_one() -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = model(x.detach())
            return logits

    model, images = tiny_case(8)
    said: list[str] = []
    with pytest.raises(InputError, match=r"fgsm, pgd-2: gradients are needed, but the loss .*--black-box"):
        evaluate(Detached(), images, ("clean", "fgsm", "pgd-2"), threat=THREAT, warn=said.append)
    assert "does not depend on the image by gradients" in said[0]
