"""Kinds of models that a command can be given: a run, a file of one of several formats, a name, a function."""

from enum import Enum, auto
from pathlib import Path

from nuat.models import backbones, external
from nuat.records import checkpoints
from nuat.records.hugging_face import is_hugging_face
from nuat.records.other_files import is_torch, is_torchscript, refuse_checkpoint


class Kind(Enum):
    """Kind of a model by the way it is named."""

    OURS = auto()
    """A run, weights that nuat wrote, or shipped weights."""
    FUNCTION = auto()
    """``file.py:function``."""
    WEIGHTS = auto()
    """A file of tensors alone: safetensors, or of ``torch.save``."""
    HUGGING_FACE = auto()
    """A folder with ``config.json`` and weights."""
    LIBRARY = auto()
    """The own weights of timm or torchvision, ``timm:NAME``."""
    TORCHSCRIPT = auto()
    """A TorchScript archive, which is a program."""
    ONNX = auto()
    """An ONNX file, which has no gradients here."""


def kind_of(named: str) -> Kind:
    """Return the kind of the model that a user names; its tensors are not read.

    Raises:
        InputError: there is no such model, it cannot be read, or is of no kind that nuat knows.
    """
    if external.names_function(named) and not named.endswith(".py"):  # a file alone is told its functions below
        return Kind.FUNCTION
    path = Path(named)
    if backbones.is_backbone(named) and not path.exists():
        return Kind.LIBRARY
    if is_hugging_face(path):
        return Kind.HUGGING_FACE
    file = checkpoints.weights_file(path)
    if file != path:  # the best weights of a run, or shipped ones
        return Kind.OURS
    if file.suffix == ".onnx":
        return Kind.ONNX
    refuse_checkpoint(file)
    if is_torchscript(file):
        return Kind.TORCHSCRIPT
    if is_torch(file):
        return Kind.WEIGHTS
    return Kind.OURS if checkpoints.is_ours(file) else Kind.WEIGHTS
