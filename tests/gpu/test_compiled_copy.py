"""On a GPU the compiled copy, replayed as CUDA graphs, gives the verdicts of the eager one."""

import pytest
import torch
from evaluation_models import evaluate, random_images, trained_like
from torch import nn

from nuat.attacks import eval_mode
from nuat.config import ThreatConfig
from nuat.data import ImageSet, to_float

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none here"),
]


def case(n: int = 200) -> tuple[nn.Module, ImageSet]:
    """A network that is folded, and images that it predicts as labelled."""
    model = trained_like("resnet18", size=16).cuda()
    images = random_images(n, classes=5, channels=3, size=16).to(torch.device("cuda"))
    with eval_mode(model), torch.no_grad():
        model.net.fc.bias -= model(to_float(images.images)).mean(dim=0)
        predicted = model(to_float(images.images)).argmax(dim=1)
    return model, ImageSet(images.images, predicted)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_verdicts_are_those_of_the_eager_copy(precision: str) -> None:
    model, images = case()
    attacks = ("clean", "pgd-20", "gama-20", "cr")
    eager, compiled = (
        evaluate(
            *(model, images, attacks),
            threat=ThreatConfig(eps=0.02, pgd_alpha=0.005),
            search_precision=precision,
            compile=compile_,
        )
        for compile_ in (False, True)
    )
    assert compiled.warnings == ()
    assert compiled.compiled
    assert 0.0 < eager.accuracy("cr") < 1.0
    for ours, theirs in zip(compiled.results, eager.results, strict=True):
        most = 0 if precision == "fp32" else 2  # of 200: signs of small gradients differ
        assert int((ours.correct != theirs.correct).sum()) <= most, ours.name


def test_answers_outlive_the_next_replays() -> None:
    """Logits, and gradients that FAB takes class by class from one pass, while others are pending."""
    from nuat.evaluation.compiled_copy import CompiledCopy, settings_for_compiling
    from nuat.hardware import full_precision
    from nuat.models.folding import folded

    model, images = case(64)
    x = to_float(images.images)
    with full_precision(), settings_for_compiling():
        eager = folded(model.eval(), x, images.labels)
        copy = CompiledCopy(eager, x)
        z, other = x.clone().requires_grad_(), x.flip(0).requires_grad_()
        for _ in range(3):
            logits, pending = copy(z), copy(other)
            found = [torch.autograd.grad(logits[:, k].sum(), z, retain_graph=True)[0] for k in range(3)]
            late = torch.autograd.grad(pending.sum(), other)[0]
            with torch.no_grad():
                copy(x)
        assert copy.note == ""
        expected, theirs = eager(z), eager(other)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        for k, gradient in enumerate([*found, late]):
            out, at = (expected[:, k], z) if k < 3 else (theirs, other)
            (exact,) = torch.autograd.grad(out.sum(), at, retain_graph=True)
            assert float((gradient - exact).norm() / exact.norm()) < 1e-2
