"""Export to safetensors: the shipped weights and their metadata, usable without the run's folder."""

from pathlib import Path

import torch

from nuat.errors import InputError
from nuat.export.target import check_free, staged
from nuat.export.trained_model import TrainedModel, logits, settled_logits
from nuat.files import atomic_write
from nuat.records import checkpoints

_IMAGES = 16


def to_safetensors(trained: TrainedModel, target: Path) -> str:
    """Copy the weights file byte for byte to ``target`` and return a line on what was checked.

    With another temperature than the file's, the same tensors are written with the new metadata. The copy is loaded as
    by ``nuat.load(target)``. Its logits on test images (random ones if those are not on this machine) must equal the
    original's bit for bit, and its metadata what was asked for; otherwise nothing is kept.

    Raises:
        InputError: ``target`` exists, cannot be written or has another suffix, or the copy differs.
    """
    if target.suffix != ".safetensors":
        raise InputError(f"--out {target}: nuat.load knows this format by its suffix; end the name in .safetensors.")
    check_free(target, folder=False)
    x = trained.probe(_IMAGES)
    calibrated = checkpoints.read_info(trained.weights).temperature != trained.info.temperature
    before = settled_logits(checkpoints.load(trained.weights), x)
    with staged(target) as path:
        if not calibrated:
            with atomic_write(path) as file:
                file.write(trained.weights.read_bytes())
        else:
            checkpoints.save_weights(path, checkpoints.read_tensors(trained.weights), trained.info)
        same_info = checkpoints.read_info(path) == trained.info
        if not same_info or not torch.equal(logits(checkpoints.load(path), x), before):
            raise InputError(
                f"{target}: the copy differs from {trained.weights}; was that file changed meanwhile? "
                "Nothing was kept; give the same command again."
            )
    return f"metadata and logits on {len(x)} {trained.checked_on} equal bit for bit"
