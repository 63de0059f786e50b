"""Weights from elsewhere load whole, under the usual spellings, or not at all."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nuat.errors import InputError
from nuat.models import WideResNet, adapt, load_usual_names, resnet18, resnet50
from nuat.models.small_cnn import SmallCNN


class Block(nn.Module):
    """As in kuangliu/pytorch-cifar: the projection is called shortcut, and is an empty Sequential elsewhere."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet18(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width, 1))
        self.linear = nn.Linear(8 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))))
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def test_cifar_resnet_of_kuangliu_loads_and_agrees() -> None:
    torch.manual_seed(0)
    theirs = CifarResNet18(4)
    x = torch.rand(4, 3, 32, 32)
    theirs(x)  # running statistics other than the initial ones
    state = theirs.eval().state_dict()
    plain = resnet18(width=4)
    load_usual_names(plain, {"net": prefixed(state, "module."), "acc": 93.0, "epoch": 199})
    normalised = adapt(resnet18(width=4), mean=(0.0,) * 3, std=(1.0,) * 3)
    load_usual_names(normalised, state)  # the normalisation may be missing
    with torch.no_grad():
        for ours in (plain, normalised):
            torch.testing.assert_close(ours.eval()(x), theirs(x))
    load_usual_names(theirs, plain.state_dict())  # and back


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "_orig_mod.", "_orig_mod.module.model.net."])
@pytest.mark.parametrize("wrapping", [(), ("state_dict",), ("model",), ("net",), ("model", "state_dict")])
def test_prefixes_and_wrappings(prefix: str, wrapping: tuple[str, ...]) -> None:
    source, target = SmallCNN(1, 2, (4, 4), width=1), adapt(SmallCNN(1, 2, (4, 4), width=1))
    state: dict[str, object] = prefixed(source.state_dict(), prefix)
    for key in reversed(wrapping):
        state = {key: state, "epoch": 3}
    load_usual_names(target, state)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[f"net.{name}"], value)


def test_wide_resnet_of_trades_has_a_dead_block_and_old_weights_no_batch_counts() -> None:
    source, target = WideResNet(10, 1), WideResNet(10, 1)
    state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    dead = prefixed(source.block1.state_dict(), "sub_block1.")
    load_usual_names(target, prefixed(state | dead, "module."))
    assert all(torch.equal(target.state_dict()[name], value) for name, value in state.items())


def test_the_normalisation_of_the_weights_replaces_the_models() -> None:
    source = adapt(SmallCNN(1, 2, (4, 4)), mean=(0.1,), std=(0.2,))
    target = adapt(SmallCNN(1, 2, (4, 4)), mean=(0.5,), std=(0.5,))
    load_usual_names(target, source.state_dict())
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(target(x), source(x))
    with pytest.raises(InputError, match=r"unexpected: normalise.mean.*build the model with a mean and std"):
        load_usual_names(adapt(SmallCNN(1, 2, (4, 4))), source.state_dict())


