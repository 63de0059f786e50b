"""Models that compute in other types, lose a batch of one, have no or no finite gradient, or refuse hooks."""

import re
import warnings
from typing import Any

import pytest
import torch
from evaluation_models import THREAT, tiny_case
from hypothesis import given, settings
from hypothesis import strategies as st
from strangers.three_ways import Theirs, ThreeWays, alike, broken, case, library
from torch import Tensor, nn

import nuat
from nuat.data import ImageSet

DTYPES = [torch.float16, torch.bfloat16, torch.float64]


def network() -> nn.Module:
    return tiny_case(60)[0].eval()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_in_another_type_is_evaluated(dtype: torch.dtype, three_ways: ThreeWays) -> None:
    """It takes images in its own type alone, and its logits come in it."""
    model = network().to(dtype)
    explicit = Theirs(lambda m, x: m(x.to(dtype)).float(), network().to(dtype))
    alike(three_ways(model), library(explicit))


@pytest.mark.slow
@settings(max_examples=10)
@given(st.sampled_from(DTYPES), st.booleans(), st.integers(7, 60), st.sampled_from(["square-10", "gama-4", "pgd-3"]))
def test_types_inside_and_outside(dtype: torch.dtype, logits_too: bool, batch_size: int, attack: str) -> None:
    model = network().to(dtype)

    def converting(m: nn.Module, x: Tensor) -> Tensor:
        logits: Tensor = m(x.to(dtype))
        return logits if logits_too else logits.float()

    found = library(Theirs(converting, model), attacks=("clean", attack), batch_size=batch_size)
    expected = library(
        Theirs(lambda m, x: m(x.to(dtype)).float(), model), attacks=("clean", attack), batch_size=batch_size
    )
    assert (found.error, found.verdicts) == ("", expected.verdicts)


@pytest.mark.slow
def test_autocast_inside_is_evaluated(three_ways: ThreeWays) -> None:
    def cast(m: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = m(x)
        return logits

    alike(three_ways(Theirs(cast)), library(Theirs(lambda m, x: cast(m, x).float())))
    assert library(Theirs(cast), attacks=("clean", "square-50")).error == ""


@pytest.mark.slow
def test_a_batch_of_one_that_loses_its_dimension_is_one_line(three_ways: ThreeWays) -> None:
    squeezing = Theirs(lambda m, x: m(x).squeeze())
    images = case()
    outcomes = three_ways(squeezing, images, options=("--batch-size", "59"), batch_size=59)
    for outcome in outcomes[:2]:
        assert "it returned [4] for a batch of 1. A squeeze() also drops a batch of one" in outcome.error
    alike(three_ways(squeezing, images), broken())


@pytest.mark.parametrize("batch_size", [60, 50])
def test_logits_of_another_number_in_a_later_batch_are_refused(batch_size: int) -> None:
    calls: list[int] = []

    def growing(m: nn.Module, x: Tensor) -> Tensor:
        calls.append(len(x))
        logits: Tensor = m(x)
        return logits if len(calls) < 12 else torch.cat([logits, logits], dim=1)

    assert "it returned [" in library(Theirs(growing), batch_size=batch_size).error


class SafeRoot(torch.autograd.Function):
    """A square root whose derivative at 0 is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sqrt()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where(x == 0, 0.0, gradient * 0.5 / x.sqrt())


def dark_case() -> ImageSet:
    """Images with black pixels, which a network of roots predicts as labelled."""
    images = case().images.clone()
    images[:, :, 0] = 0
    with torch.no_grad():
        labels = network()((images / 255).sqrt()).argmax(dim=1)
    return ImageSet(images, labels)


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_0_and_the_attack_goes_on(three_ways: ThreeWays) -> None:
    images = dark_case()
    outcomes = three_ways(Theirs(lambda m, x: m(x**0.5)), images)
    expected = library(Theirs(lambda m, x: m(SafeRoot.apply(x))), images)
    alike(outcomes, expected)
    assert expected.accuracy("pgd-5") < 0.5 < expected.accuracy("clean")
    for outcome in outcomes[:2]:
        assert "infinite or NaN" in outcome.said
    assert "infinite or NaN" not in expected.said


def test_it_is_said_of_a_model_that_the_caller_vouches_for_too() -> None:
    found = library(Theirs(lambda m, x: m(x**0.5)), dark_case(), inspected=True)
    assert "the gradient in the image was infinite or NaN in" in found.said


class Graphless(nn.Module):
    """Computes without a graph, as models in other frameworks do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits


NO_GRADIENT = [
    Graphless(),
    Theirs(lambda m, x: m(x.detach())),
    Theirs(lambda m, x: m(torch.from_numpy(x.numpy()))),  # which numpy refuses while there is a graph
    Theirs(lambda m, x: nn.functional.one_hot(m(x).argmax(dim=1), 4)),
]


@pytest.mark.slow
@pytest.mark.parametrize("model", NO_GRADIENT)
def test_attacks_by_gradients_are_refused_by_name_without_one(model: nn.Module, three_ways: ThreeWays) -> None:
    by_library, by_command, diagnosed = three_ways(model)
    for outcome in (by_library, by_command):
        assert "fgsm, pgd-5: gradients are needed, but the loss" in outcome.error
        assert "--black-box" in outcome.error
    # that there is none is what diagnose finds
    assert re.search(r"[1-9] FAIL", diagnosed.said)


@pytest.mark.slow
@pytest.mark.parametrize("model", NO_GRADIENT)
def test_a_black_box_is_attacked_by_square_and_transfer(
    model: nn.Module, three_ways: ThreeWays, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = library(model, attacks=("clean", "pgd-5", "square-20"), black_box=True, surrogate=network())
    assert list(found.verdicts) == ["clean", "square-20", "transfer"]
    assert "black-box attacks alone (square-20, transfer)" in found.said
    # the surrogate is the very network: its examples are those that break it
    assert found.accuracy("transfer") == library(network(), attacks=("clean", "mi-fgsm-10")).accuracy("mi-fgsm-10")
    told = three_ways.command("evaluate", model, case(), "--attacks", "clean,pgd-5,square-20", "--black-box")
    assert list(told.verdicts) == ["clean", "square-20", "transfer"]
    assert told.verdicts["square-20"] == found.verdicts["square-20"]
    assert "black-box attacks alone (square-20, transfer)" in told.said


class NoHooks(nn.Module):
    """Refuses hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits

    def register_forward_hook(self, *arguments: Any, **settings: Any) -> Any:
        raise RuntimeError("hooks are not supported")


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(network())


def frozen() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(scripted())


@pytest.mark.slow
@pytest.mark.parametrize("make", [scripted, frozen, NoHooks])
def test_models_that_refuse_hooks_are_evaluated_and_their_passes_counted(make: Any, three_ways: ThreeWays) -> None:
    model = make()
    alike(three_ways(model), broken())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts = [
            [(r.forwards, r.backwards) for r in nuat.evaluate(m, case(), ("clean", "pgd-3"), threat=THREAT).results]
            for m in (make(), network())
        ]
    assert counts[0] == counts[1]
    assert counts[0][1][1] > 0
