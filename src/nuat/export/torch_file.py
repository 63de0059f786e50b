"""Export to a program of torch.export: one file that plain PyTorch runs, without the code of nuat or the network."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nuat.errors import InputError
from nuat.export.target import check_free, staged
from nuat.export.trained_model import (
    CalibratedModel,
    TrainedModel,
    converting,
    logits,
    settled_logits,
    wrong_probabilities,
)
from nuat.files import atomic_write
from nuat.records import checkpoints

METADATA = "nuat.json"
"""Extra file of the program: all metadata of the weights, as JSON."""

_BATCHES = (1, 7)
_IMAGES = 35
_TOLERANCE = 1e-4
"""Largest difference of logits allowed, relative to the largest logit."""


def to_torch(trained: TrainedModel, target: Path) -> str:
    """Write the model as a program of torch.export and return a line on what was checked.

    ``torch.export.load(target).module()`` maps images [B, C, H, W] in [0, 1] to logits [B, N], for any B; with a
    temperature to (logits, probabilities), see ``CalibratedModel``. In batches of
    1 and 7 it must give the model's predictions, and its logits within 1e-4 of the largest. Otherwise nothing is kept.

    Raises:
        InputError: ``target`` exists, cannot be written or has another suffix, or a check failed.
    """
    if target.suffix != ".pt2":
        raise InputError(f"--out {target}: torch.export knows its programs by their suffix; end the name in .pt2.")
    check_free(target, folder=False)
    model, temperature = checkpoints.load(trained.weights), trained.info.temperature
    whole = model if temperature == 1.0 else CalibratedModel(model, temperature)
    example = torch.zeros(2, trained.info.channels, *trained.info.image_size)  # one image would fix the batch at one
    x = trained.probe(_IMAGES)
    settled_logits(model, x)
    with converting("a program"):
        program = torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:  # lines of code with paths of this machine
        node.meta.pop("stack_trace", None)
    with staged(target) as path:
        with atomic_write(path) as file:
            torch.export.save(program, file, extra_files={METADATA: json.dumps(asdict(trained.info))})
        difference = _compare(torch.export.load(path).module(), model, x, temperature)
    also = "" if temperature == 1.0 else f" and probabilities at temperature {temperature:.4g}"
    return (
        f"images [batch, C, H, W] in [0, 1] to logits{also}; on {len(x)} {trained.checked_on}, in batches of 1 and 7: "
        f"same predictions, largest difference {difference:.1e} of the largest logit"
    )


def _compare(theirs: Any, model: nn.Module, x: torch.Tensor, temperature: float) -> float:
    """Return the largest difference of the logits on ``x`` [B, C, H, W], relative to the largest logit; check it."""
    largest = difference = 0.0
    for size in _BATCHES:
        for part in torch.split(x, size):
            ours = logits(model, part)
            with torch.no_grad():
                again = theirs(part)
            if temperature != 1.0:
                again, probabilities = again
                if wrong := wrong_probabilities(probabilities, ours, temperature):
                    raise _refused(wrong)
            if not torch.equal(again.argmax(dim=1), ours.argmax(dim=1)):
                raise _refused(f"it predicts other classes in batches of {size}")
            largest = max(largest, float(ours.abs().max()))
            difference = max(difference, float((again - ours).abs().max()))
    if not difference <= _TOLERANCE * largest:
        raise _refused(f"it differs by {difference:.1e} in logits up to {largest:.1e}")
    return difference / largest if largest > 0 else 0.0


def _refused(reason: str) -> InputError:
    return InputError(
        f"the program that torch {torch.__version__} made is wrong and was not kept: {reason}. Try the versions in "
        "nuat's constraints.txt."
    )
