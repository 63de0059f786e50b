"""The folded copy is the model, but faster; where it cannot be, the model itself is searched."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from evaluation_models import NETWORKS, trained_like
from oracles import TinyConv, assert_unchanged, snapshot
from torch import Tensor, nn
from torch.nn import functional as F

from nuat.attacks import eval_mode
from nuat.config import ModelConfig, ThreatConfig
from nuat.data import ImageSet, to_float
from nuat.evaluation.evaluate import evaluate
from nuat.models import adapt, build, folding
from nuat.models.folding import folded


@pytest.fixture(autouse=True)
def _fp32() -> Iterator[None]:
    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "ieee"
    yield
    torch.backends.mkldnn.conv.fp32_precision = before


def batch(channels: int = 3, n: int = 4, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, size, size, generator=generator), torch.arange(n) % 5


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    z = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(F.cross_entropy(model(z), y, reduction="sum"), z)
    return found


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize(
    ("name", "stem", "channels", "settings"),
    [
        *((name, None, 3, {}) for name in NETWORKS),
        *(("resnet18", "imagenet", 3, {}), ("resnet18", None, 1, {})),
        *(("resnet18", None, 3, {"variant": "nuat"}), ("wrn-10-1", None, 3, {"variant": "nuat"})),
        *(("resnet18", None, 3, {"activation": "silu"}), ("wrn-10-1", None, 3, {"activation": "gelu"})),
    ],
)
def test_the_copy_is_the_same_function(name: str, stem: Any, channels: int, settings: Any, normalised: bool) -> None:
    """On other images than it was compared on, in single precision; in double to eleven digits."""
    size = 32 if stem else 12
    model = trained_like(name, channels=channels, stem=stem, size=size, normalised=normalised, **settings)
    x, y = batch(channels, size=size)
    copy = folded(model, x[:2], y[:2])
    assert copy is not model
    # pre-activation networks have batch norms with no convolution right before them, which stay
    assert norms(copy) < norms(model) if name.startswith("wrn") else norms(copy) == 0
    assert not copy.training
    with torch.no_grad():
        logits, ours = model(x), copy(x)
    assert logits.std() > 0.05
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)
    ours, theirs = gradient(copy, x, y), gradient(model, x, y)
    assert theirs.abs().max() > 0
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-3
    model, x = model.double(), x.double()
    copy = folded(model, x[:2], y[:2])
    assert copy is not model
    with torch.no_grad():
        torch.testing.assert_close(copy(x), model(x), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradient(copy, x, y), gradient(model, x, y), rtol=1e-9, atol=1e-12)


def test_the_copy_is_frozen_and_apart() -> None:
    model = trained_like("resnet18")
    x, y = batch()
    copy = folded(model, x, y)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    ours = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    assert ours.isdisjoint(tensor.data_ptr() for tensor in (*copy.parameters(), *copy.buffers()))
    with torch.no_grad():
        before = copy(x)
        model.net.fc.bias += 1.0
        assert torch.equal(copy(x), before)


def test_the_model_is_not_touched() -> None:
    model = trained_like("resnet18").train()
    model.net.layer1[0].bn1.eval()
    model.net.fc.weight.requires_grad_(False)
    model.net.conv1.weight.grad = torch.ones_like(model.net.conv1.weight)
    seen: list[int] = []
    handle = model.net.fc.register_forward_hook(lambda module, *_: seen.append(id(module)))
    x, y = batch()
    x.requires_grad_()
    modes = {name: module.training for name, module in model.named_modules()}
    hooks = {name: (len(m._forward_hooks), len(m._backward_hooks)) for name, m in model.named_modules()}
    before, kinds = snapshot(model), {name: type(module) for name, module in model.named_modules()}
    with eval_mode(model):
        copy = folded(model, x, y)
    assert copy is not model
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {name: (len(m._forward_hooks), len(m._backward_hooks)) for name, m in model.named_modules()} == hooks
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    assert_unchanged(model, before)
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["net.conv1.weight"]
    assert bool((model.net.conv1.weight.grad == 1).all())
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["net.fc.weight"]
    assert x.grad is None
    assert id(model.net.fc) in seen
    handle.remove()


class Branching(nn.Module):
    """Cannot be traced: what it computes hangs on its images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TinyConv(dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits if bool(x.mean() > 0.5) else -logits


class Noisy(nn.Module):
    """Adds fresh noise; a trace would freeze the one draw."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TinyConv(dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x + 0.1 * torch.rand(1))
        return logits


def untracked() -> nn.Module:
    model = trained_like("resnet18")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: TinyConv(dropout=0.0),
        lambda: adapt(TinyConv(batch_norm=False)),
        lambda: build(ModelConfig(name="small-cnn", width=4), channels=3, classes=5, image_size=(12, 12)),
        lambda: adapt(Branching()),
        lambda: adapt(Noisy()),
        untracked,
    ],
    ids=["a stranger's", "no batch norm", "small-cnn", "branching", "noisy", "untracked"],
)
def test_a_model_that_cannot_be_folded_is_searched_itself(make: Any) -> None:
    model = make().eval()
    x, y = batch()
    assert folded(model, x, y % 4) is model


def spoiled(change: Any) -> Any:
    def spoil(model: nn.Module) -> nn.Module:
        copy = real(model)
        with torch.no_grad():
            change(getattr(copy, "net", copy))  # whether the classifier was fused or its network alone
        return copy

    real = folding.fuse
    return spoil


def fail(*arguments: object) -> None:
    raise RuntimeError("cannot be traced")


class Detached(nn.Module):
    """The same logits without a way back to the images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.detach())
        return logits


