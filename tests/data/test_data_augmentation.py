"""Crop and flip against a slow reference that treats one image at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nuat.data.augmentation import random_crop, random_flip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Pixels that are never 0, so that padding is seen, and differ between neighbours."""
    return (
        (torch.arange(batch * channels * height * width) % 251 + 1).to(torch.uint8).view(batch, channels, height, width)
    )


def slow_crop(images: torch.Tensor, padding: int, tops: list[int], lefts: list[int]) -> torch.Tensor:
    out = torch.zeros_like(images)
    _, _, height, width = images.shape
    for b in range(len(images)):
        for row in range(height):
            for col in range(width):
                from_row, from_col = row + tops[b] - padding, col + lefts[b] - padding
                if 0 <= from_row < height and 0 <= from_col < width:
                    out[b, :, row, col] = images[b, :, from_row, from_col]
    return out


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6)),
    padding=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_crop_equals_the_slow_reference(shape, padding, seed):
    images = distinct(*shape)
    before = images.clone()
    cropped = random_crop(images, padding, seeded(seed))
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, shape[0]), generator=seeded(seed)).tolist()
    assert torch.equal(cropped, slow_crop(images, padding, tops, lefts))
    assert cropped.dtype == torch.uint8
    assert torch.equal(images, before)


def test_crop_reaches_every_offset_about_equally_often():
    marked = torch.zeros(4000, 1, 5, 5, dtype=torch.uint8)
    marked[:, 0, 2, 2] = 1
    places = random_crop(marked, 1, seeded(0)).sum(0)[0]
    # nine offsets move the marked pixel to the nine places about the centre: 444 each, standard deviation 20
    assert int(places.sum()) == 4000
    assert places[1:4, 1:4].min() > 340
    assert places[1:4, 1:4].max() < 550


def test_crop_without_padding_draws_nothing():
    generator = seeded(3)
    state = generator.get_state()
    images = distinct(2, 1, 3, 3)
    assert random_crop(images, 0, generator) is images
    assert torch.equal(generator.get_state(), state)


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 6), width=st.integers(1, 5), seed=st.integers(0, 1000))
def test_flip_equals_the_slow_reference(batch, width, seed):
    images = distinct(batch, 3, 4, width)
    flipped = random_flip(images, seeded(seed))
    draws = torch.rand(batch, generator=seeded(seed)).tolist()
    for image, result, draw in zip(images, flipped, draws, strict=True):
        mirrored = torch.stack([image[:, :, width - 1 - col] for col in range(width)], dim=2)
        assert torch.equal(result, mirrored if draw < 0.5 else image)


def test_flip_mirrors_half_of_the_images():
    images = torch.zeros(4000, 1, 1, 2, dtype=torch.uint8)
    images[..., 0] = 1
    moved = int(random_flip(images, seeded(0))[..., 1].sum())
    assert 1850 < moved < 2150


@pytest.mark.parametrize("augment", [lambda x, g: random_crop(x, 2, g), random_flip], ids=["crop", "flip"])
def test_the_generator_decides(augment):
    images = distinct(16, 3, 8, 8)
    assert torch.equal(augment(images, seeded(1)), augment(images, seeded(1)))
    assert not torch.equal(augment(images, seeded(1)), augment(images, seeded(2)))
