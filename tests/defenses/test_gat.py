"""GAT guides its attack in odd batches."""

import pytest
import torch
from defenses.baselines_equality import EPS, NORMS, assert_equals_the_slow_one, both, make_epochs, network

from nuat.core.schedules import Jumps
from nuat.core.threat import Linf
from nuat.defenses import GAT, Step


@NORMS
@pytest.mark.parametrize("name", ["gat", "gat-every", "gat-alpha"])
def test_equals_the_slow_one(name: str, norm: bool) -> None:
    assert_equals_the_slow_one(name, norm)


def test_it_is_guided_on_odd_batches_and_its_weight_jumps() -> None:
    fast, _ = both("gat", norm=False)
    assert [m["weight"] for m in fast.metrics] == [3.0] * 3 + [12.0] * 3 + [48.0] * 3
    # with more weight the first three attacks differ in the odd batch alone; the weights of the model are kept
    for b in range(3):
        attacks = []
        for weight in (0.0, 1e3):
            model, seen = network(False).train(), []
            model.register_forward_pre_hook(lambda m, inputs, seen=seen: seen.append(inputs[0].detach().clone()))
            x, y = make_epochs()[0][b]
            step = Step(
                threat=Linf(EPS), epoch=0, epochs=3, batch=b, batches=3, generator=torch.Generator().manual_seed(0)
            )
            GAT(weight=Jumps(start=weight)).loss(model, x, y, step, {})
            attacks.append(seen[-1])
        assert torch.equal(*attacks) == (b % 2 == 0), b


def test_the_defaults_are_those_of_their_code() -> None:
    assert GAT().weight == Jumps(start=10.0, at=(0.85,), factor=4.0)
    assert GAT().alpha is None
