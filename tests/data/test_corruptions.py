"""The corruptions that the package makes: its own pixels, one draw an image, and what it cannot take."""

import sys

import numpy as np
import pytest
import torch
from corrupted_files import colours

from nuat.core.random import seed_from
from nuat.data import ImageSet
from nuat.data.corruptions import CORRUPTIONS, corrupted
from nuat.errors import InputError

IMAGES = colours(4, size=32)
POSITIONS = torch.tensor([2, 5, 6, 9])


@pytest.fixture
def package() -> object:
    """The package, or no test."""
    return pytest.importorskip("imagecorruptions", exc_type=ImportError)


@pytest.mark.slow
def test_every_corruption_is_the_packages_own(package: object) -> None:
    from imagecorruptions import corrupt, get_corruption_names

    assert tuple(get_corruption_names("common")) == CORRUPTIONS
    made = corrupted(IMAGES, POSITIONS, seed=3)
    for name in CORRUPTIONS:
        for severity in (1, 5):
            draws = seed_from(3, name, severity, 5)
            np.random.seed(draws)  # noqa: NPY002
            own = {"seed": draws} if name in ("impulse_noise", "glass_blur") else {}
            pixels = IMAGES.images[1].permute(1, 2, 0).numpy()
            theirs = corrupt(pixels, corruption_name=name, severity=severity, **own)
            np.random.seed(0)  # noqa: NPY002
            ours = made.take(name, severity, torch.tensor([0, 1]))[1].permute(1, 2, 0).numpy()
            assert np.array_equal(ours, theirs), (name, severity)
            assert not np.array_equal(ours, pixels)


def test_an_image_has_its_own_draws_whatever_it_stands_beside(package: object) -> None:
    made, part = corrupted(IMAGES, POSITIONS), corrupted(IMAGES.select(torch.tensor([2])), POSITIONS[2:3])
    whole = made.take("shot_noise", 2, torch.arange(4))
    assert torch.equal(part.take("shot_noise", 2, torch.tensor([0]))[0], whole[2])
    other = corrupted(IMAGES, POSITIONS, seed=1).take("shot_noise", 2, torch.arange(4))
    assert not torch.equal(other, whole)


def test_numpys_generator_is_left_as_it_was(package: object) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    corrupted(IMAGES, POSITIONS).take("gaussian_noise", 1, torch.tensor([0]))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_the_source_names_what_makes_the_pixels(package: object) -> None:
    source = corrupted(IMAGES, POSITIONS).source
    for word in ("imagecorruptions-imaug 1.", "with the parameters of ImageNet-C", "opencv-python", "pillow", "scipy"):
        assert word in source


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (ImageSet(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), torch.tensor([0])), r"three channels \(RGB\).* have 1"),
        (colours(1, size=31), "from 32 x 32 pixels on; these have 31 x 31"),
    ],
)
def test_grey_and_tiny_images_are_refused(images: ImageSet, told: str) -> None:
    with pytest.raises(InputError, match=told):
        corrupted(images, torch.tensor([0]))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(InputError, match=r"pip install 'nuat\[corruptions\]'"):
        corrupted(IMAGES, POSITIONS)
