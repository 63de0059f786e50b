"""``nuat export``: write a trained model in a format that other programs read."""

import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from nuat.config.arguments import HELP, parse
from nuat.errors import InputError
from nuat.export import Submission, find_model, to_onnx, to_robustbench, to_safetensors
from nuat.progress import terminal

_ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "robustbench": "-robustbench"}


@dataclass(frozen=True, kw_only=True)
class _Export:
    """Write a trained model in a format that other programs read. The result is checked against the model first."""

    model: tyro.conf.Positional[Path]
    """Folder of a run (its best weights are taken), or a .safetensors file that nuat wrote."""
    format: Literal["safetensors", "onnx", "robustbench"]
    """safetensors: the weights, for nuat.load. onnx: one file for other runtimes (opset 18, images in [0, 1] to logits,
    any batch size); needs pip install 'nuat[export]'. robustbench: a folder for a submission, from an evaluation of the
    run with clean and autoattack."""
    out: Path | None = None
    """File, or folder for robustbench, to write. None: the run's name, in the current folder."""
    robustbench: Submission = field(default_factory=Submission)
    """For robustbench: facts of the entry that the run does not record."""


def export(arguments: list[str]) -> int:
    """``nuat export RUN|WEIGHTS --format safetensors|onnx|robustbench [--out PATH]``."""
    if not arguments or HELP.intersection(arguments):
        parse(_Export, ["--help"], prog="nuat export")
    if arguments[0].startswith("-"):
        raise InputError("name the model first: nuat export RUN|WEIGHTS --format ....")
    if not any(word.startswith("--format") for word in arguments):
        raise InputError("give a format: --format safetensors, --format onnx or --format robustbench.")
    asked = parse(_Export, arguments, prog="nuat export")
    if asked.format != "robustbench" and asked.robustbench != Submission():
        raise InputError(f"--robustbench settings have no effect on --format {asked.format}; leave them out.")
    trained = find_model(asked.model)
    stem = asked.model.resolve().name if asked.model.is_dir() else asked.model.stem
    target = asked.out if asked.out is not None else Path(f"{stem}{_ENDINGS[asked.format]}")
    try:
        match asked.format:
            case "safetensors":
                said = to_safetensors(trained, target)
            case "onnx":
                said = to_onnx(trained, target)
            case "robustbench":
                said = to_robustbench(trained, target, asked.robustbench)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # a full disk is not a mistake in --out
        named = "" if error.filename is None else f": {error.filename}"
        raise InputError(f"--out {target}: nothing can be written there ({error.strerror}{named}).") from None
    console = terminal()
    for line in said.splitlines():
        console.print(line)
    console.print(f"written to {target}")
    return 0
