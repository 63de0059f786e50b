"""LIET: the label's pattern in the start, where it comes from, and equality with a slow version."""

import itertools

import pytest
import torch
from cases import CLASSES
from defenses.baselines_equality import NORMS, assert_equals_the_slow_one
from oracles import TinyConv, images, labels, step_at
from torch import Tensor

from nuat.core.losses import soft_labels
from nuat.core.nonfinite import Watch
from nuat.core.pass_counter import PassCounter
from nuat.core.schedules import Ramp
from nuat.defenses import LIET
from nuat.errors import InputError, NonFiniteError

EPS = 8 / 255


@pytest.mark.parametrize("name", ["liet", "liet-large-eps"])
@NORMS
def test_equals_the_slow_one(name: str, norm: bool) -> None:
    assert_equals_the_slow_one(name, norm)


def test_the_defaults_are_those_of_their_code() -> None:
    assert LIET() == LIET(lam=Ramp(peak=100.0, until=1.0), every=10, replaced=(0.1, 0.5), projected=True, smoothing=0.0)


@pytest.mark.parametrize("replaced", [(0.1,), (0.5, 0.1), (-0.1, 0.5), (0.0, 1.1), (0.0, float("nan"))])
def test_impossible_shares_are_refused(replaced: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"^defense\.replaced=.*: expected a least and a largest share in \[0, 1\]"):
        LIET(replaced=replaced)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    class Overflowing(TinyConv):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * float("inf")

    model, x = Overflowing(classes=CLASSES).train(), images(4)
    state = {"gradients": torch.zeros(CLASSES, *x.shape[1:])}  # of an earlier batch
    with pytest.raises(NonFiniteError, match="the gradient of the loss in the image is infinite or NaN"):
        LIET().loss(model, x, labels(4, CLASSES), step_at(1, 1, eps=EPS), state)


def starts(y: Tensor, defense: LIET) -> tuple[Tensor, Tensor]:
    """Return the start's perturbation of grey images, and the patterns."""
    model, x = TinyConv(classes=CLASSES, dropout=0.0).train(), torch.full((len(y), 3, 4, 4), 0.5)
    state, seen = defense.init_state(model), []
    model.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].detach()) if m.training else None)
    defense.loss(model, x, y, step_at(1, 0, eps=EPS), state)
    return seen[0] - x, EPS * state["gradients"].sign()


def test_the_start_is_the_labels_pattern_up_to_its_sign() -> None:
    y = torch.tensor([3, 0, 1, 3])
    delta, patterns = starts(y, LIET(replaced=(0.0, 0.0)))
    assert patterns.shape == (CLASSES, 3, 4, 4)
    torch.testing.assert_close(patterns.abs(), torch.full_like(patterns, EPS))
    sign = torch.sign(delta[0, 0, 0, 0] * patterns[3, 0, 0, 0])
    torch.testing.assert_close(delta, sign * patterns[y], rtol=0.0, atol=1e-6)


def test_noise_replaces_the_share_that_is_asked_for() -> None:
    y = labels(64, CLASSES)
    for share in (0.25, 1.0):
        delta, _ = starts(y, LIET(replaced=(share, share)))
        kept = (delta.abs() > EPS * (1 - 1e-4)).float().mean()
        assert float(kept) == pytest.approx(1.0 - share, abs=0.03)
    wide, _ = starts(y, LIET(replaced=(1.0, 1.0), projected=False))
    assert EPS < float(wide.abs().max()) <= 2 * EPS * (1 + 1e-6)


def test_of_mixed_labels_the_largest_share_gives_the_start() -> None:
    y = torch.tensor([3, 0, 1, 3])
    mixed = 0.6 * soft_labels(y, CLASSES, 0.5) + 0.4 * soft_labels(y.roll(1), CLASSES, 0.5)
    assert torch.equal(starts(mixed, LIET())[0], starts(y, LIET())[0])


def test_the_gradients_are_taken_anew_every_few_batches_and_for_images_of_another_size() -> None:
    defense = LIET(every=2)
    model = TinyConv(classes=CLASSES).train()
    state, y = defense.init_state(model), labels(5, CLASSES)
    kept: list[Tensor] = []
    for batch in range(4):
        assert defense.step_kind(step_at(1, batch)) == (batch % 2 == 0)
        defense.loss(model, images(5, seed=batch), y, step_at(1, batch), state)
        kept.append(state["gradients"].clone())
        model.conv1.weight.data.neg_()
    assert [torch.equal(a, b) for a, b in itertools.pairwise(kept)] == [True, False, True]
    defense.loss(model, images(5, size=6), y, step_at(1, 1), state)
    assert state["gradients"].shape == (CLASSES, 3, 6, 6)


def test_gradients_of_a_model_that_diverged_are_kept_as_0() -> None:
    defense, model = LIET(), TinyConv(classes=CLASSES).train()
    state = defense.init_state(model)
    model.conv1.weight.data.fill_(torch.nan)
    with Watch().entered():  # as in training, where the update is then skipped
        defense.loss(model, images(5), labels(5, CLASSES), step_at(1, 0), state)
    assert state["gradients"].count_nonzero() == 0


def test_a_step_takes_two_passes_forward_and_three_backward() -> None:
    defense, model = LIET(), TinyConv(classes=CLASSES).train()
    state, x, y = defense.init_state(model), images(5), labels(5, CLASSES)
    defense.loss(model, x, y, step_at(1, 0), state)  # takes the gradients of the classes
    with PassCounter(model) as counter:
        defense.loss(model, x, y, step_at(1, 1), state).loss.backward()
    assert (counter.training_batches, counter.evaluation_batches, counter.backward_batches) == (2, 0, 3)
