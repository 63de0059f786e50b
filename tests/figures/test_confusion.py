"""Confusion under norm attacks: counted by hand."""

import math

import numpy as np
import pytest
import torch
from figure_models import CLASSES, Linear, images, named
from figures.figure_records import drawn, texts
from torch import Tensor, nn

from nuat.attacks.nuclear import norm_attack
from nuat.core.nuclear import NORM_TERMS
from nuat.data import ImageSet
from nuat.errors import InputError
from nuat.figures.confusion import confusion, entropy, same_class_batches
from nuat.figures.measuring import generator

NAMES = ("a", "b", "c")


def test_entropy_in_both_bases() -> None:
    assert float(entropy(torch.tensor([0.5, 0.5, 0.0]), "e")) == pytest.approx(math.log(2))
    assert entropy(torch.full((4, 10), 0.1)).numpy() == pytest.approx(np.ones(4))


def test_batches_are_whole_and_of_one_class() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0])
    found = same_class_batches(labels, NAMES, 2, None)
    assert [(label, chosen.tolist()) for label, chosen in found] == [(0, [0, 3]), (0, [6, 9]), (1, [1, 4]), (2, [2, 5])]
    assert [label for label, _ in same_class_batches(labels, NAMES, 2, 1)] == [0, 1, 2]


def test_too_few_of_a_class_is_said() -> None:
    with pytest.raises(InputError, match="class 'b' has 4 test images, too few for a same-class batch of 5"):
        same_class_batches(torch.tensor([0] * 5 + [1] * 4 + [2] * 5), NAMES, 5, None)
    with pytest.raises(InputError, match="batch_size=1"):
        same_class_batches(torch.tensor([0, 1, 2]), NAMES, 1, None)
    with pytest.raises(InputError, match="batches=0"):
        same_class_batches(torch.tensor([0, 1, 2]), NAMES, 2, 0)


class ByBrightness(nn.Module):
    """Predicts by the first pixel alone: 0 below a third, 1 below two thirds, else 2."""

    def forward(self, x: Tensor) -> Tensor:
        v = x[:, 0, 0, 0, None]
        return -40 * (v - torch.tensor([0.0, 0.5, 1.0])).abs()


def test_counts_are_of_the_attacked_images() -> None:
    # of each class four images of one first pixel; a ball of 0.2 cannot leave the class
    pixels = torch.tensor([0, 128, 255]).repeat_interleave(4)
    chosen = ImageSet(pixels.view(-1, 1, 1, 1).repeat(1, 1, 4, 4).to(torch.uint8), torch.arange(3).repeat_interleave(4))
    near = confusion(named(ByBrightness()), chosen, NAMES, eps=0.2, batch_size=4)
    assert [attack.matrix for attack in near.attacks] == [((4, 0, 0), (0, 4, 0), (0, 0, 4))] * 2
    assert near.attacks[0].accuracy == near.clean_accuracy == 1.0
    assert near.n == 12
    assert near.alpha == 0.1
    assert near.step_size == 0.05
    assert confusion(named(ByBrightness()), chosen, NAMES, eps=0.2, steps=1, batch_size=4).step_size == 0.2


def test_the_entropy_is_that_of_the_mean_softmax() -> None:
    model, chosen = Linear(), images(24)
    record = confusion(named(model), chosen, NAMES, eps=0.2, alpha=0.1, batch_size=6, batches=1)
    assert record.n == 18
    assert record.attacks[0].matrix != record.attacks[1].matrix
    for norm, attack in zip(NORM_TERMS, record.attacks, strict=True):
        assert attack.norm == norm
        for label in range(CLASSES):
            x = chosen.images[chosen.labels == label][:6] / 255
            draws = generator(0, label)
            x_adv = norm_attack(
                model, x, model(x).detach(), norm=norm, eps=0.2, alpha=0.1, steps=7, step_size=0.05, generator=draws
            )
            logits = model(x_adv)
            p = logits.softmax(dim=1).mean(dim=0).detach().double().numpy()
            assert attack.entropy[label] == pytest.approx(-(p * np.log10(p)).sum(), rel=1e-4)
            assert attack.matrix[label] == tuple(int((logits.argmax(dim=1) == k).sum()) for k in range(CLASSES))
        assert attack.mean_entropy == pytest.approx(np.mean(attack.entropy), rel=1e-5)
        assert attack.accuracy == sum(attack.matrix[k][k] for k in range(CLASSES)) / 18


def test_other_classes_than_logits_are_refused() -> None:
    with pytest.raises(InputError, match="returns 3 logits, but there are 2 classes"):
        confusion(named(Linear()), ImageSet(images(4).images, torch.arange(4) % 2), ("a", "b"), eps=0.1, batch_size=2)


def test_a_start_outside_the_ball_is_refused() -> None:
    with pytest.raises(InputError, match=r"alpha=0\.2 is more than eps=0\.1"):
        confusion(named(Linear()), images(4), ("a", "b", "c"), eps=0.1, alpha=0.2, batch_size=2)
    with pytest.raises(InputError, match="alpha=0"):
        confusion(named(Linear()), images(4), ("a", "b", "c"), eps=0.1, alpha=0.0, batch_size=2)


def test_no_steps_and_no_size_are_refused() -> None:
    with pytest.raises(InputError, match="steps=0: expected at least 1"):
        confusion(named(Linear()), images(4), ("a", "b", "c"), eps=0.1, steps=0, batch_size=2)
    with pytest.raises(InputError, match="step_size"):
        confusion(named(Linear()), images(4), ("a", "b", "c"), eps=0.1, step_size=0.0, batch_size=2)


@pytest.mark.slow
def test_the_matrix_shows_shares_of_the_class() -> None:
    figure, axes = drawn("confusion")
    shown = [text.get_text() for text in axes[0].texts]
    assert shown == ["75", "25", "100"]
    assert "accuracy 87.5 %" in texts(figure)
    assert "mean entropy 0.38 (base 10)" in texts(figure)
