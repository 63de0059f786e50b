"""``model.activation``: the network of the settings, with another function of its layers."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from nuat.config import ModelConfig, ThreatConfig
from nuat.errors import InputError
from nuat.models import MNISTCNN, ResNet, SmallCNN, WideResNet, build
from nuat.models.activations import activation_of
from nuat.models.resnet import BasicBlock, Bottleneck
from nuat.records.checkpoints import WeightsInfo, load, read_info, save_weights

SMOOTH: Any = {"silu": nn.SiLU(), "gelu": nn.GELU()}


def filled(network: nn.Module) -> dict[str, Tensor]:
    """Weights of float64, other than at the start, put into a network; by name."""
    generator = torch.Generator().manual_seed(0)
    network.double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            spread = 0.3 if tensor.ndim == 1 else tensor[0].numel() ** -0.5
            tensor.normal_(std=spread, generator=generator).abs_().add_(0.5) if "var" in name else tensor.normal_(
                std=spread, generator=generator
            )
    return network.state_dict()


@pytest.mark.parametrize(("block", "activation"), [(BasicBlock, "silu"), (Bottleneck, "gelu")])
def test_a_resnet_is_torchvisions_with_its_relus_exchanged(block: Any, activation: Any) -> None:
    ours = ResNet(block, (1, 1, 1, 1), classes=3, stem="imagenet", activation=activation)
    kind = getattr(torchvision.models.resnet, block.__name__)
    theirs = torchvision.models.ResNet(kind, [1, 1, 1, 1], num_classes=3).double().eval()
    theirs.load_state_dict(filled(ours))
    for module in theirs.modules():
        if hasattr(module, "relu"):
            module.relu = SMOOTH[activation]
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", SMOOTH)
def test_the_other_networks_are_their_layers_by_hand(activation: Any) -> None:
    a = SMOOTH[activation]
    small = SmallCNN(1, 3, (8, 8), width=2, activation=activation)
    digits = MNISTCNN(1, 3, (8, 8), width=2, activation=activation)
    wide = WideResNet(10, 1, in_channels=1, classes=3, activation=activation)
    for network in (small, digits, wide):
        filled(network)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        hidden = a(small.conv2(a(small.conv1(x)))).flatten(1)
        torch.testing.assert_close(small(x), small.fc2(a(small.fc1(hidden))))
        hidden = F.max_pool2d(a(digits.conv2(a(digits.conv1(x)))), 2)
        hidden = F.max_pool2d(a(digits.conv4(a(digits.conv3(hidden)))), 2).flatten(1)
        torch.testing.assert_close(digits(x), digits.fc2(a(digits.fc1(hidden))))
        out = wide.conv1(x)
        for stage in (wide.block1, wide.block2, wide.block3):
            block = stage.layer[0]
            active = a(block.bn1(out))
            rest = block.conv2(a(block.bn2(block.conv1(active))))
            out = rest + (out if block.convShortcut is None else block.convShortcut(active))
        torch.testing.assert_close(wide(x), wide.fc(a(wide.bn1(out)).mean(dim=(2, 3))))


def test_the_default_is_relu_and_the_weights_begin_the_same() -> None:
    def network(**settings: Any) -> nn.Module:
        torch.manual_seed(0)
        return build(ModelConfig(name="wrn-10-1", **settings), channels=1, classes=3, image_size=(8, 8)).eval()

    plain, smooth = network(), network(activation="silu")
    for one, two in zip(plain.state_dict().values(), smooth.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(plain(x), network(activation="relu")(x))
    assert not torch.allclose(plain(x), smooth(x), rtol=0.01)
    assert pickle.loads(pickle.dumps(network(activation="gelu")))(x).shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet18", "variant": "nuat"}, "no effect on model.variant=nuat.*give model.variant=plain"),
        ({"name": "torchvision:resnet18"}, "no effect on torchvision:resnet18, which has its own; leave it out"),
        ({"name": "timm:convnext_tiny"}, "no effect on timm:convnext_tiny"),
    ],
)
def test_a_network_without_the_choice_refuses_it(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^model.activation=gelu has {message}"):
        build(ModelConfig(activation="gelu", **settings), channels=3, classes=5, image_size=(32, 32))


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(InputError, match=r"^activation='tanh': expected one of relu, silu, gelu\.$"):
        activation_of("tanh")  # type: ignore[arg-type]


def test_weights_carry_their_activation(tmp_path: Path) -> None:
    info = WeightsInfo(
        model=ModelConfig(width=2, activation="silu"),
        channels=1,
        image_size=(8, 8),
        classes=("a", "b", "c"),
        threat=ThreatConfig(eps=0.3),
        recipe="mine",
        epoch=1,
        averaged=False,
        data="digits",
    )
    model, file = info.build().eval(), tmp_path / "best.safetensors"
    save_weights(file, model.state_dict(), info)
    assert read_info(file).model.activation == "silu"
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(load(file)(x), model(x))
    other = replace(info, model=ModelConfig(width=2)).build().eval()
    other.load_state_dict(model.state_dict())
    assert not torch.equal(load(file)(x), other(x))
