"""TRADES (Zhang et al. 2019, Eq. 5 and Algorithm 1): the attack and the regulariser are a KL divergence.

| theirs | here |
|---|---|
| 1 / lambda, "beta" in their code | ``beta`` |
| L(f(X), f(X')) | ``kl_divergence(logits_adv, logits_clean)`` |
| 0.001 * N(0, I) | ``_START`` |
"""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nuat.attacks.base import Forward, input_gradient
from nuat.core.losses import cross_entropy, kl_divergence
from nuat.core.random import normal
from nuat.core.ranges import check_weight
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import BatchLoss, Step
from nuat.defenses.pgd_at import check_steps

_START = 0.001
"""Standard deviation of the start, in pixels of [0, 1]: at the clean image itself the divergence has no gradient."""


@dataclass(frozen=True, kw_only=True)
class TRADES(AdversarialTraining):
    """Attack that maximises KL(f(x) || f(x_adv)); loss CE(f(x), y) + beta * KL(f(x) || f(x_adv)).

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import TRADES, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = TRADES(steps=2)
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['clean_loss', 'kl']
    """

    beta: float = 6.0
    """Weight of the divergence, >= 0: more robustness, less clean accuracy."""
    steps: int = 10
    """Steps of the attack, >= 1."""
    step_size: float = 0.25
    """Size of a step in units of eps, in (0, 1]."""

    def __post_init__(self) -> None:
        check_steps(self.steps, self.step_size)
        check_weight("defense.beta", self.beta)

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return the images [B, C, H, W] with the highest divergence that the attack finds."""
        bounds = step.threat.bounds(x)
        with torch.no_grad():
            logits_clean = model(x)
        torch.clear_autocast_cache()  # weights cast without a graph would give the loss none
        noise = normal(x.shape, step.generator, x)
        x_adv = bounds.project(x + _START * noise)
        for _ in range(self.steps):
            # a sum over the images, as in their code: its sign does not depend on the batch
            gradient = input_gradient(lambda z: len(z) * kl_divergence(model(z), logits_clean), x_adv)
            ascent = step.threat.ascent(gradient, self.step_size * step.threat.eps, x_adv)
            x_adv = bounds.project(x_adv + ascent)
        return x_adv

    def objective(self, forward: Forward, x: Tensor, x_adv: Tensor, y: Tensor) -> BatchLoss:
        """Return CE(f(x), y) + beta * KL(f(x) || f(x_adv)), means over the batch."""
        logits_clean = forward(x)
        clean_loss = cross_entropy(logits_clean, y)
        divergence = kl_divergence(forward(x_adv), logits_clean)
        metrics = {"clean_loss": clean_loss.detach(), "kl": divergence.detach()}
        return BatchLoss(clean_loss + self.beta * divergence, metrics)
