"""Crops and flip against a slow reference that treats one image at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import NoQuestions

from nuat.data.augmentation import cutmix, random_crop, random_flip, random_resized_crop


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


def slow_resized_crop(images: torch.Tensor, scale: float, draws: list[list[float]]) -> torch.Tensor:
    """Return the resized crops before they are rounded, float64."""
    out = torch.zeros(images.shape, dtype=torch.float64)
    _, _, height, width = images.shape
    for b, (of_area, of_ratio, of_left, of_top) in enumerate(zip(*draws, strict=True)):
        area = scale + (1 - scale) * of_area
        least, most = math.log(max(3 / 4, area)), math.log(min(4 / 3, 1 / area))
        ratio = math.exp(least + (most - least) * of_ratio)
        box_width, box_height = width * math.sqrt(area * ratio), height * math.sqrt(area / ratio)
        left, top = (width - box_width) * of_left, (height - box_height) * of_top
        for row in range(height):
            for col in range(width):
                y = min(max(top + (row + 0.5) * box_height / height - 0.5, 0.0), height - 1.0)
                x = min(max(left + (col + 0.5) * box_width / width - 0.5, 0.0), width - 1.0)
                for i in {int(y), min(int(y) + 1, height - 1)}:
                    for j in {int(x), min(int(x) + 1, width - 1)}:
                        weight = (1 - abs(y - i)) * (1 - abs(x - j))
                        out[b, :, row, col] += weight * images[b, :, i, j].double()
    return out


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(2, 9), st.integers(2, 9)),
    scale=st.sampled_from([0.08, 0.3, 0.9]),
    seed=st.integers(0, 1000),
)
def test_resized_crop_equals_the_slow_reference(shape, scale, seed):
    images = distinct(*shape)
    before = images.clone()
    cropped = random_resized_crop(images, scale, seeded(seed))
    expected = slow_resized_crop(images, scale, torch.rand((4, shape[0]), generator=seeded(seed)).tolist())
    assert cropped.dtype == torch.uint8
    assert cropped.shape == images.shape
    assert (cropped.double() - expected).abs().max() <= 0.5 + 1e-3  # rounded to the nearest
    assert torch.equal(images, before)


@pytest.mark.slow
def test_resized_crops_have_the_areas_ratios_and_places_that_they_should():
    n, size = 1500, 200
    columns = torch.arange(size, dtype=torch.uint8).expand(size, size)
    images = torch.stack([columns, columns.T]).expand(n, 2, size, size)
    cropped = random_resized_crop(images, 0.25, seeded(0))
    # the images hold their own coordinates, so that a line across a crop tells where its box was
    middle, inset = size // 2, 20
    lines = torch.stack([cropped[:, 0, middle, :], cropped[:, 1, :, middle]]).double()
    sides = (lines[..., -1 - inset] - lines[..., inset]) / (size - 1 - 2 * inset)
    width, height = sides
    area, ratio = width * height, (width / height).log()
    assert 0.24 < area.min() < 0.27
    assert 0.97 < area.max() < 1.02
    assert abs(area.mean() - 0.625) < 0.02  # standard error 0.006
    assert ratio.abs().max() < math.log(4 / 3) + 0.03
    assert abs(ratio.mean()) < 0.02
    small = area < 0.6  # there, every ratio fits
    assert abs(ratio[small].std() - 2 * math.log(4 / 3) / math.sqrt(12)) < 0.02
    free = sides < 0.8
    starts = lines[..., inset] - inset * sides
    places = starts[free] / (size * (1 - sides[free]))
    assert places.min() > -0.05
    assert places.max() < 1.05
    assert abs(places.mean() - 0.5) < 0.03


def test_a_resized_crop_of_nearly_all_is_nearly_the_image():
    images = (torch.arange(64).view(1, 1, 8, 8) * 4).to(torch.uint8).expand(16, 3, 8, 8)
    cropped = random_resized_crop(images, 1 - 1e-6, seeded(0))
    assert torch.equal(cropped, images)


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


@pytest.mark.parametrize(
    "augment",
    [lambda x, g: random_crop(x, 2, g), lambda x, g: random_resized_crop(x, 0.3, g), random_flip],
    ids=["crop", "resized crop", "flip"],
)
def test_the_generator_decides(augment):
    images = distinct(16, 3, 8, 8)
    assert torch.equal(augment(images, seeded(1)), augment(images, seeded(1)))
    assert not torch.equal(augment(images, seeded(1)), augment(images, seeded(2)))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_a_box_of_the_image_before_is_pasted_and_the_labels_are_mixed_by_area(alpha: float) -> None:
    images = (
        torch.arange(1.0, 7.0)[:, None, None, None].expand(6, 3, 8, 10).contiguous(memory_format=torch.channels_last)
    )
    labels = torch.eye(6, dtype=torch.float64)
    with NoQuestions():
        mixed, shares = cutmix(images, labels, alpha, seeded(0))
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    pasted = 0
    for i in range(6):
        before = float(images[i - 1, 0, 0, 0])
        places = [(h, w) for h in range(8) for w in range(10) if float(mixed[i, 0, h, w]) == before]
        rows, columns = {h for h, _ in places}, {w for _, w in places}
        assert len(places) == len(rows) * len(columns)  # a box
        assert all(max(line) - min(line) == len(line) - 1 for line in (rows, columns) if line)
        assert bool((mixed[i] == mixed[i, :1]).all())  # the same in every channel
        kept = float((mixed[i, 0] == images[i, 0]).double().mean())
        assert float(shares[i, i]) == pytest.approx(kept)
        assert float(shares[i, i - 1]) == pytest.approx(1.0 - kept)
        pasted += bool(places)
    assert pasted >= 3
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_boxes_have_the_area_of_their_draw_and_any_centre() -> None:
    n = 10_000
    images = torch.cat([torch.zeros(n, 1, 8, 8), torch.ones(n, 1, 8, 8)], dim=1).view(2 * n, 1, 8, 8)
    mixed, _ = cutmix(images, torch.eye(2).repeat(n, 1), 1.0, seeded(0))
    covered = (mixed != images).double().mean(dim=(0, 1))
    # one dimension of a box with side s and a uniform centre covers the place t with the chance that |t - centre| < s/2
    side = (torch.arange(4000, dtype=torch.float64) + 0.5).div(4000).sqrt()[:, None]  # uniform areas
    place = (torch.arange(8) + 0.5) / 8
    chance = (place + side / 2).clamp(max=1.0) - (place - side / 2).clamp(min=0.0)
    expected = (chance[:, :, None] * chance[:, None, :]).mean(dim=0)
    torch.testing.assert_close(covered, expected, rtol=0.0, atol=0.015)
