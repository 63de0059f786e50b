"""What autograd saves, against networks whose saved tensors are known."""

import torch
from torch import Tensor, nn

from nuat.plan.memory import SavedTensors, at, size

B, FLOAT = 5, 4


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


SAVED = FLOAT * B * (4 + 8)
"""The input, and what the activation returns: it saves that for itself, and the next layer saves the same tensor."""


def test_saved_tensors_are_counted_once_and_without_weights() -> None:
    model = network()
    with SavedTensors(model.state_dict()) as saved:
        model(torch.rand(B, 4)).sum().backward()
    assert saved.peak == SAVED
    with SavedTensors() as saved:
        model(torch.rand(B, 4)).sum().backward()
    # only the second layer's weight is needed backward: the input has no gradient
    assert saved.peak == SAVED + FLOAT * 8 * 2


def test_graphs_that_live_at_once_add_up_and_others_do_not() -> None:
    model = network()
    with SavedTensors(model.state_dict()) as saved:
        for _ in range(3):
            model(torch.rand(B, 4)).sum().backward()
    assert saved.peak == SAVED
    with SavedTensors(model.state_dict()) as saved:
        losses = [model(torch.rand(B, 4)).sum() for _ in range(3)]
        del losses[1:]  # without a backward pass, as a reference that is not needed after all
        losses.append(model(torch.rand(B, 4)).sum())
    assert saved.peak == 3 * SAVED


def test_gradients_are_what_they_are_without_the_hooks() -> None:
    model, x = network(), torch.rand(B, 4)
    plain = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    with SavedTensors(model.state_dict()):
        watched = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_bytes_lie_on_the_line_through_two_batches() -> None:
    assert at({2: 120, 10: 200}, 10) == 200
    assert at({2: 120, 10: 200}, 4) == 140
    assert at({2: 120, 10: 200}, 30) == 400
    assert at({4: 100}, 6) == 150


def test_sizes_of_nested_tensors_count_each_storage_once() -> None:
    tensor = torch.zeros(6)
    nested = {"a": tensor, "b": [tensor[:2], torch.zeros(3, dtype=torch.int64)], "c": ("no tensor", None, 1.5)}
    assert size(nested) == 6 * 4 + 3 * 8
    assert size(None) == 0
    empty: list[Tensor] = []
    assert size(empty) == 0
