"""The compiled copy is the eager one, at few sizes; where it is not, the eager copy searches and a line says why."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import evaluate, random_images, tiny_case, trained_like
from oracles import TinyConv
from torch import Tensor, nn
from torch.nn import functional as F

from nuat.attacks import cr, eval_mode
from nuat.config import ThreatConfig
from nuat.data import ImageSet, to_float
from nuat.distributed.world import ALONE, World
from nuat.evaluation import compiled_copy
from nuat.evaluation.compiled_copy import CompiledCopy, padded_sizes, settings_for_compiling
from nuat.evaluation.evaluate import evaluate as inspect_and_evaluate
from nuat.evaluation.partial_results import results_key
from nuat.evaluation.result_table import as_text
from nuat.evaluation.results import Evaluation
from nuat.evaluation.warning_log import WarningLog
from nuat.hardware import full_precision

Forward = Callable[[Tensor], Tensor]
THREAT = ThreatConfig(eps=0.02, pgd_alpha=0.005)
NOTE = "attacks search without a compiled copy: "


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Forward], Forward]], list[dict[str, Any]]]:
    """Put a function of a forward pass in the place of torch.compile; returns a list of the options of its calls."""

    def replace(compiled: Callable[[Forward], Forward]) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def compile_(forward: Forward, **options: Any) -> Forward:
            asked.append(options)
            return compiled(forward)

        monkeypatch.setattr(torch, "compile", compile_)
        return asked

    return replace


@pytest.fixture
def _real() -> Iterator[None]:
    torch._dynamo.reset()
    with full_precision(), settings_for_compiling():
        yield
    torch._dynamo.reset()


def foldable_case(n: int = 40) -> tuple[nn.Module, ImageSet]:
    """A network that is folded, and images that it mostly predicts as labelled."""
    model = trained_like("wrn-10-1", size=8)
    images = random_images(n, classes=5, channels=3, size=8)
    with eval_mode(model), torch.no_grad():
        model.net.fc.bias -= model(to_float(images.images)).mean(dim=0)
        predicted = model(to_float(images.images)).argmax(dim=1)
    return model, ImageSet(images.images, torch.where(torch.arange(n) % 10 == 0, images.labels, predicted))


def steep(logits: Tensor) -> Tensor:
    return F.cross_entropy(3.0 * logits, torch.arange(len(logits)) % logits.shape[1], reduction="sum")


def look(forward: Forward, x: Tensor) -> tuple[Tensor, Tensor]:
    z = x.clone().requires_grad_()
    logits = forward(z)
    return logits, torch.autograd.grad(steep(logits), z)[0] if len(x) else z


def batch(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> nn.Module:
    return TinyConv(3, 4, dropout=0.0).double().eval().requires_grad_(False)


def test_the_sizes_are_few() -> None:
    assert padded_sizes(250) == (250, 125, 63, 32)
    assert padded_sizes(2000) == (2000, 1000, 500, 250, 125, 63, 32)
    assert [padded_sizes(n) for n in (1, 31, 62, 63)] == [(1,), (31,), (62,), (63, 32)]


@pytest.mark.slow
@pytest.mark.usefixtures("_real")
def test_logits_and_gradients_are_those_of_the_eager_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """For batches that shrink, in four graphs: of two sizes, with gradients and without."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compiled_copy, "BACKEND", counter)
    eager = network()
    copy = CompiledCopy(eager, batch(70))
    for n in (70, 69, 51, 36, 35, 34, 9, 2, 1, 0, 100):
        x = batch(n, seed=n)
        for _ in range(2):  # the first answer of a size is the eager copy's
            logits, gradient = look(copy, x)
            expected, theirs = look(eager, x)
            torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(gradient, theirs, rtol=1e-12, atol=1e-12)
            for mode in (True, False):
                with torch.set_grad_enabled(mode):
                    torch.testing.assert_close(copy(x), expected, rtol=1e-12, atol=1e-12)
    assert copy.note == ""
    assert counter.frame_count == 4


