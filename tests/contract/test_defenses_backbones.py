"""Every defense on networks without batch norm: a vision transformer and a ConvNeXt of timm."""

import copy
from typing import Any

import pytest
import torch
from cases import CLASSES, DEFENSES, NETWORKS
from contract.test_defenses_contract import check, start
from oracles import images, labels, snapshot, step_at
from torch import Tensor, nn

from nuat.config import ModelConfig
from nuat.defenses import BatchLoss, State
from nuat.models import build, has_batch_norm

pytest.importorskip("timm", reason="the timm extra is not installed")

SIZE, EPS = 8, 8 / 255
EVERY = pytest.mark.parametrize("name", DEFENSES)
NETWORK = pytest.mark.parametrize("network", NETWORKS)


def make(network: str, *, dropout: bool = True) -> nn.Module:
    torch.manual_seed(0)
    config = NETWORKS[network]
    if not dropout:
        config = ModelConfig(name=config.name, options=config.options[:-1], mean=config.mean, std=config.std)
    model = build(config, channels=3, classes=CLASSES, image_size=(SIZE, SIZE)).train()
    with torch.no_grad():  # steep enough for eps = 8/255 to matter
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(4.0)
    return model


def run(name: str, model: nn.Module, state: State, x: Tensor | None = None) -> BatchLoss:
    x = images(5, 3, SIZE, eps=EPS) if x is None else x
    return DEFENSES[name].defense.loss(model, x, labels(5, CLASSES), step_at(1, 1, eps=EPS, seed=0), state)


@NETWORK
@EVERY
def test_the_loss_trains_every_parameter_and_leaves_the_model_alone(name: str, network: str) -> None:
    """Modes as they were, dropout's too; no gradient before backward; weights untouched; finite gradients to all."""
    model = make(network)
    assert not has_batch_norm(model)
    frozen = next(key for key, module in model.named_modules() if isinstance(module, nn.LayerNorm))
    model.get_submodule(frozen).eval()
    before = snapshot(model)
    result = run(name, model, start(name, model))
    assert [key for key, module in model.named_modules() if not module.training] == [frozen]
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    check(result, model)


@NETWORK
@EVERY
def test_bfloat16_autocast(name: str, network: str) -> None:
    model = make(network, dropout=False)
    wide = float(run(name, copy.deepcopy(model), start(name, model)).loss.detach())
    seen: list[torch.dtype] = []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        result = run(name, model, start(name, model))
    assert set(seen) == {torch.bfloat16}
    assert result.loss.dtype == torch.float32
    assert float(result.loss.detach()) == pytest.approx(wide, rel=0.15)
    check(result, model)


@NETWORK
@EVERY
def test_channels_last_is_the_same_function(name: str, network: str) -> None:
    model = make(network, dropout=False).double()
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    x = images(5, 3, SIZE, torch.float64, EPS)
    plain = run(name, model, start(name, model), x)
    last = run(name, other, start(name, other), x.to(memory_format=torch.channels_last))
    assert float(last.loss.detach()) == pytest.approx(float(plain.loss.detach()), rel=1e-9)
    check(last, other)
    plain.loss.backward()
    for (key, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-6, atol=1e-10, msg=key)


@NETWORK
@pytest.mark.parametrize("name", ["awp", "trades-awp"])
def test_awp_takes_its_loss_at_other_weights(name: str, network: str) -> None:
    model = make(network, dropout=False)
    own = {key: p.detach().clone() for key, p in model.named_parameters()}
    seen: list[dict[str, Any]] = []

    def look(m: nn.Module, inputs: object) -> None:
        if m.training:
            seen.append({key: p.detach().clone() for key, p in m.named_parameters()})

    model.register_forward_pre_hook(look)
    run(name, model, start(name, model))
    gamma = DEFENSES[name].defense.gamma  # type: ignore[attr-defined]
    for key, w in own.items():
        distance = float((seen[-1][key] - w).norm() / w.norm()) if w.dim() > 1 else float((seen[-1][key] - w).norm())
        assert distance == pytest.approx(gamma if w.dim() > 1 else 0.0, rel=1e-3), key
