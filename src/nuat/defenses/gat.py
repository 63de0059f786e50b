"""GAT: guided adversarial training (Sriramanan et al. 2020, section 4 and Algorithm 2); rows "GAT" and "GAT-WA".

| theirs | here |
|---|---|
| lambda * ||f(x~) - f(x)||_2^2 on softmax outputs | ``weight`` * ``squared_distance(softmax, softmax)`` |
| lambda in alternate batches 0 in the attack | ``regularised_attack`` |
| Bernoulli noise of eps / 2 | ``start`` |
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from nuat.attacks.base import eval_mode, input_gradient
from nuat.core.losses import cross_entropy, squared_distance, wide
from nuat.core.ranges import check_size
from nuat.core.schedules import Jumps
from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.defenses.nuat import Batches, has_regularised_attack, start
from nuat.defenses.training_passes import CleanPass


@dataclass(frozen=True, kw_only=True)
class GAT(Defense):
    """Single-step attack, and loss with a squared distance of softmax outputs, which guides every other attack.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import GAT, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = GAT()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['clean_loss', 'distance', 'weight']
    """

    sizes: ClassVar[tuple[str, ...]] = ("alpha",)
    """The start."""

    weight: Jumps = field(default_factory=Jumps)
    """Weight of the distance over the epochs, both in the attack and in the loss."""
    alpha: float | None = None
    """Size of the start, as of NuAT. None: eps / 2, as on CIFAR-10. It shrinks with eps while eps is warmed up."""

    regularised_attack: Batches = "odd"
    """Batches of an epoch, counted from 0, whose attack the distance guides: odd, every (the authors' MNIST script) or
    never."""

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_size("defense.alpha", self.alpha)

    def step_kind(self, step: Step) -> Hashable:
        """Return whether the distance guides the attack."""
        return has_regularised_attack(self.regularised_attack, step, self.weight)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return CE(f(x), y) + weight * ||softmax(f(x_adv)) - softmax(f(x))||_2^2, means over the batch."""
        weight = step.value(self.weight)
        clean = CleanPass(model, x)
        with eval_mode(model):
            x_adv = self._attack(model, x, y, clean.logits.detach(), weight, step)
        clean_loss = cross_entropy(clean.logits, y)
        distance = squared_distance(_softmax(clean.attacked(x_adv)), _softmax(clean.logits))
        metrics: Mapping[str, Tensor | float] = {
            "clean_loss": clean_loss.detach(),
            "distance": distance.detach(),
            "weight": weight,
        }
        return BatchLoss(clean_loss + weight * distance, metrics)

    def _attack(self, model: nn.Module, x: Tensor, y: Tensor, reference: Tensor, weight: float, step: Step) -> Tensor:
        """Return the attacked images [B, C, H, W]; ``reference`` is f(x) [B, N]."""
        guided = has_regularised_attack(self.regularised_attack, step, self.weight)

        def objective(z: Tensor) -> Tensor:
            logits = model(z)
            loss = cross_entropy(logits, y)
            return loss + weight * squared_distance(_softmax(logits), _softmax(reference)) if guided else loss

        x_adv = start(x, step, self.alpha)
        gradient = input_gradient(objective, x_adv)
        return step.threat.bounds(x).project(x_adv + step.threat.ascent(gradient, step.threat.eps, x_adv))


def _softmax(logits: Tensor) -> Tensor:
    return wide(logits).softmax(dim=1)
