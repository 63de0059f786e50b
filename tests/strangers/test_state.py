"""Models that change torch's state or their own in a pass, or that keep answers, and gradients that are not theirs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strangers.three_ways import Theirs, ThreeWays, alike, broken, case, library
from torch import Tensor, nn

Run = Callable[[nn.Module, Tensor], Tensor]


@contextmanager
def torch_kept() -> Iterator[None]:
    """Put back what these models change, should the guard not."""
    filters = warnings.filters[:]
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_autocast_enabled("cpu", False)
        torch.set_grad_enabled(True)
        torch.use_deterministic_algorithms(False)
        warnings.resetwarnings()
        warnings.filters[:] = filters  # type: ignore[index]


SETTINGS: dict[str, Callable[[], Any]] = {
    "device": lambda: torch.set_default_device("meta"),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "filters that raise": lambda: warnings.simplefilter("error"),
    "filters that hide": lambda: warnings.simplefilter("ignore"),
    "algorithms": lambda: torch.use_deterministic_algorithms(True),
}


@pytest.mark.slow
@settings(max_examples=10)
@given(st.sets(st.sampled_from(sorted(SETTINGS)), min_size=1), st.sampled_from(["before", "after"]), st.integers(5, 60))
def test_settings_that_a_model_changes_change_no_verdict(names: set[str], when: str, batch_size: int) -> None:
    def changes(model: nn.Module, x: Tensor) -> Tensor:
        logits: Tensor = model(x.clone())
        x.detach().zero_()  # there is something to warn about
        for name in sorted(names):
            SETTINGS[name]()
        return model(torch.zeros_like(x)) * 0 + logits if when == "before" else logits

    with torch_kept():
        found = library(Theirs(changes), batch_size=batch_size)
        assert torch.get_default_dtype() is torch.float32
        assert torch.empty(0).device.type == "cpu"
    assert found.error == ""
    assert found.verdicts == library(Theirs(lambda model, x: model(x)), batch_size=batch_size).verdicts
    assert "writes into its input" in found.said


@pytest.mark.slow
def test_a_default_device_that_a_model_sets_is_put_back_in_every_way(three_ways: ThreeWays) -> None:
    def sets(model: nn.Module, x: Tensor) -> Tensor:
        torch.set_default_device("meta")
        return model(x)

    with torch_kept():
        outcomes = three_ways(Theirs(sets))
    alike(outcomes, broken())


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [lambda k: k % 2, lambda k: 7 + k % 3, lambda k: k, lambda k: None])
def test_a_model_that_seeds_by_turns_does_not_make_square_repeat_its_draws(seeds: Callable[[int], int | None]) -> None:
    """Else 90 % of digits withstood 50 queries where 56 % do."""
    pytest.importorskip("pyautoattack", reason="the autoattack extra is not installed")
    passes: list[int] = []

    def seeding(model: nn.Module, x: Tensor) -> Tensor:
        passes.append(len(x))
        seed = seeds(len(passes))
        torch.default_generator.seed() if seed is None else torch.manual_seed(seed)
        return model(x)

    attacks = ("clean", "square-60")
    found, twin = (library(Theirs(run), attacks=attacks) for run in (seeding, lambda model, x: model(x)))
    assert found.verdicts == twin.verdicts
    assert "seeds torch's random numbers" in found.said


def test_draws_of_a_first_pass_alone_are_no_seeding() -> None:
    """As layers draw that take their shape from their first images."""
    drawn: list[Tensor] = []

    def once(model: nn.Module, x: Tensor) -> Tensor:
        drawn.append(torch.rand(3)) if not drawn else None
        return model(x)

    assert library(Theirs(once), attacks=("clean",)).said == ""


class Keeping(nn.Module):
    """A model that keeps its answers, by some property of its input."""

    def __init__(self, key: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.theirs = Theirs(lambda model, x: model(x))
        self.key, self.kept = key, dict[Any, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x), x.requires_grad, len(x)
        if key not in self.kept:
            self.kept[key] = self.theirs(x)
        return self.kept[key]


@pytest.mark.slow
@pytest.mark.parametrize("key", [id, Tensor.data_ptr, lambda x: (id(x), x._version)])
def test_a_model_that_keeps_answers_by_memory_is_refused(key: Callable[[Tensor], Any], three_ways: ThreeWays) -> None:
    """Else 82 % of digits withstood Square where 56 % do."""
    for make in (library, lambda model: three_ways.command("evaluate", model, case(), "--attacks", "clean,fgsm")):
        assert "the model answers other images in the same memory as the images before" in make(Keeping(key)).error


def test_a_model_that_keeps_answers_by_the_images_is_evaluated() -> None:
    def of_values(x: Tensor) -> bytes:
        return x.detach().numpy().tobytes()

    class Fresh(Keeping):
        def forward(self, x: Tensor) -> Tensor:
            return self.theirs(x) if x.requires_grad else super().forward(x)

    found = library(Fresh(of_values))
    assert found.said == ""
    assert found.verdicts == broken().verdicts


def after(passes: int, then: Run) -> Run:
    """Return what runs as ``then`` after some passes."""
    done: list[int] = []

    def run(model: nn.Module, x: Tensor) -> Tensor:
        done.append(len(x))
        return model(x) if len(done) <= passes else then(model, x)

    return run


CHANGES = "the model changes as it is used: it answers "


@pytest.mark.slow
@pytest.mark.parametrize("passes", [1, 14, 18, 25])
def test_a_model_that_changes_after_some_passes_is_called_so(passes: int, three_ways: ThreeWays) -> None:
    def turned(model: nn.Module, x: Tensor) -> Tensor:
        logits: Tensor = model(x)
        return logits.roll(1, dims=1)

    told = library(Theirs(after(passes, turned)), attacks=("clean", "pgd-20")).said
    assert (CHANGES in told) or (passes == 1 and "is random" in told)
    told = three_ways.command("evaluate", Theirs(after(passes, turned)), case(), "--attacks", "clean,pgd-20").said
    assert (CHANGES in told) or (passes == 1 and "is random" in told)
    assert library(Theirs(after(passes, lambda model, x: model(x)))).said == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "then", [lambda model, x: model(x).detach(), lambda model, x: model(x.detach()) + 0 * model.weight.sum()]
)
def test_gradients_that_are_lost_after_some_passes_are_told(then: Run) -> None:
    """Else 94 % of digits withstood GAMA-PGD where 4 % do."""
    network = Theirs(lambda model, x: model(x)).model
    network.weight = next(network.parameters())  # type: ignore[assignment]
    found = library(Theirs(after(15, then), network), attacks=("clean", "pgd-20"))
    assert found.accuracy("pgd-20") > broken().accuracy("pgd-5")
    assert "the model gave no gradient in the image in " in found.said


def test_nothing_is_told_of_gradients_that_arrive() -> None:
    attacks = ("clean", "fgsm", "pgd-3", "gama-3", "mi-fgsm-3", "adaptive-2")
    assert library(Theirs(lambda model, x: model(x)), attacks=attacks).said == ""


class Backward(torch.autograd.Function):
    """The identity, with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.back = back
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.back(gradient), None


