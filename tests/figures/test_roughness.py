"""Roughness against closed forms, and on a model that collapsed beside one that did not."""

import math
import statistics
from pathlib import Path

import pytest
import torch
from figure_models import Linear, images
from torch import Tensor, nn

from nuat import data
from nuat.attacks import eval_mode
from nuat.config import DataConfig
from nuat.core import digest
from nuat.data import to_float
from nuat.errors import InputError
from nuat.figures.catalogue import read
from nuat.figures.loss_surface import LossSurface
from nuat.figures.measuring import generator
from nuat.figures.roughness import from_plane, grid_axis, orthogonal_signs, roughness
from nuat.records import checkpoints

QUICKSTART = Path(__file__).with_name("quickstart-former.safetensors")
"""Weights of the quickstart with batches of 32 at a rate of 0.05, which the record is of."""


class Two(nn.Module):
    """Logits 0 and ``margin(x)``, so that label 0 has that margin."""

    def __init__(self, margin: object) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        z = self.margin(x)  # type: ignore[operator]
        return torch.stack([torch.zeros_like(z), z], dim=1)


def of(model: nn.Module, x: Tensor, *, eps: float = 0.3, label: int = 0) -> float:
    return roughness(model, x, torch.tensor(label), eps, generator(0))


def test_a_linear_model_is_not_rough() -> None:
    weight = torch.linspace(-1, 1, 16).double().view(1, 4, 4)
    x = torch.full((1, 4, 4), 0.5).double()
    assert of(Two(lambda x: 5 + (weight * x).sum(dim=(1, 2, 3))), x) == pytest.approx(0.0, abs=1e-9)
    # of several classes the largest other logit may change, which folds the margin; far from that it is a plane, too
    model = Linear(0.3).double()
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, 50.0, 100.0]))
    assert of(model, images(1).images[0].double() / 255) == pytest.approx(0.0, abs=1e-9)


def test_a_parabola_is_as_rough_as_computed_by_hand() -> None:
    x = torch.full((1, 4, 4), 0.5).double()
    eps, gain = 0.3, 7.0
    found = of(Two(lambda z: z.sum(dim=(1, 2, 3)) + gain * (z - x).sum(dim=(1, 2, 3)) ** 2), x, eps=eps)
    # g is all ones and g_perp sums to 0: the margin is 16 d1 + gain (16 d1)^2, its plane 16 d1
    d1 = torch.linspace(-eps / 3, eps / 3, 9).double()
    expected = ((gain * (16 * d1) ** 2).square().mean() / (16 * d1 + gain * (16 * d1) ** 2).square().mean()).sqrt()
    assert found == pytest.approx(float(expected), rel=1e-9)
    assert 0.5 < found < 1.5


def test_the_ratio_is_that_of_the_deviation_to_the_change() -> None:
    axis = grid_axis(2.0, 5)
    d1, d2 = axis[:, None], axis[None, :]
    bowl = 1.0 + d1**2 + 0 * d2  # mean square of d1^2 over -2..2 is (16 + 1 + 0 + 1 + 16) / 5
    assert from_plane(bowl, torch.zeros(2).double(), axis) == pytest.approx(1.0)
    misled = from_plane(bowl, torch.tensor([3.0, 0.0]).double(), axis)
    assert misled == pytest.approx(math.sqrt(34 / 5 + 9 * 2) / math.sqrt(34 / 5))
    plane = 3 * d1 - 2 * d2
    assert from_plane(plane, torch.tensor([3.0, -2.0]).double(), axis) == pytest.approx(0.0)
    assert from_plane(plane, torch.tensor([-2.0, 3.0]).double(), axis) > 1  # rows are d1
    flat = torch.ones(5, 5).double()
    assert from_plane(flat, torch.zeros(2).double(), axis) == 0.0
    assert from_plane(flat, torch.ones(2).double(), axis) == 1.0


def test_it_reaches_a_third_of_eps_and_is_not_clipped() -> None:
    seen: list[Tensor] = []

    def margin(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.sum(dim=(1, 2, 3))

    of(Two(margin), torch.zeros(1, 4, 4), eps=0.3)
    moved = torch.cat(seen)
    # along d1 alone by eps / 3; where both signs agree by twice that
    assert float(moved.min()) == pytest.approx(-0.2)
    assert float(moved.max()) == pytest.approx(0.2)


def test_a_margin_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="infinite or NaN"):
        of(Two(lambda x: x.sum(dim=(1, 2, 3)) / (x.amax(dim=(1, 2, 3)) <= 0.5)), torch.full((1, 4, 4), 0.5))


@pytest.mark.parametrize("moved", [0, 1, 8, 9, 48])
def test_the_second_direction_is_orthogonal_signs(moved: int) -> None:
    g = torch.zeros(48)
    g[torch.randperm(48)[:moved]] = torch.where(torch.rand(moved) < 0.5, -1.0, 1.0)
    g_perp = orthogonal_signs(g.view(3, 4, 4), generator(3))
    assert g_perp.shape == (3, 4, 4)
    assert float((g.view(3, 4, 4) * g_perp).sum()) == 0.0
    assert int((g_perp == 0).sum()) == moved % 2
    assert bool((g_perp.abs() <= 1).all())
    if moved == 48:
        assert not torch.equal(g_perp, orthogonal_signs(g.view(3, 4, 4), generator(4)))


def test_a_model_that_collapsed_is_rougher_than_nuat() -> None:
    # FGSM-AT's quickstart, which overfitted catastrophically (0.2 % robust), takes minutes to train
    record = read(Path(__file__).with_name("quickstart-surfaces.json"))
    assert isinstance(record, LossSurface)
    collapsed, nuat = record.models
    assert (collapsed.subject.name, nuat.subject.name) == ("FGSM-AT", "NuAT")
    assert collapsed.median_roughness > 2 * nuat.median_roughness
    assert nuat.subject.weights_sha256 == digest.of_file(QUICKSTART)
    # the record is of this code
    chosen = data.load(DataConfig()).test.select(torch.tensor(record.positions))
    model = checkpoints.load(QUICKSTART)
    with eval_mode(model):
        again = [
            roughness(model, x, y, record.eps, generator(record.seed, position))
            for x, y, position in zip(to_float(chosen.images), chosen.labels, record.positions, strict=True)
        ]
    # on another machine a unit of the network may switch on the other side of an image
    assert statistics.median(again) == pytest.approx(nuat.median_roughness, abs=0.02)
