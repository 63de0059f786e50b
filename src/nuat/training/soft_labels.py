"""Labels of a run's batches: smoothed, and mixed with those of the boxes that CutMix pastes in."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from nuat.config import TrainConfig
from nuat.core.losses import soft_labels
from nuat.data import Batch, cutmix
from nuat.distributed.world import World


def softened(
    batches: Iterator[Batch], config: TrainConfig, classes: int, generator: torch.Generator, world: World
) -> Iterator[Batch]:
    """Yield the batches with soft labels, or as they are where the settings neither smooth nor mix.

    Args:
        batches: batches with hard labels.
        config: settings of the run.
        classes: number of classes.
        generator: source of the boxes, equal on all processes.
        world: the processes that share a batch. A box may come from the image of another one, so that CutMix gathers
            the images of the whole batch.
    """
    smoothing, alpha = config.defense.smoothing, config.data.cutmix
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    for batch in batches:
        if smoothing == 0.0 and alpha is None:
            yield batch
            continue
        x, y = batch.x, soft_labels(batch.y, classes, smoothing)
        if alpha is not None:
            mixed, y = cutmix(world.gather(x, len(y)), y, alpha, generator)
            x = world.rows(mixed).contiguous(memory_format=memory_format)
        yield replace(batch, x=x, y=y)