@pytest.mark.slow
@pytest.mark.usefixtures("_real")
def test_a_pass_can_be_differentiated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAB does, class by class."""
    monkeypatch.setattr(compiled_copy, "BACKEND", "aot_eager")
    eager, x = network(), batch(5)
    copy = CompiledCopy(eager, x)
    found = []
    for forward in (copy, eager):
        z = x.clone().requires_grad_()
        logits = forward(z)
        found.append([torch.autograd.grad(logits[:, k].sum(), z, retain_graph=True)[0] for k in range(3)])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


class _Replayed(torch.autograd.Function):
    """A pass whose logits and gradient are always in the same memory, as a CUDA graph's are."""

    logits: Tensor
    gradient: Tensor

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            ctx.logits, ctx.z = network()(z), z
        _Replayed.logits = getattr(_Replayed, "logits", torch.empty_like(ctx.logits))
        _Replayed.logits.copy_(ctx.logits.detach())
        return _Replayed.logits.view_as(_Replayed.logits)

    @staticmethod
    def backward(ctx: Any, along: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(ctx.logits, ctx.z, along)
        _Replayed.gradient = getattr(_Replayed, "gradient", torch.empty_like(found))
        return _Replayed.gradient.copy_(found)


def test_what_leaves_is_not_overwritten_by_the_next_pass(compiler: Any) -> None:
    compiler(lambda forward: _Replayed.apply)
    copy, (x, other) = CompiledCopy(network(), batch(8)), (batch(8, seed=s) for s in (1, 2))
    with torch.no_grad():
        copy(x)
    logits, gradient = look(copy, x)
    with torch.no_grad():
        plain = copy(x)
    kept = [t.detach().clone() for t in (logits, gradient, plain)]
    look(copy, other)
    with torch.no_grad():
        copy(other)
    assert copy.note == ""
    assert torch.equal(_Replayed.logits, network()(other))
    for now, then in zip((logits, gradient, plain), kept, strict=True):
        assert torch.equal(now, then)


def bent(forward: Forward) -> Forward:
    """The logits with another gradient."""
    return lambda x: forward(x) + torch.arange(5) * (x - x.detach()).flatten(1)[:, :1]


def wrong_when_few(forward: Forward) -> Forward:
    return lambda x: -forward(x) if len(x) < 20 else forward(x)


def broken(forward: Forward) -> Forward:
    raise RuntimeError("Failed to find C++ compiler.\n\nSet TORCH_LOGS for more")


def breaks(forward: Forward) -> Forward:
    def run(x: Tensor) -> Tensor:
        raise SyntaxError("generated\ncode")

    return run


LIES = {
    "logits": (lambda f: lambda x: 1.01 * f(x), "the logits of one differ by 0.01 of their size in a batch of 40"),
    "nan": (lambda f: lambda x: f(x) * torch.nan, "the logits of one differ by nan of their size"),
    "gradients": (bent, "the gradients of one differ by"),
    "no gradients": (lambda f: lambda x: f(x.detach()), "the gradients of one differ by inf"),
    "frozen": (lambda f: lambda x, held=[]: (held.append(f(x)) if not held else None, held[0])[1], "the logits of one"),
    "error in compiling": (broken, "torch.compile failed (RuntimeError: Failed to find C++ compiler.)"),
    "error in the first pass": (breaks, "torch.compile failed (SyntaxError: generated code)"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_copy_that_is_not_the_model_is_given_up_with_a_line(lie: str, compiler: Any) -> None:
    change, says = LIES[lie]
    model, images = foldable_case()
    plain = evaluate(model, images, ("pgd-3",), threat=THREAT)
    asked = compiler(change)
    with pytest.warns(UserWarning, match="without a compiled copy") as told:
        found = evaluate(model, images, ("pgd-3",), threat=THREAT, compile=True)
    assert len(asked) == len(told) == len(found.warnings) == 1
    assert found.warnings[0].startswith(NOTE + says)
    assert not found.compiled
    assert "compiled" not in found.to_json()
    assert torch.equal(found.results[0].correct, plain.results[0].correct)
    assert 0 < plain.accuracy("pgd-3") < 0.9


def test_a_smaller_size_is_compared_when_it_comes(compiler: Any) -> None:
    compiler(wrong_when_few)
    eager = network()
    copy = CompiledCopy(eager, batch(64))
    copy.sizes = (64, 32, 16)
    with torch.no_grad():
        assert torch.allclose(copy(batch(20)), eager(batch(20)))
        assert copy.note == ""
        for _ in range(2):
            assert torch.allclose(copy(batch(9)), eager(batch(9)))
    assert copy.note.startswith(f"{NOTE}the logits of one differ by 2 of their size in a batch of 16")


def test_a_copy_that_fails_later_is_given_up(compiler: Any) -> None:
    fails = False

    def compiled(forward: Forward) -> Forward:
        return lambda x: 1 / 0 if fails else forward(x)

    compiler(compiled)
    eager = network()
    copy = CompiledCopy(eager, batch(8))
    look(copy, batch(8))
    fails = True
    torch.testing.assert_close(look(copy, batch(8)), look(eager, batch(8)))
    assert copy.note == f"{NOTE}torch.compile failed (ZeroDivisionError: division by zero)."


@pytest.mark.parametrize("attack", ["pgd-3", "gama-3", "square-5", "cr"])
def test_a_success_of_a_copy_that_lies_later_does_not_count(
    attack: str, compiler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cr, "_ROUNDS", 1)
    model, images = foldable_case(10 if attack == "cr" else 40)
    plain = evaluate(model, images, (attack,), threat=THREAT)
    passes: Counter[tuple[int, bool]] = Counter()

    def compiled(forward: Forward) -> Forward:
        def run(x: Tensor) -> Tensor:
            passes[len(x), x.requires_grad] += 1
            return forward(x) if passes[len(x), x.requires_grad] <= 3 else -forward(x)

        return run

    compiler(compiled)
    found = evaluate(model, images, (attack,), threat=THREAT, compile=True)
    assert max(passes.values()) > 3
    assert found.compiled
    assert int(found.results[0].correct.sum()) >= int(plain.results[0].correct.sum()) - 1  # from other starts


@pytest.mark.slow
@pytest.mark.usefixtures("_real")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_verdicts_are_those_of_the_eager_copy(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_copy, "BACKEND", backend)
    monkeypatch.setattr(compiled_copy, "_LEAST", 6)
    monkeypatch.setattr(cr, "_ROUNDS", 1)
    model, images = foldable_case(12)
    attacks = ("clean", "pgd-5", "gama-5", "cr")
    plain = evaluate(model, images, attacks, threat=THREAT)
    found = evaluate(model, images, attacks, threat=THREAT, compile=True)
    assert found.warnings == ()
    assert found.compiled
    for ours, theirs in zip(found.results, plain.results, strict=True):
        assert torch.equal(ours.correct, theirs.correct), ours.name
    assert plain.accuracy("cr") < plain.accuracy("clean")
    passes = [[(r.forwards, r.backwards) for r in one.results[:3]] for one in (found, plain)]
    assert passes[0] == passes[1]  # padding is not counted


@pytest.mark.slow
@pytest.mark.usefixtures("_real")
def test_a_backend_that_fails_leaves_the_eager_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(module: Any, inputs: Any) -> Forward:
        raise OSError("no compiler on this machine")

    monkeypatch.setattr(compiled_copy, "BACKEND", backend)
    copy = CompiledCopy(network(), batch(8))
    assert copy.note.startswith(f"{NOTE}torch.compile failed (BackendCompilerFailed: ")
    assert copy.note.endswith("OSError: no compiler on this machine).")


def test_nothing_of_a_stranger_is_compiled(compiler: Any) -> None:
    asked = compiler(lambda forward: forward)
    for precision in ("fp32", "bf16"):
        with pytest.warns(UserWarning, match="only a copy with folded batch norms is compiled"):
            found = evaluate(*tiny_case(), ("pgd-3",), threat=THREAT, search_precision=precision, compile=True)
        assert not found.compiled
    assert asked == []


@pytest.mark.slow
def test_a_model_that_depends_on_its_batch_is_not_compiled(compiler: Any) -> None:
    asked = compiler(lambda forward: forward)
    model, images = foldable_case()
    last = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    last.track_running_stats, last.running_mean, last.running_var = False, None, None
    told: list[str] = []
    found = inspect_and_evaluate(model, images, ("pgd-2",), threat=THREAT, compile=True, warn=told.append)
    assert f"{NOTE}the logits change with the other images of their batch." in told
    assert not found.compiled
    assert asked == []


def test_without_it_nothing_is_compiled_and_cuda_graphs_are_for_gpus(compiler: Any) -> None:
    asked = compiler(lambda forward: forward)
    model, images = foldable_case()
    assert not evaluate(model, images, ("pgd-2",), threat=THREAT).compiled
    assert asked == []
    assert evaluate(model, images, ("pgd-2",), threat=THREAT, compile=True).compiled
    assert asked == [{"dynamic": False, "backend": "inductor"}]


def test_the_record_and_the_table_name_it(compiler: Any, tmp_path: Path) -> None:
    compiler(lambda forward: forward)
    model, images = foldable_case()
    found = evaluate(model, images, ("fgsm",), threat=THREAT, compile=True)
    assert "attacks searched on a compiled copy; every success was confirmed in fp32" in as_text(found)
    found.save(tmp_path / "e.json")
    values = json.loads((tmp_path / "e.json").read_text())
    assert values["compiled"] is True
    assert Evaluation.from_json(values).compiled
    values["search_precision"] = "bf16"
    assert "attacks searched in bf16 on a compiled copy;" in as_text(Evaluation.from_json(values))
    del values["compiled"], values["search_precision"]
    older = Evaluation.from_json(values)
    assert not older.compiled
    assert "searched" not in as_text(older)


def test_a_compiled_search_is_another_evaluation_to_resume() -> None:
    case = TinyConv(1, 3).eval(), tiny_case()[1], torch.zeros(1, 3), THREAT, 0, 250, None, "fp32", 1.0
    assert results_key(*case) == results_key(*case, False) != results_key(*case, True)


def test_what_another_process_says_is_told_once() -> None:
    class Two(World):
        def objects(self, value: Any, *, patient: bool = False) -> list[Any]:
            return [value, "theirs"]

    told: list[str] = []
    for world in (ALONE, Two(size=2)):
        warnings = WarningLog(told.append, world)
        for _ in range(2):
            warnings.add(*warnings.unsaid(""))
    assert told == ["theirs"]
