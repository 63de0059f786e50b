"""GAMA-PGD: guided maximum-margin attack (Sriramanan et al. 2020), one of the strongest single attacks.

| symbol | name |
|---|---|
| lambda (relaxation weight) | ``weight`` |
| f(x~), softmax outputs | ``probabilities`` |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nuat.attacks.base import Attack, input_gradient
from nuat.core.losses import probability_margin, wide
from nuat.core.threat import NORMS, Norm
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GAMAPGD(Attack):
    """Maximise margin + weight * ||softmax(x_adv) - softmax(start)||^2, the weight falling to 0 over the first quarter.

    From a start at +-eps per pixel (L2, L1: eps away in a random direction), ``steps`` steps of 2 eps, divided by 10 at
    60 % and again at 85 % of them (steps 60 and 85 of 100). The margin is the largest wrong-class probability minus
    that of the true class, for any number of classes >= 2. The settings are those of the authors' public script for 100
    steps.

    Example:
        >>> import torch
        >>> from nuat.attacks import GAMAPGD
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = GAMAPGD(model, eps=8/255, steps=20)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    steps: int = 100
    """Steps, >= 1."""
    weight: float = 50.0
    """Weight of the squared distance at the first step, >= 0. It has no effect with at most 4 steps: the distance has
    no gradient at the start, and the weight is 0 after a quarter of the steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: expected at least 1.")
        if not self.weight >= 0:
            raise InputError(f"weight={self.weight}: expected a value >= 0.")

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the GAMA-PGD examples [B, C, H, W]."""
        return self.climb(x, lambda logits: probability_margin(logits, y))

    def climb(self, x: Tensor, margin: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the images [B, C, H, W] after ``steps`` steps on ``margin``, a function of logits [B, N] to [B]."""
        bounds = self.threat.bounds(x)
        x_adv = bounds.project(x + self.threat.far(x, self.eps, self.generator))
        with torch.no_grad():
            start = wide(self.model(x_adv)).softmax(dim=1)
        for step in range(self.steps):
            gradient = self.gradient(x_adv, start, self.guidance(step), margin)
            x_adv = bounds.project(self.move(x, x_adv, gradient, step))
        return x_adv

    def move(self, x: Tensor, x_adv: Tensor, gradient: Tensor, step: int) -> Tensor:
        """Return the images after a step, before they are projected, [B, C, H, W]."""
        return x_adv + self.threat.ascent(gradient, 2 * self.eps * 0.1 ** self.decays(step), x_adv)

    def guidance(self, step: int) -> float:
        """Return the weight of the squared distance at a step, counted from 0."""
        return self.weight * max(0.0, 1.0 - step / (self.steps / 4))

    def decays(self, step: int) -> int:
        """Return how many times the step size has been divided before a step, counted from 0."""
        return (step >= 0.6 * self.steps) + (step >= 0.85 * self.steps)

    def gradient(self, x_adv: Tensor, start: Tensor, weight: float, margin: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the gradient of the guided margin in ``x_adv``, [B, C, H, W]; ``start``: probabilities [B, N]."""

        def objective(z: Tensor) -> Tensor:
            logits = self.model(z)
            if weight == 0.0:
                return margin(logits).sum()
            return margin(logits).sum() + weight * (wide(logits).softmax(dim=1) - start).square().sum()

        return input_gradient(objective, x_adv)
