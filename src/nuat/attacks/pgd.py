"""PGD: projected gradient ascent on the cross-entropy (Madry et al. 2018); without a random start, I-FGSM."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nuat.attacks.base import Attack, eval_mode, input_gradient
from nuat.core.losses import cross_entropy_sum, wide
from nuat.core.threat import NORMS, Norm, check_radius
from nuat.errors import InputError

STEPS = 40
"""Steps of PGD and its relatives, unless given."""


def usual_step(eps: float, steps: int) -> float:
    """Return Madry et al.'s step size, 2.5 * eps / steps, but at most eps: from any start PGD reaches the whole ball.

    Example:
        >>> from nuat.attacks import usual_step
        >>> usual_step(0.3, 100)
        0.0075
    """
    return min(2.5 * eps / steps, eps)


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient ascent from a uniform random start.

    x_adv <- project(x_adv + alpha * sign(grad objective)), ``steps`` times; for L2, alpha times the gradient divided
    by its norm; for L1, alpha along its few largest components. With several restarts an image keeps the first restart
    that fools the model, or else the one with the highest cross-entropy.

    Example:
        >>> import torch
        >>> from nuat.attacks import PGD
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = PGD(model, eps=8/255)(x, y)  # 40 steps of 2.5 * eps / 40
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    alpha: float | None = None
    """Step size, in the units of eps. None: 2.5 * eps / steps, at most eps (Madry et al. 2018)."""
    steps: int = STEPS
    """Steps of a restart, >= 1."""
    random_start: bool = True
    """Start at uniform noise in the ball instead of at the image."""
    restarts: int = 1
    """Independent starts, >= 1."""
    objective: Callable[[Tensor, Tensor], Tensor] = cross_entropy_sum
    """Function of (logits [B, N], y [B]) that is maximised, a sum over images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            check_radius("alpha", self.alpha, self.norm)
        for name, value in (("steps", self.steps), ("restarts", self.restarts)):
            if value < 1:
                raise InputError(f"{name}={value}: expected at least 1.")
        if self.restarts > 1 and not self.random_start:
            raise InputError(f"restarts={self.restarts} repeats the same attack without random_start.")

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the PGD examples [B, C, H, W]."""
        return self._at_steps(x, y, (self.steps,))[self.steps]

    def trajectory(self, x: Tensor, y: Tensor, steps: Iterable[int]) -> dict[int, Tensor]:
        """Return the examples [B, C, H, W] after each of several numbers of steps, read off one trajectory.

        Each value is the result of the attack with that many ``steps``, the same step size and the same random draws.
        Together they cost as much as the longest. With restarts, the best images are kept for each number of steps.
        """
        wanted = sorted(set(steps))
        if not wanted or wanted[0] < 1:
            raise InputError(f"steps={wanted}: expected one or more step counts of at least 1.")
        x, y = self._prepare(x, y)
        with eval_mode(self.model):
            return self._at_steps(x, y, wanted)

    def _at_steps(self, x: Tensor, y: Tensor, wanted: Iterable[int]) -> dict[int, Tensor]:
        best: dict[int, Tensor] = {}
        scores: dict[int, Tensor] = {}
        for _ in range(self.restarts):
            for step, x_adv in self._ascend(x, y, wanted):
                if self.restarts == 1:
                    best[step] = x_adv
                    continue
                score = self._score(x_adv, y)
                if step not in best:
                    best[step], scores[step] = x_adv, score
                    continue
                better = score > scores[step]
                best[step] = torch.where(better[:, None, None, None], x_adv, best[step])
                scores[step] = torch.where(better, score, scores[step])
        return best

    def _ascend(self, x: Tensor, y: Tensor, wanted: Iterable[int]) -> Iterable[tuple[int, Tensor]]:
        bounds = self.threat.bounds(x)
        alpha = usual_step(self.eps, self.steps) if self.alpha is None else self.alpha
        x_adv = bounds.project(x + self.threat.uniform(x, self.generator)) if self.random_start else x
        for step in range(1, max(wanted) + 1):
            gradient = input_gradient(lambda z: self.objective(self.model(z), y), x_adv)
            x_adv = bounds.project(x_adv + self.threat.ascent(gradient, alpha, x_adv))
            if step in wanted:
                yield step, x_adv

    def _score(self, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return, per image [B], infinity where the model is fooled, else the cross-entropy."""
        with torch.no_grad():
            logits = self.model(x_adv)
            loss = torch.nn.functional.cross_entropy(wide(logits), y, reduction="none")
            return loss.masked_fill(logits.argmax(dim=1) != y, float("inf"))
