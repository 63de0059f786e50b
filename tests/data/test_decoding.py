"""Image files of every mode and format, resizing, orientation, and damage."""

import io
import subprocess
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import KINDS, encoded
from PIL import Image, features
from torchvision import transforms
from torchvision.datasets.folder import IMG_EXTENSIONS

from nuat.data import decoding
from nuat.errors import InputError

UNWRITABLE = () if features.check("avif") else (".avif",)
GREY = (np.arange(20) * 12).astype(np.uint8).reshape(4, 5)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def decode(path, size):
    return decoding.decode(path.read_bytes(), str(path), size)


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_pixels_are_kept(tmp_path, suffix):
    assert np.array_equal(decode(save(tmp_path / f"a{suffix}", COLOUR), None), COLOUR.transpose(2, 0, 1))
    assert np.array_equal(decode(save(tmp_path / f"g{suffix}", GREY), None), GREY[None])


def test_lossless_webp_pixels_are_kept(tmp_path):
    path = save(tmp_path / "a.webp", COLOUR, lossless=True)
    assert np.array_equal(decode(path, None), COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("P", 3), ("L", 1), ("LA", 1), ("1", 1)])
def test_modes_of_png(tmp_path, mode, channels):
    assert decode(save(tmp_path / "a.png", COLOUR, mode), None).shape == (channels, 4, 5)


def test_cmyk_and_grey_jpeg(tmp_path):
    flat = np.full((8, 8, 3), 200, np.uint8)
    cmyk = decode(save(tmp_path / "a.jpg", flat, "CMYK", quality=95), None)
    assert cmyk.shape == (3, 8, 8)
    assert np.abs(cmyk.astype(int) - 200).max() <= 4
    assert decode(save(tmp_path / "b.jpeg", flat, "L"), None).shape == (1, 8, 8)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    image = Image.fromarray(COLOUR).quantize(8)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = decode(tmp_path / "a.png", None)
    alpha = np.array([0, 128, 255, *[255] * 5])[np.asarray(image)][..., None] / 255
    on_white = np.asarray(image.convert("RGB")) * alpha + 255 * (1 - alpha)
    assert np.abs(pixels - on_white.transpose(2, 0, 1)).max() <= 1


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 257, 200 * 257, 65535]], dtype=np.uint16))
    assert decode(path, None).tolist() == [[[0, 1, 200, 255]]]


