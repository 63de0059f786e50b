"""Batches of an epoch: order, augmentation, conversion to float, and checks of the sizes."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nuat.config import DataConfig
from nuat.core.random import Rows, Source
from nuat.data.augmentation import random_crop, random_flip, random_resized_crop, resize
from nuat.data.images import Images, ImageSet, to_float
from nuat.data.order import epoch_order
from nuat.data.streaming import StreamedSet
from nuat.data.transforms import TrainingView
from nuat.errors import InputError


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one training step.

    Example:
        >>> import torch
        >>> from nuat.data import Batch
        >>> Batch(x=torch.zeros(2, 1, 4, 4), y=torch.tensor([0, 1]), index=torch.tensor([5, 3])).x.shape
        torch.Size([2, 1, 4, 4])
    """

    x: Tensor
    """float32 [B, C, H, W] in [0, 1], augmented: this device's share of the batch; on one device, all M images."""
    y: Tensor
    """Labels of the whole batch: int64 [M], or, where they are smoothed or mixed, float32 [M, N]."""
    index: Tensor
    """int64 [M], positions of the whole batch in the training set."""


def check_shares(n: int, batch_size: int, devices: int, least: int) -> None:
    """Refuse a batch size that leaves one of several devices with too few images.

    Args:
        n: training images.
        batch_size: images per batch, on all devices together.
        devices: number of devices that share a batch, >= 2.
        least: images that each device needs of every batch: 2 for batch norm per device, otherwise 1.

    Raises:
        InputError: the batch size does not divide among the devices, or a device would get too few images.

    Example:
        >>> from nuat.data import check_shares
        >>> check_shares(1000, 100, devices=4, least=2)
    """
    if batch_size % devices:
        near = max(least * devices, round(batch_size / devices) * devices)
        raise InputError(
            f"batch_size={batch_size} does not divide among {devices} devices; it counts the images on all of them: "
            f"try batch_size={near}."
        )
    for images in (batch_size, n % batch_size or batch_size):
        if images // devices < least:
            why = (
                "batch norm per device needs 2 (or give --distributed.batch-norm sync)" if least == 2 else "1 is needed"
            )
            raise InputError(
                f"batch_size={batch_size}: a batch of {images} of the {n} training images leaves some of {devices} "
                f"devices {images // devices}, and {why}; use fewer devices or another batch size."
            )


def check_batches(n: int, batch_size: int) -> None:
    """Refuse a batch size with which a batch of an epoch would hold a single image.

    Batch norm in training mode and joint statistics of a batch need two images.

    Args:
        n: training images.
        batch_size: images per batch.

    Raises:
        InputError: a batch would hold one image, or there is no batch.

    Example:
        >>> from nuat.data import check_batches
        >>> check_batches(1000, 100)  # 1001 is refused: its last batch would hold one image
    """
    if n < 2:
        raise InputError(f"{n} training images: at least 2 are needed, because batch norm needs 2 images per batch.")
    if batch_size < 2:
        raise InputError(f"batch_size={batch_size}: batch norm needs at least 2 images per batch; try 64.")
    if n % batch_size == 1:
        larger = batch_size + 1
        while n % larger == 1:
            larger += 1
        raise InputError(
            f"batch_size={batch_size}: the last batch of {n} training images would hold a single one, and batch norm "
            f"needs 2; try batch_size={larger}."
        )


def check_sizes(model: nn.Module, config: DataConfig, channels: int) -> None:
    """Refuse ``progressive_sizes`` that a model does not take, before a long run begins.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits. It is called once per size in evaluation mode; its modes stay.
        config: the settings.
        channels: C.

    Raises:
        InputError: the model fails on one of the sizes.

    Example:
        >>> from torch import nn
        >>> from nuat.config import DataConfig
        >>> from nuat.data import check_sizes
        >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> check_sizes(net, DataConfig(progressive_sizes=(8, 16), progressive_from=(0.0, 0.5)), 3)
    """
    modes = [(module, module.training) for module in model.modules()]
    example = next(model.parameters(), torch.empty(0))
    try:
        model.eval()
        for size in dict.fromkeys(config.progressive_sizes):
            with torch.no_grad():
                model(torch.zeros(1, channels, size, size, device=example.device, dtype=example.dtype))
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:  # torch._assert, in transformers
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"data.progressive_sizes={','.join(map(str, config.progressive_sizes))}: the model does not take images of "
            f"{size} pixels ({reason}). Choose a network for any size, such as resnet18, or leave the sizes out."
        ) from error
    finally:
        for module, training in modes:
            module.training = training


