"""The losses against slow loops, with their reductions and dtypes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nuat.core.losses import (
    cross_entropy,
    cross_entropy_sum,
    js_divergence,
    kl_divergence,
    least_cross_entropy,
    logit_margin,
    probability_margin,
    soft_labels,
    squared_distance,
)
from nuat.core.nuclear import frobenius_term, nuclear_term
from nuat.errors import InputError


def drawn(batch: int = 5, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (batch,), generator=generator)


def slow_cross_entropies(logits: Tensor, y: Tensor) -> list[float]:
    rows = [[math.exp(v) for v in row] for row in logits.tolist()]
    return [-math.log(row[label] / sum(row)) for row, label in zip(rows, y.tolist(), strict=True)]


def test_cross_entropy_is_a_mean_and_its_sum_a_sum() -> None:
    logits, y = drawn()
    slow = slow_cross_entropies(logits, y)
    assert float(cross_entropy(logits, y)) == pytest.approx(sum(slow) / 5)
    assert float(cross_entropy_sum(logits, y)) == pytest.approx(sum(slow))


def test_smoothed_labels_give_every_class_its_share() -> None:
    assert soft_labels(torch.tensor([1, 0]), 4, 0.2, torch.float64).tolist() == [
        pytest.approx([0.05, 0.85, 0.05, 0.05]),
        pytest.approx([0.85, 0.05, 0.05, 0.05]),
    ]


def test_cross_entropy_of_soft_labels_against_a_loop() -> None:
    logits, y = drawn()
    targets = soft_labels(y, 4, 0.4, torch.float64)
    each_class = [slow_cross_entropies(logits, torch.full((5,), c)) for c in range(4)]
    slow = [sum(float(targets[i, c]) * each_class[c][i] for c in range(4)) for i in range(5)]
    assert float(cross_entropy(logits, targets)) == pytest.approx(sum(slow) / 5)
    assert float(cross_entropy_sum(logits, targets)) == pytest.approx(sum(slow))
    assert float(cross_entropy(logits, soft_labels(y, 4, 0.0))) == pytest.approx(float(cross_entropy(logits, y)))


def test_the_least_cross_entropy_is_that_of_the_labels_themselves() -> None:
    _, y = drawn()
    targets = soft_labels(y, 4, 0.4, torch.float64)
    assert float(least_cross_entropy(targets)) == pytest.approx(float(cross_entropy(targets.log(), targets)))
    assert float(least_cross_entropy(soft_labels(y, 4, 0.0))) == least_cross_entropy(y) == 0.0


@pytest.mark.parametrize("margin", [logit_margin, probability_margin])
def test_margins_refuse_soft_labels_by_name(margin: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, y = drawn()
    with pytest.raises(InputError, match=rf"^{margin.__name__}: a margin needs one class an image.*defense\.smoothing"):
        margin(logits, soft_labels(y, 4, 0.4))


def test_the_gradient_of_the_sum_in_one_image_is_that_of_the_image_alone() -> None:
    logits, y = drawn()
    logits.requires_grad_()
    (together,) = torch.autograd.grad(cross_entropy_sum(logits, y), logits)
    for i in range(5):
        (alone,) = torch.autograd.grad(cross_entropy_sum(logits[i : i + 1], y[i : i + 1]), logits)
        torch.testing.assert_close(together[i], alone[i])


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_probability_margin_against_a_loop(classes: int) -> None:
    logits, y = drawn(6, classes)
    margins = probability_margin(logits, y)
    assert margins.shape == (6,)
    for margin, row, label in zip(margins.tolist(), logits.tolist(), y.tolist(), strict=True):
        total = sum(math.exp(v) for v in row)
        others = [math.exp(v) / total for c, v in enumerate(row) if c != label]
        assert margin == pytest.approx(max(others) - math.exp(row[label]) / total)
    assert bool((margins > 0).any())
    assert torch.equal(margins > 0, logits.argmax(1) != y)


def test_probability_margin_has_no_gradient_but_through_the_two_classes() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0])
    assert torch.autograd.gradcheck(lambda z: probability_margin(z, y), (logits,))
    extreme = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(probability_margin(extreme, y).sum(), extreme)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_nuclear_term_is_divided_by_the_images_that_are_there(batch: int) -> None:
    logits, reference = drawn(batch)[0], drawn(batch, seed=1)[0]
    expected = torch.linalg.svdvals(logits - reference).sum() / batch
    torch.testing.assert_close(nuclear_term(logits, reference), expected)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_frobenius_term_is_the_root_of_the_sum_of_squares(batch: int) -> None:
    logits, reference = drawn(batch)[0], drawn(batch, seed=1)[0]
    squares = sum((a - b) ** 2 for a, b in zip(logits.flatten().tolist(), reference.flatten().tolist(), strict=True))
    assert float(frobenius_term(logits, reference)) == pytest.approx(math.sqrt(squares) / batch)
    same = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(frobenius_term(same, logits), same)
    assert torch.equal(gradient, torch.zeros_like(logits))


@pytest.mark.parametrize("term", [nuclear_term, frobenius_term])
def test_the_norms_have_a_gradient_in_both(term: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits, reference = (drawn(6, 3, seed)[0].requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(term, (logits, reference))
    first, second = torch.autograd.grad(term(logits, reference), (logits, reference))
    assert float(first.norm()) > 0
    assert torch.equal(first, -second)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_squared_distance_is_a_sum_over_classes_and_a_mean_over_images(batch: int) -> None:
    a, b = drawn(batch)[0], drawn(batch, seed=1)[0]
    rows = [sum((p - q) ** 2 for p, q in zip(*pair, strict=True)) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    assert float(squared_distance(a, b)) == pytest.approx(sum(rows) / batch)
    assert float(squared_distance(a, a)) == 0.0


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_kl_divergence_is_from_the_reference_and_a_mean_over_images(batch: int) -> None:
    logits, reference = drawn(batch)[0], drawn(batch, seed=1)[0]
    total = 0.0
    for q_row, p_row in zip(logits.tolist(), reference.tolist(), strict=True):
        q, p = ([math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in (q_row, p_row))
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(kl_divergence(logits, reference)) == pytest.approx(total / batch)
    assert float(kl_divergence(logits, reference)) != pytest.approx(float(kl_divergence(reference, logits)))
    assert float(kl_divergence(logits, logits + 3.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_js_divergence_is_symmetric_and_a_mean_over_images(batch: int) -> None:
    logits, others = drawn(batch)[0], drawn(batch, seed=1)[0]
    total = 0.0
    for p_row, q_row in zip(logits.tolist(), others.tolist(), strict=True):
        p, q = ([math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in (p_row, q_row))
        middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        total += sum(a * math.log(a / m) / 2 for row in (p, q) for a, m in zip(row, middle, strict=True))
    assert float(js_divergence(logits, others)) == pytest.approx(total / batch)
    assert float(js_divergence(others, logits)) == pytest.approx(total / batch)
    assert float(js_divergence(logits, logits + 3.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("loss", [squared_distance, kl_divergence, js_divergence])
def test_distances_have_a_gradient_in_both(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    first, second = (drawn(4, 3, seed)[0].requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(loss, (first, second))
    for gradient in torch.autograd.grad(loss(first, second), (first, second)):
        assert float(gradient.norm()) > 0


@pytest.mark.parametrize("divergence", [kl_divergence, js_divergence])
def test_a_divergence_of_sure_logits_is_finite_with_its_gradient(divergence: Callable[..., Tensor]) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    reference = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    value = divergence(logits, reference)
    assert bool(value.isfinite())
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(value, (logits, reference)))


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_the_dtype_is_float32_or_wider(wide: torch.dtype) -> None:
    logits, y = drawn()
    reference, _ = drawn(seed=1)
    for loss in (cross_entropy, cross_entropy_sum, probability_margin):
        assert loss(logits.to(wide), y).dtype == wide
    for distance in (nuclear_term, squared_distance, kl_divergence, js_divergence):
        assert distance(logits.to(wide), reference.to(wide)).dtype == wide


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_widened_before_anything_is_taken(dtype: torch.dtype) -> None:
    logits, y = drawn()
    narrow, reference = logits.to(dtype), drawn(seed=1)[0].to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        for loss in (cross_entropy, cross_entropy_sum, probability_margin):
            value = loss(narrow, y)
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), loss(narrow.double(), y), rtol=1e-5, atol=1e-6)
        for distance in (nuclear_term, squared_distance, kl_divergence, js_divergence):
            value = distance(narrow, reference)
            assert value.dtype == torch.float32
            expected = distance(narrow.double(), reference.double())
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
