"""The adapter on AutoAttack: the verdicts of the official package, and its limits named or lifted."""

import logging
import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Linear, TinyConv, assert_inside, images, labels, shorten_autoattack
from torch import Tensor, nn

from nuat.attacks import PGD, AutoAttack, lineups
from nuat.core.threat import Norm
from nuat.errors import InputError

EPS = 8 / 255
V1 = ["apgd-ce", "apgd-dlr", "fab", "square"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)


def own_labels(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x).argmax(1)


def verdicts(model: nn.Module, x_adv: Tensor, y: Tensor) -> list[bool]:
    return (own_labels(model, x_adv) == y).tolist()


def official(model: nn.Module, eps: float, version: str, seed: int) -> Any:
    package = pytest.importorskip("pyautoattack")
    settings = {"version": "standard"} if version == "standard" else {"version": "custom", "attacks": V1}
    attack = package.AutoAttack(model.eval(), eps=eps, seed=seed, **settings)
    attack.verbose = False
    return attack


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("version", "classes"), [("standard", 10), ("v1", 5)])
def test_verdicts_of_the_official_package(version: str, classes: int) -> None:
    """Some images are misclassified, some broken, some withstand; batches of 3 of 8 images."""
    model = TinyConv(1, classes, dropout=0.0, seed=3)
    x = images(8, 1, 8)
    y = own_labels(model, x)
    y[0] = (y[0] + 1) % classes
    theirs, _ = official(model, 0.02, version, 5).run_standard_evaluation(x, y, batch_size=3)
    ours = AutoAttack(model, eps=0.02, version=version, seed=5, batch_size=3)(x, y)
    expected = verdicts(model, theirs, y)
    assert verdicts(model, ours, y) == expected
    assert not expected[0]
    assert 1 < sum(expected) < 7
    assert_inside(ours, x, 0.02)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    unbroken = [i for i, robust in enumerate(expected) if robust or i == 0]
    assert torch.equal(ours[unbroken], x[unbroken])


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("version", ["standard", "v1"])
@pytest.mark.parametrize("classes", [2, 3, 4, 5, 10])
def test_the_known_answer_for_any_number_of_classes(classes: int, version: str) -> None:
    """On a linear model an attack exists exactly where the oracle's margin is negative; AutoAttack finds it."""
    model = Linear(classes)
    x, y = images(12, 1), labels(12, classes)
    y[:10] = own_labels(model, x)[:10]
    # between the margins' steps: a radius that breaks about half of them
    radii = [eps / 255 for eps in range(1, 64)]
    counts = [int((model.worst_margins(x, y, eps) > 0).sum()) for eps in radii]
    eps = radii[min(range(len(radii)), key=lambda n: abs(counts[n] - 5))]
    margins = model.worst_margins(x, y, eps)
    assert float(margins.abs().min()) > 1e-4
    assert 2 <= int((margins > 0).sum()) <= 9
    x_adv = AutoAttack(model, eps=eps, version=version)(x, y)
    assert verdicts(model, x_adv, y) == (margins > 0).tolist()
    assert_inside(x_adv, x, eps)


