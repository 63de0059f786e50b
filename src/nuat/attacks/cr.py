"""CR: a targeted attack that leaves the ball for a while, cheap and close to AutoAttack (Pan et al., AAAI 2025).

It follows the description in the paper. The accuracy that it leaves is an upper bound of the robust accuracy. Where a
model masks its gradients, that bound can be far too high.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.attacks.base import Attack, input_gradient
from nuat.attacks.multi_targeted import difference_sum
from nuat.attacks.targeted import wrong_classes
from nuat.core.losses import cross_entropy_sum, wide
from nuat.core.threat import Linf
from nuat.errors import InputError

_CHOOSING_STEPS = 10
"""Steps of the PGD that chooses the target classes; the last one is half as long."""
_ROUNDS, _THIRD = 5, 10
"""Rounds of a run, and steps in each third of a round."""


@dataclass(frozen=True, kw_only=True)
class CR(Attack):
    """Constraint relaxation: sign steps towards a few likely classes, in a ball that grows and shrinks by turns.

    PGD on the cross-entropy names the likeliest wrong classes of each image. The run towards one of them has five
    rounds of 30 steps. Round r has s = max(0.5^(r + 1), 0.05) and steps of s * eps on z_target - z_y:

    1. ten steps in the ball of (1 + s) * eps; each iterate is moved back into the true ball and tested;
    2. ten steps in the true ball; then an image whose margin z_y - z_target is above s is given up for this target;
    3. a move into the ball of (1 - s) * eps, uniform noise of s * eps, and ten steps in the true ball.

    A run whose margin fell below ``near`` is repeated from other starts. An image is done at its first success, with
    whatever wrong class. An image that withstands comes back unchanged.

    Example:
        >>> import torch
        >>> from nuat.attacks import CR
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = CR(model, eps=8/255)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    targets: int = 3
    """Wrong classes to try, >= 1; all of them where the model has fewer."""
    restarts: int = 5
    """Further starts of a run that came near a success, >= 0."""
    near: float = 0.05
    """Margin z_y - z_target below which a run came near."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets < 1:
            raise InputError(f"targets={self.targets}: expected at least 1.")
        if self.restarts < 0:
            raise InputError(f"restarts={self.restarts}: expected at least 0.")

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the first success of each image, [B, C, H, W], or the image itself."""
        x_adv, standing = x.clone(), torch.ones(len(x), dtype=torch.bool, device=x.device)
        ranked = self._likely(x, y, x_adv, standing)
        near = torch.ones_like(ranked, dtype=torch.bool)
        for start in range(1 + self.restarts):
            for rank in range(ranked.shape[1]):
                runs = _Runs(x, y, ranked[:, rank], standing & near[:, rank], x_adv, standing)
                self._run(runs)
                if start == 0:
                    near[:, rank] = runs.least < self.near
        return x_adv

    def _likely(self, x: Tensor, y: Tensor, x_adv: Tensor, standing: Tensor) -> Tensor:
        """Return the likeliest wrong classes under PGD, int64 [B, targets]; keep what PGD breaks."""
        bounds = self.threat.bounds(x)
        runs = _Runs(x, y, y, standing, x_adv, standing)
        with torch.no_grad():
            runs.test(self.model(x), x)
        z = bounds.project(x + self.threat.uniform(x, self.generator))
        for step in range(_CHOOSING_STEPS):
            logits, gradient = self._look(z, lambda logits: cross_entropy_sum(logits, y))
            runs.test(logits, z)
            z = bounds.project(z + self.threat.ascent(gradient, self.eps / (2 if step < _CHOOSING_STEPS - 1 else 4)))
        with torch.no_grad():
            logits = self.model(z)
        runs.test(logits, z)
        return wrong_classes(logits, y, min(self.targets, logits.shape[1] - 1))

    def _run(self, runs: "_Runs") -> None:
        """Do the rounds towards one class for each image."""
        runs.z = runs.x + self.threat.uniform(runs.x, self.generator)
        for r in range(_ROUNDS):
            s = max(0.5 ** (r + 1), 0.05)
            self._ascend(runs, min((1.0 + s) * self.eps, 1.0), s * self.eps)
            self._ascend(runs, self.eps, s * self.eps)
            runs.keep(self._test(runs) & (runs.margin <= s))
            z = Linf((1.0 - s) * self.eps).bounds(runs.x).project(runs.z)
            runs.z = z + Linf(s * self.eps).uniform(z, self.generator)
            self._ascend(runs, self.eps, s * self.eps)
        self._test(runs)

    def _ascend(self, runs: "_Runs", radius: float, size: float) -> None:
        """Do a third of a round in the ball of ``radius``, testing every iterate inside the true ball."""
        for _ in range(_THIRD):
            if len(runs.x) == 0:
                return
            ball = Linf(radius).bounds(runs.x)
            z = ball.project(runs.z)
            logits, gradient = self._look(z, lambda logits: difference_sum(logits, runs.target, runs.y))
            runs.z = z
            stands = self._test(runs) if radius > self.eps else runs.test(logits, z)
            runs.z = ball.project(z + self.threat.ascent(gradient, size))
            runs.keep(stands)

    def _test(self, runs: "_Runs") -> Tensor:
        """Test the iterates, moved into the true ball; return, bool [b], which images stand."""
        if len(runs.x) == 0:
            return torch.zeros(0, dtype=torch.bool, device=runs.x.device)
        inside = self.threat.bounds(runs.x).project(runs.z)
        with torch.no_grad():
            return runs.test(self.model(inside), inside)

    def _look(self, z: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits [b, N] at ``z`` and the gradient there of an objective of the logits."""
        seen: list[Tensor] = []

        def watched(z: Tensor) -> Tensor:
            logits = self.model(z)
            seen.append(logits.detach())
            return objective(logits)

        gradient = input_gradient(watched, z)
        return seen[0], gradient


class _Runs:
    """The images that are attacked towards one class each: b of the B images of a batch, fewer as they are done."""

    def __init__(self, x: Tensor, y: Tensor, target: Tensor, chosen: Tensor, x_adv: Tensor, standing: Tensor) -> None:
        """Begin with the images ``chosen``, bool [B]; ``x_adv`` and ``standing`` of the batch are changed in place."""
        self.index = chosen.nonzero().squeeze(1)
        self.x, self.y, self.target = x[self.index], y[self.index], target[self.index]
        self.z = self.x
        self.margin = torch.full(self.y.shape, float("inf"), device=x.device)
        self.least = torch.full(y.shape, float("inf"), device=x.device)
        self._x_adv, self._standing = x_adv, standing

    def keep(self, kept: Tensor) -> None:
        """Go on with the images where ``kept``, bool [b], is true."""
        self.index, self.x, self.y, self.target = self.index[kept], self.x[kept], self.y[kept], self.target[kept]
        self.z, self.margin = self.z[kept], self.margin[kept]

    def test(self, logits: Tensor, z: Tensor) -> Tensor:
        """Keep first successes among ``z`` [b, C, H, W], inside the ball; return, bool [b], which images stand."""
        logits = wide(logits)
        true, towards = (logits.gather(1, classes[:, None]).squeeze(1) for classes in (self.y, self.target))
        self.margin = true - towards
        self.least[self.index] = torch.minimum(self.least[self.index], self.margin.to(self.least.dtype))
        new = (logits.argmax(dim=1) != self.y) & self._standing[self.index]
        self._x_adv[self.index[new]] = z[new]
        self._standing[self.index[new]] = False
        return self._standing[self.index]
