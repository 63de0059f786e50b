"""autoattack-quick: CR and then Square; AutoAttack follows where gradients seem to mislead."""

import re
from typing import Any

import pytest
import torch
from evaluation_models import THREAT, evaluate, tiny_case
from oracles import shorten_autoattack
from torch import Tensor, nn

from nuat.attacks import CR, AutoAttack
from nuat.attacks.planned_jobs import jobs
from nuat.data import to_float
from nuat.distributed.world import World
from nuat.evaluation.quick_verdict import doubt_of_quick
from nuat.evaluation.result_table import as_text

pytest.importorskip("pyautoattack")


class Backwards(nn.Module):
    """The same function as its model, with a gradient in the image that points the other way."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(2 * x.detach() - x)
        return logits


class Saturated(Backwards):
    """The same function up to the sign of a margin; the gradient is 0 on most images."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return (1e4 * logits).clamp(-1.0, 1.0) + 1e-6 * logits.detach()


def test_it_is_cr_and_then_square_on_what_cr_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images = tiny_case(12)
    x, y = to_float(images.images), images.labels
    (job,) = jobs(["autoattack-quick"], model.eval(), THREAT, classes=4)
    made = job.run(x, y, 11)
    first = CR(model, eps=THREAT.eps, generator=torch.Generator().manual_seed(11))(x, y)
    left = (first == x).flatten(1).all(dim=1)
    assert 0 < int(left.sum()) < 12
    then = AutoAttack(model, eps=THREAT.eps, attacks=("square",), queries=1000, seed=11, batch_size=12)(
        x[left], y[left]
    )
    assert torch.equal(made["autoattack-quick"][~left], first[~left])
    assert torch.equal(made["autoattack-quick"][left], then)


@pytest.mark.slow
def test_an_ordinary_model_gets_no_further_attack() -> None:
    model, images = tiny_case()
    found = evaluate(model, images, ("clean", "fgsm", "autoattack-quick"), threat=THREAT)
    assert [result.name for result in found.results] == ["clean", "fgsm", "autoattack-quick"]
    assert found.accuracy("autoattack-quick") <= found.accuracy("fgsm")
    assert found.warnings == ()
    assert "autoattack-quick is CR and then Square: an upper bound of AutoAttack's accuracy" in as_text(found)
    assert found.results[-1].settings["after"] == ["clean", "fgsm"]


def test_a_gradient_that_misleads_cr_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images = tiny_case()
    with pytest.warns(UserWarning, match=r"Square broke \d+ of 60 images that CR, which follows gradients, did not"):
        found = evaluate(Backwards(model), images, ("autoattack-quick",), threat=THREAT)
    assert [result.name for result in found.results] == ["autoattack-quick", "autoattack"]
    assert "autoattack-quick is not to be believed here, and AutoAttack follows" in found.warnings[0]
    assert found.accuracy("autoattack") <= found.accuracy("autoattack-quick")
    assert found.results[-1].settings["after"] == ["autoattack-quick"]


@pytest.mark.slow
def test_a_gradient_of_zero_is_noticed_even_if_the_two_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images = tiny_case()
    with pytest.warns(UserWarning, match="gradient"):
        found = evaluate(Saturated(model), images, ("autoattack-quick",), threat=THREAT)
    assert found.results[-1].name == "autoattack"


class Undefined(Backwards):
    """The same function as its model; the gradient is NaN at one image."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__(model)
        self.image = image

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits + 0.0 * (x - self.image).flatten(1).norm(dim=1, keepdim=True).sqrt()


class UndefinedBeside(Undefined):
    """The gradient is NaN everywhere but at the images."""

    def forward(self, x: Tensor) -> Tensor:
        near = (x.detach()[:, None] == self.image).flatten(2).all(dim=2).any(dim=1, keepdim=True)
        logits: Tensor = self.model(x)
        return logits + 0.0 * (near * (1.0 + x.flatten(1))).sqrt().sum(dim=1, keepdim=True)


def test_a_gradient_that_is_nan_beside_the_images_is_noticed() -> None:
    model, images = tiny_case()
    stand = torch.ones(len(images), dtype=torch.bool)
    beside = UndefinedBeside(model.eval(), to_float(images.images))
    assert "Square came closer" in doubt_of_quick(beside, images, THREAT.eps, stand, stand)


@pytest.mark.slow
def test_a_gradient_that_is_nan_at_one_image_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images = tiny_case()
    x = to_float(images.images)
    with torch.no_grad():
        wrong = int((model.eval()(x).argmax(dim=1) != images.labels).nonzero()[0])  # no attack takes it
    with pytest.warns(UserWarning, match="NaN.* is not to be believed here, and AutoAttack follows"):
        found = evaluate(Undefined(model, x[wrong]), images, ("autoattack-quick",), threat=THREAT)
    assert [result.name for result in found.results] == ["autoattack-quick", "autoattack"]


def test_a_search_without_gradients_that_comes_closer_is_noticed_before_it_succeeds() -> None:
    model, images = tiny_case()
    with torch.no_grad():
        both = model.eval()(to_float(images.images)).argmax(dim=1) == images.labels
    assert doubt_of_quick(model, images, THREAT.eps, both, both) == ""
    why = doubt_of_quick(Backwards(model), images, THREAT.eps, both, both)
    assert re.fullmatch(rf"Square came closer .* than PGD, .* on \d+ of {int(both.sum())} images", why)
    assert doubt_of_quick(Backwards(model), images, THREAT.eps, both & False, both & False) == ""  # nothing is left


@pytest.mark.parametrize(("images", "follows"), [(60, True), (2000, False), (1999, True)])
def test_an_image_that_square_breaks_beside_cr_counts_by_its_share(images: int, follows: bool) -> None:
    model, some = tiny_case()
    many = some.select(torch.arange(images) % len(some))
    cr = torch.arange(images) < 1
    assert ("Square broke 1 of" in doubt_of_quick(model.eval(), many, THREAT.eps, cr, cr & False)) == follows


def test_autoattack_is_not_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images = tiny_case()
    found = evaluate(Backwards(model), images, ("autoattack-quick", "autoattack"), threat=THREAT)
    assert [result.name for result in found.results] == ["autoattack-quick", "autoattack"]
    assert found.warnings == ()


@pytest.mark.parametrize("doubt", ["", "the gradient is masked"])
def test_the_first_process_decides_for_all(monkeypatch: pytest.MonkeyPatch, doubt: str) -> None:
    """A model may answer each process differently; one that attacked alone would wait for the others for ever."""

    class Told(World):
        def agree(self, value: Any) -> Any:
            return doubt if isinstance(value, str) else value

    shorten_autoattack(monkeypatch)
    model, images = tiny_case(8)
    monkeypatch.setattr("nuat.evaluation.evaluate.doubt_of_quick", lambda *_: "" if doubt else "my own")
    found = evaluate(model, images, ("autoattack-quick",), threat=THREAT, world=Told(), warn=lambda _: None)
    assert [result.name for result in found.results] == ["autoattack-quick", *["autoattack"] * bool(doubt)]
