"""Guards around a model of unknown origin; every pass of evaluate, diagnose, analyse and export goes through them.

``GuardedModel`` trusts neither what the model does to its input nor the form of its output. ``ClimbableModel`` adds
that attacks by gradients always find a finite gradient, if only 0, so that they finish.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks.base import gradient_of
from nuat.errors import InputError, is_out_of_memory
from nuat.evaluation.surroundings import Surroundings

_REFUSES_GRAPH = re.compile("requires? grad|gradient")
"""Part of the messages of numpy, DLPack and others that take no tensor with a graph."""


class GuardedModel(nn.Module):
    """A model that gets a copy of its input and whose output is checked on every batch.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N]. One whose parameters have another floating-point type
            than the images gets the images in its type, if it fails without.
        order: the logit of the model for each class of the images, each at most once; logits that it leaves out come
            after these. None: logit i is class i.

    Shapes:
        Images [B, C, H, W] to logits [B, N] in float32.

    Raises:
        InputError: in a forward pass, if the model fails, or returns something else than one tensor [B, N].
    """

    def __init__(self, model: nn.Module, order: Sequence[int] | None = None) -> None:
        super().__init__()
        self.model = model
        self.order = None if order is None else tuple(order)
        self.watched = False
        """Whether every forward pass compares the input before and after."""
        self.wrote = False
        """Whether the model wrote into its input while it was watched."""
        self.one_place = False
        """Whether every pass without a gradient gets its copy in the same memory."""
        self._place: Tensor | None = None
        self._around: dict[torch.device, Surroundings] = {}
        self._dtype: torch.dtype | None = None
        self._graphless = False
        self._logits: int | None = None

    @property
    def reseeds(self) -> bool:
        """Whether the model seeds torch's generators in its passes."""
        return any(around.reseeded for around in self._around.values())

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, N] of ``x`` [B, C, H, W], in float32 and in the order of the classes."""
        try:
            try:
                logits = self._call(self._copied(x))
            except (RuntimeError, TypeError, BufferError) as error:
                logits = self._call_otherwise(x, str(error))  # not the error: it would keep the pass in memory
            usual = (  # few questions, as each takes part of a short pass
                type(logits) is Tensor
                and logits.dtype == torch.float32
                and logits.layout == torch.strided
                and logits.device == x.device
                and logits.shape == (x.shape[0], self._logits)
            )
            # a copy, as the model may write its next answer into the same memory
            wide: Tensor = logits.clone() if usual else self._checked(logits, x)
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything, or call sys.exit
            if isinstance(error, InputError) or is_out_of_memory(error):
                raise
            size = " x ".join(map(str, x.shape[1:]))
            why = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            raise InputError(
                f"the model fails on images of {size} (channels, height, width): {why} (in a batch of {len(x)})"
            ) from error
        return wide if self.order is None else wide[:, self._columns(wide.shape[1])]

    def _copied(self, x: Tensor) -> Tensor:
        """Return a copy of ``x``, in the type of the model if it does not take others."""
        if self._graphless:
            x = x.detach()
        dtype = x.dtype if self._dtype is None else self._dtype
        if self.one_place:
            return self._placed(x, dtype)
        return x.clone() if dtype == x.dtype else x.to(dtype)  # clone takes less time than to(dtype, copy=True)

    def _placed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return ``x`` in the same memory each time; the tensor and its version stay as well."""
        wanted = dtype, x.shape, x.device
        if self._place is None or (self._place.dtype, self._place.shape, self._place.device) != wanted:
            self._place = torch.empty_like(x, dtype=dtype)
        self._place.data.copy_(x)
        return self._place

    def _call(self, copy: Tensor) -> Any:
        """Return the output of the model, and put back what it changes of torch: settings, and seeds of generators."""
        before = copy.detach().clone() if self.watched else None
        device = copy.device
        around = self._around.get(device)
        if around is None:
            around = self._around[device] = Surroundings(device)
        noted = around.begin()
        try:
            answer = self._modules["model"](copy)  # type: ignore[misc]  # reading self.model calls __getattr__
        finally:
            around.end(noted)
        if before is not None and not torch.equal(before, copy.detach()):
            self.wrote = True
        return answer

    def _call_otherwise(self, x: Tensor, error: str) -> Any:
        """Return the output of a model that has just failed with ``error``, and remember the form that it takes.

        A model that takes no tensor with a graph gets one without: it has no gradient. One of another type gets its
        own.
        """
        if x.requires_grad and not self._graphless and _REFUSES_GRAPH.search(error):
            answer = self._call(x.detach().to(self._dtype or x.dtype, copy=True))
            self._graphless = True
            return answer
        types = {parameter.dtype for parameter in self.parameters() if parameter.is_floating_point()}
        if len(types) != 1 or (self._dtype or x.dtype) in types:
            raise  # the error that is being handled
        (native,) = types
        answer = self._call((x.detach() if self._graphless else x).to(native, copy=True))
        self._dtype = native
        return answer

    def _checked(self, logits: Any, x: Tensor) -> Tensor:
        """Return ``logits`` as a float32 tensor [B, N] in memory of its own, or refuse them."""
        self._check(logits, len(x))
        wide = _plain(logits).to(x.device, torch.float32, copy=True)
        if logits.dtype in (torch.float64, torch.int64, torch.int32):
            _check_order(logits, wide)
        return wide

    def _check(self, logits: Any, images: int) -> None:
        """Refuse what is not one tensor [B, N] with the N of the batches before."""
        if not isinstance(logits, Tensor):
            raise InputError(
                f"the model must return logits [B, N] as one tensor; it returned {type(logits).__name__}. Return the "
                "logits alone."
            )
        if logits.is_complex() or logits.layout is not torch.strided or logits.is_quantized or logits.is_meta:
            raise InputError(
                f"the model must return logits [B, N] as plain numbers; it returned {logits.dtype}, {logits.layout}"
                f"{', on the device meta' * logits.is_meta}. Return real, dense logits."
            )
        if logits.ndim != 2 or len(logits) != images or (self._logits or logits.shape[1]) != logits.shape[1]:
            hint = " A squeeze() also drops a batch of one; flatten(1) does not." if images == 1 else ""
            raise InputError(
                f"the model must return logits [B, N] as one tensor; it returned {list(logits.shape)} for a batch "
                f"of {images}.{hint}"
            )
        if self._logits is None:
            self._logits = logits.shape[1]

    def _columns(self, logits: int) -> list[int]:
        """Return the logits in the order of the images' classes, followed by the logits of no class."""
        assert self.order is not None
        if max(self.order) >= logits:
            raise InputError(
                f"the order of the classes names logit {max(self.order)}; the model returns {logits}, counted from 0."
            )
        return [*self.order, *(i for i in range(logits) if i not in set(self.order))]


