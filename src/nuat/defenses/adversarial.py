"""Adversarial training in two parts, an attack and an objective: the form of most defenses in the paper's tables.

A subclass defines ``attack``, and ``objective`` where its loss is more than the cross-entropy on the attacked images.
Every attack runs with batch norm in evaluation mode, so that defenses differ in their attack and loss alone; the
published code of FBF, Free-AT and PGD-AT attacks in training mode (docs/method.md).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from nuat.attacks.base import Forward, eval_mode
from nuat.core.losses import cross_entropy
from nuat.defenses.base import BatchLoss, Defense, State, Step


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Defense):
    """Base of defenses that minimise an objective on attacked images (Madry et al. 2018, Eq. 2.1).

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from nuat.attacks import RFGSM
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import AdversarialTraining, Step
        >>> @dataclass(frozen=True, kw_only=True)
        ... class OneStep(AdversarialTraining):
        ...     def attack(self, model, x, y, step):
        ...         ball = step.threat
        ...         return RFGSM(model, eps=ball.eps, norm=ball.norm, generator=step.generator).perturb(x, y)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
        >>> step = Step(threat=Linf(8 / 255), epoch=0, epochs=1, batch=0, batches=1)
        >>> OneStep().loss(model, torch.rand(2, 3, 2, 2), torch.tensor([0, 2]), step, {}).loss.shape
        torch.Size([])
    """

    halves: ClassVar[bool] = False
    """Whether the attack is a single step in the ball, so that two of half the size may take its place: the second
    attacks the images of the first."""

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return the attacked images [B, C, H, W], detached; the model is in evaluation mode."""
        raise AssertionError("AdversarialTraining is abstract")

    def objective(self, forward: Forward, x: Tensor, x_adv: Tensor, y: Tensor) -> BatchLoss:
        """Return the loss in training mode; ``forward`` is the model, or the model with other weights (AWP)."""
        return BatchLoss(cross_entropy(forward(x_adv), y))

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the objective on the attacked batch."""
        with eval_mode(model):
            if step.two_steps and self.halves:
                half = replace(step, threat=step.threat.scaled(0.5), size_factor=0.5 * step.size_factor)
                x_adv = self.attack(model, self.attack(model, x, y, half), y, half)
                x_adv = step.threat.bounds(x).project(x_adv)  # a sum of radii is rounded
            else:
                x_adv = self.attack(model, x, y, step)
        return self.objective(model, x, x_adv, y)
