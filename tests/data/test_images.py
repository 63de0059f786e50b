"""ImageSet, Dataset, the conversion to float and the batches of an evaluation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from nuat.data.images import Dataset, ImageSet, batches, to_float
from nuat.errors import InputError


def images(n: int) -> ImageSet:
    pixels = torch.arange(n * 12, dtype=torch.uint8).reshape(n, 3, 2, 2)
    return ImageSet(pixels, torch.arange(n))


def test_to_float_gives_the_values_of_torchvision_for_every_pixel_value():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = to_tensor(Image.fromarray(every))
    assert torch.equal(to_float(torch.from_numpy(every)[None]), expected)
    assert to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_to_float_gives_the_same_values_on_the_gpu():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_float(every.cuda()).cpu(), to_float(every))


def test_select_takes_the_images_in_the_order_of_the_indices():
    chosen = images(5).select(torch.tensor([3, 0]))
    assert chosen.labels.tolist() == [3, 0]
    assert torch.equal(chosen.images[0], images(5).images[3])
    assert len(chosen) == 2


@pytest.mark.parametrize(
    ("pixels", "labels", "words"),
    [
        (
            torch.zeros(2, 1, 3, 3).double(),
            torch.zeros(2, dtype=torch.int64),
            ("images", "float64", "uint8", "float32"),
        ),
        (torch.full((2, 1, 3, 3), 2.0), torch.zeros(2, dtype=torch.int64), ("float32", "outside [0, 1]", "adapt")),
        (torch.full((2, 1, 3, 3), torch.nan), torch.zeros(2, dtype=torch.int64), ("float32", "outside [0, 1]")),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("images", "[2, 3, 3]", "[N, C")),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2), ("labels", "float32", "int64")),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2, 1, dtype=torch.int64), ("labels", "[2, 1]")),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), ("2 images", "3 labels")),
        (
            torch.zeros(2, 1, 3, 3, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64, device="meta"),
            ("cpu", "meta", "one device"),
        ),
    ],
)
def test_image_set_refuses_other_shapes_types_and_devices(pixels, labels, words):
    with pytest.raises(InputError) as caught:
        ImageSet(pixels, labels)
    for word in words:
        assert word in str(caught.value)


def test_dataset_moves_its_three_sets_and_names_their_shape():
    dataset = Dataset(
        train=ImageSet(torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.arange(2)),
        validation=images(1),
        test=images(1),
        classes=("a", "b"),
        source="made",
        validation_indices=torch.tensor([0]),
    )
    assert dataset.channels == 3
    assert dataset.image_size == (4, 5)
    moved = dataset.to("meta")
    assert {part.images.device.type for part in (moved.train, moved.validation, moved.test)} == {"meta"}
    assert moved.validation_indices.device.type == "cpu"
    assert (moved.classes, moved.source) == (("a", "b"), "made")


def test_batches_yield_every_image_in_order_and_keep_the_rest():
    parts = list(batches(images(5), 2))
    assert [len(y) for _, y in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([y for _, y in parts]), torch.arange(5))
    x = torch.cat([x for x, _ in parts])
    assert x.dtype == torch.float32
    assert torch.equal((x * 255).round().to(torch.uint8), images(5).images)
