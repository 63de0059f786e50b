"""Shapes, sizes and numerics of the networks, against torchvision and independent small implementations."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchvision
from evaluation_models import randomise_batch_norm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nuat.config import ModelConfig
from nuat.errors import InputError
from nuat.models import MNISTCNN, ResNet, SmallCNN, WideResNet, build, resnet18, resnet34, resnet50
from nuat.models.authors import AuthorsWideResNet
from nuat.models.resnet import NarrowProjection

SMALL = {"small-cnn": 4, "mnist-cnn": 4, "resnet18": 4, "resnet34": 2, "resnet50": 2, "wrn-10-1": None}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny work: on a busy machine more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(name: str, *, channels: int = 3, size: tuple[int, int] = (16, 16), classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(name=name, width=SMALL[name], mean=(0.4,) * channels, std=(0.3,) * channels)
    return build(config, channels=channels, classes=classes, image_size=size).eval()


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("channels", "size"), [(1, (28, 28)), (3, (32, 32)), (3, (17, 23)), (2, (5, 4)), (3, (64, 64)), (3, (224, 224))]
)
def test_every_network_takes_any_size(name: str, channels: int, size: tuple[int, int]) -> None:
    model = make(name, channels=channels, size=size)
    with torch.no_grad():
        logits = model(torch.rand(2, channels, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


class Layouts(TorchDispatchMode):
    """Layouts of the gradient and of the output of each ReLU, as strides."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.threshold_backward.default:
            self.seen.append((args[0].stride(), args[1].stride()))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["small-cnn", "mnist-cnn"])
def test_a_gradient_meets_the_output_in_one_layout(name: str, layout: torch.memory_format) -> None:
    """Two layouts take ten times as long in a ReLU."""
    model = make(name, channels=1, size=(28, 28)).to(memory_format=layout)
    x = torch.rand(3, 1, 28, 28, requires_grad=True)
    with Layouts() as layouts:
        torch.autograd.grad(model(x).sum(), x)
    assert len(layouts.seen) == {"small-cnn": 3, "mnist-cnn": 5}[name]
    assert all(gradient == output for gradient, output in layouts.seen)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "resnet34"])  # the blocks of resnet18
def test_dtypes_layout_and_gradient(name: str) -> None:
    model = make(name, size=(8, 8))
    randomise_batch_norm(model)
    x = torch.rand(3, 3, 8, 8, requires_grad=True)
    logits = model(x)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([0, 1, 2])), x)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(x)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), logits.detach(), rtol=0.1, atol=0.1 * logits.abs().max().item())
        last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, logits.detach(), rtol=1e-4, atol=1e-4)
        double = model.double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), logits.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small-cnn", "wrn-10-1"])
def test_compiles_to_one_graph(name: str) -> None:
    model = make(name, size=(8, 8))
    x = torch.rand(2, 3, 8, 8)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))


@pytest.mark.slow
def test_parameter_counts() -> None:
    with torch.device("meta"):
        # (25 + 1) 32 + (800 + 1) 32 + (800 + 1) 64 + (1600 + 1) 64 + 3137 512 + 513 10
        assert parameters(MNISTCNN()) == 832 + 25_632 + 51_264 + 102_464 + 1_606_144 + 5_130
        assert MNISTCNN().fc1.in_features == 3136
        # The network of Wong & Kolter: 17 16 + 257 32 + 1569 100 + 101 10
        assert parameters(SmallCNN(1, 10, (28, 28))) == 272 + 8_224 + 156_900 + 1_010
        assert parameters(resnet18()) == 11_173_962
        assert parameters(resnet18(classes=1000, stem="imagenet")) == 11_689_512
        assert parameters(resnet34(classes=1000, stem="imagenet")) == 21_797_672
        assert parameters(resnet50(classes=1000, stem="imagenet")) == 25_557_032
        assert parameters(WideResNet(34, 10)) == 46_160_474
        assert parameters(WideResNet(28, 10)) == 36_479_194
        assert parameters(authors_network("resnet18")) == 11_173_962
        assert parameters(authors_network("wrn-34-10")) == 46_172_810


def test_the_authors_last_batch_norm_follows_its_batches_faster() -> None:
    momenta = {name: m.momentum for name, m in authors_network("wrn-10-1").named_modules() if name.endswith("bn1")}
    assert momenta.pop("bn1") == 0.9
    assert set(momenta.values()) == {0.1}


