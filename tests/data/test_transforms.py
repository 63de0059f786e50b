"""The training view of one image: crops and flips that depend on (seed, epoch, position) alone."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_files import KINDS, encoded
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from nuat.data.decoding import decode
from nuat.data.transforms import Draws, TrainingView, crop_box, training_view
from nuat.errors import InputError

PLAIN = TrainingView(size=16, crop_scale=None, crop_padding=0, flip=False)
CROPPED = TrainingView(size=16, crop_scale=0.2, crop_padding=0, flip=False)


def jpeg(pixels: np.ndarray, quality: int = 95, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, exif=exif)
    return file.getvalue()


def test_draws_depend_on_all_three_numbers_and_are_uniform():
    first = {Draws(s, e, p).uniform() for s in range(4) for e in range(4) for p in range(4)}
    assert len(first) == 64
    values = [Draws(0, 0, p).uniform() for p in range(2000)]
    assert abs(np.mean(values) - 0.5) < 0.03
    assert abs(np.var(values) - 1 / 12) < 0.01
    # a committed number: a run must be resumable on another machine
    assert Draws(1, 2, 3).uniform() == 0.059491710547149745


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([0.08, 0.5, 0.99]), st.integers(0, 10_000))
def test_a_box_lies_inside_and_is_not_empty(width, height, scale, position):
    left, top, right, bottom = crop_box(width, height, scale, Draws(0, 0, position))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 300), (90, 400)])
def test_boxes_are_distributed_as_torchvisions(width, height):
    ours = np.array([crop_box(width, height, 0.08, Draws(0, 0, position)) for position in range(4000)], dtype=float)
    image = torch.zeros(1, height, width)
    rows = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = np.array([(left, top, left + w, top + h) for top, left, h, w in rows], dtype=float)
    spread = theirs.std(axis=0)
    assert np.all(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 0.07 * spread + 0.5)
    assert np.all(np.abs(ours.std(axis=0) - spread) < 0.07 * spread + 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_without_crops_and_flips_it_is_the_image_of_the_resident_path(kind):
    content = encoded(kind)
    assert np.array_equal(training_view(content, kind, PLAIN, Draws(0, 0, 0)), decode(content, kind, 16))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_cropped_to_the_size(kind):
    channels = 1 if kind in ("grey.jpg", "deep.png") else 3
    seen = training_view(encoded(kind), kind, CROPPED, Draws(0, 0, 0))
    assert seen.shape == (channels, 16, 16)
    assert seen.dtype == np.uint8


def test_a_crop_is_the_box_of_the_original_image():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    for position in range(20):
        draws = Draws(0, 0, position)
        draws.uniform()  # of the flip
        box = crop_box(90, 60, 0.2, draws)
        expected = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR, box=box)
        found = training_view(file.getvalue(), "a.png", CROPPED, Draws(0, 0, position))
        assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 9])
def test_a_large_jpeg_that_is_decoded_smaller_shows_the_same_box_upright(orientation):
    # a smooth picture, in which what a crop shows tells where it was
    y, x = np.mgrid[0:701, 0:1003]
    pixels = np.stack([x * 255 / 1003, y * 255 / 701, 128 + 0 * x], axis=-1).astype(np.uint8)
    content = jpeg(pixels, orientation=orientation)
    turned = Image.open(io.BytesIO(content))
    whole = np.asarray(
        turned.convert("RGB").transpose({3: 3, 6: 4, 8: 2}[orientation]) if orientation in (3, 6, 8) else turned
    )
    for position in range(12):
        draws = Draws(0, 0, position)
        draws.uniform()
        box = crop_box(whole.shape[1], whole.shape[0], 0.2, draws)
        expected = np.asarray(Image.fromarray(whole).resize((16, 16), Image.Resampling.BILINEAR, box=box))
        found = training_view(content, "a.jpg", CROPPED, Draws(0, 0, position)).transpose(1, 2, 0)
        assert np.abs(found.astype(int) - expected).max() <= 6


def test_flips_mirror_half_of_the_images_and_nothing_else():
    content = encoded("rgb.webp", seed=3)
    plain = training_view(content, "a", PLAIN, Draws(0, 0, 0))
    view = TrainingView(size=16, crop_scale=None, crop_padding=0, flip=True)
    flipped = 0
    for position in range(200):
        found = training_view(content, "a", view, Draws(0, 0, position))
        mirrored = np.array_equal(found, plain[:, :, ::-1])
        assert mirrored or np.array_equal(found, plain)
        flipped += mirrored
    assert 70 < flipped < 130


def test_a_shifted_image_is_a_window_of_the_padded_one():
    content = encoded("rgb.jpg", seed=4)
    plain = training_view(content, "a", PLAIN, Draws(0, 0, 0))
    padded = np.pad(plain, ((0, 0), (2, 2), (2, 2)))
    windows = {padded[:, i : i + 16, j : j + 16].tobytes(): (i, j) for i in range(5) for j in range(5)}
    view = TrainingView(size=16, crop_scale=None, crop_padding=2, flip=False)
    seen = {windows[training_view(content, "a", view, Draws(0, 0, i)).tobytes()] for i in range(150)}
    assert len(seen) > 20


def test_a_damaged_file_is_named():
    with pytest.raises(InputError, match=r"x/y\.jpg cannot be read as an image"):
        training_view(encoded("rgb.jpg")[:300], "x/y.jpg", CROPPED, Draws(0, 0, 0))
