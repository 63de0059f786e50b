"""Export to ONNX: one file for other runtimes, checked with onnxruntime against the PyTorch logits.

torch.export's exporter writes it (``dynamo=True``), the one that PyTorch maintains. Input ``images``: float32 [batch,
C, H, W] in [0, 1]; the normalisation is inside. Output ``logits``: float32 [batch, N]; with a
temperature also ``probabilities``. The batch size is free.
"""

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

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
from nuat.records.checkpoints import WeightsInfo

OPSET = 18
"""Version of the operators: the exporter's own, so nothing is converted. onnxruntime reads it since 1.14."""

INPUT, OUTPUT, PROBABILITIES = "images", "logits", "probabilities"

_BATCHES = (1, 7)
_IMAGES = 35
_TOLERANCE = 1e-4
"""Largest difference of logits allowed, relative to the largest logit. Summing in another order gives 1e-6."""

_LARGEST = 2**31 - 1
"""Largest size of a protobuf message, and so of a single file [bytes]."""

_OTHER_VERSIONS = "Try the versions in nuat's constraints.txt."


def to_onnx(trained: TrainedModel, target: Path) -> str:
    """Write the model as one ONNX file and return a line on what was checked.

    The file must pass onnx's checker. In onnxruntime on the CPU, in batches of 1 and 7, it must give the PyTorch
    model's predictions, and its logits within 1e-4 of the largest. Otherwise nothing is kept.

    Raises:
        InputError: the ``export`` extra is not installed, ``target`` exists or cannot be written, the model is too
            large for one file, or a check failed.
    """
    check_free(target, folder=False)
    onnx, runtime = _packages()
    model = checkpoints.load(trained.weights)
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > _LARGEST:
        raise InputError(f"{trained.weights}: {size:,} bytes of weights; one ONNX file holds at most {_LARGEST:,}.")
    x = trained.probe(_IMAGES)
    settled_logits(model, x)
    with converting("an ONNX file"):
        proto = _convert(model, trained.info)
    with staged(target) as path:
        with atomic_write(path) as file:
            file.write(proto.SerializeToString())
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise _refused(f"onnx {onnx.__version__} rejects it: {' '.join(str(error).split())}") from error
        difference = _compare(runtime, path, model, x, trained.info.temperature)
    cooled = trained.info.temperature
    also = "" if cooled == 1.0 else f" and {PROBABILITIES!r} at temperature {cooled:.4g}"
    shape = ", ".join(map(str, (trained.info.channels, *trained.info.image_size)))
    return (
        f"opset {OPSET}, input {INPUT!r} [batch, {shape}] in [0, 1], output {OUTPUT!r} "
        f"[batch, {len(trained.info.classes)}]{also}; onnxruntime {runtime.__version__} on {len(x)} "
        f"{trained.checked_on}, in batches of 1 and 7: same predictions, largest difference {difference:.1e} of the "
        "largest logit"
    )


def _packages() -> tuple[ModuleType, ModuleType]:
    """Return onnx and onnxruntime; if they or onnxscript are missing, say how to install them."""
    try:
        onnx, runtime, _ = (importlib.import_module(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    except ImportError as error:
        missing = error.name or str(error)
        raise InputError(f"the ONNX format needs {missing}; install it with: pip install 'nuat[export]'") from None
    return onnx, runtime


def _convert(model: nn.Module, info: WeightsInfo) -> Any:
    """Return the model as an onnx.ModelProto."""
    example = torch.zeros(2, info.channels, *info.image_size)  # one image would fix the batch at one
    whole = model if info.temperature == 1.0 else CalibratedModel(model, info.temperature)
    program: Any = torch.onnx.export(
        whole,
        (example,),
        input_names=[INPUT],
        output_names=[OUTPUT] if whole is model else [OUTPUT, PROBABILITIES],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    proto = program.model_proto
    graph = proto.graph
    # the exporter notes the line of code behind every part, with paths of this machine
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    proto.ClearField("metadata_props")
    for name, value in _metadata(info).items():
        proto.metadata_props.add(key=name, value=value)
    return proto


def _metadata(info: WeightsInfo) -> dict[str, str]:
    """Return the model's metadata as texts; the entry ``nuat`` holds all metadata of the weights as JSON."""
    return {
        "classes": json.dumps(info.classes),
        "norm": info.threat.norm,
        "eps": repr(info.threat.eps),
        "recipe": info.recipe,
        "temperature": repr(info.temperature),
        "nuat_version": info.nuat_version,
        "nuat": json.dumps(asdict(info)),
    }


def _compare(runtime: ModuleType, path: Path, model: nn.Module, x: Tensor, temperature: float) -> float:
    """Return the largest difference of the logits on ``x`` [B, C, H, W], relative to the largest logit; check it."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = difference = 0.0
    for size in _BATCHES:
        for part in torch.split(x, size):
            ours = logits(model, part)
            theirs = torch.from_numpy(session.run([OUTPUT], {INPUT: part.numpy()})[0])
            if theirs.shape != ours.shape or not bool(torch.isfinite(theirs).all()):
                raise _refused(f"onnxruntime gives {list(theirs.shape)}, or numbers that are not finite")
            if not torch.equal(theirs.argmax(dim=1), ours.argmax(dim=1)):
                raise _refused(f"onnxruntime {runtime.__version__} predicts other classes in batches of {size}")
            if temperature != 1.0:
                found = session.run([PROBABILITIES], {INPUT: part.numpy()})[0]
                if wrong := wrong_probabilities(torch.from_numpy(found), ours, temperature):
                    raise _refused(wrong)
            largest = max(largest, float(ours.abs().max()))
            difference = max(difference, float((theirs - ours).abs().max()))
    if difference > _TOLERANCE * largest:
        reason = f"onnxruntime {runtime.__version__} differs by {difference:.1e} in logits up to {largest:.1e}"
        dtypes = {str(weight.dtype).removeprefix("torch.") for weight in model.parameters()}
        if coarse := dtypes & {"float16", "bfloat16"}:
            raise _refused(reason, f"Its weights are {coarse.pop()}; export them in float32.")
        raise _refused(reason)
    return difference / largest if largest > 0 else 0.0


def _refused(reason: str, advice: str = _OTHER_VERSIONS) -> InputError:
    return InputError(
        f"the ONNX file that torch {torch.__version__} made is wrong and was not kept: {reason}. {advice}"
    )
