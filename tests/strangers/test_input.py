"""Models that write into their input, that refuse images outside [0, 1], or that expect another scaling."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strangers.three_ways import Outcome, Theirs, ThreeWays, alike, broken, case, library
from torch import Tensor, nn
from torch.nn import functional

from nuat.models import adapt

Run = Callable[[nn.Module, Tensor], Tensor]


def rounds(model: nn.Module, x: Tensor) -> Tensor:
    z = x.detach()
    z.mul_(255).round_().div_(255)
    return model(x)


def scales_through_numpy(model: nn.Module, x: Tensor) -> Tensor:
    a = x.detach().cpu().numpy()
    a *= 0.9
    return model(x)


def shifts_data(model: nn.Module, x: Tensor) -> Tensor:
    x.data.sub_(0.02)
    return model(x)


def normalises(model: nn.Module, x: Tensor) -> Tensor:
    return model(x.sub_(0.5).div_(0.5).mul(0.5).add(0.5))


def clamps(model: nn.Module, x: Tensor) -> Tensor:
    return model(x.clamp_(0.1, 0.9))


def blanks_a_corner(model: nn.Module, x: Tensor) -> Tensor:
    x.detach()[:, :, 0, 0] = 0.0
    return model(x)


def rectifies(model: nn.Module, x: Tensor) -> Tensor:
    return model(functional.relu(x.sub_(0.05), inplace=True))


def blanks_afterwards(model: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = model(x.clone())
    x.detach().zero_()
    return logits


WRITERS: list[Run] = [
    rounds, scales_through_numpy, shifts_data, normalises, clamps, blanks_a_corner, rectifies, blanks_afterwards,
]  # fmt: skip
WRITES = "the model writes into its input"


def cloning(run: Run) -> Run:
    return lambda model, x: run(model, x.clone())


@pytest.mark.slow
@pytest.mark.parametrize("run", WRITERS)
def test_a_model_that_writes_into_its_input_gets_the_verdicts_of_its_cloning_twin(run: Run) -> None:
    attacks = ("clean", "fgsm", "pgd-5", "gama-5", "square-10")
    found, twin = (library(Theirs(r), attacks=attacks, batch_size=25) for r in (run, cloning(run)))
    assert found.verdicts == twin.verdicts
    assert WRITES in found.said
    assert WRITES not in twin.said
    assert found.accuracy("pgd-5") < 0.5 < 0.6 < found.accuracy("clean")


@pytest.mark.parametrize("run", [rounds, shifts_data, blanks_afterwards])
def test_a_surrogate_that_writes_into_its_input_is_its_cloning_twin(run: Run) -> None:
    attacked = Theirs(lambda model, x: model(x))
    found, twin = (library(attacked, attacks=("clean", "transfer"), surrogate=Theirs(r)) for r in (run, cloning(run)))
    assert found.verdicts == twin.verdicts
    assert found.accuracy("transfer") < found.accuracy("clean")


@pytest.mark.slow
@settings(max_examples=10)
@given(st.lists(st.sampled_from(WRITERS), min_size=1, max_size=3), st.integers(5, 60))
def test_so_do_models_that_write_in_several_ways(runs: list[Run], batch_size: int) -> None:
    def all_of_them(model: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            for run in runs[:-1]:
                run(nn.Identity(), x)
        return runs[-1](model, x)

    found, twin = (library(Theirs(run), batch_size=batch_size) for run in (all_of_them, cloning(all_of_them)))
    assert found.verdicts == twin.verdicts
    assert WRITES in found.said


@pytest.mark.slow
@pytest.mark.parametrize("run", [rounds, scales_through_numpy, normalises])
def test_so_says_every_way(run: Run, three_ways: ThreeWays) -> None:
    outcomes = three_ways(Theirs(run))
    alike(outcomes, library(Theirs(cloning(run))))
    assert all(WRITES in outcome.said for outcome in outcomes)


@pytest.mark.slow
def test_a_model_that_refuses_images_outside_the_box_is_evaluated(three_ways: ThreeWays) -> None:
    def strict(model: nn.Module, x: Tensor) -> Tensor:
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1
        return model(x)

    outcomes = three_ways(Theirs(strict))
    alike(outcomes, broken())
    assert not any("adapt" in outcome.said for outcome in outcomes)


def test_a_strict_model_that_predicts_little_is_given_no_advice_on_scaling() -> None:
    def strict(model: nn.Module, x: Tensor) -> Tensor:
        if float(x.min()) < 0 or float(x.max()) > 1:
            raise ValueError("pixels in [0, 1], please")
        return model(0.2 + 0.2 * x)

    found = library(Theirs(strict))
    assert found.error == ""
    assert "adapt" not in found.said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        (0.0, 1 / 255, "--mean 0 --std 1/255"),
        (0.5, 0.5, "--mean 0.5 --std 0.5"),
        (0.1307, 0.3081, "--mean 0.1307 --std 0.3081"),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
    ],
)
def test_the_scaling_that_fits_best_is_named(mean: object, std: object, says: str, three_ways: ThreeWays) -> None:
    centre, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    def expecting(model: nn.Module, x: Tensor) -> Tensor:
        return model(x * spread + centre)

    for outcome in three_ways(Theirs(expecting)):
        assert f"give {says} (in Python, nuat.models.adapt(" in outcome.said
    mended = three_ways.command("evaluate", Theirs(expecting), case(), "--attacks", "clean", *says.split())
    assert "seems to expect" not in mended.said
    assert mended.accuracy("clean") > 0.9


@pytest.mark.parametrize(
    ("true", "given", "says"),
    [
        ((0.0, 1.0), (0.5, 0.5), "with no normalisation instead"),
        ((0.1307, 0.3081), (0.5, 0.25), "with MNIST's normalisation instead"),
    ],
)
def test_a_wrong_normalisation_is_said_and_the_right_one_is_not(
    true: tuple[float, float], given: tuple[float, float], says: str
) -> None:
    def expecting(model: nn.Module, x: Tensor) -> Tensor:
        return model(x * true[1] + true[0])

    def with_layer(mean: float, std: float) -> Outcome:
        return library(adapt(Theirs(expecting), mean=(mean,) * 3, std=(std,) * 3), case(), ("clean",))

    wrong = with_layer(*given)
    assert says in wrong.said
    assert f"give --mean {true[0]:g} --std {true[1]:g}" in wrong.said
    assert with_layer(*true).said == ""
