"""From a ModelConfig, or any module, to a classifier of images in [0, 1]."""

import re

import pytest
import torch
from torch import nn

from nuat.config import ModelConfig
from nuat.errors import InputError
from nuat.models import (
    MNISTCNN,
    MODEL_NAMES,
    Classifier,
    Normalise,
    ResNet,
    SmallCNN,
    WideResNet,
    adapt,
    build,
    has_batch_norm,
)


@pytest.mark.slow
def test_build_makes_each_network() -> None:
    def net(size: int = 32, **settings: object) -> nn.Module:
        with torch.device("meta"):
            return build(ModelConfig(**settings), channels=3, classes=10, image_size=(size, size)).net

    assert isinstance(net(), SmallCNN)
    assert isinstance(net(name="mnist-cnn"), MNISTCNN)
    assert isinstance(net(name="wrn-10-2"), WideResNet)
    for name, blocks in [("resnet18", 8), ("resnet34", 16), ("resnet50", 16)]:
        model = net(name=name)
        assert isinstance(model, ResNet)
        assert sum(len(getattr(model, f"layer{i}")) for i in (1, 2, 3, 4)) == blocks
    assert net(64, name="resnet18").stem == "cifar"
    assert net(65, name="resnet18").stem == "imagenet"
    assert net(32, name="resnet18", stem="imagenet").stem == "imagenet"
    assert net(224, name="resnet18", stem="cifar").stem == "cifar"
    assert net(name="resnet18", width=8).fc.in_features == 64
    assert net(name="mnist-cnn", width=8).conv1.out_channels == 8
    assert net(name="small-cnn").conv1.out_channels == 16


def test_the_global_generator_alone_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = build(ModelConfig(name="wrn-10-1"), channels=1, classes=3, image_size=(8, 8))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet-18", "resnet18"), ("WRN-34-10", "wrn-34-10"), ("mnist_cnn", "mnist-cnn"), ("smallcnn", "small-cnn")],
)
def test_unknown_name_gets_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"model.name={name!r} .*did you mean {re.escape(nearest)}.*Known: small-cnn"):
        build(ModelConfig(name=name), channels=3, classes=10, image_size=(32, 32))
    assert "wrn-<depth>-<k>" in MODEL_NAMES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "small-cnn", "stem": "cifar"}, "model.stem=cifar has no effect on small-cnn"),
        ({"name": "wrn-10-1", "stem": "imagenet"}, "model.stem=imagenet has no effect on wrn-10-1"),
        ({"name": "wrn-10-1", "width": 8}, "model.width=8 has no effect on wrn-10-1"),
        ({"name": "wrn-33-1"}, "depth=33: .*nearest is 34"),
        ({"name": "wrn-10-0"}, "k=0: expected at least 1"),
        ({"mean": (0.5,), "std": (0.5,)}, "model.mean has 1 values .*images have 3 channels"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 2}, "model.std has 2: the images have 3 channels"),
        ({"mean": (float("nan"),) * 3, "std": (0.5,) * 3}, "mean=.*finite"),
    ],
)
def test_build_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(ModelConfig(**settings), channels=3, classes=10, image_size=(32, 32))
    assert "\n" not in str(caught.value)


def test_build_refuses_counts_below_one() -> None:
    for channels, classes, size, name in [(0, 2, (8, 8), "channels"), (1, 0, (8, 8), "classes"), (1, 2, (8, 0), "wid")]:
        with pytest.raises(InputError, match=f"^{name}"):
            build(ModelConfig(), channels=channels, classes=classes, image_size=size)


def test_adapt_normalises_and_follows_the_module() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double().eval()
    model = adapt(net, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    x = torch.rand(4, 3, 2, 2, dtype=torch.float64)
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    torch.testing.assert_close(model(x), net((x - mean) / std))
    assert isinstance(model, Classifier)
    assert isinstance(model.normalise, Normalise)
    assert model.normalise.mean.dtype == torch.float64
    assert not model.training
    assert set(model.state_dict()) == {"normalise.mean", "normalise.std", "net.1.weight", "net.1.bias"}
    assert torch.equal(adapt(net)(x), net(x))
    assert adapt(model) is model
    assert adapt(adapt(net), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).net is net


def test_adapt_keeps_each_modules_mode() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1).eval())
    model = adapt(net, mean=(0.5,), std=(0.5,))
    assert model.training
    assert not net[1].training


def test_adapt_refuses() -> None:
    net = nn.Flatten()
    with pytest.raises(InputError, match=r"function.*expected a torch.nn.Module"):
        adapt(torch.flatten)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="go together"):
        adapt(net, mean=(0.5,))
    with pytest.raises(InputError, match="mean has 1 values and std has 3"):
        adapt(net, mean=(0.5,), std=(0.5,) * 3)
    with pytest.raises(InputError, match="mean has 0 values"):
        adapt(net, mean=(), std=())
    with pytest.raises(InputError, match=r"std=.*> 0"):
        adapt(net, mean=(0.5,), std=(0.0,))
    once = adapt(net, mean=(0.5,), std=(0.5,))
    with pytest.raises(InputError, match="already normalises"):
        adapt(once, mean=(0.5,), std=(0.5,))
    with pytest.raises(InputError, match="images have 3 channels but mean and std have 1 values"):
        once(torch.rand(1, 3, 2, 2))


def test_has_batch_norm() -> None:
    assert has_batch_norm(WideResNet(10, 1))
    assert has_batch_norm(adapt(nn.Sequential(nn.BatchNorm1d(2))))
    assert not has_batch_norm(SmallCNN(1, 2, (8, 8)))
    assert not has_batch_norm(nn.InstanceNorm2d(3))
