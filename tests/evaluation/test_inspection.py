"""Warnings about a model before its robustness is believed."""

import re
from collections.abc import Callable

import pytest
import torch
from evaluation_models import linear_case, random_images
from torch import Tensor, nn

from nuat.data import ImageSet
from nuat.errors import InputError
from nuat.evaluation.inspection import inspect


class Changed(nn.Module):
    """A good model with something done to its images or logits."""

    def __init__(self, model: nn.Module, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.model(self.before(x)))


def same(x: Tensor) -> Tensor:
    return x


class Small(nn.Module):
    """A good model that takes few images at once."""

    def __init__(self, model: nn.Module, most: int) -> None:
        super().__init__()
        self.model, self.most = model, most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise RuntimeError(f"{len(x)} images are too many")
        return self.model(x)


class Brightness(nn.Module):
    """Tells bright images from dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        bright = self.gain * (x.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_is_said_of_a_good_model(channels: int) -> None:
    model, images, _ = linear_case(40, channels)
    model.train()
    assert inspect(model, images) == []
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_takes_few_images_at_once_is_looked_at_on_few() -> None:
    model, images, _ = linear_case(60, 1)
    assert inspect(Small(model, 32), images, batch_size=20) == []
    with pytest.raises(InputError, match="60 images are too many"):
        inspect(Small(model, 32), images)


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (lambda x: (x + 1) / 2, "pixels from -1 to 1"),
        (lambda x: x / 255, "pixels from 0 to 255"),
        (lambda x: x * 0.3081 + 0.1307, "MNIST's normalisation"),
    ],
)
def test_a_model_that_expects_scaled_images(before: Callable[[Tensor], Tensor], says: str) -> None:
    model, images = Brightness(), random_images(40)
    bright = torch.where(images.labels[:, None, None, None] == 1, 90, 0).to(torch.uint8)
    images = ImageSet(images.images // 3 + bright + 40, images.labels)
    assert inspect(model, images) == []
    (warning,) = inspect(Changed(model, before, same), images)
    assert says in warning
    assert "nuat.models.adapt" in warning


def test_of_two_scalings_that_win_alike_the_one_with_the_least_loss_is_named() -> None:
    """MNIST's and pixels from 0 to 255 both put the right one of two pixels above a constant."""
    labels = torch.arange(60) % 2
    pixels = torch.tensor([[230, 25], [25, 230]], dtype=torch.uint8)[labels].view(60, 1, 1, 2)
    labels[:10] = 1 - labels[:10]

    class Theirs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = 0.3081 * x.flatten(1) + 0.1307
            return 10 * torch.cat([z, torch.full_like(z[:, :1], 0.6)], dim=1)

    (told,) = inspect(Theirs(), ImageSet(pixels, labels))
    assert "classifies 0% of the images correctly as they come, in [0, 1], but 83% after MNIST's" in told


def test_probabilities() -> None:
    model, images, _ = linear_case(40)
    (warning,) = inspect(Changed(model, same, lambda z: z.softmax(dim=1)), images)
    assert "returns probabilities" in warning


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (lambda z: 1e4 * z, r"exactly 0 for \d+% of 40 images"),
        (lambda z: z.detach(), "no gradient in the image at all"),
    ],
)
def test_gradients_that_are_not_there(after: Callable[[Tensor], Tensor], says: str) -> None:
    model, images, _ = linear_case(40)
    (warning,) = inspect(Changed(model, same, after), images)
    assert re.search(says, warning)


def test_a_gradient_that_is_not_finite() -> None:
    model, images, _ = linear_case(40)
    black = ImageSet(images.images.index_fill(2, torch.tensor([0]), 0), images.labels)
    said = inspect(Changed(model, torch.sqrt, same), black)
    assert any("infinite or NaN for 100% of 40 images" in warning for warning in said)


def test_a_model_that_writes_into_its_input() -> None:
    model, images, _ = linear_case(40)
    assert any("writes into its input" in warning for warning in inspect(Changed(model, torch.sqrt_, same), images))
    assert not any("writes" in warning for warning in inspect(Changed(model, torch.sqrt, same), images))


def test_a_model_that_fails_between_the_levels_of_8_bits_cannot_be_evaluated() -> None:
    """As a look-up table of pixels does: clean images are all right, attacked ones are not."""
    model, images, _ = linear_case(40)

    def look_up(x: Tensor) -> Tensor:
        level = 255 * x
        return torch.where((level - level.round()).abs() < 1e-3, x, torch.nan)

    with pytest.raises(InputError, match="infinite or NaN"):
        inspect(Changed(model, look_up, same), images)


def test_a_model_that_cuts_the_image_off() -> None:
    model, images, _ = linear_case(40)
    (warning,) = inspect(Changed(model, lambda x: x.detach(), same), images)
    assert "does not depend on the image by gradients" in warning


def test_what_cannot_be_evaluated() -> None:
    model, images, _ = linear_case(40)
    with pytest.raises(InputError, match="no images"):
        inspect(model, images.select(torch.arange(0)))
    with pytest.raises(InputError, match="infinite or NaN"):
        inspect(Changed(model, same, lambda z: z / 0), images)
    with pytest.raises(InputError, match="returned tuple"):
        inspect(Changed(model, same, lambda z: (z, z)), images)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match=r"2 logits, but the images have 3 classes"):
        inspect(model, random_images(9, classes=3))


def test_a_model_that_fails_on_the_images_is_a_message() -> None:
    """A user's mistake: the wrong number of channels, or a size that a layer does not take."""
    with pytest.raises(InputError, match=r"the model fails on images of 1 x 4 x 4 \(channels, height, width\): .*chan"):
        inspect(nn.Conv2d(3, 2, 3), random_images(4))
    with pytest.raises(InputError, match="the model fails on images of 1 x 4 x 4") as caught:
        inspect(nn.Sequential(nn.Flatten(), nn.Linear(17, 2)), random_images(4))
    assert len(str(caught.value).splitlines()) == 1
