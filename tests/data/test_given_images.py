"""Images given from Python: what is taken, as what, and what is refused with which remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from nuat.config import DataConfig
from nuat.data import ImageSet, load, to_float
from nuat.data.given_images import given_images
from nuat.errors import InputError

PIXELS = torch.randint(0, 256, (6, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
EXPECTED = ImageSet(PIXELS, LABELS).fingerprint()
LAST = PIXELS.permute(0, 2, 3, 1)


class Pairs(Dataset[Any]):
    """A data set of torch that returns what it is given."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


@pytest.mark.parametrize(
    "x",
    [
        PIXELS,
        to_float(PIXELS),
        to_float(PIXELS).double(),
        to_float(PIXELS).requires_grad_(),
        LAST,
        LAST.contiguous(),
        PIXELS.numpy(),
        LAST.numpy(),
        LAST.numpy()[:, ::-1][:, ::-1],
        (PIXELS.numpy() / 255),
        (PIXELS.numpy() / 255).astype(np.float32),
        (PIXELS.numpy() / 255).astype(">f8"),
    ],
)
@pytest.mark.parametrize("y", [LABELS, LABELS.int(), LABELS.numpy(), LABELS[:, None], LABELS.tolist()])
def test_tensors_and_arrays_of_any_usual_form_are_the_same_images(x: Any, y: Any) -> None:
    assert given_images(x, y).images.fingerprint() == EXPECTED


@settings(max_examples=25)
@given(
    n=st.integers(1, 4), channels=st.sampled_from([1, 3]), height=st.integers(4, 9), width=st.integers(4, 9),
    last=st.booleans(), array=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_floats_keep_their_values(
    n: int, channels: int, height: int, width: int, last: bool, array: bool, seed: int
) -> None:
    x = torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))
    shown = x.permute(0, 2, 3, 1) if last else x
    images = given_images(shown.numpy() if array else shown, torch.zeros(n, dtype=torch.int64)).images
    assert torch.equal(images.select(torch.arange(n)).images, x)
    assert torch.equal(to_float(images.select(torch.arange(n)).images), x)


