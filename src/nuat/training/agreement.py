"""Whether the processes of a run have been given the same settings and images."""

import json
from typing import Any

from nuat import hardware
from nuat.config import TrainConfig
from nuat.data import Dataset
from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.hardware import versions
from nuat.records.settings import flat, to_json

_OF_A_MACHINE = ("data.path", "data.cache", "data.download", "data.workers", "device")
"""Settings that may differ between machines: where the same images lie, and on what they are computed with."""


def check(world: World, config: TrainConfig, dataset: Dataset) -> None:
    """Refuse to train together on different settings, images or versions.

    Raises:
        InputError: on every process; the first difference is named.
    """
    if world.size == 1:
        return
    settings: dict[str, Any] = {k: v for k, v in flat(to_json(config)).items() if not k.startswith(_OF_A_MACHINE)}
    settings["the training images"] = dataset.train.fingerprint()
    settings["the version of nuat"] = hardware.NUAT_VERSION
    settings["the version of torch"] = versions()["torch"]
    told = [json.loads(text) for text in world.objects(json.dumps(settings))]
    for rank, theirs in enumerate(told[1:], 1):
        for name in {**told[0], **theirs}:
            if told[0].get(name) != theirs.get(name):
                raise InputError(
                    f"the processes of this run differ: {name} is {_short(told[0].get(name))} on process 0 and "
                    f"{_short(theirs.get(name))} on process {rank}; start all of them with the same command and data."
                )


def _short(value: Any) -> str:
    """Return a value as a person compares it: of a digest the first digits."""
    text = str(value)
    return text[:12] if len(text) == 64 else text
