"""A loaded model's classes, preprocessing and predictions."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nuat
from nuat.config import ModelConfig, ThreatConfig
from nuat.data.decoding import decode
from nuat.errors import InputError
from nuat.records.checkpoints import WeightsInfo, read_info, save_weights
from nuat.records.trained_classifier import TrainedClassifier


def info(channels: int = 3, size: tuple[int, int] = (8, 8), **changes: Any) -> WeightsInfo:
    made = WeightsInfo(
        model=ModelConfig(name="small-cnn", width=2), channels=channels, image_size=size, classes=("cat", "dog", "eel"),
        threat=ThreatConfig(), recipe="made up", epoch=1, averaged=False, data="made up",
    )  # fmt: skip
    return replace(made, **changes)


def model(**changes: Any) -> TrainedClassifier:
    return info(**changes).build().eval()


def photo(mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> Image.Image:
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("resize", [None, 12])
def test_images_are_prepared_as_in_evaluations(resize: int | None) -> None:
    found = model(resize=resize).transform(photo())
    wanted = decode(encoded(photo()), "a", 8, resize)
    assert found.shape == (3, 8, 8)
    assert torch.equal(found, torch.from_numpy(wanted / np.float32(255.0)))


def test_all_kinds_of_images_are_taken(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    loaded = model()
    wanted = loaded.transform(photo())
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), encoded(photo()), np.asarray(photo())):
        assert torch.equal(loaded.transform(given), wanted)
    assert torch.equal(loaded.transform(photo("CMYK")), loaded.transform(photo("CMYK").convert("RGB")))


def test_greyscale_and_colour_become_what_the_model_takes() -> None:
    grey = model().transform(photo("L"))
    assert grey.shape == (3, 8, 8)
    assert torch.equal(grey[0], grey[1])
    one = model(channels=1)
    assert one.transform(photo()).shape == (1, 8, 8)
    assert torch.equal(one.transform(photo()), one.transform(photo("L")))


def test_a_camera_that_lay_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(size=(8, 8)).save(tmp_path / "a.jpg", exif=exif, quality=100)
    loaded = model()
    by_path, by_image = loaded.transform(tmp_path / "a.jpg"), loaded.transform(Image.open(tmp_path / "a.jpg"))
    assert torch.equal(by_path, by_image)
    plain = loaded.transform(photo(size=(8, 8)))
    assert (by_path - plain.rot90(-1, (1, 2))).abs().mean() < 0.2 < (by_path - plain).abs().mean()


def test_predictions_are_ranked_probabilities() -> None:
    loaded = model()
    x = torch.stack([loaded.transform(photo()), loaded.transform(photo("L"))])
    with torch.no_grad():
        wanted = loaded(x).softmax(dim=1)
    for given in (x, [photo(), photo("L")]):
        found = loaded.predict(given, batch_size=1)
        assert len(found) == 2
        for one, row in zip(found, wanted, strict=True):
            assert one.label == loaded.classes[int(row.argmax())]
            assert one.probability == pytest.approx(float(row.max()))
            assert [one.probabilities[name] for name in loaded.classes] == pytest.approx(row.tolist())
            assert list(one.probabilities.values()) == sorted(one.probabilities.values(), reverse=True)
    assert loaded.predict(photo())[0].label == loaded.predict(x[0])[0].label
    assert loaded.predict([]) == []


def test_bytes_are_pixels_and_predicting_leaves_the_mode() -> None:
    loaded = model().train()
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    found = [loaded.predict(x) for x in (pixels, pixels.float() / 255)]
    assert found[0] == found[1]
    assert loaded.training


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.full((1, 3, 8, 8), 200.0), r"values from 200 to 200; the model takes pixels in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), -0.5), "values from -0.5"),
        (torch.full((1, 3, 8, 8), torch.nan), "values from nan"),
        (torch.zeros(1, 3, 9, 8), r"the shape \[1, 3, 9, 8\]; the model takes \[B, 3, 8, 8\]"),
        (torch.zeros(8, 8), r"the shape \[8, 8\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "images are torch.int64"),
        (np.zeros((8, 8, 3)), "an image is float64"),
        (b"no image", "cannot be read as an image"),
        ("nowhere.png", "nowhere.png: cannot be read"),
        ([3], "an image is a int"),
    ],
)
def test_what_cannot_be_an_image_is_refused(images: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        model().predict(images)


def test_a_model_of_oblong_images_takes_their_size_alone() -> None:
    oblong = model(size=(8, 12))
    assert oblong.transform(photo(size=(12, 8))).shape == (3, 8, 12)
    with pytest.raises(InputError, match=r"20 x 30 pixels \(height, width\); the model takes 8 x 12"):
        oblong.transform(photo())


def test_the_preprocessing_is_in_the_file(tmp_path: Path) -> None:
    made = info(resize=10)
    save_weights(tmp_path / "a.safetensors", made.build().state_dict(), made)
    loaded = nuat.load(tmp_path / "a.safetensors")
    assert loaded.info == made
    assert (loaded.classes, loaded.info.resize, loaded.info.pixel_range) == (made.classes, 10, (0.0, 1.0))
    assert torch.equal(loaded.transform(photo()), made.build().transform(photo()))
    other = replace(made, interpolation="nearest")
    save_weights(tmp_path / "b.safetensors", made.build().state_dict(), other)
    with pytest.raises(InputError, match="prepared in another way"):
        read_info(tmp_path / "b.safetensors")


def test_a_module_of_ones_own_stays_what_it_is(tmp_path: Path) -> None:
    own = torch.nn.Linear(2, 3)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    assert nuat.load(tmp_path / "own.pt", model=own) is own


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "RGBa", "La"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_shown_on_white(mode: str, channels: int) -> None:
    clear = Image.new(mode, (8, 8))
    assert bool((model(channels=channels).transform(clear) == 1.0).all())


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(InputError, match=f"Pillow's mode {mode}, which has no fixed range"):
        model().transform(Image.new(mode, (8, 8)))


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bits_are_scaled_and_12_bits_in_16_are_said(dtype: str) -> None:
    values = np.full((8, 8), 60_000)
    bright = Image.frombytes("I;16B" if dtype == ">u2" else "I;16", (8, 8), values.astype(dtype).tobytes())
    assert bool((model(channels=1).transform(bright) == np.float32(233 / 255)).all())
    dark = Image.fromarray(np.full((8, 8), 4000, np.uint16))
    with pytest.warns(RuntimeWarning, match="no value above 4000: if it holds 12 bits"):
        model(channels=1).transform(dark)


def test_further_frames_are_said(tmp_path: Path) -> None:
    model = nuat.load("quickstart")
    file = io.BytesIO()
    frames = [Image.new("RGB", (28, 28), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(RuntimeWarning, match="the image has several frames or pages, of which the first is taken"):
        model.transform(file.getvalue())
    (tmp_path / "a\x1b\n.gif").write_bytes(file.getvalue())
    with pytest.warns(RuntimeWarning, match=r"a\\x1b\\n\.gif has several frames"):
        model.transform(tmp_path / "a\x1b\n.gif")
