"""The first convolution's gradient in a grey image: that of an ordinary convolution, whatever is asked for."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nuat.models.grey_conv import GreyConv2d

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def pair(channels: int, kernel: int, stride: int, padding: int) -> tuple[GreyConv2d, nn.Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 5, kernel, stride=stride, padding=padding).double()
    stem = GreyConv2d(channels, 5, kernel, stride=stride, padding=padding).double()
    stem.load_state_dict(plain.state_dict())
    return stem, plain


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (5, 1, 2), (3, 2, 0)])
def test_gradients_are_those_of_a_convolution(channels: int, kernel: int, stride: int, padding: int) -> None:
    stem, plain = pair(channels, kernel, stride, padding)
    x = torch.rand(3, channels, 11, 10, dtype=torch.float64)
    found = []
    for layer in (stem, plain):
        z = x.clone().requires_grad_()
        y = F.relu(layer(z), inplace=True)
        # of the second order, too: by the weights and the images through the first
        first = torch.autograd.grad(y.square().sum(), [z, *layer.parameters()], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), [z, *layer.parameters()])
        found.append([y.detach(), *(t.detach() for t in first), *second])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("frozen", [False, True])
def test_an_attack_pays_for_no_gradient_of_the_weights(frozen: bool) -> None:
    stem, plain = pair(1, 4, 2, 1)
    stem.requires_grad_(not frozen)
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else str(func))
            return func(*args, **(kwargs or {}))

    z = torch.rand(3, 1, 10, 10, dtype=torch.float64, requires_grad=True)
    loss = stem(z).square().sum()
    with Watch():
        (ours,) = torch.autograd.grad(loss, z)
    assert seen
    assert not any("convolution" in name for name in seen)
    (theirs,) = torch.autograd.grad(plain(z).square().sum(), z)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_bf16_keeps_the_images_precision() -> None:
    stem, plain = (layer.float() for layer in pair(1, 5, 1, 2))
    z = torch.rand(8, 1, 28, 28, requires_grad=True)

    def gradient(layer: nn.Module, bf16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = layer(z)
            return torch.autograd.grad(y.float().square().sum(), z)[0]

    exact, ours, theirs = gradient(plain, False), gradient(stem, True), gradient(plain, True)
    assert ours.dtype == torch.float32
    assert (ours - exact).norm() <= 1.5 * (theirs - exact).norm()


def test_names_are_those_of_a_convolution() -> None:
    stem, plain = pair(1, 4, 2, 1)
    assert stem.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(stem(torch.ones(1, 1, 8, 8).double()), plain(torch.ones(1, 1, 8, 8).double()))
