"""Curves of accuracy: a linear model falls exactly where its margin says, one trajectory equals runs of their own."""

import pytest
import torch
from figure_models import Linear, images, named, right_images
from figures.figure_records import drawn
from torch import nn

from nuat.attacks import PGD
from nuat.core.intervals import wilson_interval
from nuat.errors import InputError
from nuat.figures.eps_curve import eps_curve
from nuat.figures.measuring import generator
from nuat.figures.steps_curve import steps_curve


@pytest.mark.slow
def test_a_linear_model_of_two_classes_falls_at_its_margin() -> None:
    model = Linear()
    model.weight.data[2], model.bias.data[2] = 0.0, -100.0  # the third class is out of reach
    chosen = right_images(model, 30)
    gap = model.weight[0] - model.weight[1]
    x = chosen.images.flatten(1) / 255
    reach = ((x @ gap + model.bias[0] - model.bias[1]).abs() / gap.abs().sum()).detach()
    radii = (0.2, 0.0, 0.02, 0.05, 0.1)
    record = eps_curve([named(model)], chosen, radii, eps=0.1, steps=40, batch_size=7)
    assert record.radii == (0.0, 0.02, 0.05, 0.1, 0.2)
    (curve,) = record.models
    for radius, flags in zip(record.radii, curve.correct, strict=True):
        expected = "".join("1" if far > radius else "0" for far in reach)
        assert flags == expected, radius
    assert curve.accuracies[0] == 1.0
    assert curve.accuracies[-1] < curve.accuracies[1]
    right = curve.correct[2].count("1")
    assert curve.intervals[2] == wilson_interval(right, 30)


def test_one_trajectory_is_the_attack_of_as_many_steps() -> None:
    model = Linear()
    chosen = right_images(model, 12)
    record = steps_curve([named(model)], chosen, (4, 0, 1), eps=0.2, pgd_alpha=0.06, seed=5, batch_size=12)
    assert record.steps == (0, 1, 4)
    x, y = chosen.images / 255, chosen.labels
    for steps, flags in zip(record.steps, record.models[0].correct, strict=True):
        x_adv = x
        if steps:
            x_adv = PGD(model, eps=0.2, alpha=0.06, steps=steps, generator=generator(5, 0))(x, y)
        told = model(x_adv).argmax(dim=1) == y
        assert flags == "".join("1" if right else "0" for right in told.tolist())
    assert record.models[0].accuracies[0] == 1.0
    assert record.models[0].accuracies[2] < 1.0


def test_several_models_keep_their_order_and_draws() -> None:
    chosen = images(6)
    both = eps_curve([named(Linear(1.0), "a"), named(Linear(9.0), "b")], chosen, (0.1,), eps=0.1, steps=3)
    alone = eps_curve([named(Linear(9.0), "b")], chosen, (0.1,), eps=0.1, steps=3)
    assert [curve.subject.name for curve in both.models] == ["a", "b"]
    assert both.models[1] == alone.models[0]


@pytest.mark.parametrize("radii", [(), (0.1, 0.1), (-0.1,), (8.0,)])
def test_wrong_radii_are_refused(radii: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="radii"):
        eps_curve([named(Linear())], images(3), radii, eps=0.1)
    with pytest.raises(InputError, match="steps=0: expected at least 1"):
        eps_curve([named(Linear())], images(3), (0.1,), eps=0.1, steps=0)


@pytest.mark.parametrize("steps", [(), (0,), (2, 2), (-1, 3)])
def test_wrong_steps_are_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="steps="):
        steps_curve([named(Linear())], images(3), steps, eps=0.1, pgd_alpha=0.1)


def test_the_last_model_is_checked_before_the_first_is_measured() -> None:
    told: list[str] = []
    models = [named(Linear()), named(nn.Flatten(0), "odd one")]
    with pytest.raises(InputError, match="odd one"):
        eps_curve(models, images(3), (0.1,), eps=0.1, progress=lambda name, *_: told.append(name))
    assert told == []


def test_no_images_are_refused() -> None:
    nothing = images(3).select(torch.empty(0, dtype=torch.int64))
    with pytest.raises(InputError, match="0 images"):
        eps_curve([named(Linear())], nothing, (0.1,), eps=0.1)


@pytest.mark.parametrize(("kind", "places"), [("eps-curve", [0.0, 8.0]), ("steps-curve", [0, 10])])
def test_curves_show_the_records_accuracies(kind: str, places: list[float]) -> None:
    _, axes = drawn(kind)
    lines = {line.get_label(): line for line in axes[0].lines}
    assert list(lines["<one> & only"].get_xdata()) == pytest.approx(places)
    assert list(lines["<one> & only"].get_ydata()) == [100.0, 50.0]
    assert list(lines["two"].get_ydata()) == [87.5, 12.5]
