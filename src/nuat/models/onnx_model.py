"""ONNX files as modules: onnxruntime computes the logits, without gradients; needs the ``export`` extra."""

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat.core import digest
from nuat.errors import InputError

_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}


class OnnxModel(nn.Module):
    """Classifier in an ONNX file, run by onnxruntime on the CPU.

    Shapes: images [B, C, H, W] -> logits [B, N], on the device of the images. If the file fixes the batch size, images
    are run in batches of that size.

    Raises:
        InputError: onnxruntime is not installed, the file cannot be read, or does not map one batch of images to
            logits.
    """

    sha256: Tensor
    """Digest of the file, so that records and resumed evaluations know the model; uint8 [32]."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session = _session(path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape or ()) != 4 or inputs[0].type not in _TYPES:
            raise InputError(f"{path}: expected one input, images [B, C, H, W]; it takes {_described(inputs)}.")
        named = [one for one in outputs if one.name == "logits"] if len(outputs) > 1 else outputs
        if len(named) != 1 or len(named[0].shape or ()) != 2:
            raise InputError(
                f"{path}: expected one output, logits [B, N], or one of several of the name logits; it returns "
                f"{_described(outputs)}."
            )
        self._output = named[0].name
        self._input, self._type = inputs[0].name, _TYPES[inputs[0].type]
        size = inputs[0].shape[0]
        self._image_shape: tuple[int | str | None, ...] = tuple(inputs[0].shape[1:])  # a number where the file fixes it
        self._batch: int | None = size if isinstance(size, int) else None
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.classes, self.calibration_temperature = _classes(metadata), _temperature(metadata)
        self.register_buffer("sha256", torch.tensor(list(bytes.fromhex(digest.of_file(path))), dtype=torch.uint8))

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxModel":
        """Return a copy that shares the session, which cannot be copied and has no state."""
        return copy.copy(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, N] of images [B, C, H, W].

        Raises:
            InputError: the file is for images of another shape.
        """
        if any(isinstance(m, int) and m != n for m, n in zip(self._image_shape, x.shape[1:], strict=True)):
            takes, given = (" x ".join(map(str, shape)) for shape in (self._image_shape, x.shape[1:]))
            raise InputError(
                f"the ONNX file takes images of {takes} (channels, height, width), not {given}; --data.image-size "
                "resizes images of files."
            )
        images = x.detach().to("cpu", self._type)
        if self._batch is None:
            return self._run(images).to(x.device)
        parts = torch.split(images, self._batch)
        short = self._batch - len(parts[-1])
        last = torch.cat([parts[-1], parts[-1][-1:].expand(short, -1, -1, -1)])
        logits = torch.cat([self._run(part) for part in (*parts[:-1], last)])
        return logits[: len(x)].to(x.device)

    def _run(self, images: Tensor) -> Tensor:
        (logits,) = self._session.run([self._output], {self._input: images.contiguous().numpy()})
        return torch.from_numpy(logits)


def _session(path: Path) -> Any:
    """Return onnxruntime's session."""
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise InputError(f"{path}: ONNX files need onnxruntime; install it with: pip install 'nuat[export]'") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # its warnings concern the file's author
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of errors for each fault, none public
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: onnxruntime cannot read it ({reason[:300]}).") from None


def _described(values: Any) -> str:
    return ", ".join(f"{value.name} {value.type} {value.shape}" for value in values) or "nothing"


def _classes(metadata: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the classes that ``nuat export`` writes into a file; empty: another program wrote it."""
    try:
        names = json.loads(metadata.get("classes", "[]"))
    except (ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _temperature(metadata: dict[str, str]) -> float:
    """Return the temperature of the file's probabilities, which ``nuat export`` writes into it; 1: it has none."""
    try:
        return float(metadata["temperature"]) if {"nuat", "temperature"} <= metadata.keys() else 1.0
    except ValueError:
        return 1.0