def test_misfits_are_named_and_nothing_is_loaded() -> None:
    model = resnet18(width=2, classes=10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    good = resnet18(width=2, classes=10).state_dict()
    without_fc = {name: value for name, value in good.items() if not name.startswith("fc.")}
    for state, message in [
        (without_fc, r"missing: fc.weight, fc.bias"),
        (good | {"extra": torch.zeros(1)}, r"unexpected: extra\. "),
        (
            resnet18(width=2, classes=100).state_dict(),
            r"of another shape: fc.weight \[100, 16\] for \[10, 16\], fc.bias .*look like resnet18 .*100 classes\), "
            r"the model is resnet18 \(cifar stem, width 2, 3 channels, 10 classes\)",
        ),
        (resnet50(width=2, stem="imagenet").state_dict(), r"look like resnet50 \(imagenet stem, width 2"),
        (WideResNet(16, 2).state_dict(), r"missing: .* and \d+ more; unexpected.*look like wrn-16-2"),
        (SmallCNN(1, 10, (4, 4)).state_dict(), r"look like small-cnn \(width 16, 1 channels, 10 classes\)"),
        ({"a": torch.zeros(2)}, "look like no network of nuat.models"),
        ({"epoch": 3, "weights": {}}, r"state_dict\['epoch'\] is a int: .*under one of the keys state_dict"),
        ({}, "state_dict is empty"),
        ([1], "state_dict is a list"),
        (good | {"linear.bias": good["fc.bias"]}, "fc.bias and linear.bias both mean fc.bias"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            load_usual_names(model, state)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Odd(nn.Module):
    """Names that the usual spellings would make one, and a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.fc = nn.Linear(2, 3), nn.Linear(2, 3)
        self.model, self.net = nn.Linear(2, 3), nn.Linear(2, 3)
        self.scale = 1.0

    def get_extra_state(self) -> dict[str, float]:
        return {"scale": self.scale}

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.scale = state["scale"]


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
        self.fc = nn.Linear(2, 3)


def same(model: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(model.state_dict()[name], value) for name, value in state.items())


def silently(model: nn.Module, state: dict[str, object]) -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_usual_names(model, state)


def test_names_that_fit_as_they_are_are_not_rewritten() -> None:
    source, target = Odd(), Odd()
    source.scale = 7.0
    silently(target, source.state_dict())
    assert same(target, {name: value for name, value in source.state_dict().items() if isinstance(value, Tensor)})
    assert target.scale == 7.0
    silently(target, {"state_dict": {f"module.{name}": value for name, value in Odd().state_dict().items()}})
    with pytest.raises(InputError, match=r"the weights do not fit the model; missing: _extra_state, linear"):
        load_usual_names(Odd(), {"linear.weight": torch.zeros(3, 2)})


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net."])
def test_names_of_a_network_behind_a_normalisation_are_not_rewritten(prefix: str) -> None:
    source, target = Odd(), adapt(Odd(), mean=(0.5,), std=(0.5,))
    source.scale = 7.0
    state = prefixed(source.state_dict(), prefix)
    silently(target, state)
    tensors = {name: value for name, value in source.state_dict().items() if isinstance(value, Tensor)}
    assert isinstance(target.net, Odd)
    assert same(target.net, tensors)
    assert target.net.scale == 7.0


def test_what_a_network_behind_a_normalisation_misses_is_named_as_the_network_names_it() -> None:
    state = Odd().state_dict()
    del state["linear.weight"]
    with pytest.raises(InputError, match=r"the weights do not fit the model; missing: linear\.weight\. "):
        load_usual_names(adapt(Odd()), state)


def test_of_more_than_a_network_its_names_are_not_rewritten() -> None:
    source, target = Odd(), adapt(Odd())
    with pytest.warns(RuntimeWarning, match=r"those under model\. are taken; left out: loss"):
        load_usual_names(target, {**prefixed(source.state_dict(), "model."), "loss": torch.zeros(1)})
    assert torch.equal(target.state_dict()["net.linear.weight"], source.linear.weight)


class Averaging(nn.Module):
    """A network whose own names look like those of a weight average, and of Madry's doubles."""

    def __init__(self) -> None:
        super().__init__()
        self.ema, self.attacker, self.fc = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 3)


def test_names_of_a_network_are_its_own_though_they_look_like_those_of_an_average() -> None:
    source, target = Averaging(), adapt(Averaging())
    silently(target, source.state_dict())
    assert same(target.net, source.state_dict())


@given(
    st.lists(st.sampled_from(["module", "_orig_mod"]), max_size=3), st.sampled_from(["features", "features.0", "fc"])
)
def test_wrappers_are_taken_out_wherever_they_are(wrappers: list[str], inside: str) -> None:
    source, target = Two(), Two()
    put = "".join(f"{wrapper}." for wrapper in wrappers)
    state = {
        f"{inside}.{put}{name.removeprefix(inside + '.')}" if name.startswith(f"{inside}.") else name: value
        for name, value in source.state_dict().items()
    }
    silently(target, state)
    assert same(target, source.state_dict())
    wrapped = Two()
    wrapped.features = nn.DataParallel(wrapped.features)
    silently(wrapped, state)
    assert torch.equal(wrapped.state_dict()["features.module.0.weight"], source.state_dict()["features.0.weight"])


@pytest.mark.parametrize("prefix", ["backbone.", "model.encoder.", "net.module.trunk."])
def test_a_prefix_that_all_names_share_is_taken_off(prefix: str) -> None:
    source, target = Two(), Two()
    silently(target, {"state_dict": prefixed(source.state_dict(), prefix), "pytorch-lightning_version": "2"})
    assert same(target, source.state_dict())


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema", "ema"])
@pytest.mark.parametrize("live", ["state_dict", "model"])
def test_of_weights_and_their_average_the_first_are_taken_and_it_is_said(live: str, average: str) -> None:
    source, other, target = Two(), Two(), Two()
    with pytest.warns(
        RuntimeWarning, match=rf"'{live}' are taken: the weights as trained; give checkpoint\['{average}'\]"
    ):
        load_usual_names(target, {average: other.state_dict(), live: source.state_dict()})
    assert same(target, source.state_dict())
    with pytest.warns(RuntimeWarning, match=rf"'{average}' are taken: a weight average, the only weights"):
        load_usual_names(target, {average: other.state_dict(), "epoch": 3})
    assert same(target, other.state_dict())


def test_an_average_among_the_names_is_said() -> None:
    source, other, target = Two(), Two(), Two()
    both = prefixed(source.state_dict(), "model.") | prefixed(other.state_dict(), "ema_model.")
    with pytest.warns(RuntimeWarning, match=r"a weight average \(ema_model\..*\): the weights as trained are taken"):
        load_usual_names(target, both)
    assert same(target, source.state_dict())
    with pytest.warns(RuntimeWarning, match="the weights are a weight average"):
        load_usual_names(target, prefixed(other.state_dict(), "ema_model."))
    assert same(target, other.state_dict())
    averaged = torch.optim.swa_utils.AveragedModel(source)
    silently(target, averaged.state_dict())
    assert same(target, source.state_dict())


def test_madrys_doubles_are_left_out_and_their_normalisation_is_taken() -> None:
    net = SmallCNN(1, 2, (4, 4))
    mean, std = torch.full((1, 1, 1), 0.3), torch.full((1, 1, 1), 0.2)
    state = prefixed(net.state_dict(), "module.model.") | prefixed(net.state_dict(), "module.attacker.model.")
    for name in ("normalizer", "attacker.normalize"):
        state |= {f"module.{name}.new_mean": mean, f"module.{name}.new_std": std}
    target, expected = adapt(SmallCNN(1, 2, (4, 4)), mean=(0.0,), std=(1.0,)), adapt(net, mean=(0.3,), std=(0.2,))
    silently(target, {"model": state, "epoch": 3})
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(target(x), expected(x))
    with pytest.raises(InputError, match="The weights carry a normalisation"):
        load_usual_names(SmallCNN(1, 2, (4, 4)), state)
    state["module.attacker.model.fc2.bias"] = state["module.attacker.model.fc2.bias"] + 1
    with pytest.raises(InputError, match=r"fc2\.bias differs from its double"):
        load_usual_names(target, state)


def test_an_extra_state_that_the_model_lacks_is_left_out_and_said() -> None:
    source, target = Two(), Two()
    with pytest.warns(RuntimeWarning, match=r"hold fc\\n\._extra_state, which the model does not have"):
        load_usual_names(target, {**source.state_dict(), "fc\n._extra_state": {"a": 1}})
    assert same(target, source.state_dict())


class Wrapping(nn.Linear):
    """A module whose own names hold module., and the same without."""

    def __init__(self) -> None:
        super().__init__(2, 3)
        self.module = nn.Linear(2, 3)


def test_names_that_become_one_without_a_wrapper_fit_as_they_are() -> None:
    source, target = Wrapping(), Wrapping()
    silently(target, source.state_dict())
    assert same(target, source.state_dict())
