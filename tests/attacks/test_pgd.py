"""PGD and its relatives with their usual settings."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import TinyConv, images, labels

from nuat import attacks
from nuat.attacks import PGD, AdaptivePGD, Attack, MultiTargetedPGD, TargetedPGD, usual_step
from nuat.errors import InputError

OF_OTHERS = {"Attack", "Ensemble", "Transfer"}
"""The base, and those that need the attacks that they run; their radius is that of these."""
WITH_RADIUS = [name for name in attacks.__all__ if name[0].isupper() and name not in OF_OTHERS]
STEPPED: list[type[Any]] = [PGD, TargetedPGD, MultiTargetedPGD, AdaptivePGD]


@pytest.mark.parametrize("name", WITH_RADIUS)
def test_every_attack_needs_its_radius_alone(name: str) -> None:
    kind: type[Attack] = getattr(attacks, name)
    model = TinyConv()
    assert kind(model, eps=8 / 255).eps == 8 / 255
    with pytest.raises(TypeError, match="eps"):
        kind(model)  # type: ignore[call-arg]  # what is missing is named


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("steps", [None, 1, 7])
@pytest.mark.parametrize("kind", STEPPED)
def test_the_usual_steps_are_40_of_a_step_size_after_madry(kind: type[Any], steps: int | None, norm: str) -> None:
    model, x, y = TinyConv(), images(2, size=6), labels(2, 4)
    settings: dict[str, Any] = (
        {"eps": 0.1, "norm": norm, "random_start": False} if kind is PGD else {"eps": 0.1, "norm": norm}
    )
    given_steps = {} if steps is None else {"steps": steps}
    usual = kind(model, **settings, **given_steps, generator=torch.Generator().manual_seed(3))
    taken = 40 if steps is None else steps
    written = kind(
        model, **settings, steps=taken, alpha=min(0.25 / taken, 0.1), generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(usual(x, y), written(x, y))


@given(eps=st.floats(1e-3, 1.0), steps=st.integers(1, 1000))
def test_the_usual_steps_reach_the_whole_ball(eps: float, steps: int) -> None:
    step = usual_step(eps, steps)
    assert step <= eps
    assert steps == 1 or steps * step >= 2 * eps * (1 - 1e-9)
    assert PGD(torch.nn.Identity(), eps=eps, steps=steps).alpha is None


@pytest.mark.parametrize("kind", STEPPED)
def test_a_step_size_that_cannot_be_is_refused(kind: type[Any]) -> None:
    with pytest.raises(InputError, match=r"alpha=2: .* Did you mean 2/255\?"):
        kind(TinyConv(), eps=8 / 255, alpha=2)
    with pytest.raises(InputError, match="steps=0: expected at least 1"):
        kind(TinyConv(), eps=8 / 255, steps=0)