def epoch_batches(
    images: Images,
    batch_size: int,
    *,
    order_seed: int,
    epoch: int,
    crop_padding: int,
    flip: bool,
    generator: torch.Generator,
    crop_scale: float | None = None,
    size: int | None = None,
    start: int = 0,
    channels_last: bool = False,
    rank: int = 0,
    ranks: int = 1,
    repeat: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one epoch: every image once, the last batch holding the rest.

    Skipped batches draw nothing. A run that stopped after k batches gets the same remaining ones from ``start=k`` and a
    generator in the state of that moment.

    Args:
        images: the training set on the device of the run: an ``ImageSet`` or a ``StreamedSet``.
        batch_size: images per batch; see ``check_batches``.
        order_seed: seed of the order of the images, and of the augmentation of streamed ones.
        epoch: number of the epoch, >= 0. Each epoch has its own order.
        crop_padding: zeros [pixels] on each side before the random crop. 0: no crop.
        flip: whether images are mirrored at random.
        generator: source of the augmentation of an ``ImageSet``, on its device.
        crop_scale: least area of the random resized crop. None: no such crop.
        size: shorter side [pixels] of x. None: the images' own.
        start: batches to skip, >= 0.
        channels_last: whether x is stored in torch's channels-last format.
        rank: number of this device. x holds rows rank, rank + ranks, ... of a batch; y and index hold all rows.
        ranks: number of devices that share each batch.
        repeat: returns what a function, which draws and augments an ``ImageSet``'s images, makes of their positions
            [B]; it may repeat a recording. None: the function is called.

    Raises:
        InputError: a streamed image can no longer be read, or a decoding process died.

    Example:
        >>> import torch
        >>> from nuat.data import ImageSet, epoch_batches
        >>> images = ImageSet(torch.zeros(5, 1, 4, 4, dtype=torch.uint8), torch.arange(5))
        >>> settings = {"crop_padding": 1, "flip": True, "generator": torch.Generator().manual_seed(0)}
        >>> [len(batch.y) for batch in epoch_batches(images, 2, order_seed=0, epoch=0, **settings)]
        [2, 2, 1]
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    if isinstance(images, StreamedSet):
        view = TrainingView(size or images.image_size[0], crop_scale, crop_padding, flip)
        labels = images.labels
        for pixels, index in images.batches(
            batch_size, view, order_seed=order_seed, epoch=epoch, start=start, rank=rank, ranks=ranks
        ):
            x = to_float(pixels).contiguous(memory_format=memory_format)
            yield Batch(x=x, y=_sent(labels[index], images.device), index=_sent(index, images.device))
        return
    if not isinstance(images, ImageSet):
        raise TypeError(f"{type(images).__name__}: expected an ImageSet or a StreamedSet")
    # one transfer per epoch rather than one per batch
    order = epoch_order(len(images), order_seed, epoch).to(images.images.device)
    for first in range(start * batch_size, len(images), batch_size):
        index = order[first : first + batch_size]
        source = generator if ranks == 1 else Rows(generator, rank, ranks, len(index))
        augment = functools.partial(
            _augmented,
            images.images,
            source=source,
            crop_padding=crop_padding,
            crop_scale=crop_scale,
            flip=flip,
            size=size,
            memory_format=memory_format,
        )
        rows = index[rank::ranks]
        yield Batch(x=augment(rows) if repeat is None else repeat(augment, rows), y=images.labels[index], index=index)


def _augmented(
    images: Tensor,
    rows: Tensor,
    *,
    source: Source,
    crop_padding: int,
    crop_scale: float | None,
    flip: bool,
    size: int | None,
    memory_format: torch.memory_format,
) -> Tensor:
    """Return x [B, C, H, W] of the images at ``rows``; the other arguments are those of ``epoch_batches``."""
    pixels = random_crop(images[rows], crop_padding, source)
    if crop_scale is not None:
        pixels = random_resized_crop(pixels, crop_scale, source)
    if flip:
        pixels = random_flip(pixels, source)
    if size is not None:
        pixels = resize(pixels, size)
    return to_float(pixels).contiguous(memory_format=memory_format)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to ``device`` without waiting for the GPU's queue."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
