"""The guards around a stranger's model."""

import contextlib
import copy
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from evaluation_models import Answering
from oracles import Linear, TinyConv
from torch import Tensor, nn

from nuat.attacks import PGD
from nuat.attacks.base import input_gradient
from nuat.errors import InputError, NonFiniteError
from nuat.evaluation.guarded_model import ClimbableModel, GuardedModel, guarded


class Cut(nn.Module):
    """A model whose graph leads to its weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(4, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.detach())
        return logits


def images() -> tuple[Tensor, Tensor]:
    return torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_gets_a_copy_of_its_input(dtype: torch.dtype) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 4).to(dtype)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.linear(x.flatten(1))
            x.zero_()
            return logits

    model = GuardedModel(Writing())
    x, _ = images()
    with torch.no_grad():
        first = model(x)
        assert torch.equal(x, images()[0])
        assert not model.wrote
        model.watched = True
        wide = x.to(dtype)  # the type of the model is known by now
        assert torch.equal(model(wide), first)
    assert torch.equal(wide, images()[0].to(dtype))
    assert model.wrote


def test_logits_are_in_float32() -> None:
    x, _ = images()
    assert GuardedModel(Answering(lambda x: x.flatten(1).half()))(x).dtype == torch.float32


def raising(error: BaseException) -> Tensor:
    raise error


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda x: [x.flatten(1)], "it returned list"),
        (lambda x: x, r"it returned \[6, 1, 4, 4\] for a batch of 6"),
        (lambda x: x.sum(dim=(1, 2, 3)), r"it returned \[6\] for a batch of 6"),
        (lambda x: x.flatten(1)[:5], r"it returned \[5, 16\] for a batch of 6"),
        (lambda x: x.flatten(1) @ x, "the model fails on images of 1 x 4 x 4 .*: RuntimeError: .*in a batch of 6"),
        (lambda x: x.flatten(1) + 1j, r"as plain numbers; it returned torch\.complex64"),
        (lambda x: x.flatten(1).to_sparse(), r"it returned torch\.float32, torch\.sparse_coo"),
        (lambda x: torch.quantize_per_tensor(x.flatten(1), 0.1, 0, torch.quint8), r"it returned torch\.quint8"),
        (lambda x: x.flatten(1).to("meta"), r"torch\.strided, on the device meta\. Return real, dense logits"),
        (lambda x: x.flatten(1).double() + 1e12, r"in torch\.float64 that float32 cannot tell apart"),
        (lambda x: x.flatten(1).double() * 1e-60, r"in torch\.float64 that float32 cannot tell apart"),
        (lambda x: x.flatten(1).double() * 1e40, r"in torch\.float64 that float32 cannot tell apart"),
        (lambda x: x.flatten(1).sort(descending=True).values.double() * 1e40, r"in torch\.float64 that float32 cannot"),
        (lambda x: (x.flatten(1) * 255).long() + 2**40, r"in torch\.int64 that float32 cannot tell apart"),
        (lambda x: raising(OSError(2, "no file")), r"the model fails .*: FileNotFoundError: \[Errno 2\] no file"),
        (lambda x: raising(type("Theirs", (Exception,), {})()), r"the model fails .*: Theirs \(in a batch"),
        (lambda x: raising(SystemExit(0)), "the model fails .*: SystemExit: 0"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_another_output_is_refused(answer: Callable[[Tensor], Any], told: str, before: int) -> None:
    """From the first batch on, and after one that was as it should be."""
    answers = [lambda x: x.flatten(1)] * before + [answer]
    model = GuardedModel(Answering(lambda x: answers.pop(0)(x)))
    for _ in range(before):
        model(images()[0])
    with pytest.raises(InputError, match=told):
        model(images()[0])


def test_another_number_of_logits_than_before_is_refused() -> None:
    x, _ = images()
    model = GuardedModel(Answering(lambda x: x.flatten(1)[:, : 9 - len(x)]))
    assert model(x[:5]).shape == (5, 4)
    with pytest.raises(InputError, match=r"it returned \[6, 3\] for a batch of 6"):
        model(x)


@pytest.mark.parametrize("fails", [False, True])
def test_settings_that_a_model_changes_are_put_back(fails: bool) -> None:
    def change(x: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.set_autocast_enabled("cpu", True)
        warnings.simplefilter("error")
        return x.flatten() if fails else x.flatten(1)

    filters = warnings.filters[:]
    try:
        with pytest.raises(InputError) if fails else contextlib.nullcontext():
            guarded(Answering(change))(images()[0])
        assert torch.get_default_dtype() is torch.float32
        assert torch.empty(0).device == torch.device("cpu")
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert warnings.filters == filters
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.set_autocast_enabled("cpu", False)


def test_logits_that_are_nearly_equal_in_float64_are_taken() -> None:
    near = torch.tensor([[1.0, 1.0 + 1e-12, -3.0]], dtype=torch.float64).expand(6, 3)
    assert torch.equal(GuardedModel(Answering(lambda x: near))(images()[0]), near.float())


def test_methods_of_logits_are_those_of_torch() -> None:
    class Lying(Tensor):
        def argmax(self, *arguments: Any, **settings: Any) -> Any:
            return torch.zeros(len(self))

    x, _ = images()
    model = GuardedModel(Answering(lambda x: x.flatten(1).as_subclass(Lying)))
    for _ in range(2):
        logits = model(x)
        assert type(logits) is Tensor
        assert torch.equal(logits.argmax(dim=1), x.flatten(1).argmax(dim=1))


def test_passes_in_one_place_have_the_same_memory() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append((id(x), x.data_ptr(), x._version))
        return x.flatten(1).clone()

    model, (x, _) = guarded(Answering(look)), images()
    model.one_place = True
    assert torch.equal(model(x), x.flatten(1))
    assert torch.equal(model(1 - x), 1 - x.flatten(1))
    assert seen[0] == seen[1]


def test_passes_whose_gradient_does_not_arrive_are_counted() -> None:
    x, _ = images()
    for answer, unreached in (
        (lambda x: x.flatten(1), 0),
        (lambda x: x.detach().flatten(1), 12),
        (lambda x: x.flatten(1) if len(x) == 6 else x.detach().flatten(1), 1),
        (lambda x: x.flatten(1) if len(x) == 6 else x.detach().flatten(1) + torch.zeros(1, requires_grad=True), 1),
    ):
        climbable = ClimbableModel(Answering(answer))
        for part in (x, x[:1] if unreached == 1 else x):
            z = part.clone().requires_grad_()
            torch.autograd.grad(climbable(z).sum(), z, allow_unused=True)
        with torch.no_grad():
            climbable(x)
        assert climbable.counts.unreached == unreached


def test_a_model_that_seeds_leaves_the_generator() -> None:
    def seed(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return x.flatten(1) + torch.rand(())

    for answer, seeds in ((seed, True), (lambda x: x.flatten(1) + torch.rand(()), False), (nn.Flatten(), False)):
        guard = guarded(Answering(answer))
        ends = []
        for skipped in (1, 2, 3):
            torch.rand(skipped)
            before = torch.get_rng_state()
            guard(images()[0])
            ends.append(torch.equal(before, torch.get_rng_state()))
        again = torch.get_rng_state()  # the same draws once more are no seed of the model's
        for _ in range(2):
            torch.set_rng_state(again)
            guard(images()[0])
        assert guard.reseeds == seeds
        assert ends == {seed: [True, True, True]}.get(answer, [isinstance(answer, nn.Flatten)] * 3)


def test_a_copy_of_a_guard_puts_the_generator_back_too() -> None:
    guard = guarded(Answering(lambda x: x.flatten(1) + torch.manual_seed(3).initial_seed()))
    guard(images()[0])
    copied = copy.deepcopy(guard)
    torch.rand(2)
    before = torch.get_rng_state()
    copied(images()[0])
    assert torch.equal(before, torch.get_rng_state())


def test_an_answer_in_memory_that_the_model_uses_again_stays() -> None:
    memory = torch.empty(6, 16)
    model = GuardedModel(Answering(lambda x: memory.copy_(x.flatten(1))))
    x, _ = images()
    first = model(x)
    model(1 - x)
    assert torch.equal(first, x.flatten(1))


@pytest.mark.parametrize(
    "error", [RuntimeError("Can't call numpy() on Tensor that requires grad."), BufferError("gradient")]
)
def test_a_model_that_takes_no_graph_gets_none(error: Exception) -> None:
    def foreign(x: Tensor) -> Tensor:
        if x.requires_grad:
            raise error
        logits = 2 * x.flatten(1)
        x.zero_()
        return logits

    model, (x, _) = GuardedModel(Answering(foreign)), images()
    for _ in range(2):
        z = x.clone().requires_grad_()
        assert not model(z).requires_grad
        assert torch.equal(z, x)  # it got a copy
    assert torch.equal(model(x), 2 * x.flatten(1))
    with pytest.raises(InputError, match=r"the model fails on images .*: RuntimeError: a gradient is needed"):
        GuardedModel(Answering(lambda x: raising(RuntimeError("a gradient is needed"))))(x.requires_grad_())
    with pytest.raises(InputError, match=r"the model fails on images .*: RuntimeError: no"):
        GuardedModel(Answering(lambda x: raising(RuntimeError("no")) if x.requires_grad else x.flatten(1)))(x)


def test_memory_that_is_used_up_is_no_error_of_the_model() -> None:
    def used_up(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        GuardedModel(Answering(used_up))(images()[0])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("no")])
def test_a_pass_that_failed_leaves_no_memory_behind(error: Exception) -> None:
    held: list[weakref.ref[Tensor]] = []

    def fails(x: Tensor) -> Tensor:
        held.append(weakref.ref(x))
        raise type(error)(*error.args)

    gc.disable()
    try:
        with contextlib.suppress(InputError, torch.OutOfMemoryError):
            GuardedModel(Answering(fails))(images()[0])
        assert [reference() for reference in held] == [None]
    finally:
        gc.enable()


def test_a_model_of_two_types_fails_with_its_own_error() -> None:
    mixed = nn.Sequential(nn.Flatten(), nn.Linear(16, 4).double(), nn.Linear(4, 4).half())
    with pytest.raises(InputError, match="the model fails on images"):
        GuardedModel(mixed)(images()[0])


def test_an_order_takes_each_logit_once() -> None:
    x, _ = images()
    flat = Answering(lambda x: x.flatten(1)[:, :4])
    assert torch.equal(guarded(flat, (2, 0))(x), flat(x)[:, [2, 0, 1, 3]])
    for order in ((0, 0), (-1, 0)):
        with pytest.raises(InputError, match="give each logit once, counted from 0"):
            guarded(flat, order)
    with pytest.raises(InputError, match="names logit 4; the model returns 4"):
        guarded(flat, (4, 0))(x)
    model = guarded(flat, (2, 0))
    assert guarded(model) is model
    with pytest.raises(InputError, match="has an order of classes already"):
        guarded(model, (2, 0))


def test_a_climbable_model_is_the_model() -> None:
    model = TinyConv(1, 4).eval()
    x, y = images()
    climbable = ClimbableModel(model)
    for wanted in (False, True):
        for graph in (False, True):
            with torch.set_grad_enabled(graph):
                assert torch.equal(climbable(x.clone().requires_grad_(wanted)), model(x))
            assert climbable.counts.unreached == 6 * (wanted and graph)  # no gradient was asked for otherwise
    for seed in range(2):
        made = [
            PGD(m, eps=0.1, alpha=0.05, steps=3, generator=torch.Generator().manual_seed(seed))(x, y)
            for m in (model, climbable)
        ]
        assert torch.equal(*made)


def test_only_a_model_without_a_gradient_pays_for_one_of_zeros() -> None:
    x, _ = images()
    for model, tied in ((TinyConv(1, 4).eval(), False), (Cut(), True)):
        climbable = ClimbableModel(model)
        for _ in range(2):
            logits = climbable(x.clone().requires_grad_())
            assert logits.grad_fn is not None
            assert ("_Tied" in logits.grad_fn.name()) == tied


def test_a_climbable_model_has_a_finite_gradient() -> None:
    x, _ = images()

    class Exploding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4] + (0.0 * x).sqrt().sum(dim=(1, 2, 3))[:, None]

    with pytest.raises(NonFiniteError, match="infinite or NaN"):
        input_gradient(lambda z: Exploding()(z).sum(), x)
    for model, nonfinite in ((Exploding(), 12), (Cut(), 0)):
        climbable = ClimbableModel(model)
        z = x.clone().requires_grad_()
        for _ in range(2):
            (gradient,) = torch.autograd.grad(climbable(z).sum(), z)
            assert torch.equal(gradient, torch.zeros_like(x))
        with torch.no_grad():
            climbable(x[:1])
        counts = climbable.counts
        assert (counts.forwards, counts.backwards, counts.nonfinite) == (13, 12, nonfinite)


class _Sometimes(torch.autograd.Function):
    """Identity; its gradient is None for a batch of one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor | None:
        return gradient if len(gradient) > 1 else None


def test_a_later_gradient_that_is_none_is_counted_as_not_arrived() -> None:
    x, _ = images()
    climbable = ClimbableModel(Answering(lambda x: _Sometimes.apply(x).flatten(1)))
    for n, value in ((6, 1.0), (1, 0.0)):
        gradient = input_gradient(lambda z: climbable(z).sum(), x[:n])
        assert torch.equal(gradient, torch.full_like(x[:n], value))
    assert (climbable.counts.backwards, climbable.counts.unreached) == (6, 1)


def test_a_later_batch_without_a_graph_has_a_gradient_of_zeros() -> None:
    x, _ = images()
    climbable = ClimbableModel(Answering(lambda x: x.flatten(1) if len(x) > 1 else x.detach().flatten(1)))
    for n, value in ((6, 1.0), (1, 0.0)):
        z = x[:n].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(climbable(z).sum(), z)
        assert torch.equal(gradient, torch.full_like(z, value))
