"""Targeted and multi-targeted PGD: the closed form on a linear model, slow versions, and what is kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, Linear, Rough, TinyConv, images, labels
from torch import Tensor, nn

from nuat.attacks import PGD, MultiTargetedPGD, TargetedPGD
from nuat.attacks.targeted import wrong_classes
from nuat.core.losses import logit_margin
from nuat.errors import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def case(classes: int = 4, batch: int = 6) -> tuple[nn.Module, Tensor, Tensor]:
    return Rough(classes=classes).double().eval(), images(batch, dtype=torch.float64), labels(batch, classes)


def slow_targeted(model: nn.Module, x: Tensor, target: Tensor, eps: float, alpha: float, steps: int) -> Tensor:
    """Kurakin et al. 2017, from the image: down the cross-entropy of the target."""
    z = x.clone()
    for _ in range(steps):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(z), target, reduction="sum"), z)
        z = (x + (z.detach() - alpha * gradient.sign() - x).clamp(-eps, eps)).clamp(0.0, 1.0)
    return z


@given(seed=st.integers(0, 1000), classes=st.integers(2, 7))
def test_wrong_classes_are_all_but_the_label_by_likelihood(seed: int, classes: int) -> None:
    logits = torch.randn(5, classes, generator=seeded(seed))
    y = labels(5, classes, seed)
    ranked = wrong_classes(logits, y)
    for row, true, found in zip(logits.tolist(), y.tolist(), ranked.tolist(), strict=True):
        assert found == sorted((c for c in range(classes) if c != true), key=lambda c, row=row: -row[c])
    assert torch.equal(wrong_classes(logits, y, 1), ranked[:, :1])


# one target


@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_the_closed_form_optimum_of_two_classes(eps: float) -> None:
    """The only wrong class is the target, so moving towards it is moving away from the label."""
    model = Linear().double()
    x, y = images(6, 1, dtype=torch.float64, eps=eps), labels(6, 2)
    for target in ("least-likely", "random", 1 - y):
        attack = TargetedPGD(model, eps=eps, alpha=eps, steps=3, target=target, generator=seeded())
        torch.testing.assert_close(attack(x, y), model.worst_case(x, y, eps), rtol=0, atol=1e-12)


def test_the_closed_form_optimum_in_l2() -> None:
    model = Linear().double()
    x = 0.3 + 0.4 * torch.rand(6, 1, 4, 4, generator=seeded(), dtype=torch.float64)
    y = labels(6, 2)
    direction = (model.weight[1 - y] - model.weight[y]).detach()
    expected = x + 0.2 * direction / torch.linalg.vector_norm(direction, dim=(1, 2, 3), keepdim=True)
    attack = TargetedPGD(model, eps=0.2, norm="L2", alpha=0.1, steps=3, random_start=False)
    torch.testing.assert_close(attack(x, y), expected, rtol=0, atol=1e-12)


def test_against_a_slow_version() -> None:
    model, x, y = case()
    target = (y + 2) % 4
    settings = {"eps": EPS, "alpha": EPS / 3, "steps": 5}
    attack = TargetedPGD(model, random_start=False, target=target, **settings)
    expected = slow_targeted(model, x, target, **settings)
    torch.testing.assert_close(attack(x, y), expected, rtol=0, atol=1e-12)
    before, after = (model(z).log_softmax(1).gather(1, target[:, None]) for z in (x, expected))
    assert bool((after > before).all())


def test_the_least_likely_is_that_of_the_clean_image_and_never_the_label() -> None:
    model, x, y = case(batch=24)
    logits = model(x)
    target = torch.tensor(
        [min((c for c in range(4) if c != t), key=lambda c, z=z: z[c]) for z, t in zip(logits, y.tolist(), strict=True)]
    )
    assert bool((logits.argmin(1) == y).any())  # of some images the label is the least likely
    settings = {"eps": EPS, "alpha": EPS / 3, "steps": 3, "random_start": False}
    by_name, by_hand = TargetedPGD(model, **settings), TargetedPGD(model, target=target, **settings)
    assert torch.equal(by_name(x, y), by_hand(x, y))
    assert torch.equal(by_name(x, y, target), by_hand(x, y))  # given at the call


def test_random_targets_are_wrong_classes_evenly_and_by_the_generator() -> None:
    model = Rough(classes=4)
    x, y = images(600), labels(600, 4)
    attack = TargetedPGD(model, eps=EPS, alpha=EPS, steps=1, target="random", generator=seeded())
    drawn = attack._targets(model(x), y)
    assert not bool((drawn == y).any())
    for true in range(4):
        counts = torch.bincount(drawn[y == true], minlength=4)
        assert bool((counts[[c for c in range(4) if c != true]] > 30).all())
    assert torch.equal(
        TargetedPGD(model, eps=EPS, alpha=EPS, steps=1, target="random", generator=seeded())._targets(model(x), y),
        drawn,
    )


def test_a_target_at_the_call_goes_before_the_field() -> None:
    model, x, y = case()
    attack = TargetedPGD(model, eps=EPS, alpha=EPS, steps=2, random_start=False, target=(y + 1) % 4)
    assert torch.equal(attack(x, y, ((y + 2) % 4).to(torch.int32)), attack(x, y, (y + 2) % 4))
    assert not torch.equal(attack(x, y, (y + 2) % 4), attack(x, y))


# every target


def slow_multi_targeted(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, steps: int, targets: int
) -> tuple[Tensor, list[int]]:
    """Image by image, from the image; returns the examples and how many classes each was led towards."""
    results, runs = [], []
    for n in range(len(x)):
        image, true = x[n : n + 1], int(y[n])
        clean = model(image)[0]
        order = sorted((c for c in range(len(clean)) if c != true), key=lambda c, z=clean: -float(z[c].detach()))
        best, best_margin, count = image, float(logit_margin(clean[None], y[n : n + 1]).detach()), 0
        if int(clean.argmax()) == true:
            for target in order[:targets]:
                count += 1
                z = image.clone()
                for _ in range(steps):
                    z = z.detach().requires_grad_()
                    logits = model(z)[0]
                    (gradient,) = torch.autograd.grad(logits[target] - logits[true], z)
                    z = (image + (z.detach() + alpha * gradient.sign() - image).clamp(-eps, eps)).clamp(0.0, 1.0)
                logits = model(z)
                if int(logits.argmax()) != true:
                    best = z
                    break
                margin = float(logit_margin(logits, y[n : n + 1]).detach())
                if margin > best_margin:
                    best, best_margin = z, margin
        results.append(best.detach())
        runs.append(count)
    return torch.cat(results), runs


@pytest.mark.parametrize("targets", [1, 2, None])
def test_multi_targeted_against_a_slow_version(targets: int | None) -> None:
    model, x, y = case(classes=5, batch=40)
    y[::2] = model(x).argmax(1)[::2]
    settings = {"eps": EPS / 2, "alpha": EPS / 6, "steps": 4}
    ours = MultiTargetedPGD(model, random_start=False, targets=targets, **settings)(x, y)
    theirs, runs = slow_multi_targeted(model, x, y, targets=4 if targets is None else targets, **settings)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert {0, 1} < set(runs) or targets == 1  # misclassified, broken at once, and later or never


def test_multi_targeted_attacks_only_what_stands() -> None:
    model, x, y = case(classes=5, batch=12)
    y = model(x).argmax(1)
    passes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    MultiTargetedPGD(model, eps=EPS / 2, alpha=EPS / 6, steps=1, random_start=False)(x, y)
    # clean twice (ranking, verdict), then per class a step and its verdict, on fewer and fewer images
    assert passes[:4] == [12, 12, 12, 12]
    assert passes == sorted(passes, reverse=True)
    assert passes[-1] < 12


def test_multi_targeted_finds_what_exists_on_a_linear_model() -> None:
    model = Linear(classes=5, channels=2).double()
    x = images(30, 2, dtype=torch.float64)
    y = model(x).argmax(1)
    margins = model.worst_margins(x, y, EPS)
    assert 3 < int((margins < 0).sum()) < 27
    x_adv = MultiTargetedPGD(model, eps=EPS, alpha=EPS, steps=3, generator=seeded())(x, y)
    assert torch.equal(model(x_adv).argmax(1) != y, margins < 0)


def test_multi_targeted_in_two_classes_is_pgd_on_the_margin() -> None:
    model = Rough(classes=2).double()
    x = images(5, dtype=torch.float64)
    y = model(x).argmax(1)
    settings = {"eps": EPS, "alpha": EPS / 2, "steps": 3}
    multi = MultiTargetedPGD(model, generator=seeded(), **settings)(x, y)
    single = PGD(model, generator=seeded(), objective=lambda z, t: logit_margin(z, t).sum(), **settings)(x, y)
    assert torch.equal(multi, single)


# refusals


@pytest.mark.parametrize("kind", [TargetedPGD, MultiTargetedPGD])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 2}, r"alpha=2: .*Did you mean 2/255\?"),
        ({"steps": 0}, "steps=0: expected at least 1"),
        ({"eps": 8}, r"Did you mean 8/255\?"),
    ],
)
def test_settings_of_both_that_cannot_be(kind, settings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(TinyConv(), **{"eps": EPS, "alpha": EPS, "steps": 1, **settings})


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="target='nearest': expected 'least-likely', 'random' or the class"):
        TargetedPGD(TinyConv(), eps=EPS, alpha=EPS, steps=1, target="nearest")
    with pytest.raises(InputError, match="targets=0: expected at least 1"):
        MultiTargetedPGD(TinyConv(), eps=EPS, alpha=EPS, steps=1, targets=0)
    with pytest.raises(InputError, match="targets=4: a model of 4 classes has 3 wrong ones"):
        MultiTargetedPGD(TinyConv(), eps=EPS, alpha=EPS, steps=1, targets=4)(images(2), labels(2, 4))


@pytest.mark.parametrize("kind", [TargetedPGD, MultiTargetedPGD])
def test_one_class_is_refused(kind) -> None:
    with pytest.raises(InputError, match="at least 2 classes; this one has 1"):
        kind(TinyConv(classes=1), eps=EPS, alpha=EPS, steps=1)(images(2), torch.zeros(2).long())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([1, 2, 3]), r"expected 2 integer targets; got \[3\]"),
        (torch.tensor([[1], [2]]), r"expected 2 integer targets; got \[2, 1\]"),
        (torch.tensor([1.0, 2.0]), "got .* of torch.float32"),
        (torch.tensor([1, 4]), "targets must be classes from 0 to 3; got 1 to 4"),
        (torch.tensor([-1, 2]), "targets must be classes from 0 to 3; got -1 to 2"),
        (torch.tensor([1, 3]), "a target equals the label of its image"),
    ],
)
def test_targets_that_cannot_be(target: Tensor, message: str) -> None:
    attack = TargetedPGD(TinyConv(), eps=EPS, alpha=EPS, steps=1)
    with pytest.raises(InputError, match=message):
        attack(images(2), torch.tensor([0, 3]), target)