@pytest.mark.slow
@pytest.mark.parametrize("back", [torch.neg, torch.randn_like, torch.ones_like])
def test_a_gradient_that_leads_down_is_called_so(back: Callable[[Tensor], Tensor], three_ways: ThreeWays) -> None:
    """Else 96 % of digits withstood PGD and GAMA-PGD where 4 % do, without a word."""
    torch.manual_seed(0)
    outcomes = three_ways(Theirs(lambda model, x: model(Backward.apply(x, back))))
    assert outcomes[0].accuracy("pgd-5") > broken().accuracy("pgd-5") + 0.3
    for outcome in outcomes:
        assert "a small step along the gradient, of 2/255 in each pixel, lowers the loss of" in outcome.said


def test_a_backward_pass_that_fails_later_is_one_line() -> None:
    passes: list[int] = []

    def back(gradient: Tensor) -> Tensor:
        passes.append(len(gradient))
        if len(passes) > 4:
            raise ValueError("no more\nof them")
        return gradient

    error = library(Theirs(lambda model, x: model(Backward.apply(x, back)))).error
    assert error == "the backward pass of the model fails (no more of them)."


def test_a_backward_pass_that_always_fails_leaves_the_way_without_gradients() -> None:
    def back(gradient: Tensor) -> Tensor:
        raise ValueError("none")

    error = library(Theirs(lambda model, x: model(Backward.apply(x, back)))).error
    assert error is not None
    assert "gradients are needed, but the backward pass of the model fails (none). Give --black-box" in error
