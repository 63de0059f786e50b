"""Operations and memory against the formulas of the layers."""

import torch
from torch import Tensor, nn

from nuat.attacks.base import input_gradient
from nuat.plan.counters import CountingWorld, StepCounter, storage_bytes

B, FLOAT = 5, 4


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


ACTIVATIONS = FLOAT * B * (8 + 8)
"""Outputs of the first layer and of the activation: both are alive while the second is made."""


def test_a_linear_layers_forward_and_backward() -> None:
    first, second = nn.Linear(4, 8), nn.Linear(8, 2)
    x = torch.rand(B, 4)
    with StepCounter() as counter:
        logits = second(first(x).relu())
    one, two = 2 * B * 4 * 8, 2 * B * 8 * 2
    assert counter.operations == one + two
    with StepCounter() as counter:
        logits.sum().backward()
    assert counter.operations == one + 2 * two  # weights of both, and the input of the second alone


def test_random_numbers_are_counted() -> None:
    with StepCounter() as counter:
        torch.rand(B, 3)
        torch.randn(7, generator=torch.Generator().manual_seed(0))
        torch.randint(0, 2, (100,), dtype=torch.int8)
        torch.zeros(1000)
        torch.randperm(10_000)  # an order is no noise
    assert counter.drawn == 3 * B + 7 + 100
    assert counter.largest_draw == 100


def test_an_attack_pays_for_the_inputs_gradient_alone() -> None:
    conv = nn.Conv2d(3, 7, 3, padding=1)
    forward = 2 * B * 7 * 3 * 9 * 36
    with StepCounter() as counter:
        input_gradient(lambda z: conv(z).square().sum(), torch.rand(B, 3, 6, 6))
    assert counter.operations == 2 * forward  # no parameter's gradient
    with StepCounter() as counter:
        conv(torch.rand(B, 3, 6, 6)).square().sum().backward()
    assert counter.operations == 2 * forward  # nor the image's, where the weights alone are trained


def test_tensors_count_while_they_live() -> None:
    model, x = network(), torch.rand(B, 4)
    with StepCounter() as counter, torch.no_grad():
        for _ in range(3):
            model(x)
    assert counter.peak == ACTIVATIONS  # each pass frees what the one before it made
    with StepCounter() as counter:
        model(x)
    assert counter.peak == ACTIVATIONS
    with StepCounter() as counter:
        held = [model(x) for _ in range(3)]
    # a graph keeps the activation and the logits; the last pass adds its first layer's output to two of them
    kept = FLOAT * B * (8 + 2)
    assert counter.peak == 2 * kept + ACTIVATIONS
    assert len(held) == 3


def test_gradients_are_alive_after_the_backward_pass() -> None:
    model, x = nn.Linear(100, 2, bias=False), torch.rand(B, 100)
    with StepCounter() as counter:
        model(x).sum().backward()
    assert FLOAT * 200 <= counter.peak <= FLOAT * (200 + 5 * B * 2)


def test_views_and_changes_in_place_are_no_new_memory() -> None:
    x = torch.rand(B, 4)
    with StepCounter() as counter:
        x.view(4, B).t().add_(1.0)
        x[0].zero_()
    assert counter.peak == 0


def test_results_are_those_without_the_counter() -> None:
    model, x = network(), torch.rand(B, 4)
    plain = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    with StepCounter():
        counted = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))


def test_sizes_of_nested_tensors_count_each_storage_once() -> None:
    tensor = torch.zeros(6)
    nested = {"a": tensor, "b": [tensor[:2], torch.zeros(3, dtype=torch.int64)], "c": ("no tensor", None, 1.5)}
    assert storage_bytes(nested) == 6 * 4 + 3 * 8
    assert storage_bytes(None) == 0
    empty: list[Tensor] = []
    assert storage_bytes(empty) == 0


def test_exchanges_are_counted_and_change_nothing() -> None:
    world, tensors = CountingWorld(), [torch.ones(3), torch.zeros(2)]
    assert world.agree("a decision") == "a decision"
    assert all(torch.equal(a, b) for a, b in zip(world.sum(tensors), tensors, strict=True))
    assert (world.calls, world.summed) == (3, 20)
