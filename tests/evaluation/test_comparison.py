"""Comparing two models on the same images."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nuat.errors import InputError
from nuat.evaluation.comparison import compare, mcnemar, paired_interval
from nuat.evaluation.results import AttackResult, Evaluation


def evaluation(**flags: list[int]) -> Evaluation:
    results = tuple(
        AttackResult(name, {}, torch.tensor(correct, dtype=torch.bool), 1.0, 1, 1) for name, correct in flags.items()
    )
    n = len(results[0].correct)
    return Evaluation(
        results=results, indices=torch.arange(n), eps=0.3, seed=0, batch_size=10, images="digest", hardware="here"
    )


def test_counts_accuracies_and_worst_case() -> None:
    a = evaluation(clean=[1, 1, 1, 1, 0], pgd=[1, 1, 0, 1, 0])
    b = evaluation(clean=[1, 1, 0, 1, 1], pgd=[0, 1, 0, 0, 1])
    found = {difference.attack: difference for difference in compare(a, b)}
    assert list(found) == ["clean", "pgd", "worst-case"]
    assert (found["clean"].only_a, found["clean"].only_b, found["clean"].n) == (1, 1, 5)
    assert (found["pgd"].only_a, found["pgd"].only_b) == (2, 1)
    assert found["pgd"].accuracy_a == pytest.approx(0.6)
    assert found["pgd"].accuracy_b == pytest.approx(0.4)
    assert (found["worst-case"].only_a, found["worst-case"].only_b) == (2, 1)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_two_sided_binomial_test(only_a: int, only_b: int) -> None:
    throws = only_a + only_b
    chances = [math.comb(throws, k) / 2**throws for k in range(throws + 1)]
    exact = sum(chance for chance in chances if chance <= chances[only_a] * (1 + 1e-9))
    assert mcnemar(only_a, only_b) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@pytest.mark.slow
def test_mcnemar_of_many_images() -> None:
    assert mcnemar(3000, 3000) == 1.0
    assert mcnemar(2900, 3100) == pytest.approx(0.0102, abs=2e-4)  # the normal approximation with correction: 0.0102
    assert mcnemar(10_000, 0) == 0.0


def test_the_interval_covers_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    n, chances = 300, torch.tensor([0.80, 0.07, 0.04, 0.09])  # both, only a, only b, neither
    draws = torch.multinomial(chances, n * 2000, replacement=True, generator=generator).view(2000, n)
    only_a, only_b = (draws == 1).sum(1).tolist(), (draws == 2).sum(1).tolist()
    inside = 0
    for a, b in zip(only_a, only_b, strict=True):
        low, high = paired_interval(a, b, n)
        inside += low <= 0.03 <= high
    assert 0.935 <= inside / 2000 <= 0.97


def test_a_real_difference_and_one_by_chance() -> None:
    a, b = evaluation(pgd=[1] * 90 + [0] * 10), evaluation(pgd=[1] * 60 + [0] * 40)
    (found,) = compare(a, b)
    assert found.is_real
    assert found.interval[0] > 0
    (same,) = compare(a, evaluation(pgd=[1] * 88 + [0] * 11 + [1]))
    assert not same.is_real
    assert same.interval[0] < 0 < same.interval[1]


def test_other_images_eps_or_attacks_are_refused() -> None:
    a = evaluation(pgd=[1, 0, 1])
    with pytest.raises(InputError, match="different images"):
        compare(a, evaluation(pgd=[1, 0]))
    with pytest.raises(InputError, match="different images"):
        compare(a, replace(a, indices=torch.tensor([0, 1, 3])))
    with pytest.raises(InputError, match="different images"):
        compare(a, replace(a, images="another"))
    with pytest.raises(InputError, match=r"Linf eps 0\.3 and Linf eps 0\.2"):
        compare(a, replace(a, eps=0.2))
    with pytest.raises(InputError, match="no attack in common: pgd against clean"):
        compare(a, evaluation(clean=[1, 0, 1]))
    assert compare(a, replace(a, images=None))  # a file of format 1 does not say


def test_pgd_by_itself_is_compared_with_the_same_steps_of_a_longer_trajectory() -> None:
    a, b = evaluation(clean=[1, 0], pgd=[1, 0]), evaluation(clean=[1, 0], pgd=[1, 0])
    alone = replace(a.results[1], name="L2:pgd-20", settings={"alpha": 0.1, "steps": 20})
    within = replace(b.results[1], name="L2:pgd-20", settings={"alpha": 0.1, "steps": 100}, shared_with="L2:pgd-100")
    assert compare(replace(a, results=(alone,)), replace(b, results=(within,)))
    other = replace(within, settings={"alpha": 0.2, "steps": 100})
    with pytest.raises(InputError, match="L2:pgd-20 ran with other settings"):
        compare(replace(a, results=(alone,)), replace(b, results=(other,)))


def test_attacks_with_other_settings_are_not_compared() -> None:
    a, b = evaluation(clean=[1, 0], pgd=[1, 0]), evaluation(clean=[1, 0], pgd=[1, 0])
    weaker = replace(b.results[1], settings={"steps": 3})
    with pytest.raises(InputError, match=r"pgd ran with other settings, \{\} and \{'steps': 3\}; attack both models"):
        compare(a, replace(b, results=(b.results[0], weaker)))
    assert compare(a, b)