def _plain(logits: Tensor) -> Tensor:
    """Return ``logits`` as a tensor whose methods are torch's own."""
    return logits if type(logits) is Tensor else logits.as_subclass(Tensor)


def _check_order(logits: Tensor, wide: Tensor) -> None:
    """Refuse logits [B, N] whose first class is another in float32, ``wide``, unless it was hardly ahead."""
    with torch.no_grad():
        exact = logits.to(wide.device, torch.float64)
        low, high = exact.aminmax(dim=1)
        lost = high - exact.gather(1, wide.argmax(dim=1, keepdim=True)).squeeze(1)
        if bool((lost > 1e-3 * (high - low)).any()) or bool((wide.isinf() & exact.isfinite()).any()):
            raise InputError(
                f"the model returns logits in {logits.dtype} that float32 cannot tell apart, in which attacks compute. "
                "Let it subtract their maximum, or scale them to a usual size."
            )


@dataclass(slots=True)
class PassCounts:
    """Counts of images; not numbers of the module, which are slow to set."""

    forwards: int = 0
    """Images of all forward passes."""
    backwards: int = 0
    """Images of all backward passes that reach the image."""
    nonfinite: int = 0
    """Images whose gradient was infinite or NaN somewhere, over all backward passes."""
    unreached: int = 0
    """Images of all differentiable passes whose graph does not lead back to the image."""


class ClimbableModel(nn.Module):
    """A guarded model with a finite gradient in the image: 0 where its own is missing, infinite or NaN.

    Attacks stand still there, as on any flat model, instead of failing. The logits are the model's own. A model without
    a guard gets one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = guarded(model)
        self.counts = PassCounts()  # not by a forward hook, which slows every call of a module
        self.passed: Callable[[], None] | None = None
        """Called after each forward pass."""
        self._flat: bool | None = None
        """Whether the model's logits have no graph to the image, as its first differentiable pass shows."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, N] of ``x`` [B, C, H, W]."""
        images = x.shape[0]  # len(x) is slower
        if not (x.requires_grad and torch.is_grad_enabled()):
            return self._answer(x, images)
        z = x.view_as(x)
        logits = self._answer(z, images)
        if self._flat is None:
            self._flat = not logits.requires_grad or gradient_of(logits.sum(), z, retain_graph=True) is None
        tied = self._flat or not logits.requires_grad
        self.counts.unreached += images
        waiting = [] if tied else [images]

        def arrived(gradient: Tensor | None) -> Tensor | None:
            if gradient is None:  # as a function of the model's own may answer
                return None
            self.counts.unreached -= waiting.pop() if waiting else 0
            self.counts.backwards += images
            if math.isfinite(gradient.sum().item()):  # infinities and NaN survive a sum
                return None
            bad = ~torch.isfinite(gradient)
            self.counts.nonfinite += int(bad.flatten(1).any(dim=1).sum())
            return gradient.masked_fill(bad, 0.0)

        z.register_hook(arrived)  # type: ignore[no-untyped-call]
        if not tied:
            return logits
        zeros: Tensor = _Tied.apply(logits, z)
        return zeros

    def _answer(self, x: Tensor, images: int) -> Tensor:
        logits: Tensor = self._modules["model"].forward(x)  # type: ignore[union-attr]  # a call would add hooks
        self.counts.forwards += images
        if self.passed is not None:
            self.passed()
        return logits


class _Tied(torch.autograd.Function):
    """The logits, with a graph to the image even if the model has none."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (x,) = ctx.saved_tensors
        return gradient, torch.zeros_like(x)


def guarded(model: nn.Module, order: Sequence[int] | None = None) -> GuardedModel:
    """Return ``model`` behind the guard; a model that has it already is returned unchanged.

    Raises:
        InputError: a logit twice in ``order``, or a number below 0.
    """
    if order is not None and (len(set(order)) < len(order) or min(order, default=0) < 0):
        raise InputError(f"class order {list(order)}: give each logit once, counted from 0.")
    if isinstance(model, GuardedModel):
        if order is not None:
            raise InputError("the model has an order of classes already; give it once.")
        return model
    return GuardedModel(model, order)
