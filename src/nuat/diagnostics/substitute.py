"""Substitute: a small network that has learnt the answers of the examined model (Papernot et al. 2017).

It sees the answers alone, neither the gradients nor the true labels, as an attacker of a black box would. Its gradients
are honest even if those of the model are masked.

| paper | here |
|---|---|
| O(x), the oracle's label | ``answers`` |
| F, the substitute | ``network`` |
| lambda sgn(grad F_O(x)), Jacobian-based augmentation | a step along the substitute's gradient, eps at most |

The paper starts from a few images and adds to them in rounds. Here there are training images, and each is moved by
noise and then along the gradient whenever it is drawn. Network, optimiser and numbers are our choices.
"""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.base import input_gradient
from nuat.config import ModelConfig, ThreatConfig
from nuat.core import digest
from nuat.core.losses import cross_entropy, cross_entropy_sum
from nuat.core.threat import Threat
from nuat.core.threat import threat as ball_of
from nuat.data import Images, class_balanced, to_float
from nuat.diagnostics.surrogate import Surrogate
from nuat.files import atomic_write, not_writable
from nuat.hardware import versions
from nuat.models import build
from nuat.progress import Progress

BATCHES = 400
"""Updates of the substitute, which bound its cost whatever the number of images."""
_BATCH = 64
QUERIES = 2 * BATCHES * _BATCH
"""Passes of the model at most, under a hundredth of those of the other checks."""
_LEARNING_RATE = 2e-3
_LEAST_SIDE = 4


def learn(
    model: nn.Module,
    images: Images | None,
    *,
    threat: ThreatConfig,
    classes: int,
    seed: int,
    state_path: Path | None = None,
    progress: Progress | None = None,
) -> Surrogate | None:
    """Return a small network that imitates ``model``, on its device; None: there are no images to train it on.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N], passed at most ``QUERIES`` images in evaluation mode; the
            mode of each module is restored.
        images: images to train on, of at least 4 x 4 pixels; their labels only choose a class-balanced part of them.
        threat: ball in which images are moved, that of the adversarial examples.
        classes: N.
        seed: seed of the weights, the order and the noise.
        state_path: file that keeps the trained network. A call with the same model, images and settings reads it; the
            caller removes it. None: nothing is kept.
        progress: function called with the number of updates.
    """
    if images is None or len(images) == 0 or min(images.image_size) < _LEAST_SIDE:
        return None
    ball = ball_of(threat.norm, threat.eps)
    device = next((p.device for p in model.parameters()), images.device)
    chosen = class_balanced(images.labels, min(len(images), BATCHES * _BATCH), seed=0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = build(
            ModelConfig(name="small-cnn"), channels=images.channels, classes=classes, image_size=images.image_size
        )
    network = network.to(device)
    key = ""
    if state_path is not None:
        settings = [images.fingerprint(), dataclasses.asdict(threat), classes, seed, BATCHES, versions()]
        x = to_float(images.select(chosen[:_BATCH]).images).to(device)
        key = _key(model, x, json.dumps(settings))
    if state_path is None or not _read(state_path, key, network):
        _train(network, model, images, chosen, ball=ball, seed=seed, progress=progress)
        if state_path is not None:
            _write(state_path, key, network)
    return Surrogate(network.eval().requires_grad_(False), "a small network trained on the model's answers")


def _train(
    network: nn.Module,
    model: nn.Module,
    images: Images,
    chosen: Tensor,
    *,
    ball: Threat,
    seed: int,
    progress: Progress | None,
) -> None:
    """Train ``network`` on the answers of ``model`` around the images at ``chosen``, int64 [n]."""
    device = next(network.parameters()).device
    order = torch.Generator().manual_seed(seed)  # on the CPU, like the indices of the images
    noise = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=BATCHES)
    left = torch.empty(0, dtype=torch.int64)
    for batch in range(BATCHES):
        if len(left) == 0:
            left = torch.randperm(len(chosen), generator=order)
        drawn, left = left[:_BATCH], left[_BATCH:]
        x = to_float(images.select(chosen[drawn]).images).to(device)
        moved, answers = _answered(model, network, x, ball, noise)
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            cross_entropy(network(moved), answers).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress("substitute", batch + 1, BATCHES)


def _key(model: nn.Module, x: Tensor, settings: str) -> str:
    """Return a digest of what the training depends on: the model's tensors, its answers on ``x``, and the settings."""
    with eval_mode(model), torch.no_grad():
        answers = model(x).argmax(dim=1)
    return digest.of_tensors(*model.state_dict().values(), answers, settings=settings)


def _write(path: Path, key: str, network: nn.Module) -> None:
    """Keep a network; where that is not possible, a later call trains it again."""
    try:
        with atomic_write(path) as file:
            file.write(save(network.state_dict(), {"key": key}))
    except OSError as error:
        if not not_writable(error):
            raise


def _read(path: Path, key: str, network: nn.Module) -> bool:
    """Load a kept network with this key into ``network``, and return whether there is one."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return False
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError):  # no such file, cut off, or of another network
        return False
    return True


def _answered(
    model: nn.Module, network: nn.Module, x: Tensor, ball: Threat, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return images [2 B, C, H, W] around ``x`` [B, C, H, W], and the predictions [2 B] of ``model`` on them."""
    bounds = ball.bounds(x)
    # steps of all sizes up to the radius: the substitute must also know the images themselves
    share = torch.rand((len(x), 1, 1, 1), generator=generator, device=x.device)
    noisy = bounds.project(x + share * ball.uniform(x, generator))
    with eval_mode(model), torch.no_grad():
        heard = model(noisy).argmax(dim=1)
        gradient = input_gradient(lambda z: cross_entropy_sum(network(z), heard), noisy)
        away = bounds.project(noisy + share * ball.ascent(gradient, ball.eps, noisy))
        return torch.cat([noisy, away]), torch.cat([heard, model(away).argmax(dim=1)])
