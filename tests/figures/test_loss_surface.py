"""The loss surface against closed forms: a linear model, a model whose loss is a plane, or a paraboloid."""

import dataclasses

import numpy as np
import pytest
import torch
from figure_models import CLASSES, Linear, images, named
from figures.figure_records import GRID, RECORDS, texts
from torch import Tensor, nn

from nuat.errors import InputError
from nuat.figures.catalogue import draw
from nuat.figures.loss_surface import LossSurface, loss_surface, surface
from nuat.figures.measuring import generator
from nuat.figures.roughness import orthogonal_signs


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("moved", [0, 1, 8, 9, 48])
def test_the_second_direction_is_orthogonal_signs(moved: int) -> None:
    g = torch.zeros(48)
    g[torch.randperm(48)[:moved]] = torch.where(torch.rand(moved) < 0.5, -1.0, 1.0)
    g_perp = orthogonal_signs(g.view(3, 4, 4), draws())
    assert g_perp.shape == (3, 4, 4)
    assert float((g.view(3, 4, 4) * g_perp).sum()) == 0.0
    assert int((g_perp == 0).sum()) == moved % 2
    assert bool((g_perp.abs() <= 1).all())
    if moved == 48:
        assert not torch.equal(g_perp, orthogonal_signs(g.view(3, 4, 4), torch.Generator().manual_seed(4)))


def test_a_linear_model_has_the_analytic_surface() -> None:
    model, eps = Linear().double(), 0.2
    found = images(3)
    record = loss_surface(
        [named(model.float())], found, torch.tensor([0, 2]), eps=eps, resolution=5, extent=1.5, batch_size=7
    )
    d = np.linspace(-1.5 * eps, 1.5 * eps, 5)
    assert record.distances == pytest.approx(d, abs=1e-7)
    weight, bias = (p.detach().double().numpy() for p in (model.weight, model.bias))
    expected = np.zeros((5, 5))
    for i in (0, 2):
        x, y = found.images[i].numpy().reshape(-1) / 255.0, int(found.labels[i])
        z = weight @ x + bias
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        g = np.sign(weight.T @ (p - np.eye(CLASSES)[y]))
        g_perp = orthogonal_signs(torch.tensor(g), generator(0, i)).numpy()
        for a, d1 in enumerate(d):
            for b, d2 in enumerate(d):
                logits = weight @ (x + d1 * g + d2 * g_perp) + bias
                expected[a, b] += np.log(np.exp(logits - logits[y]).sum()) / 2
    assert np.asarray(record.models[0].loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert not np.allclose(expected, expected.T)  # so that rows and columns cannot be exchanged unseen


class LossIs(nn.Module):
    """Two logits whose cross-entropy for label 0 is ``loss(x)`` > 0."""

    def __init__(self, loss: object) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, x: Tensor) -> Tensor:
        z = torch.log(torch.expm1(self.loss(x)))  # type: ignore[operator]
        return torch.stack([torch.zeros_like(z), z], dim=1)


def test_a_plane_comes_back() -> None:
    weight = torch.linspace(-1, 1, 16).double().view(1, 4, 4)
    model = LossIs(lambda x: 5 + (weight * x).sum(dim=(1, 2, 3)))
    axis = 0.1 * torch.arange(-3, 4).double()
    loss = surface(model, torch.full((1, 4, 4), 0.5).double(), torch.tensor(0), axis, draws())
    across = (weight * orthogonal_signs(weight.sign(), draws())).sum()
    assert loss.numpy() == pytest.approx((5 + axis[:, None] * weight.abs().sum() + axis[None, :] * across).numpy())


def test_clipping_keeps_points_in_the_box() -> None:
    seen = []

    class Spy(Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((float(x.detach().min()), float(x.detach().max())))
            return super().forward(x)

    dark = images(3, low=0, high=20)
    x, axis = dark.images[1] / 255, torch.linspace(-0.5, 0.5, 3).double()
    free = surface(Spy(), x, dark.labels[1], axis, draws())
    assert min(low for low, _ in seen) < -0.4
    seen.clear()
    boxed = surface(Spy(), x, dark.labels[1], axis, draws(), clip=True)
    assert all(low >= 0 and high <= 1 for low, high in seen)
    assert free[1, 1] == boxed[1, 1]
    assert not torch.equal(free, boxed)


def test_models_are_ranked_by_the_median_over_the_images() -> None:
    record = loss_surface([named(Linear())], images(5), torch.arange(5), eps=0.1, resolution=3)
    (found,) = record.models
    assert (record.n, record.within, len(found.roughness)) == (5, pytest.approx(0.1 / 3), 5)
    one = dataclasses.replace(found, roughness=(9.0, 0.1, 0.2, 0.4, 0.3))
    assert (one.median_roughness, one.quartiles) == (0.3, (0.2, 0.4))
    assert dataclasses.replace(found, roughness=(0.5,)).quartiles is None


def test_the_last_model_is_checked_before_the_first_is_measured() -> None:
    told: list[str] = []
    models = [named(Linear()), named(nn.Flatten(0), "odd one")]
    with pytest.raises(InputError, match="odd one"):
        loss_surface(
            models, images(3), torch.tensor([0]), eps=0.1, resolution=3, progress=lambda name, *_: told.append(name)
        )
    assert told == []


@pytest.mark.parametrize(
    ("change", "named_in"),
    [
        ({"resolution": 4}, "resolution=4"),
        ({"resolution": 1}, "resolution=1"),
        ({"extent": 0.0}, "extent=0"),
        ({"eps": 8}, "8/255"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, float], named_in: str) -> None:
    settings = {"eps": 0.1, "resolution": 3, **change}
    with pytest.raises(InputError, match=named_in):
        loss_surface([named(Linear())], images(3), torch.tensor([0]), **settings)  # type: ignore[arg-type]


def test_infinite_losses_are_refused() -> None:
    class Far(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / (x.flatten(1).amax(dim=1, keepdim=True) < 0.7)

    with pytest.raises(InputError, match="the loss is infinite or NaN near a test image"):
        loss_surface([named(Far())], images(3), torch.tensor([0]), eps=0.3, resolution=3)


@pytest.mark.slow
def test_one_colour_scale_for_all_surfaces() -> None:
    record = RECORDS["loss-surface"]
    assert isinstance(record, LossSurface)
    high = dataclasses.replace(record.models[1], loss=tuple(tuple(9 * v for v in row) for row in GRID))
    figure = draw([dataclasses.replace(record, models=(record.models[0], high))])
    lowest, highest = min(map(min, GRID)), 9 * max(map(max, GRID))
    meshes = [
        made
        for axis in figure.axes
        for made in axis.collections
        if hasattr(made, "norm") and made.cmap.name == "viridis"
    ]
    scales = {(made.norm.vmin, made.norm.vmax) for made in meshes if made.get_array() is not None}
    assert scales == {(lowest, highest)}
    told = texts(figure)
    assert told.count("roughness 1.00 (0.75\u20131.25)") == 2