@pytest.mark.parametrize(
    ("classes", "version", "expected"),
    [
        (2, "standard", ["apgd-ce", "fab-t", "square"]),
        (3, "standard", ["apgd-ce", "apgd-dlr", "fab-t", "square"]),
        (4, "standard", ["apgd-ce", "apgd-t", "fab-t", "square"]),
        (10, "standard", ["apgd-ce", "apgd-t", "fab-t", "square"]),
        (100, "standard", ["apgd-ce", "apgd-t", "fab-t", "square"]),
        (10, "v1", V1),
    ],
)
def test_the_line_up(classes: int, version: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The full budget of the paper that AutoAttack comes from, seen at the moment it runs."""
    package = pytest.importorskip("pyautoattack")
    seen: list[Any] = []

    def spy(self: Any, x: Tensor, y: Tensor, **keywords: Any) -> tuple[Tensor, Tensor]:
        seen.append((self, keywords))
        return x, y

    monkeypatch.setattr(package.AutoAttack, "run_standard_evaluation", spy)
    AutoAttack(Linear(classes), eps=EPS, version=version, seed=7, batch_size=11)(images(3, 1), labels(3, classes))
    ((run, keywords),) = seen
    assert run.attacks_to_run == expected
    assert (run.norm, run.epsilon, run.seed) == ("Linf", EPS, 7)
    assert keywords["batch_size"] == 11
    assert run.square.n_queries == 5000
    assert run.apgd.n_iter == run.apgd_targeted.n_iter == run.fab.n_iter == 100
    assert run.apgd_targeted.n_target_classes == run.fab.n_target_classes == min(9, classes - 1)
    if classes >= 4:
        assert run.apgd.n_restarts == run.fab.n_restarts == (1 if version == "standard" else 5)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return where the official object is put at the moment that it would run; it breaks nothing."""
    package = pytest.importorskip("pyautoattack")
    seen: list[Any] = []

    def spy(self: Any, x: Tensor, y: Tensor, **keywords: Any) -> tuple[Tensor, Tensor]:
        seen.append(self)
        return x, y

    monkeypatch.setattr(package.AutoAttack, "run_standard_evaluation", spy)
    return seen


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("attacks", [*((name,) for name in lineups.NAMES), ("square", "apgd-t", "fab", "fab-t")])
def test_a_line_up_of_ones_own(attacks: tuple[str, ...], norm, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    AutoAttack(TinyConv(1), eps=0.1, norm=norm, attacks=attacks)(images(3, 1, 5), labels(3, 4))
    (run,) = seen
    assert run.attacks_to_run == list(attacks)
    assert (run.version, run.norm, run.epsilon, run.square.n_queries) == ("custom", norm, 0.1, 5000)
    assert run.apgd.n_restarts == run.fab.n_restarts == 5
    assert run.apgd.norm == run.apgd_targeted.norm == run.fab.norm == run.square.norm == norm


def test_queries_reach_square(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    AutoAttack(Linear(4), eps=EPS, attacks=("apgd-ce", "square"), queries=123)(images(3, 1), labels(3, 4))
    assert seen[0].square.n_queries == 123


def test_square_asks_as_often_as_it_is_told() -> None:
    model = Linear(4)
    x = images(5, 1)
    y = own_labels(model, x)
    passes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    counts = []
    for queries in (10, 50):
        passes.clear()
        AutoAttack(model, eps=1e-4, attacks=("square",), queries=queries)(x, y)
        counts.append(len(passes))
    assert counts[1] - counts[0] == 40


def test_v2_by_its_line_up_is_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    AutoAttack(Linear(4), eps=EPS, attacks=("apgd-ce", "apgd-t", "fab-t", "square"))(images(3, 1), labels(3, 4))
    assert (seen[0].version, seen[0].apgd.n_restarts) == ("standard", 1)


class _Backward(torch.autograd.Function):
    """The identity, whose backward pass fails."""

    @staticmethod
    def forward(context: Any, x: Tensor, error: Exception) -> Tensor:
        context.error = error
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        raise context.error


class Failing(Linear):
    def __init__(self, classes: int, error: Exception) -> None:
        super().__init__(classes)
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = _Backward.apply(super().forward(x), self.error)
        return logits


@pytest.mark.parametrize("name", ["apgd-ce", "fab-t"])
def test_a_backward_pass_that_fails_is_one_line(name: str) -> None:
    """The package calls it by itself; Square asks for none. A forward pass that fails is no concern of it."""
    model, x, y = Failing(4, KeyError("no\ngradient")), images(3, 1), labels(3, 4)
    with pytest.raises(InputError, match=r"the backward pass of the model fails \('no\\ngradient'\)"):
        AutoAttack(model, eps=EPS, attacks=(name,))(x, model(x).argmax(1))
    AutoAttack(model, eps=EPS, attacks=("square",), queries=2)(x, y)


@pytest.mark.parametrize("attack", [AutoAttack, PGD])
def test_memory_that_runs_out_in_a_backward_pass_is_no_fault_of_the_model(attack: type) -> None:
    """The command line says what to do about it, by this text."""
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    model, x = Failing(4, error), images(3, 1)
    with pytest.raises(RuntimeError, match="can't allocate memory") as caught:
        attack(model, eps=EPS)(x, model(x).argmax(1))
    assert not isinstance(caught.value, InputError)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.parametrize("name", lineups.NAMES)
def test_each_attack_alone_on_a_linear_model(name: str, classes: int) -> None:
    """It breaks nothing that cannot be broken; those that follow a gradient or a boundary break all that can."""
    model = Linear(classes)
    x = images(12, 1)
    y = own_labels(model, x)
    radii = [eps / 255 for eps in range(1, 100)]
    eps = min(radii, key=lambda eps: abs(int((model.worst_margins(x, y, eps) > 0).sum()) - 6))
    margins = model.worst_margins(x, y, eps)
    assert float(margins.abs().min()) > 1e-4
    attack = AutoAttack(model, eps=eps, attacks=(name,))
    if classes < {"apgd-dlr": 3, "apgd-t": 4}.get(name, 2):
        with pytest.raises(InputError, match=f"{name} needs at least . classes; the model has {classes}"):
            attack(x, y)
        return
    x_adv = attack(x, y)
    assert_inside(x_adv, x, eps)
    broken = own_labels(model, x_adv) != y
    assert not bool((broken & (margins > 0)).any())
    if name in ("apgd-ce", "apgd-t", "fab", "fab-t"):
        assert torch.equal(broken, margins < 0)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("norm", "eps", "version"), [("L2", 0.2, "standard"), ("L2", 0.2, "v1"), ("L1", 1.0, "standard")]
)
def test_l2_and_l1_verdicts_of_the_official_package(norm: Norm, eps: float, version: str) -> None:
    model = TinyConv(1, 5, dropout=0.0, seed=3)
    x = images(8, 1, 10)
    y = own_labels(model, x)
    settings = {"version": "standard"} if version == "standard" else {"version": "custom", "attacks": V1}
    package = pytest.importorskip("pyautoattack")
    peer = package.AutoAttack(model.eval(), eps=eps, norm=norm, seed=5, **settings)
    peer.verbose = False
    peer.apgd_targeted.n_target_classes = peer.fab.n_target_classes = 4
    theirs, _ = peer.run_standard_evaluation(x, y, batch_size=3)
    ours = AutoAttack(model, eps=eps, norm=norm, version=version, seed=5, batch_size=3)(x, y)
    assert verdicts(model, ours, y) == verdicts(model, theirs, y)
    assert 0 < sum(verdicts(model, ours, y)) < 8
    assert_inside(ours, x, eps, norm)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("attacks", [("apgd-ce",), ("fab",), ("fab-t",)])
@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_the_known_answer_in_l2_and_l1(norm: Norm, attacks: tuple[str, ...]) -> None:
    """Far from the border of the box an image breaks exactly where eps exceeds its distance to the boundary."""
    model = Linear()
    x = 0.4 + 0.2 * torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.bias.copy_(-model(torch.full((1, 1, 4, 4), 0.5))[0])  # grey lies on the boundary
        logits = model(x)
        slope = (model.weight[0] - model.weight[1]).flatten()
        distance = (logits[:, 0] - logits[:, 1]).abs() / slope.norm(p=2 if norm == "L2" else torch.inf)
    y = logits.argmax(1)
    eps = float(distance.sort().values[5:7].mean())
    assert eps < 0.3
    x_adv = AutoAttack(model, eps=eps, norm=norm, attacks=attacks)(x, y)
    assert verdicts(model, x_adv, y) == (distance > eps).tolist()
    assert_inside(x_adv, x, eps, norm)


@pytest.mark.parametrize("size", [4, 12, 14])
def test_images_that_square_cannot_tile_in_l2_are_refused(size: int) -> None:
    pytest.importorskip("pyautoattack")
    for settings in ({}, {"attacks": ("square",)}):
        with pytest.raises(InputError, match=f"square in L2 cannot tile images of {size} x {size}"):
            AutoAttack(TinyConv(1), eps=0.5, norm="L2", **settings)(images(2, 1, size), labels(2, 4))


@pytest.mark.parametrize(("height", "width"), [(h, w) for h in range(4, 34, 3) for w in (h, h + 3)])
def test_what_is_refused_in_l2_is_what_the_package_cannot_do(height: int, width: int) -> None:
    package = pytest.importorskip("pyautoattack.square")
    model = TinyConv(1).eval()
    x = images(2, 1, max(height, width))[:, :, :height, :width]
    square = package.SquareAttack(model, norm="L2", eps=0.01, n_queries=1, device="cpu")
    try:
        lineups.check_square("L2", height, width)
    except InputError:
        with pytest.raises((ZeroDivisionError, RuntimeError)):
            square.perturb(x, own_labels(model, x))
    else:
        square.perturb(x, own_labels(model, x))


@pytest.mark.parametrize("size", [28, 32, 64, 96, 224, 299])
def test_the_usual_sizes_are_not_refused_in_l2(size: int) -> None:
    lineups.check_square("L2", size, size)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("size", [1, 4])
def test_global_generators_and_the_logger_are_left_alone(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    model = Linear(4)
    x, y = images(size, 1), labels(size, 4)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    first = AutoAttack(model, eps=EPS, seed=1)(x, y)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]
    torch.rand(3)
    assert torch.equal(AutoAttack(model, eps=EPS, seed=1)(x, y), first)
    assert not logging.getLogger().handlers or logging.getLogger("auto-attack").propagate
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_weights_are_trainable_again_when_an_attack_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("pyautoattack")

    def fail(self: Any, *arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(package.AutoAttack, "run_standard_evaluation", fail)
    model = TinyConv(1).train()
    model.conv1.weight.requires_grad_(False)
    with pytest.raises(RuntimeError, match="out of memory"):
        AutoAttack(model, eps=EPS)(images(2, 1), labels(2, 4))
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert model.training


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(InputError, match=r"pip install 'nuat\[autoattack\]'"):
        AutoAttack(Linear(), eps=EPS)


def test_pixels_that_the_package_leaves_as_nan_are_those_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    class Package:
        def run_standard_evaluation(self, x: Tensor, y: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
            moved = (x + 0.05).clamp(max=1.0)
            moved[0, :, 0] = float("nan")
            return moved, y

    monkeypatch.setattr(AutoAttack, "_configured", lambda *arguments: Package())
    model, x = TinyConv(3, 4), images(2)
    x_adv = AutoAttack(model, eps=0.1)(x, torch.tensor([0, 1]))
    assert torch.equal(x_adv[0, :, 0], x[0, :, 0])
    assert torch.equal(x_adv[1], (x[1] + 0.05).clamp(max=1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": torch.Generator()}, "give seed instead of generator"),
        ({"version": "v2"}, r"version='v2': expected 'standard' \(v2\), 'v1' or 'fast'"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
        ({"eps": 8}, r"Did you mean 8/255\?"),
        ({"norm": "L7"}, "norm='L7': AutoAttack is defined for Linf, L2, L1"),
        ({"attacks": ()}, r"attacks=\(\): expected one or more of apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square"),
        ({"attacks": ("apgd",)}, r"attacks=\('apgd',\): expected one or more"),
        ({"attacks": ("fab", "fab")}, "each once"),
        ({"attacks": ("fab-t", "fab")}, "put fab before fab-t"),
        ({"attacks": ("fab",), "version": "v1"}, "version='v1' has no effect together with attacks"),
        ({"queries": 10}, "queries has no effect without 'square' in attacks"),
        ({"queries": 10, "attacks": ("fab",)}, "queries has no effect without 'square' in attacks"),
        ({"queries": 0, "attacks": ("square",)}, "queries=0: expected at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoAttack(Linear(), **{"eps": EPS, **settings})