def test_grey_images_without_a_channel_get_one() -> None:
    found = given_images(PIXELS[:, 0].numpy(), LABELS).images
    assert found.fingerprint() == ImageSet(PIXELS[:, :1], LABELS).fingerprint()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (PIXELS.long(), r"x is torch.int64; expected uint8 .* convert with \.to\(torch\.uint8\)"),
        (PIXELS.numpy().astype(np.int32), r"x is int32; expected uint8 .* convert with \.astype\('uint8'\)"),
        (PIXELS.numpy().astype(np.uint16) * 257, r"x is uint16; .* would wrap them"),
        (PIXELS.int() * 257, r"\.to\(torch\.uint8\) would wrap them: .*\.round\(\)\.to\(torch\.uint8\) if"),
        (PIXELS > 9, r"x is torch.bool; .* values are 0 and 1: convert with \(255 \* x\.to\(torch\.uint8\)\)"),
        ((PIXELS > 9).byte(), r"values are 0 and 1 only"),
        (PIXELS // 16, r"x: no value is above 15, .* \(255 / 15 \* x\)\.round\(\)"),
        (np.array([["a"]]), r"x is <U1; expected uint8"),
        (PIXELS.numpy().astype(object), r"x is object; expected uint8"),
        (PIXELS.float(), r"values from 0 to 255; expected pixels in \[0, 1\]. Divide by 255\."),
        (to_float(PIXELS) * 2 - 1, r"values from -1 to 1; .* Give \(x \+ 1\) / 2, and put the scaling into the model"),
        ((to_float(PIXELS) - 0.45) / 0.22, r"Give x \* std \+ mean, and put the scaling .*nuat.models.adapt"),
        (to_float(PIXELS) + 1e-5, r"overstep by a rounding: give x.clamp\(0, 1\)"),
        (torch.full((6, 3, 5, 4), float("nan")), r"x holds infinite or NaN pixels"),
        (torch.zeros(6, 3, 5, 3), r"could be \[n, C, H, W\] and \[n, H, W, C\]; nuat.data.ImageSet"),
        (torch.zeros(6, 4, 5, 6), r"has neither 1 nor 3 channels; nuat.data.ImageSet"),
        (torch.zeros(6, 20), r"x has shape \[6, 20\]; expected \[n, C, H, W\], \[n, H, W, C\] or \[n, H, W\]"),
        ([PIXELS[0]], r"x: expected images with labels; got a list"),
        (None, r"x: expected images with labels; got a NoneType"),
        (torch.zeros(0, 1, 5, 4, dtype=torch.int64), r"x is torch.int64; expected uint8 .* Convert it to uint8"),
    ],
)  # fmt: skip
def test_images_that_have_no_one_meaning_are_refused_with_the_remedy(x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        given_images(x, None if x is None or isinstance(x, list) else LABELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"y: a Tensor of images needs its labels; give y, integers \[n\]"),
        (LABELS.float(), r"y is torch.float32 \[6\]; expected integers"),
        (torch.eye(3)[LABELS], r"y has shape \[6, 3\]; .* one-hot labels give y.argmax\(1\)"),
        (LABELS[:4], r"y has 4 labels for 6 images"),
        (LABELS - 1, r"y has the label -1; expected classes from 0"),
        (["cat"] * 6, r"y: expected integer labels .* no numbers"),
        ([[0], [1, 2]], r"y: expected integer labels"),
        (LABELS > 0, r"y is torch.bool"),
    ],
)
def test_labels_that_have_no_meaning_are_refused_with_the_remedy(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        given_images(PIXELS, y)


@pytest.mark.parametrize(
    "source",
    [
        ImageSet(PIXELS, LABELS),
        TensorDataset(to_float(PIXELS), LABELS),
        TensorDataset(LAST, LABELS),
        DataLoader(TensorDataset(to_float(PIXELS), LABELS), batch_size=4),
        Pairs([(image.numpy(), int(label)) for image, label in zip(PIXELS, LABELS, strict=True)]),
        Pairs([(image, label, "a path") for image, label in zip(PIXELS, LABELS, strict=True)]),
    ],
    ids=["image-set", "tensors", "channels-last", "loader", "arrays", "triples"],
)
def test_sets_and_loaders_bring_their_labels(source: Any) -> None:
    found = given_images(source)
    assert found.images.fingerprint() == EXPECTED
    assert found.notes == ()
    with pytest.raises(InputError, match=r"y has no effect: a \w+ brings its labels; leave y out"):
        given_images(source, LABELS)


def test_batches_of_levels_and_of_floats_become_floats() -> None:
    x = to_float(PIXELS)
    x[5] *= 0.999
    found = given_images(DataLoader(TensorDataset(x, LABELS), batch_size=2)).images
    assert torch.equal(found.select(torch.arange(6)).images, x)


def test_images_that_a_loader_drops_are_counted() -> None:
    (note,) = given_images(DataLoader(TensorDataset(PIXELS, LABELS), batch_size=4, drop_last=True)).notes
    assert "gives 4 of the 6 images of its data set; check drop_last" in note


class Nothing(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Pairs([{"image": PIXELS[0], "label": 0}]), r"gives a dict as a batch; expected \(images, labels\)"),
        (Pairs([PIXELS[0]]), r"gives a Tensor as a batch"),
        (Pairs([(object(), 0)]), r"the data set gives no batches of tensors .* ToTensor"),
        (Pairs([(PIXELS[0], 0), (PIXELS[1, :, :2], 1)]), r"the data set gives no batches of tensors .* one size"),
        (Pairs([("a.png", 0)]), r"x: expected a tensor or array of images; got a (list|tuple)"),
        (Pairs([(PIXELS[0], "cat")]), r"y: expected integer labels"),
        (Pairs([(255 * to_float(PIXELS[0]), 0)]), r"Divide by 255"),
        (DataLoader(Nothing()), r"the loader gives no images"),
        ("cifar-10", r"x='cifar-10': no such data set. Did you mean 'cifar10'\? .*DataConfig\(path=...\)"),
    ],
)
def test_sets_that_cannot_be_read_are_refused_in_one_line(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        given_images(source)
    assert "\n" not in str(caught.value)


def test_a_name_is_the_test_part_of_that_set(tmp_path: Path) -> None:
    digits = load(DataConfig(name="mnist-sample"))
    for source in ("mnist-sample", DataConfig(name="mnist-sample"), digits):
        found = given_images(source)
        assert found.images.fingerprint() == digits.test.fingerprint()
        assert found.classes == tuple("0123456789")
    np.savez(tmp_path / "mine.npz", x_test=LAST.numpy(), y_test=LABELS.numpy())
    assert given_images("cifar10", path=tmp_path / "mine.npz").images.fingerprint() == EXPECTED
    assert given_images("cifar10", path=str(tmp_path / "mine.npz")).source.endswith("mine.npz")
    with pytest.raises(InputError, match=r"path='x.npz' has no effect on a Tensor; it goes with the name"):
        given_images(PIXELS, LABELS, path="x.npz")
