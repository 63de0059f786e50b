"""Phases of the image size: what a model takes, and resident batches of another size."""

import pytest
import torch
from torch import nn

from nuat import models
from nuat.config import DataConfig, ModelConfig
from nuat.data import ImageSet, check_sizes, epoch_batches
from nuat.errors import InputError

PHASES = DataConfig(progressive_sizes=(16, 24), progressive_from=(0.0, 0.5))


def build(name: str, size: int) -> nn.Module:
    return models.build(ModelConfig(name=name, width=4), channels=3, classes=2, image_size=(size, size))


def test_a_network_of_one_size_is_refused_with_the_size():
    with pytest.raises(InputError) as caught:
        check_sizes(build("small-cnn", 16), PHASES, 3)
    for word in ("data.progressive_sizes=16,24", "images of 24 pixels", "built for 16x16", "resnet18"):
        assert word in str(caught.value)


def test_a_transformer_that_asserts_its_size_is_refused_alike():
    pytest.importorskip("timm", reason="the timm extra is not installed")
    options = ("patch_size=4", "embed_dim=16", "depth=1", "num_heads=2")
    config = ModelConfig(name="timm:vit_tiny_patch16_224", options=options)
    with pytest.raises(InputError, match="images of 24 pixels"):
        check_sizes(models.build(config, channels=3, classes=2, image_size=(16, 16)), PHASES, 3)


def test_a_network_of_any_size_passes_and_stays_in_its_modes_with_its_statistics():
    model = build("resnet18", 24).train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_sizes(model, PHASES, 3)
    assert model.training
    assert not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_is_not_asked_where_there_are_no_phases():
    model = build("small-cnn", 16)
    model.register_forward_pre_hook(lambda *_: pytest.fail("asked"))
    check_sizes(model, DataConfig(), 3)


@pytest.mark.parametrize(("size", "shape"), [(4, (4, 6)), (12, (12, 18)), (8, (8, 12)), (None, (8, 12))])
def test_resident_images_are_resized_after_the_augmentation(size, shape):
    draw = torch.Generator().manual_seed(0)
    images = ImageSet(torch.randint(0, 256, (6, 3, 8, 12), dtype=torch.uint8, generator=draw), torch.arange(6) % 2)

    def batches(side):
        generator = torch.Generator().manual_seed(1)
        return list(
            epoch_batches(images, 4, order_seed=0, epoch=0, crop_padding=1, flip=True, generator=generator, size=side)
        )

    for small, plain in zip(batches(size), batches(None), strict=True):
        assert small.x.shape[2:] == shape
        assert torch.equal(small.index, plain.index)
        if shape == (8, 12):
            assert torch.equal(small.x, plain.x)
        elif shape == (4, 6):  # antialiased: the mean brightness stays
            assert float((small.x.mean((2, 3)) - plain.x.mean((2, 3))).abs().max()) < 0.06
        grey_levels = small.x * 255
        assert float((grey_levels - grey_levels.round()).abs().max()) < 1e-4


def test_ranks_share_a_resident_batch():
    images = ImageSet(torch.arange(60, dtype=torch.uint8).view(5, 3, 2, 2), torch.arange(5))
    settings = {"order_seed": 0, "epoch": 1, "crop_padding": 1, "flip": True, "crop_scale": None}

    def batches(**ranks):
        return list(epoch_batches(images, 4, generator=torch.Generator().manual_seed(3), **settings, **ranks))

    for whole, *parts in zip(batches(), *(batches(rank=rank, ranks=2) for rank in range(2)), strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part.x, whole.x[rank::2])
            assert torch.equal(part.y, whole.y)
            assert torch.equal(part.index, whole.index)
