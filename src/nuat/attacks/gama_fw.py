"""GAMA-FW: the guided maximum-margin attack with Frank-Wolfe steps (Sriramanan et al. 2020).

A Frank-Wolfe step moves towards the corner of the ball that the gradient points to, and so never leaves the ball.
"""

from dataclasses import dataclass

from torch import Tensor

from nuat.attacks.gama import GAMAPGD
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GAMAFW(GAMAPGD):
    """GAMA-PGD's objective and start; x_adv <- (1 - gamma) x_adv + gamma (x + eps * sign(gradient)), in the box.

    gamma is divided by 5 at 60 % of the steps and again at 85 % (steps 60 and 85 of 100). The settings are those of
    the authors' public script for 100 steps. Two choices are ours: other numbers of steps keep its proportions, and
    the start lies inside the box.

    Example:
        >>> import torch
        >>> from nuat.attacks import GAMAFW
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = GAMAFW(model, eps=8/255, steps=20)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    gamma: float = 0.5
    """Part of the way to the corner that a first step covers, in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.gamma <= 1.0:
            raise InputError(f"gamma={self.gamma}: expected a value in (0, 1].")

    def move(self, x: Tensor, x_adv: Tensor, gradient: Tensor, step: int) -> Tensor:
        """Return the images after a step towards a corner of the ball, before they are projected, [B, C, H, W]."""
        gamma = self.gamma / 5 ** self.decays(step)
        corner = x + self.threat.ascent(gradient, self.eps, x)
        moved: Tensor = (1 - gamma) * x_adv + gamma * corner
        return moved
