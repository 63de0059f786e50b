"""A substitute: a small network that has learnt to answer as the examined model does (Papernot et al. 2017).

It sees the model's answers alone, neither its gradients nor the true labels: what it teaches an attacker, a black box
gives away. Its gradients are honest even where the model's are masked.

| paper | here |
|---|---|
| O(x), the oracle's label | ``answers`` |
| F, the substitute | ``network`` |
| lambda sgn(grad F_O(x)), Jacobian-based augmentation | a step along the substitute's gradient, eps at most |

The paper grows a handful of images over some rounds; here training images are at hand, and each is moved anew, by noise
and then along the gradient, whenever it is drawn. Network, optimiser and numbers are ours.
"""

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.base import input_gradient
from nuat.config import ModelConfig, ThreatConfig
from nuat.core.losses import cross_entropy, cross_entropy_sum
from nuat.core.threat import Threat
from nuat.core.threat import threat as ball_of
from nuat.data import Images, class_balanced, to_float
from nuat.diagnostics.transfer import Surrogate
from nuat.evaluation.evaluate import Progress
from nuat.models import build

BATCHES = 400
"""Updates of the substitute. They bound what it costs, whatever the number of images."""
_BATCH = 64
QUERIES = 2 * BATCHES * _BATCH
"""Answers that the model gives at most: under a hundredth of what the other checks ask of it."""
_LEARNING_RATE = 2e-3
_LEAST_SIDE = 4


def learn(
    model: nn.Module,
    images: Images | None,
    *,
    threat: ThreatConfig,
    classes: int,
    seed: int,
    progress: Progress | None = None,
) -> Surrogate | None:
    """Return a network of the quickstart's kind that imitates ``model``, on its device; none for want of images.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N]; it is asked at most ``QUERIES`` times, in evaluation
            mode, each module's mode is restored.
        images: to ask it of; their labels only choose them, class-balanced. The network takes 4 x 4 pixels or more.
        threat: the ball in which adversarial examples will be looked for, and images are moved here.
        classes: N.
        seed: of the weights, the order and the noise.
        progress: called with the number of updates.
    """
    if images is None or len(images) == 0 or min(images.image_size) < _LEAST_SIDE:
        return None
    ball = ball_of(threat.norm, threat.eps)
    device = next((p.device for p in model.parameters()), images.device)
    order = torch.Generator().manual_seed(seed)  # the CPU's, as the images' indices are there
    noise = torch.Generator(device).manual_seed(seed)
    chosen = class_balanced(images.labels, min(len(images), BATCHES * _BATCH), seed=0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = build(
            ModelConfig(name="small-cnn"), channels=images.channels, classes=classes, image_size=images.image_size
        )
    network = network.to(device)
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
    return Surrogate(network.eval().requires_grad_(False), "a small network trained on the model's answers")


def _answered(
    model: nn.Module, network: nn.Module, x: Tensor, ball: Threat, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return images [2 B, C, H, W] around ``x`` [B, C, H, W], and the classes [2 B] that ``model`` takes them for."""
    bounds = ball.bounds(x)
    # all sizes up to the radius, so that the substitute also knows the images themselves
    share = torch.rand((len(x), 1, 1, 1), generator=generator, device=x.device)
    noisy = bounds.project(x + share * ball.uniform(x, generator))
    with eval_mode(model), torch.no_grad():
        heard = model(noisy).argmax(dim=1)
        gradient = input_gradient(lambda z: cross_entropy_sum(network(z), heard), noisy)
        away = bounds.project(noisy + share * ball.ascent(gradient, ball.eps))
        return torch.cat([noisy, away]), torch.cat([heard, model(away).argmax(dim=1)])
