"""AWP: adversarial weight perturbation (Wu et al. 2020, Algorithm 1), on PGD-AT and on TRADES.

| theirs | here |
|---|---|
| w, w_l | the parameters with more than one dimension: convolutions and linear layers |
| v, Eq. 8-10: one step of v_l <- gamma * ||w_l|| * g_l / ||g_l|| | ``_perturbed_weights`` |
| w <- (w + v) - eta * grad L(w + v) - v, Eq. 12 | the loss is taken at w + v as a function of w |

The perturbed weights are passed to the forward pass and never written into the model, so nothing has to be undone:
the optimizer, weight decay and averages act on w. (Their code writes w + v, steps, and subtracts v, so that weight
decay sees w + v.)
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nuat.attacks.base import Forward, eval_mode
from nuat.core.ranges import check_fraction
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import BatchLoss, State, Step
from nuat.defenses.pgd_at import PGDAT
from nuat.defenses.trades import TRADES
from nuat.distributed.world import World
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class _WeightPerturbation(AdversarialTraining):
    """The objective of another adversarial training, at the nearby weights where it is worst."""

    gamma: float = 0.01
    """Size of the weight perturbation relative to each layer's norm, > 0."""
    warmup: float = 0.0
    """Fraction of the run before weights are perturbed, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]
        if not 0.0 < self.gamma <= 1.0:
            raise InputError(f"defense.gamma={self.gamma:g}: expected a relative size in (0, 1].")
        check_fraction("defense.warmup", self.warmup)

    def _perturbs(self, step: Step) -> bool:
        """Return whether weights are perturbed in a step."""
        return step.epoch / step.epochs >= self.warmup

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the objective on the attacked batch at the perturbed weights."""
        with eval_mode(model):
            x_adv = self.attack(model, x, y, step)
        if not self._perturbs(step):
            return self.objective(model, x, x_adv, y)
        moved = _perturbed_weights(
            model, lambda forward: self.objective(forward, x, x_adv, y).loss, self.gamma, step.world
        )
        return self.objective(_with(model, moved), x, x_adv, y)


@dataclass(frozen=True, kw_only=True)
class AWP(_WeightPerturbation, PGDAT):
    """AT-AWP: PGD-AT at adversarial weights; gamma 0.01 in their code.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import AWP, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = AWP(steps=2)
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        []
    """

    def step_kind(self, step: Step) -> Hashable:
        """Return whether weights are perturbed."""
        return self._perturbs(step)


@dataclass(frozen=True, kw_only=True)
class TRADESAWP(_WeightPerturbation, TRADES):
    """TRADES-AWP: TRADES at adversarial weights; gamma 0.005 in their code. The row "AWP" of the tables.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import TRADESAWP, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = TRADESAWP(steps=2)
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['clean_loss', 'kl']
    """

    gamma: float = 0.005
    """Size of the weight perturbation relative to each layer's norm, > 0."""

    def step_kind(self, step: Step) -> Hashable:
        """Return whether weights are perturbed."""
        return self._perturbs(step)


def _perturbed_weights(
    model: nn.Module, objective: Callable[[Forward], Tensor], gamma: float, world: World
) -> dict[str, Tensor]:
    """Return w + v by name, each with its graph to the parameter w; v follows the images of all processes."""
    leaves = {
        name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.dim() > 1 and p.requires_grad
    }
    # copies, so that batch norm's running statistics do not see the batch once more
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    gradients = world.sum(torch.autograd.grad(objective(_with(model, {**buffers, **leaves})), list(leaves.values())))
    torch.clear_autocast_cache()  # it holds casts of the copies
    moved = {}
    for (name, w), gradient in zip(leaves.items(), gradients, strict=True):
        v = gamma * w.detach().norm() / (gradient.norm() + 1e-20) * gradient  # Eq. 10; the constant is their code's
        moved[name] = model.get_parameter(name) + v
    return moved


def _with(model: nn.Module, tensors: dict[str, Tensor]) -> Forward:
    """Return ``model`` as a function, with some of its parameters and buffers replaced."""

    def forward(x: Tensor) -> Tensor:
        logits: Tensor = torch.func.functional_call(model, tensors, (x,))
        return logits

    return forward
