"""The batches of an epoch: order, augmentation, conversion to float."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nuat.config import DataConfig
from nuat.core.random import Rows
from nuat.data.augmentation import random_crop, random_flip, random_resized_crop, resize
from nuat.data.images import Images, ImageSet, to_float
from nuat.data.order import epoch_order
from nuat.data.streaming import StreamedSet
from nuat.data.transforms import TrainingView
from nuat.errors import InputError


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one training step."""

    x: Tensor
    """float32 [B, C, H, W] in [0, 1], augmented: the batch's images on this device, with one device all M."""
    y: Tensor
    """int64 [M], the classes of the whole batch."""
    index: Tensor
    """int64 [M], positions in the training set of the whole batch."""


def check_shares(n: int, batch_size: int, devices: int, least: int) -> None:
    """Refuse a batch size that does not give each of several devices its images.

    Args:
        n: training images.
        batch_size: images a batch, on all devices together.
        devices: how many share a batch, >= 2.
        least: images that each needs of every batch: 2 for batch norm per device, otherwise 1.

    Raises:
        InputError: the batch size does not divide, or some device would get too few of a full or the last batch.
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
    """Refuse a batch size with which some batch of an epoch would hold a single image.

    Batch norm in training mode and the joint statistics of a batch need two images.

    Args:
        n: training images.
        batch_size: images a batch.

    Raises:
        InputError: some batch would hold one image, or there is no batch.
    """
    if n < 2:
        raise InputError(f"{n} training images: at least 2 are needed, because batch norm needs 2 images a batch.")
    if batch_size < 2:
        raise InputError(f"batch_size={batch_size}: batch norm needs at least 2 images a batch; try 64.")
    if n % batch_size == 1:
        larger = batch_size + 1
        while n % larger == 1:
            larger += 1
        raise InputError(
            f"batch_size={batch_size}: the last batch of {n} training images would hold a single one, and batch norm "
            f"needs 2; try batch_size={larger}."
        )


def check_sizes(model: nn.Module, config: DataConfig, channels: int) -> None:
    """Refuse ``progressive_sizes`` that a model does not take, before hours pass.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits; it is asked once a size, in evaluation mode, which it leaves.
        config: the settings.
        channels: C.

    Raises:
        InputError: the model fails on one of the sizes.
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
) -> Iterator[Batch]:
    """Yield the batches of one epoch, every image once, the last batch holding what is left.

    A run that stopped after k batches gets the same remaining ones from ``start=k`` and a generator in the state that
    it had then: the skipped batches draw nothing.

    Args:
        images: the training set, for the device of the run: an ``ImageSet`` or a ``StreamedSet``.
        batch_size: images a batch; see ``check_batches``.
        order_seed: of the order of the images, and of the augmentation of streamed ones.
        epoch: number of the epoch, >= 0; each has its own order.
        crop_padding: zeros [pixels] on each side before the random crop; 0: no crop.
        flip: whether images are mirrored at random.
        generator: of the augmentation of an ``ImageSet``, on its device.
        crop_scale: least area of the random resized crop; none: no such crop.
        size: shorter side [pixels] of x; none: as the images are.
        start: batches to skip, >= 0.
        channels_last: whether x is stored with the channels innermost.
        rank: of this device among ``ranks``: x holds rows rank, rank + ranks, ... of a batch, y and index are the whole
            batch's.
        ranks: devices that share each batch.

    Raises:
        InputError: while it goes on, a streamed image cannot be read any more, or a process that decodes died.
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
    # one transfer an epoch rather than one a batch
    order = epoch_order(len(images), order_seed, epoch).to(images.images.device)
    for first in range(start * batch_size, len(images), batch_size):
        index = order[first : first + batch_size]
        source = generator if ranks == 1 else Rows(generator, rank, ranks, len(index))
        pixels = random_crop(images.images[index[rank::ranks]], crop_padding, source)
        if crop_scale is not None:
            pixels = random_resized_crop(pixels, crop_scale, source)
        if flip:
            pixels = random_flip(pixels, source)
        if size is not None:
            pixels = resize(pixels, size)
        x = to_float(pixels).contiguous(memory_format=memory_format)
        yield Batch(x=x, y=images.labels[index], index=index)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on ``device``, without waiting for what a GPU has yet to do."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
