"""Attacks that know NuAT: projected ascent on what its training holds down, with batches composed as in training.

NuAT is trained to keep the nuclear norm of f(x_adv) - f(x) small on the batches of its training. These attacks climb
that very norm, which couples the images of a batch, so how a batch is composed is a setting of the attack.

| paper | here |
|---|---|
| CE + lambda ||f(X~) - f(X)||_* over the batch, Eq. 1 | objective 'ce+nuclear' |
| ||f(X~) - f(X)||_* | objective 'nuclear' |
| ||f(x~_i) - f(x_i)||_2 of each image | objective 'logit' |
| f(X), fixed during the attack | ``reference``, logits [M, N] |

The paper leaves its adaptive attacks to a supplement that is not public; objectives aside, all settings are ours.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nuat.attacks.base import Attack, input_gradient
from nuat.core.losses import cross_entropy, wide
from nuat.core.nuclear import nuclear_norm
from nuat.core.random import shared
from nuat.core.threat import Norm, check_radius
from nuat.errors import InputError

Objective = Literal["ce+nuclear", "nuclear", "logit"]


@dataclass(frozen=True, kw_only=True)
class AdaptivePGD(Attack):
    """x_adv <- project(x_adv + alpha * sign(grad objective)), from a uniform random start.

    The nuclear norm is taken of each group of images and summed over the groups; the groups are the attacked batch cut
    up as it comes, or by label. With regroupings every step averages it over fresh random groups, so that the step
    does not count on who an image shares its batch with. What is returned for an image depends on its batch.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("Linf", "L2")

    alpha: float
    """Step size, like eps."""
    steps: int
    """Steps, >= 1."""
    objective: Objective = "ce+nuclear"
    """What is maximised."""
    lam: float | None = None
    """Weight of the nuclear norm in 'ce+nuclear', >= 0; none: 4.5, where the paper's CIFAR-10 ResNet-18 ends."""
    same_class: bool = False
    """Group images of one label, instead of mixing the classes as in training."""
    group_size: int | None = None
    """Images of a group, >= 1, the last of a kind may be smaller; none: all that there are."""
    regroupings: int = 0
    """Random regroupings that each step averages over; 0: the images stay in the order they come in."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
        x_adv = bounds.project(x + self.threat.uniform(x, self.generator))
        for _ in range(self.steps):
            gradient = input_gradient(lambda z: self._objective(wide(self.model(z)), reference, y), x_adv)
            x_adv = bounds.project(x_adv + self.threat.ascent(gradient, self.alpha))
        return x_adv

    def groups(self, y: Tensor) -> list[Tensor]:
        """Return the indices of each group's images: together every image of the batch once.

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
        """Return what is maximised, scalar; it is divided by M, as in training, which changes no step."""
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
