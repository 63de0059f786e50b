"""LIET: label information elimination training (Pan et al., ICCV 2025), with a single step. Past the paper.

The single step of FGSM leaks the label into the image, and the network learns to read it there. LIET starts from the
label's own pattern, added or subtracted at random and broken up by noise, so that there is nothing to read.

| theirs | here |
|---|---|
| LI, a step of eps from a grey image, for each class | along ``state["gradients"]`` [N, C, H, W] |
| the images replaced by noise where a mask says so | ``_start`` |
| JS(softmax(f(x_start)), softmax(f(x_adv))) | ``js_divergence`` |
| lambda, linear over the epochs | ``lam`` |
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nuat.attacks.base import Forward, eval_mode, input_gradient
from nuat.core.losses import cross_entropy, cross_entropy_sum, js_divergence, soft_labels
from nuat.core.nonfinite import check_finite
from nuat.core.random import shared, uniform
from nuat.core.ranges import at_least
from nuat.core.schedules import Ramp
from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.errors import InputError

_GREY = 0.5
"""Value of every pixel of the images from which the patterns are taken."""


@dataclass(frozen=True, kw_only=True)
class LIET(Defense):
    """One step of eps from a start with the label's pattern; cross-entropy and a Jensen-Shannon divergence.

    The label of the start is the one with the largest share where CutMix mixes several.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import LIET, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = LIET()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['adversarial_loss', 'divergence', 'lam']
    """

    lam: Ramp = field(default_factory=lambda: Ramp(peak=100.0))
    """Weight of the divergence over the epochs."""
    every: int = 10
    """Batches of an epoch after which the gradients of the classes are taken anew, >= 1."""
    replaced: tuple[float, ...] = (0.1, 0.5)
    """Least and largest share of the pattern's pixels that noise replaces, drawn for each batch, in [0, 1]."""
    projected: bool = True
    """Whether the images are projected to the ball. False: to the box alone, and the noise has twice the size, as in
    their code above eps 8/255."""

    def __post_init__(self) -> None:
        at_least("defense.every", self.every, 1)
        if len(self.replaced) != 2 or not 0.0 <= self.replaced[0] <= self.replaced[1] <= 1.0:
            given = ",".join(f"{share:g}" for share in self.replaced)
            raise InputError(
                f"defense.replaced={given}: expected a least and a largest share in [0, 1], such as 0.1,0.5."
            )

    def init_state(self, model: nn.Module) -> State:
        """Return no gradients; the first batch gives their shape."""
        return {"gradients": None}

    def step_kind(self, step: Step) -> Hashable:
        """Return whether the gradients of the classes are taken anew."""
        return step.batch % self.every == 0

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return CE(f(x_adv), y) + lam * JS(f(x_start), f(x_adv)), in training mode."""
        lam = step.value(self.lam)
        self._refresh(model, x, y, step, state)
        inside = step.threat.bounds(x).project if self.projected else _box
        x_start = inside(x + self._start(x, y, step, state["gradients"])).requires_grad_()
        logits_start = model(x_start)  # one pass serves the attack and the loss
        (gradient,) = torch.autograd.grad(cross_entropy_sum(logits_start, y), x_start, retain_graph=True)
        check_finite(gradient, "the gradient of the loss in the image is infinite or NaN: the model has diverged.")
        x_start = x_start.detach()
        x_adv = inside(x_start + step.threat.ascent(gradient, step.threat.eps, x_start))
        logits_adv = model(x_adv)
        adversarial_loss = cross_entropy(logits_adv, y)
        divergence = js_divergence(logits_start, logits_adv)
        metrics: Mapping[str, Tensor | float] = {
            "adversarial_loss": adversarial_loss.detach(),
            "divergence": divergence.detach(),
            "lam": lam,
        }
        return BatchLoss(adversarial_loss + lam * divergence, metrics)

    def _refresh(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> None:
        """Take the gradients of the classes anew, in evaluation mode, if it is time or they do not fit the images."""
        gradients = state["gradients"]
        fits = gradients is not None and gradients.shape[1:] == x.shape[1:]
        if fits and step.batch % self.every != 0:
            return
        # with several devices, without the hook that gathers a batch's rows: every process takes all classes
        forward: Forward = model if step.world.size == 1 else model.forward
        with eval_mode(model):
            if not fits:
                with torch.no_grad():
                    classes = forward(x[:1]).shape[1]
                torch.clear_autocast_cache()  # weights cast without a graph would give the loss none
                state["gradients"] = gradients = x.new_zeros((classes, *x.shape[1:]))
            labels = soft_labels(torch.arange(len(gradients), device=x.device), len(gradients), self.smoothing, x.dtype)
            grey = torch.full_like(gradients, _GREY)
            gradient = input_gradient(lambda z: cross_entropy_sum(forward(z), labels), grey)
        gradients.copy_(gradient.nan_to_num())  # a skipped update must not leave NaN behind

    def _start(self, x: Tensor, y: Tensor, step: Step, gradients: Tensor) -> Tensor:
        """Return the perturbation at which the step begins, [B, C, H, W]."""
        label = y.argmax(dim=1) if y.is_floating_point() else y
        # of this batch's eps and norm
        patterns = step.threat.ascent(gradients, step.threat.eps, torch.full_like(gradients, _GREY))
        pattern = patterns[label if len(label) == len(x) else step.world.rows(label)]
        least, largest = self.replaced
        for_all = shared(step.generator)  # one draw for the whole batch
        share = least + (largest - least) * uniform((), for_all, x)
        noise = (1.0 if self.projected else 2.0) * step.threat.uniform(x, step.generator)
        delta = torch.where(uniform(x.shape, step.generator, x) < share, noise, pattern)
        return torch.where(uniform((), for_all, x) < 0.5, -delta, delta)


def _box(x: Tensor) -> Tensor:
    return x.clamp(0.0, 1.0)
