"""Operations against the formulas of the layers."""

import torch
from torch import nn

from nuat.attacks.base import input_gradient
from nuat.plan.operations import OperationCounter

B = 5


def test_a_linear_layers_forward_and_backward() -> None:
    first, second = nn.Linear(4, 8), nn.Linear(8, 2)
    x = torch.rand(B, 4)
    with OperationCounter() as counter:
        logits = second(first(x).relu())
    one, two = 2 * B * 4 * 8, 2 * B * 8 * 2
    assert counter.total == one + two
    with OperationCounter() as counter:
        logits.sum().backward()
    assert counter.total == one + 2 * two  # weights of both, and the input of the second alone


def test_random_numbers_are_counted() -> None:
    with OperationCounter() as counter:
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
    with OperationCounter() as counter:
        input_gradient(lambda z: conv(z).square().sum(), torch.rand(B, 3, 6, 6))
    assert counter.total == 2 * forward  # no parameter's gradient
    with OperationCounter() as counter:
        conv(torch.rand(B, 3, 6, 6)).square().sum().backward()
    assert counter.total == 2 * forward  # nor the image's, where the weights alone are trained