@pytest.mark.parametrize(("most", "white_is_zero"), [(4095, False), (1023, False), (65535, True), (4095, True)])
def test_16_bit_grey_is_scaled_by_what_a_tiff_declares(tmp_path, most, white_is_zero):
    values = np.array([[0, most // 5, most]], dtype=np.uint16)
    path = save(tmp_path / "a.tif", values, tiffinfo={281: most, 262: 0 if white_is_zero else 1})
    assert decode(path, None).tolist() == [[[255, 204, 0] if white_is_zero else [0, 51, 255]]]


@pytest.mark.parametrize("most", [255, 1023, 4095, 65535])
def test_16_bit_grey_is_scaled_by_what_a_pgm_declares(tmp_path, most):
    pixels = np.array([0, most // 5, most], dtype=">u2" if most > 255 else np.uint8)
    (tmp_path / "a.pgm").write_bytes(f"P5 3 1 {most}\n".encode() + pixels.tobytes())
    assert decode(tmp_path / "a.pgm", None).tolist() == [[[0, 51, 255]]]


@pytest.mark.parametrize(("dtype", "word"), [(np.float32, "floating-point"), (np.int32, "32-bit integers")])
def test_pixels_without_a_fixed_range_are_refused(tmp_path, dtype, word):
    with pytest.raises(InputError, match=rf"a\.tif cannot be read as an image \(its pixels are {word}"):
        decode(save(tmp_path / "a.tif", np.ones((2, 2), dtype)), None)


@pytest.mark.parametrize(
    ("mode", "pixel", "shown"),
    [
        *(("RGBA", (0, 0, 0, 0), [255] * 3), ("RGBA", (0, 50, 100, 255), [0, 50, 100])),
        *(("RGBA", (0, 0, 0, 51), [204] * 3), ("LA", (0, 0), [255]), ("LA", (100, 255), [100])),
    ],
)
@given(left=st.integers(0, 255))
def test_transparent_pixels_are_shown_on_white_and_opaque_ones_stay(mode, pixel, shown, left):
    opaque = (left,) * (len(pixel) - 1) + (255,)
    image = Image.new(mode, (2, 1), opaque)
    image.putpixel((1, 0), pixel)
    file = io.BytesIO()
    image.save(file, "PNG")
    pixels, conversion = decoding.decode_and_tell(file.getvalue(), "a.png", None)
    assert pixels[:, 0, 0].tolist() == [left] * len(shown)
    assert pixels[:, 0, 1].tolist() == shown
    assert conversion.transparent is (pixel[-1] < 255)
    assert decoding.check(file.getvalue(), "a.png") == (mode == "LA", conversion)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_transparent_colour_is_shown_on_white(tmp_path, mode):
    black = (0, 0, 0) if mode == "RGB" else 0
    path = save(tmp_path / "a.png", np.array([[[0] * 3, [255] * 3]], np.uint8), mode, transparency=black)
    assert np.all(decode(path, None) == 255)


@pytest.mark.parametrize("suffix", [suffix for suffix in decoding.SUFFIXES if suffix not in UNWRITABLE])
def test_every_suffix_is_read(tmp_path, suffix):
    flat = np.full((16, 16, 3), 200, np.uint8)
    format_ = {".jfif": "JPEG", ".jpe": "JPEG", ".pnm": "PPM"}.get(suffix)
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    path = tmp_path / f"a{suffix}"
    Image.fromarray(flat).convert(mode).save(path, format_)
    pixels = decode(path, None)
    assert pixels.shape == (3 if mode == "RGB" else 1, 16, 16)
    if mode != "1":
        assert np.abs(pixels.astype(int) - 200).max() <= 4


def test_torchvisions_suffixes_are_among_ours():
    assert set(IMG_EXTENSIONS) <= set(decoding.SUFFIXES)


@pytest.mark.parametrize("name", ["EPS", "PDF", "TGA", "PCX", "SGI", "ICO", "IM", "XBM"])
def test_other_formats_are_never_opened_whatever_their_file_is_called(tmp_path, monkeypatch, name):
    path = tmp_path / "x.png"
    if name == "XBM":
        path.write_text("#define im_width 8\n#define im_height 1\nstatic char im_bits[] = {\n0x00\n};\n")
    else:
        Image.new("RGB", (8, 8)).save(path, name)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(InputError, match=r"x\.png cannot be read as an image \(it is not one of JPEG, PNG"):
        decode(path, None)


def test_black_and_white_becomes_0_and_255(tmp_path):
    path = save(tmp_path / "a.png", np.array([[True, False]]))
    assert decode(path, None).tolist() == [[[255, 0]]]


def test_the_orientation_of_a_camera_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    path = save(tmp_path / "a.png", COLOUR, exif=exif)
    assert np.array_equal(decode(path, None), np.rot90(COLOUR, 3).transpose(2, 0, 1))


def test_an_image_of_the_asked_size_is_not_resampled(tmp_path):
    square = COLOUR[:4, :4]
    assert np.array_equal(decode(save(tmp_path / "a.png", square), 4), square.transpose(2, 0, 1))


@pytest.mark.parametrize("wide", [True, False])
def test_the_longer_side_is_cropped_about_the_centre(tmp_path, wide):
    # a bright middle square between dark margins of half its side: the crop shows the square alone
    strip = np.zeros((8, 16), np.uint8)
    strip[:, 4:12] = 200
    path = save(tmp_path / "a.png", strip if wide else strip.T.copy())
    assert np.all(decode(path, 8) == 200)
    assert decode(path, 4).shape == (1, 4, 4)
    assert decode(path, 20).shape == (1, 20, 20)


def test_shrinking_is_antialiased(tmp_path):
    stripes = np.tile(np.array([[0, 255]], np.uint8), (32, 16))
    shrunk = decode(save(tmp_path / "a.png", stripes), 4)
    # without antialiasing the samples would be 0 or 255
    assert np.abs(shrunk.astype(int) - 128).max() < 30


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6])
def test_a_damaged_file_is_named(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    path = save(tmp_path / f"bad{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError) as caught:
        decode(path, None)
    message = str(caught.value)
    assert str(path) in message
    assert "remove" in message
    assert "\n" not in message


def test_a_text_file_with_the_name_of_an_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
        decode(tmp_path / "a.png", None)


@pytest.mark.parametrize("shape", [(70, 50), (50, 70), (64, 64), (301, 40)])
def test_eval_resize_is_torchvisions_resize_and_centre_crop(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    bicubic = transforms.InterpolationMode.BICUBIC
    theirs = transforms.Compose([transforms.Resize(32, bicubic), transforms.CenterCrop(28)])
    expected = np.asarray(theirs(Image.fromarray(pixels))).transpose(2, 0, 1)
    assert np.array_equal(decoding.decode(file.getvalue(), "a.png", 28, 32), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_tells_whether_an_image_is_grey(kind):
    content = encoded(kind)
    assert decoding.check(content, kind)[0] is (decoding.decode(content, kind, None).shape[0] == 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_a_check_finds_what_decoding_finds(kind, kept):
    content = encoded(kind, seed=1)
    content = content[: int(len(content) * kept)]
    outcomes = []
    for look in (decoding.check, lambda content, name: decoding.decode(content, name, None)):
        try:
            look(content, "a")
            outcomes.append("good")
        except InputError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    if kept <= 0.5 or kind != "pixel.png":  # of which the last tenth is the mark of the end, which Pillow does not need
        assert outcomes[0] != "good"


def test_a_large_jpeg_is_decoded_smaller_and_other_files_are_not():
    for suffix, by in (("JPEG", 4.0), ("PNG", 1.0)):
        file = io.BytesIO()
        Image.new("RGB", (403, 301)).save(file, suffix)
        with decoding.opened(file.getvalue(), "a") as image:
            assert decoding.shrink(image, 5.9) == by
            image.load()
            assert image.size == ((101, 76) if by > 1 else (403, 301))


@pytest.mark.parametrize(("format_", "frames"), [(f, n) for f in ("GIF", "TIFF", "PNG", "WEBP", "MPO") for n in (1, 3)])
def test_further_frames_are_seen_and_the_first_is_taken(format_, frames):
    """An MPO is a JPEG with a preview or a depth map, which is no frame."""
    file = io.BytesIO()
    images = [Image.fromarray(np.full((8, 8, 3), 250 - 100 * i, np.uint8)) for i in range(frames)]
    images[0].save(file, format_, save_all=True, append_images=images[1:])
    pixels, conversion = decoding.decode_and_tell(file.getvalue(), "a", None)
    assert np.abs(pixels.astype(int) - 250).max() <= 2
    assert conversion.several == (frames > 1 and format_ != "MPO")
    assert decoding.check(file.getvalue(), "a")[1] == conversion


def test_a_gif_whose_second_frame_is_damaged_has_its_first(monkeypatch):
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((8, 8), 250 - 100 * i, np.uint8)) for i in range(2)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])

    def damaged(self):
        raise SyntaxError("no block")

    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.is_animated", property(damaged))
    pixels, conversion = decoding.decode_and_tell(file.getvalue(), "a", None)
    assert int(pixels.min()) == 250
    assert conversion.several
