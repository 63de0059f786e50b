"""Checkpoints as people save them, drawn: each loads the network's own weights, or is refused."""

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nuat.errors import InputError
from nuat.models import load_usual_names, unwrapped

State = dict[str, Any]


class Net(nn.Module):
    """Convolution, batch norm and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
        self.fc = nn.Linear(2, 3)


def made(seed: int) -> Net:
    torch.manual_seed(seed)
    net = Net()
    for tensor in net.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) * 100)
    return net


LIVE, AVERAGE = made(1), made(2)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def holds(net: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())


def loaded(state: State) -> Net:
    net = made(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_usual_names(net, state)
    return net


prefixes = st.sampled_from(["module.", "_orig_mod.", "model.", "net.", "network.", "_orig_mod.module.", "trunk."])
keys = st.sampled_from(["state_dict", "model_state_dict", "model", "net", "network", "weights", "params"])
averages = st.sampled_from(["state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema"])


def inside(name: str) -> Callable[[State], State]:
    """Put DataParallel around the features alone."""
    return lambda state: {key.replace("features.", f"features.{name}."): value for key, value in state.items()}


@st.composite
def checkpoints(draw: st.DrawFn) -> State:
    """Return the weights of LIVE as people save them, with those of AVERAGE beside them or not."""
    state: State = dict(LIVE.state_dict())
    if draw(st.booleans()):
        state = inside(draw(st.sampled_from(["module", "_orig_mod"])))(state)
    if draw(st.booleans()):
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if draw(st.booleans()):
        state["features._extra_state"] = {"a": 1}
    for prefix in draw(st.lists(prefixes, max_size=2)):
        state = prefixed(state, prefix)
    key = draw(keys)
    beside = draw(st.sampled_from(["nothing", "a key", "the names"]))
    if beside == "the names":
        state |= prefixed(AVERAGE.state_dict(), "ema_model.")
    if beside == "a key" or draw(st.booleans()):
        state = {"epoch": 3, key: state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    if beside == "a key":
        state[draw(averages)] = dict(AVERAGE.state_dict())
    return state


@given(checkpoints())
def test_a_wrapping_holds_the_weights_as_trained_or_is_refused(state: State) -> None:
    with contextlib.suppress(InputError):
        net = loaded(state)
        tracked = net.features[1].num_batches_tracked
        expected = LIVE.features[1].num_batches_tracked
        if not torch.equal(tracked, expected):  # absent: the model keeps its own
            assert torch.equal(tracked, made(3).features[1].num_batches_tracked)
            tracked.copy_(expected)
        assert holds(net, LIVE)


@given(prefix=st.lists(prefixes, max_size=2).map("".join), key=st.none() | keys)
def test_usual_wrappings_are_not_refused(prefix: str, key: str | None) -> None:
    state: State = prefixed(LIVE.state_dict(), prefix)
    assert holds(loaded(state if key is None else {key: state, "epoch": 3, "lr": 0.1}), LIVE)


@given(key=keys, average=averages)
def test_the_average_beside_is_said_and_not_taken(key: str, average: str) -> None:
    state = {key: LIVE.state_dict(), average: AVERAGE.state_dict(), "epoch": 3}
    assert holds(loaded(state), LIVE)
    with pytest.warns(RuntimeWarning, match="the weights as trained"):
        unwrapped(state)


@pytest.mark.parametrize("key", ["weights", "params", "generator"])
def test_the_only_dictionary_of_tensors_is_taken(key: str) -> None:
    assert holds(loaded({"epoch": 1, key: LIVE.state_dict(), "optimizer": {"state": {}}}), LIVE)
    assert holds(loaded({key: {**LIVE.state_dict(), "fc._extra_state": {"a": 1}}, "optimizer": {}}), LIVE)
    with pytest.raises(InputError, match=r"is a OrderedDict: expected tensors by name"):
        loaded({key: LIVE.state_dict(), "discriminator": AVERAGE.state_dict()})


def test_entries_beside_the_network_of_a_training_module_are_left_out_and_said() -> None:
    state: dict[str, Tensor] = {**prefixed(LIVE.state_dict(), "model."), "loss.weight": torch.ones(3)}
    net = made(3)
    with pytest.warns(RuntimeWarning, match=r"those under model\. are taken; left out: loss\.weight"):
        load_usual_names(net, state)
    assert holds(net, LIVE)
    state = {**prefixed(LIVE.state_dict(), "student."), "loss.weight": torch.ones(3)}
    with pytest.raises(InputError, match=r"unexpected: student\.features"):
        load_usual_names(net, state)