@pytest.mark.parametrize("name", ["small-cnn", "mnist-cnn", "resnet50", "torchvision:resnet18"])
def test_a_network_that_the_authors_do_not_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"model.variant=nuat has no effect on {name}"):
        build(ModelConfig(name=name, variant="nuat"), channels=3, classes=5, image_size=(32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_is_torchvisions(name: str) -> None:
    torch.manual_seed(1)
    theirs = getattr(torchvision.models, name)(num_classes=7)
    torch.manual_seed(1)
    ours = {"resnet18": resnet18, "resnet50": resnet50}[name](classes=7, stem="imagenet")
    for (name_theirs, a), (name_ours, b) in zip(theirs.state_dict().items(), ours.state_dict().items(), strict=True):
        assert name_theirs == name_ours
        assert torch.equal(a, b), name_ours  # one seed, one network: names, order and initialisation
    randomise_batch_norm(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 37, 50)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
        torch.testing.assert_close(ours.train()(x), theirs.train()(x), rtol=1e-4, atol=1e-4)


def bn(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    w = {k: weights[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
    return F.batch_norm(x, *w.values())


def by_hand_resnet18(weights: dict[str, Tensor], x: Tensor, *, authors: bool = False) -> Tensor:
    """The CIFAR ResNet-18 written out from its weights; the authors' has a ReLU before each addition."""
    x = bn(weights, "bn1", F.conv2d(x, weights["conv1.weight"], padding=1)).relu()
    for stage in (1, 2, 3, 4):
        for i in (0, 1):
            at = f"layer{stage}.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            h = bn(weights, f"{at}.bn1", F.conv2d(x, weights[f"{at}.conv1.weight"], stride=stride, padding=1)).relu()
            h = bn(weights, f"{at}.bn2", F.conv2d(h, weights[f"{at}.conv2.weight"], padding=1))
            h = h.relu() if authors else h
            if stride == 2:
                x = bn(weights, f"{at}.downsample.1", F.conv2d(x, weights[f"{at}.downsample.0.weight"], stride=2))
            x = (h + x).relu()
    return F.avg_pool2d(x, 4).flatten(1) @ weights["fc.weight"].T + weights["fc.bias"]


def by_hand_wide_resnet(weights: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """The pre-activation wide ResNet written out from its weights."""
    x = F.conv2d(x, weights["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for i in range(blocks):
            at = f"block{stage}.layer.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            active = bn(weights, f"{at}.bn1", x).relu()
            h = F.conv2d(active, weights[f"{at}.conv1.weight"], stride=stride, padding=1)
            h = F.conv2d(bn(weights, f"{at}.bn2", h).relu(), weights[f"{at}.conv2.weight"], padding=1)
            if i == 0:
                x = F.conv2d(active, weights[f"{at}.convShortcut.weight"], stride=stride)
            x = x + h
    x = F.avg_pool2d(bn(weights, "bn1", x).relu(), 8).flatten(1)
    return x @ weights["fc.weight"].T + weights["fc.bias"]


def by_hand_authors_wide_resnet(weights: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """The authors' wide ResNet written out from its weights."""

    def convolution(name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride, padding=padding)

    x = convolution("conv1", x)
    for stage in (1, 2, 3):
        for i in range(blocks):
            at = f"layer{stage}.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            h = convolution(f"{at}.conv1", bn(weights, f"{at}.bn1", x).relu())
            h = convolution(f"{at}.conv2", bn(weights, f"{at}.bn2", h).relu(), stride)
            x = h + (convolution(f"{at}.downsample.0", x, stride, padding=0) if i == 0 else x)
    x = F.avg_pool2d(bn(weights, "bn1", x).relu(), 8).flatten(1)
    return x @ weights["fc.weight"].T + weights["fc.bias"]


def authors_network(name: str, width: int | None = None) -> nn.Module:
    config = ModelConfig(name=name, width=width, variant="nuat")
    return build(config, channels=3, classes=10, image_size=(32, 32)).net


def test_residual_networks_equal_those_written_by_hand() -> None:
    torch.manual_seed(2)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    for model, by_hand in [
        (resnet18(width=8), by_hand_resnet18),
        (authors_network("resnet18", 8), lambda weights, x: by_hand_resnet18(weights, x, authors=True)),
        (authors_network("wrn-16-2"), lambda weights, x: by_hand_authors_wide_resnet(weights, x, blocks=2)),
        (WideResNet(16, 2), lambda weights, x: by_hand_wide_resnet(weights, x, blocks=2)),
    ]:
        model = model.double().eval()
        randomise_batch_norm(model)
        with torch.no_grad():
            torch.testing.assert_close(model(x), by_hand(model.state_dict(), x))


def test_convolutional_networks_equal_those_written_by_hand() -> None:
    torch.manual_seed(3)
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    mnist, small = MNISTCNN().double(), SmallCNN(1, 10, (28, 28)).double()
    m, s = list(mnist.parameters()), list(small.parameters())
    h = F.max_pool2d(F.conv2d(F.conv2d(x, m[0], m[1], padding=2).relu(), m[2], m[3], padding=2).relu(), 2)
    h = F.max_pool2d(F.conv2d(F.conv2d(h, m[4], m[5], padding=2).relu(), m[6], m[7], padding=2).relu(), 2)
    torch.testing.assert_close(mnist(x), F.linear(F.linear(h.flatten(1), m[8], m[9]).relu(), m[10], m[11]))
    h = F.conv2d(F.conv2d(x, s[0], s[1], stride=2, padding=1).relu(), s[2], s[3], stride=2, padding=1).relu()
    torch.testing.assert_close(small(x), F.linear(F.linear(h.flatten(1), s[4], s[5]).relu(), s[6], s[7]))


@pytest.mark.parametrize("depth", [-8, 4, 11, 30, 36])
def test_wide_resnet_refuses_other_depths(depth: int) -> None:
    with pytest.raises(InputError, match=rf"depth={depth}: .*6n \+ 4.*nearest"):
        WideResNet(depth, 1)


def test_networks_refuse_sizes_that_cannot_be() -> None:
    for network in (MNISTCNN, SmallCNN):
        with pytest.raises(InputError, match=r"image_size=3x28: .*at least 4x4"):
            network(1, 10, (3, 28))
        with pytest.raises(InputError, match=r"images of 32x28 pixels: .*built for 28x28"):
            network(1, 10, (28, 28))(torch.rand(1, 1, 32, 28))
        with pytest.raises(InputError, match="classes=0"):
            network(1, 0, (28, 28))
    with pytest.raises(InputError, match="width=0"):
        resnet18(width=0)
    with pytest.raises(InputError, match=r"stem='tiny': expected one of cifar, imagenet"):
        resnet18(stem="tiny")  # type: ignore[arg-type]
    for wide in (WideResNet, AuthorsWideResNet):
        with pytest.raises(InputError, match="k=0"):
            wide(10, 0)
    assert isinstance(resnet34(width=1), ResNet)


@pytest.mark.parametrize("width", [2, 3, 4, 6, 8, 12])
def test_gradients_of_narrow_networks_are_right_in_channels_last(width: int) -> None:
    """On CPUs with AVX2, oneDNN's gradient of a shortcut of fewer than 8 channels is wrong, or ends the process.

    Smooth activations: rounding moves no unit across a kink.
    """
    x, y = torch.rand(6, 3, 16, 16), torch.arange(6) % 3
    narrow = resnet18(width=width, classes=3, activation="silu").to(memory_format=torch.channels_last)
    exact = copy.deepcopy(narrow).double()
    for _ in range(3):  # the first times may go well
        for model, images in ((narrow, x.contiguous(memory_format=torch.channels_last)), (exact, x.double())):
            model.zero_grad()
            nn.functional.cross_entropy(model(images), y).backward()
    for (name, ours), theirs in zip(narrow.named_parameters(), exact.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_a_narrow_projection_is_a_convolution_in_the_layout_of_its_input(size: tuple[int, int]) -> None:
    narrow = NarrowProjection(4, 8, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(3, 4, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = F.conv2d(x.double(), narrow.weight.double(), stride=2)
    torch.testing.assert_close(narrow(x).double(), expected)
    (wanted,) = torch.autograd.grad(expected.sum(), x)
    (gradient,) = torch.autograd.grad(narrow(x).sum(), x)
    torch.testing.assert_close(gradient, wanted)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
