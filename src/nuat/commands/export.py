"""``nuat export``: write a trained model in a format that other programs read."""

import contextlib
import errno
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from nuat.commands.adopted_model import adopt, say_variant
from nuat.config import ForeignClassifier, ThreatConfig
from nuat.config.arguments import HELP, parse
from nuat.core.eps import check_usual
from nuat.core.threat import Norm
from nuat.errors import InputError
from nuat.evaluation.calibration import check_temperature
from nuat.export import (
    Submission,
    TrainedModel,
    at_temperature,
    find_model,
    to_onnx,
    to_robustbench,
    to_safetensors,
    to_torch,
)
from nuat.progress import terminal
from nuat.records import checkpoints

_ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt2", "robustbench": "-robustbench"}


@dataclass(frozen=True, kw_only=True)
class _Export:
    """Write a trained model in a format that other programs read. The result is checked against the model first."""

    model: tyro.conf.Positional[Path]
    """Folder of a run (its best weights are taken), a .safetensors file that nuat wrote, or anybody's weights with
    --model, --image-size and --eps, as for nuat evaluate."""
    format: Literal["safetensors", "onnx", "torch", "robustbench"]
    """safetensors: the weights, for nuat.load. onnx: one file for other runtimes (opset 18, images in [0, 1] to logits,
    any batch size); needs pip install 'nuat[export]'. torch: one file for torch.export.load, without nuat. robustbench:
    a folder for a submission, from an evaluation of the run with clean and autoattack."""
    out: Path | None = None
    """File, or folder for robustbench, to write. None: the run's name, in the current folder."""
    temperature: Literal["fit"] | float | None = None
    """Temperature T of the probabilities, softmax(logits / T), which the file then brings; the logits, and so every
    answer and attack, stay as they are. fit: the likeliest on the images that the run held out. None: the weights'."""
    network: Annotated[ForeignClassifier, tyro.conf.arg(name="")] = field(default_factory=ForeignClassifier)
    """Network, images and classes of weights that nuat did not write."""
    eps: float | None = None
    """For such weights: radius of the perturbations that the model withstands, such as 8/255."""
    norm: Norm = "Linf"
    """For such weights: norm of that radius."""
    robustbench: Submission = field(default_factory=Submission)
    """For robustbench: facts of the entry that the run does not record."""


def export(arguments: list[str]) -> int:
    """``nuat export RUN|WEIGHTS --format safetensors|onnx|torch|robustbench [--out PATH]``."""
    if not arguments or HELP.intersection(arguments):
        parse(_Export, ["--help"], prog="nuat export")
    if arguments[0].startswith("-"):
        raise InputError("name the model first: nuat export RUN|WEIGHTS --format ....")
    if not any(word.startswith("--format") for word in arguments):
        raise InputError("give a format: --format safetensors, onnx, torch or robustbench.")
    asked = parse(_Export, arguments, prog="nuat export")
    if asked.format != "robustbench" and asked.robustbench != Submission():
        raise InputError(f"--robustbench settings have no effect on --format {asked.format}; leave them out.")
    if asked.format == "robustbench" and asked.temperature is not None:
        raise InputError("--temperature has no effect on --format robustbench, which takes logits; leave it out.")
    if isinstance(asked.temperature, float):
        check_temperature(asked.temperature, "--temperature")
    stem = asked.model.resolve().name if asked.model.is_dir() else asked.model.stem
    target = asked.out if asked.out is not None else Path(f"{stem}{_ENDINGS[asked.format]}")
    with contextlib.ExitStack() as stack:
        trained, told = find_model(_weights(asked, stack)), ""
        if asked.temperature is not None:
            trained, told = at_temperature(trained, None if asked.temperature == "fit" else asked.temperature)
        said = _write(trained, target, asked)
    console = terminal()
    if told:
        console.print(told)
    for line in said.splitlines():
        console.print(line)
    console.print(f"written to {target}")
    return 0


def _weights(asked: _Export, stack: contextlib.ExitStack) -> Path:
    """Return the weights to export; those that nuat did not write as a file of nuat, which ``stack`` removes."""
    radius = ThreatConfig().eps if asked.eps is None else asked.eps
    threat = ThreatConfig(norm=asked.norm, eps=radius, pgd_alpha=radius / 4)
    model = adopt(str(asked.model), asked.network, torch.device("cpu"), threat)
    if model is None:
        if asked.eps is not None or asked.norm != "Linf":
            raise InputError(f"{asked.model} says what it withstands; leave --eps and --norm out.")
        return asked.model
    if asked.format == "robustbench":
        raise InputError("--format robustbench: needs a run with its evaluation; these weights have none.")
    if asked.eps is None:
        raise InputError(f"{asked.model} records no radius of its training; give --eps 8/255, or another radius.")
    check_usual("--eps", radius, asked.norm)
    say_variant(str(asked.model), model)
    file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "adopted.safetensors"
    checkpoints.save_weights(file, model.state_dict(), model.info)
    return file


def _write(trained: TrainedModel, target: Path, asked: _Export) -> str:
    """Write the file or folder and return what was checked."""
    try:
        match asked.format:
            case "safetensors":
                return to_safetensors(trained, target)
            case "onnx":
                return to_onnx(trained, target)
            case "torch":
                return to_torch(trained, target)
            case "robustbench":
                return to_robustbench(trained, target, asked.robustbench)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # a full disk is not a mistake in --out
        named = "" if error.filename is None else f": {error.filename}"
        raise InputError(f"--out {target}: nothing can be written there ({error.strerror}{named}).") from None
