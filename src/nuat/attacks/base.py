"""Base of the attacks: evaluation mode, the gradient in the input, the checks of the arguments."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from nuat.core.nonfinite import check_finite
from nuat.core.random import Source
from nuat.core.threat import Norm, Threat, check_radius, threat
from nuat.errors import InputError, is_out_of_memory

Forward = Callable[[Tensor], Tensor]
"""Function of images [B, C, H, W] in [0, 1] that returns logits [B, N]: a model, perhaps with other weights."""


class NormError(InputError):
    """An attack is not defined for a norm."""


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in evaluation mode and restore the mode of each module afterwards.

    Example:
        >>> import torch
        >>> from nuat.attacks import eval_mode
        >>> model = torch.nn.Dropout()
        >>> with eval_mode(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    # a frozen ScriptModule has no mode
    training = [module for module in model.modules() if getattr(module, "training", False)]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def input_gradient(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the gradient of the scalar ``objective(x)`` in ``x``, detached and of its shape.

    Only the input is differentiated: no parameter gets a ``.grad``, and no graph outlives the call. If the objective
    does not depend on the input, the gradient is 0, and an attack returns its start, as on any flat model.

    Raises:
        NonFiniteError: the gradient is infinite or NaN somewhere. The attack would stand still there, and the model
            would seem robust. Training on a GPU notes it on the device instead (``nuat.core.nonfinite``).
        InputError: the backward pass fails.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = objective(x)
        gradient = gradient_of(value, x) if value.requires_grad else None
    if gradient is None:
        return torch.zeros_like(x)
    check_finite(
        gradient,
        "the gradient of the loss in the image is infinite or NaN, so no attack can climb it: the model masks its "
        "gradients or has diverged.",
    )
    return gradient


def gradient_of(value: Tensor, x: Tensor, *, retain_graph: bool = False) -> Tensor | None:
    """Return the gradient of the scalar ``value`` in ``x``. None: ``value`` does not depend on it.

    Raises:
        InputError: the backward pass fails, in which a stranger's model may run code of its own.
    """
    try:
        return torch.autograd.grad(value, x, retain_graph=retain_graph, allow_unused=True)[0]
    except Exception as error:
        refuse_backward(error)
        raise


def refuse_backward(error: Exception) -> None:
    """Refuse a model whose backward pass raised ``error``, unless that is a refusal already or memory ran out."""
    if not isinstance(error, InputError) and not is_out_of_memory(error):
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the backward pass of the model fails ({why}).") from error


def check_images(x: Tensor, y: Tensor) -> None:
    """Refuse images that are not [B, C, H, W] in [0, 1], and labels that are not integers [B]."""
    if x.ndim != 4 or not x.is_floating_point():
        raise InputError(f"expected floating-point images [B, C, H, W]; got {list(x.shape)} of {x.dtype}.")
    if y.shape != x.shape[:1] or y.is_floating_point():
        raise InputError(f"expected {x.shape[0]} integer labels; got {list(y.shape)} of {y.dtype}.")
    if x.numel():
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        if not (low >= 0.0 and high <= 1.0):  # NaN fails both comparisons
            raise InputError(
                f"images must have pixels in [0, 1]; got values from {low:g} to {high:g}. "
                "Divide uint8 images by 255, and put any normalisation into the model (nuat.models.adapt)."
            )


@dataclass(frozen=True)
class Attack:
    """Base of the attacks: settings at construction, then ``x_adv = attack(x, y)``.

    The model is attacked in evaluation mode with its current weights. The mode of each module is restored, and no
    ``.grad`` is left behind. A subclass defines ``perturb``, whose arguments are checked and on the model's device.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from nuat.attacks import Attack
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Brighten(Attack):
        ...     def perturb(self, x, y):
        ...         return self.threat.bounds(x).project(x + self.eps)
        >>> Brighten(torch.nn.Flatten(), eps=0.25)(torch.zeros(1, 1, 1, 2), torch.tensor([0]))
        tensor([[[[0.2500, 0.2500]]]])
    """

    model: nn.Module
    """Model to attack: images [B, C, H, W] in [0, 1] to logits [B, N]."""
    _: KW_ONLY
    eps: float
    """Radius of the ball. Linf: in (0, 1]; L2 and L1: > 0."""
    norm: Norm = "Linf"
    """Norm of the ball: Linf, L2 or L1, if the attack is defined for it."""
    generator: Source = None
    """Source of the random starts, on the model's device; None: torch's global generator."""

    norms: ClassVar[tuple[Norm, ...]] = ("Linf",)
    """Norms that the attack is defined for."""

    def __post_init__(self) -> None:
        if self.norm not in self.norms:
            raise NormError(f"norm={self.norm!r}: {type(self).__name__} is defined for {', '.join(self.norms)}.")
        check_radius("eps", self.eps, self.norm)

    @property
    def threat(self) -> Threat:
        """The perturbation set."""
        return threat(self.norm, self.eps)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial examples [B, C, H, W] for ``x`` [B, C, H, W] in [0, 1] with labels ``y`` [B].

        The result is detached, on the model's device, in the dtype of ``x``, within ``eps`` of ``x`` and in [0, 1]
        exactly.

        Raises:
            InputError: images or labels of the wrong shape, type or range.
        """
        x, y = self._prepare(x, y)
        if len(x) == 0:
            return x
        with torch.inference_mode(False), eval_mode(self.model):
            return self.perturb(x.clone() if x.is_inference() else x, y)

    def on(self, model: nn.Module) -> Self:
        """Return this attack on another model, with the same settings."""
        return dataclasses.replace(self, model=model)

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial examples for checked ``x`` [B, C, H, W], ``y`` int64 [B]; the model is in eval mode."""
        raise AssertionError("Attack is abstract")

    def _prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        check_images(x, y)
        parameter = next(self.model.parameters(), None)
        device = x.device if parameter is None else parameter.device
        return x.detach().to(device), y.detach().to(device, torch.int64)
