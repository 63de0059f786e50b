"""Safetensors: the shipped weights with their metadata, to be used without the run's folder."""

from pathlib import Path

import torch

from nuat.errors import InputError
from nuat.export.target import check_free, staged
from nuat.export.trained_model import TrainedModel, logits
from nuat.files import atomic_write
from nuat.records import checkpoints

_IMAGES = 16


def to_safetensors(trained: TrainedModel, target: Path) -> str:
    """Copy the weights file byte for byte to ``target`` and return what was checked, for people.

    The copy is loaded again as ``nuat.load(target)`` would; its metadata and its logits on test images (random ones
    where those are not on this machine) must equal the original's bit for bit, or nothing is left behind.

    Raises:
        InputError: ``target`` is taken, cannot be written to, has another suffix, or the copy says something else.
    """
    if target.suffix != ".safetensors":
        raise InputError(f"--out {target}: nuat.load reads this format by its name; end it in .safetensors.")
    check_free(target, folder=False)
    x = trained.probe(_IMAGES)
    before = logits(checkpoints.load(trained.weights), x)
    with staged(target) as path:
        with atomic_write(path) as file:
            file.write(trained.weights.read_bytes())
        same_info = checkpoints.read_info(path) == trained.info
        if not same_info or not torch.equal(logits(checkpoints.load(path), x), before):
            raise InputError(
                f"{target}: the copy does not say what {trained.weights} says; was that file written to meanwhile? "
                "Nothing was kept; give the same command again."
            )
    return f"metadata and logits on {len(x)} {trained.checked_on} equal bit for bit"
