"""Settings that do little or nothing in a run are said before it begins."""

from dataclasses import replace
from pathlib import Path

import pytest
from training.small_runs import Watcher, averaged, small_config

from nuat.config import AveragingConfig, DistributedConfig, TrainConfig
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError
from nuat.models import adapt, resnet18
from nuat.training import preparation
from nuat.training.preparation import warn

CONFIG = small_config(Path("images.npz"))


@pytest.mark.parametrize(
    ("config", "steps", "world", "says"),
    [
        (CONFIG, 8, ALONE, None),
        (replace(CONFIG, averaging=averaged(0.9)), 8, ALONE, "43% of the weight average will still be the initial"),
        (replace(CONFIG, averaging=averaged(0.9)), 80, ALONE, None),
        (replace(CONFIG, averaging=averaged(0.9, warmup=True)), 8, ALONE, None),
        # of 72 updates the last has the decay 72/81, of 81 the last 81/90
        (
            replace(CONFIG, averaging=AveragingConfig(tau=(0.5, 0.9, 0.99), warmup=True)),
            72,
            ALONE,
            "in 72 steps averaging.warmup lets no decay exceed 0.8889, so that 0.9, 0.99 are the same average",
        ),
        (replace(CONFIG, averaging=AveragingConfig(tau=(0.5, 0.89, 0.99), warmup=True)), 81, ALONE, None),
        (replace(CONFIG, averaging=AveragingConfig(tau=(0.5, 0.99))), 8, ALONE, None),
        (replace(CONFIG, distributed=DistributedConfig(batch_norm="sync")), 8, ALONE, "no effect on one device"),
        (replace(CONFIG, distributed=DistributedConfig(batch_norm="sync")), 8, World(0, 2), None),
    ],
)
def test_settings_that_do_little_are_said(config: TrainConfig, steps: int, world: World, says: str | None) -> None:
    heard = Watcher()
    warn(config, steps, heard, world)
    if says is None:
        assert heard.messages == []
    else:
        (message,) = heard.messages
        assert message.startswith("warning: ")
        assert says in message


def test_a_share_of_one_image_is_too_few_for_batch_norm_of_each_device() -> None:
    model, config = adapt(resnet18(width=1)), replace(CONFIG, batch_size=32)
    preparation._check_batches(model, config, 100, 2)
    with pytest.raises(InputError, match="a batch of 4 of the 100 training images leaves some of 4 devices 1"):
        preparation._check_batches(model, config, 100, 4)
    preparation._check_batches(model, replace(config, distributed=DistributedConfig(batch_norm="sync")), 100, 4)
