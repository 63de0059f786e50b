"""Class-balanced choices and the split, as properties over label lists."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nuat.data.splits import class_balanced, split, stratified
from nuat.errors import InputError

label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@st.composite
def labels_and_n(draw):
    labels = draw(label_lists)
    return torch.tensor(labels), draw(st.integers(0, len(labels)))


def fair_shares(available: list[int], n: int) -> list[int]:
    """The sizes of a fair deal, one image at a time to whoever has the fewest and still can."""
    shares = [0] * len(available)
    for _ in range(n):
        open_ = [c for c in range(len(available)) if shares[c] < available[c]]
        shares[min(open_, key=lambda c: shares[c])] += 1
    return shares


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(labels_and_n(), st.integers(0, 2**31))
def test_class_balanced_deals_fairly_and_returns_sorted_distinct_positions(case, seed):
    labels, n = case
    chosen = class_balanced(labels, n, seed)
    assert chosen.dtype == torch.int64
    assert len(chosen) == n
    assert torch.all(chosen[1:] > chosen[:-1])
    assert torch.equal(chosen, class_balanced(labels, n, seed))
    available = torch.bincount(labels, minlength=5).tolist()
    got = torch.bincount(labels[chosen], minlength=5).tolist()
    # which class gets a remainder is drawn, so compare the sizes without their owners
    assert sorted(got) == sorted(fair_shares(available, n))
    assert all(g <= a for g, a in zip(got, available, strict=True))


@settings(max_examples=50, deadline=None)
@given(labels_and_n(), st.integers(0, 2**31))
def test_a_smaller_choice_is_part_of_a_larger_one(case, seed):
    labels, n = case
    smaller = set(class_balanced(labels, n // 2, seed).tolist())
    assert smaller <= set(class_balanced(labels, n, seed).tolist())


@settings(max_examples=50, deadline=None)
@given(labels_and_n(), st.integers(0, 2**31))
def test_split_covers_everything_once(case, seed):
    labels, n = case
    train, validation = split(labels, n, seed)
    assert len(validation) == n
    assert torch.equal(torch.cat([train, validation]).sort().values, torch.arange(len(labels)))
    assert torch.all(train[1:] > train[:-1])


def test_the_papers_split_of_cifar_has_a_hundred_images_of_each_class():
    labels = torch.arange(50_000) % 10
    train, validation = split(labels, 1000, seed=0)
    assert torch.bincount(labels[validation]).tolist() == [100] * 10
    assert torch.bincount(labels[train]).tolist() == [4900] * 10


def test_a_class_with_too_few_images_gives_all_and_the_others_fill_up():
    labels = torch.tensor([0] * 3 + [1] * 50 + [2] * 50)
    chosen = class_balanced(labels, 43, seed=5)
    assert torch.bincount(labels[chosen]).tolist() == [3, 20, 20]


def test_the_choice_depends_on_the_seed_and_never_changes_for_one():
    labels = torch.arange(40) % 4
    # committed numbers: another platform, or another version of torch, must give the same split
    assert class_balanced(labels, 6, seed=0).tolist() == [4, 11, 14, 16, 21, 26]
    assert class_balanced(labels, 6, seed=1).tolist() != class_balanced(labels, 6, seed=0).tolist()


@pytest.mark.parametrize("n", [-1, 5])
def test_asking_for_more_than_there_is_is_refused(n):
    with pytest.raises(InputError, match=rf"cannot choose {n} of 4 images: ask for 0\.\.4"):
        class_balanced(torch.zeros(4, dtype=torch.int64), n, seed=0)
    with pytest.raises(InputError, match="of 4 images"):
        split(torch.zeros(4, dtype=torch.int64), n, seed=0)


@given(label_lists, st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_a_fraction_is_one_of_each_class_that_can_pay(labels, fraction, seed):
    labels = torch.tensor(labels)
    train, validation = split(labels, fraction, seed)
    assert torch.equal(torch.cat([train, validation]).sort().values, torch.arange(len(labels)))
    assert torch.equal(validation, stratified(labels, fraction, seed))
    for label in labels.unique().tolist():
        n, held_out = int((labels == label).sum()), int((labels[validation] == label).sum())
        assert held_out < n, "every class keeps a training image"
        assert held_out >= (n > 1), "and has a validation image if it can"
        assert abs(held_out - fraction * n) <= 1


def test_a_fraction_of_small_and_uneven_classes():
    """A number of images, shared equally, would take all five of the second class."""
    labels = torch.tensor([0] * 1000 + [1] * 5)
    _, validation = split(labels, 0.1, 0)
    assert torch.bincount(labels[validation]).tolist() == [100, 1]
    assert not torch.equal(split(labels, 0.1, 1)[1], validation)
