"""The weight average against a slow loop, its buffer policy, and the model seen through it."""

import copy

import pytest
import torch
from oracles import TinyConv, assert_unchanged, images, snapshot
from torch import Tensor, nn

from nuat.core import averaging


def drift(model: nn.Module, seed: int) -> None:
    """Change every weight and buffer, as a training step does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
            else:
                tensor.add_(1)


def test_start_is_a_copy() -> None:
    model = TinyConv()
    average = averaging.start(model)
    assert list(average) == list(model.state_dict())
    assert not any(tensor.requires_grad for tensor in average.values())
    before = snapshot(model)
    drift(model, 0)
    for name, tensor in average.items():
        assert torch.equal(tensor, before[name])
        assert not torch.equal(tensor, model.state_dict()[name])


@pytest.mark.parametrize("tau", [0.0, 0.5, 0.99])
def test_update_against_a_slow_loop(tau: float) -> None:
    model = TinyConv().double()
    average = averaging.start(model)
    slow = snapshot(model)
    for step in range(6):
        drift(model, step)
        before = snapshot(model)
        averaging.update(average, model, tau)
        assert_unchanged(model, before)
        for name, now in model.state_dict().items():
            if now.is_floating_point():
                for index in range(slow[name].numel()):
                    old = float(slow[name].view(-1)[index])
                    slow[name].view(-1)[index] = tau * old + (1 - tau) * float(now.view(-1)[index])
            else:
                slow[name] = now.clone()
    assert average["norm1.num_batches_tracked"] == 6  # integers are copied, not averaged
    moved = {"conv1.weight", "linear.bias", "norm1.weight", "norm1.running_mean", "norm2.running_var"}
    assert moved <= set(average)
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, slow[name], rtol=1e-12, atol=1e-14)


def test_warm_up() -> None:
    decays = [averaging.decay(0.9998, step, warmup=True) for step in range(60_000)]
    assert decays[0] == pytest.approx(1 / 10)
    assert decays[1] == pytest.approx(2 / 11)
    assert decays == sorted(decays)
    assert decays[10_000] == pytest.approx(10_001 / 10_010)
    assert decays[-1] == 0.9998
    assert averaging.decay(0.05, 0, warmup=True) == 0.05
    assert {averaging.decay(0.9998, step, warmup=False) for step in (0, 5, 10_000)} == {0.9998}


def averaged_model() -> tuple[nn.Module, averaging.Average]:
    model = TinyConv()
    average = averaging.start(model)
    for step in range(3):
        drift(model, step)
        averaging.update(average, model, 0.7)
    return model, average


def test_forward_equals_a_copy_that_was_loaded() -> None:
    model, average = averaged_model()
    model.eval()
    loaded = copy.deepcopy(model)
    loaded.load_state_dict(average)
    x = images(3).requires_grad_()
    through, expected = averaging.forward(model, average)(x), loaded(x)
    assert torch.equal(through, expected)
    assert not torch.allclose(through, model(x))
    (gradient,) = torch.autograd.grad(through.square().sum(), x)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), x)
    assert torch.equal(gradient, expected_gradient)


def test_forward_leaves_model_and_average_untouched() -> None:
    model, average = averaged_model()
    model.eval()
    before: dict[str, Tensor] = snapshot(model)
    average_before = {name: tensor.clone() for name, tensor in average.items()}
    parameters = list(model.parameters())
    averaging.forward(model, average)(images(3))
    assert_unchanged(model, before)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    for name, tensor in average.items():
        assert torch.equal(tensor, average_before[name])


def test_the_module_of_an_average_follows_it_and_leaves_the_model_alone() -> None:
    model, average = averaged_model()
    before = snapshot(model)
    averaged = averaging.module_of(model, average)
    assert_unchanged(averaged, average)
    averaging.update(average, model, 0.5)
    assert_unchanged(averaged, average)
    assert_unchanged(model, before)
    assert [p.requires_grad for p in averaged.parameters()] == [p.requires_grad for p in model.parameters()]


def test_an_average_survives_a_checkpoint(tmp_path) -> None:
    _, average = averaged_model()
    torch.save(average, tmp_path / "average.pt")
    loaded = torch.load(tmp_path / "average.pt", weights_only=True)
    assert list(loaded) == list(average)
    assert all(torch.equal(loaded[name], average[name]) for name in average)