class Flipped(Detached):
    """The same logits with the gradient turned round."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(2 * x.detach() - x)
        return logits


@pytest.mark.parametrize(
    "fuse",
    [
        lambda model: TinyConv(3, 5, dropout=0.0).eval(),
        spoiled(lambda net: net.fc.bias.add_(0.01)),
        spoiled(lambda net: net.conv1.weight.mul_(1.002)),
        spoiled(lambda net: net.fc.bias.fill_(torch.nan)),
        Detached,
        Flipped,
        fail,
    ],
    ids=["another net", "bias", "weight", "nan", "no gradient", "turned gradient", "error"],
)
def test_a_copy_that_is_not_the_model_is_refused(fuse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained_like("resnet18")
    monkeypatch.setattr(folding, "fuse", fuse)
    x, y = batch()
    assert folded(model, x, y) is model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "wrn-10-1"])
def test_an_evaluation_finds_the_same_with_and_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained_like(name, size=8).train()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (10, 3, 8, 8), generator=generator, dtype=torch.uint8)
    with eval_mode(model), torch.no_grad():
        model.net.fc.bias -= model(to_float(pixels)).mean(dim=0)  # or one class would have all images, for good
        y = model(to_float(pixels)).argmax(dim=1)
    images = ImageSet(pixels, torch.where(torch.arange(10) % 5 == 0, (y + 1) % 5, y))
    attacks = ("clean", "fgsm", "pgd-1", "pgd-4", "gama-3", "multi-targeted-2", "noise-5")
    threat = ThreatConfig(eps=0.02, pgd_alpha=0.005)

    def rows() -> list[dict[str, Any]]:
        found = evaluate(model, images, attacks, threat=threat, batch_size=4).to_json()["results"]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in found]

    searched: list[bool] = []

    def watched(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        copy = folded(model, x, y)
        searched.append(copy is not model)
        return copy

    monkeypatch.setattr("nuat.evaluation.evaluate.folded", watched)
    with_copy = rows()
    assert searched == [True]
    monkeypatch.setattr("nuat.evaluation.evaluate.folded", lambda model, x, y: model)
    without = rows()
    assert with_copy == without
    accuracies = [row["accuracy"] for row in without]
    assert len(set(accuracies)) > 3
    assert any(module.training for module in model.modules())
