"""Attacks that know NuAT: projected ascent on what its training keeps small, with batches composed as in training.

NuAT keeps the nuclear norm of f(x_adv) - f(x) small on the batches of its training. These attacks climb that norm. It
couples the images of a batch, so the composition of the batch is a setting of the attack.

| paper | here |
|---|---|
| CE + lambda ||f(X~) - f(X)||_* over the batch, Eq. 1 | objective 'ce+nuclear' |
| ||f(X~) - f(X)||_* | objective 'nuclear' |
| ||f(x~_i) - f(x_i)||_2 of each image | objective 'logit' |
| f(X), fixed during the attack | ``reference``, logits [M, N] |

The paper describes its adaptive attacks in a supplement that is not public: all settings but the objectives are ours.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nuat.attacks.base import Attack, input_gradient
from nuat.attacks.pgd import STEPS, usual_step
from nuat.core.losses import cross_entropy, wide
from nuat.core.nuclear import nuclear_norm
from nuat.core.random import shared
from nuat.core.threat import NORMS, Norm, check_radius
from nuat.errors import InputError

Objective = Literal["ce+nuclear", "nuclear", "logit"]


@dataclass(frozen=True, kw_only=True)
class AdaptivePGD(Attack):
    """x_adv <- project(x_adv + alpha * sign(grad objective)), from a uniform random start.

    The nuclear norm is taken for each group of images and summed over the groups. The groups are consecutive images of
    the attacked batch, or images of one label. With regroupings, each step averages over fresh random groups, so it
    does not rely on one composition of the batch. The result for an image depends on its batch.

    Example:
        >>> import torch
        >>> from nuat.attacks import AdaptivePGD
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = AdaptivePGD(model, eps=8/255)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    alpha: float | None = None
    """Step size, in the units of eps. None: that of PGD, 2.5 * eps / steps."""
    steps: int = STEPS
    """Steps, >= 1."""
    objective: Objective = "ce+nuclear"
    """Objective to maximise."""
    lam: float | None = None
    """Weight of the nuclear norm in 'ce+nuclear', >= 0. None: 4.5, the paper's for CIFAR-10 ResNet-18."""
    same_class: bool = False
    """Group images of one label, instead of mixing the classes as in training."""
    group_size: int | None = None
    """Images of a group, >= 1; the last group may be smaller. None: all images."""
    regroupings: int = 0
    """Random groupings that each step averages over. 0: the images keep their order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            check_radius("alpha", self.alpha, self.norm)
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: expected at least 1.")
        if self.objective not in ("ce+nuclear", "nuclear", "logit"):
            raise InputError(f"objective={self.objective!r}: expected 'ce+nuclear', 'nuclear' or 'logit'.")
        if self.lam is not None and not 0.0 <= self.lam < float("inf"):
            raise InputError(f"lam={self.lam}: expected a finite weight >= 0.")
        if self.lam is not None and self.objective != "ce+nuclear":
            raise InputError(f"lam has no effect on the objective {self.objective!r}; leave it out.")
        if self.group_size is not None and self.group_size < 1:
            raise InputError(f"group_size={self.group_size}: expected at least 1.")
        if self.regroupings < 0:
            raise InputError(f"regroupings={self.regroupings}: expected at least 0.")
        if self.objective == "logit" and (self.same_class or self.group_size is not None):
            raise InputError("same_class and group_size have no effect on 'logit', which takes each image by itself.")
        if self.regroupings and self.group_size is None:
            raise InputError("regroupings has no effect without group_size: the groups would stay the same.")

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the adversarial examples [M, C, H, W]."""
        bounds = self.threat.bounds(x)
        with torch.no_grad():
            reference = wide(self.model(x))
        alpha = usual_step(self.eps, self.steps) if self.alpha is None else self.alpha
        x_adv = bounds.project(x + self.threat.uniform(x, self.generator))
        for _ in range(self.steps):
            gradient = input_gradient(lambda z: self._objective(wide(self.model(z)), reference, y), x_adv)
            x_adv = bounds.project(x_adv + self.threat.ascent(gradient, alpha, x_adv))
        return x_adv

    def groups(self, y: Tensor) -> list[Tensor]:
        """Return the indices of the images of each group; every image of the batch is in one group.

        ``y`` int64 [M] are the labels. With regroupings the order of the images is drawn from ``generator``.
        """
        order = torch.arange(len(y), device=y.device)
        if self.regroupings:
            order = torch.randperm(len(y), generator=shared(self.generator), device=y.device)
        kinds: tuple[Tensor, ...] = (order,)
        if self.same_class:
            order = order[y[order].argsort(stable=True)]
            kinds = torch.split(order, torch.unique(y, return_counts=True)[1].tolist())
        return [group for kind in kinds for group in torch.split(kind, self.group_size or len(y))]

    def _objective(self, logits: Tensor, reference: Tensor, y: Tensor) -> Tensor:
        """Return the objective, scalar, divided by M as in training, which changes no step."""
        difference = logits - reference
        if self.objective == "logit":
            distances: Tensor = torch.linalg.vector_norm(difference, dim=1)
            return distances.mean()
        draws = [self.groups(y) for _ in range(max(1, self.regroupings))]
        norms = [nuclear_norm(difference[group]) for groups in draws for group in groups]
        nuclear = torch.stack(norms).sum() / (len(draws) * len(y))
        if self.objective == "nuclear":
            return nuclear
        return cross_entropy(logits, y) + (4.5 if self.lam is None else self.lam) * nuclear
