"""MI-FGSM: iterated steps along the sign of an accumulated gradient (Dong et al. 2018).

| paper | here |
|---|---|
| g_t, accumulated gradient | ``momentum`` |
| mu, decay factor | ``mu`` |
| alpha = eps / T | ``alpha``, ``eps / steps`` |
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.attacks.base import Attack, input_gradient
from nuat.core.losses import cross_entropy_sum, wide
from nuat.core.threat import check_eps
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class MIFGSM(Attack):
    """From the image: momentum <- mu * momentum + g / ||g||_1; x_adv <- project(x_adv + alpha * sign(momentum)).

    g is the gradient of the cross-entropy, ||g||_1 the sum of its absolute values over an image. A gradient of 0 adds
    nothing. The attack is deterministic.

    Example:
        >>> import torch
        >>> from nuat.attacks import MIFGSM
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = MIFGSM(model, eps=8/255, steps=10)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    steps: int = 10
    """Steps, >= 1."""
    alpha: float | None = None
    """Step size, in (0, 1]; None: eps / steps."""
    mu: float = 1.0
    """Decay of the accumulated gradient, >= 0; 0 is I-FGSM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: expected at least 1.")
        if self.alpha is not None:
            check_eps("alpha", self.alpha)
        if not 0.0 <= self.mu < float("inf"):
            raise InputError(f"mu={self.mu}: expected a finite value >= 0.")

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the MI-FGSM examples [B, C, H, W]."""
        bounds = self.threat.bounds(x)
        alpha = self.eps / self.steps if self.alpha is None else self.alpha
        x_adv, momentum = x, torch.zeros_like(wide(x))
        for _ in range(self.steps):
            gradient = wide(input_gradient(lambda z: cross_entropy_sum(self.model(z), y), x_adv))
            norm = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
            momentum = self.mu * momentum + gradient / norm.clamp(min=torch.finfo(norm.dtype).tiny)
            x_adv = bounds.project(x_adv + self.threat.ascent(momentum, alpha).to(x.dtype))
        return x_adv
