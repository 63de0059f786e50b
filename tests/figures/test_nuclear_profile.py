"""The nuclear profile: groups by PGD's verdict, norms by numpy, what was not measured."""

import dataclasses

import numpy as np
import pytest
import torch
from figure_models import Linear, images, named
from figures.figure_records import RECORDS, drawn, texts
from torch import Tensor, nn

from nuat.attacks import NuclearNormAttack
from nuat.data import ImageSet
from nuat.errors import InputError
from nuat.figures.catalogue import draw
from nuat.figures.measuring import generator
from nuat.figures.nuclear_profile import nuclear_profile


class Threshold(nn.Module):
    """Class 1 where the mean pixel is above a half; the logit is ``gain`` times the distance."""

    def __init__(self, gain: float = 4.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        z = self.gain * (x.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([-z, z], dim=1)


def grey(*levels: int) -> ImageSet:
    """Return even images, labelled as ``Threshold`` sees them."""
    pixels = torch.tensor(levels).view(-1, 1, 1, 1).repeat(1, 1, 4, 4)
    return ImageSet(pixels.to(torch.uint8), (pixels[:, 0, 0, 0] > 127).long())


def test_robust_images_are_those_that_pgd_cannot_move() -> None:
    # at eps 0.1 (25.5 grey levels) those within 25 levels of the threshold fall
    chosen = grey(10, 20, 30, 40, 110, 120, 135, 140, 200, 210, 220, 230)
    record = nuclear_profile([named(Threshold())], chosen, eps=0.1, pgd_alpha=0.02, steps=20, batch_size=4, batches=3)
    (model,) = record.models
    assert model.robust_images == 8
    assert (len(model.robust), len(model.non_robust)) == (2, 1)  # as many as 8 and 4 images give
    # a pixel moves by eps or, from the far side of the noise, by eps / 2: a row of A is at most 0.4 (1, -1)
    most = 0.4 * np.sqrt(2 * 4) / 4
    assert all(most / 2 < norm < most for norm in model.robust)


def test_norms_are_numpys_on_the_attack_of_training() -> None:
    model = Linear(0.2)
    chosen = images(6)
    chosen = ImageSet(chosen.images, (model(chosen.images / 255).argmax(dim=1) + 1) % 3)  # all misclassified
    record = nuclear_profile([named(model)], chosen, eps=0.05, pgd_alpha=0.02, steps=2, batch_size=6, batches=1, seed=7)
    (found,) = record.models
    assert found.robust_images == 0
    assert found.robust == ()  # not measured, not 0
    order = torch.randperm(6, generator=generator(7, 1))
    x, y = (chosen.images / 255)[order], chosen.labels[order]
    x_adv = NuclearNormAttack(model, eps=0.05, generator=generator(7, 0, 1))(x, y)
    a = (model(x_adv) - model(x)).detach().double().numpy()
    assert found.non_robust == pytest.approx([np.linalg.svd(a, compute_uv=False).sum() / 6], rel=1e-4)


def test_no_image_is_in_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def norm(_: object, batch: ImageSet, *__: object) -> float:
        seen.append(batch.images[:, 0, 0, 0])
        return 1.0

    monkeypatch.setattr("nuat.figures.nuclear_profile._norm", norm)
    levels = [*range(150, 160), *range(200, 210)]
    for batches in (2, 50):
        seen.clear()
        nuclear_profile(
            [named(Threshold())], grey(*levels), eps=0.01, pgd_alpha=0.01, steps=1, batch_size=6, batches=batches
        )
        used = torch.cat(seen).tolist()
        assert len(used) == len(set(used)) == 6 * min(batches, 3)
        assert set(used) <= set(levels)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="6 images are fewer than a batch of 7"):
        nuclear_profile([named(Linear())], images(6), eps=0.1, pgd_alpha=0.02, batch_size=7)
    with pytest.raises(InputError, match="batches=0"):
        nuclear_profile([named(Linear())], images(6), eps=0.1, pgd_alpha=0.02, batches=0)


def test_the_last_model_is_checked_before_the_first_is_measured() -> None:
    told: list[str] = []
    models = [named(Linear()), named(nn.Flatten(0), "odd one")]
    with pytest.raises(InputError, match="odd one"):
        nuclear_profile(
            models, images(6), eps=0.1, pgd_alpha=0.02, steps=1, batch_size=2,
            progress=lambda name, *_: told.append(name),
        )  # fmt: skip
    assert told == []


@pytest.mark.slow
def test_a_group_without_norms_is_missing_not_zero() -> None:
    figure, axes = drawn("nuclear-profile")
    assert "not measured: 3 images" in texts(figure)
    assert {"5", "4"} <= {text.get_text() for text in axes[0].texts}  # images of the groups with norms
    assert len(axes[0].patches) == 3
    other = dataclasses.replace(RECORDS["nuclear-profile"], batch_size=5)
    with pytest.raises(InputError, match="batches of 4 and 5"):
        draw([RECORDS["nuclear-profile"], other])
