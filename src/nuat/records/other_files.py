"""Recognise files other than safetensors, and say how to evaluate their models."""

import ast
import zipfile
from pathlib import Path

from nuat.errors import InputError

TORCHSCRIPT = "torchscript"
"""Name of the network of a TorchScript file."""
SAFE_WAY = "Save the state dict alone, torch.save(model.state_dict(), FILE)."
_OLD_FORMAT = b"\xfc\x9cF\xf9 j\xa8P\x19"
"""Number that files of torch.save from before torch 1.6 begin with."""
_BY_SUFFIX = {
    ".h5": "an HDF5 file, such as of Keras",
    ".keras": "a Keras model",
    ".tflite": "a TensorFlow Lite model",
    ".npz": "a NumPy archive",
    ".npy": "a NumPy array",
}


def refuse_other_files(path: Path) -> None:
    """Refuse a file that is recognisably something else than safetensors, and say how to go on.

    Raises:
        InputError: there is no such file, it cannot be read, or is of another kind.
    """
    refuse_checkpoint(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give the file of the weights.")
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if path.suffix == ".py":
        functions = _functions(path)
        named = f"; it defines {', '.join(functions[:5])}" if functions else ""
        raise InputError(
            f"{path}: is a Python file; name its function that returns the model, {path}:"
            f"{functions[0] if len(functions) == 1 else 'FUNCTION'}{named}."
        )
    if path.suffix == ".onnx":
        raise InputError(f"{path}: is an ONNX file, which only nuat evaluate and nuat diagnose take.")
    if zipfile.is_zipfile(path) and path.suffix not in _BY_SUFFIX:
        raise InputError(f"{path}: is {_of_torch(path)}")
    if path.suffix in _BY_SUFFIX:
        raise InputError(
            f"{path}: is {_BY_SUFFIX[path.suffix]}, which gives no gradients here; convert it to PyTorch, return the "
            "module from a function of a Python file, and name file.py:function."
        )
    if is_torch(path):
        raise InputError(f"{path}: is a PyTorch file of old format. {_advice(path)}")
    pickled = start[:1] == b"\x80" and start[8:9] != b"{"  # as pickles begin
    if path.suffix in (".pkl", ".pickle") or (pickled and path.suffix != ".safetensors"):
        raise InputError(f"{path}: is a pickle, which could run code; not loaded. {SAFE_WAY}")


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive."""
    return any(name.startswith("code/") for name in _members(path))


def is_torch(path: Path) -> bool:
    """Return whether ``torch.save`` wrote a file, by its content (of today or before torch 1.6) or its name."""
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin") or "data.pkl" in _members(path):
        return not is_torchscript(path)
    try:
        with path.open("rb") as file:
            return _OLD_FORMAT in file.read(16)
    except OSError:  # whoever reads it reports that
        return False


def _members(path: Path) -> list[str]:
    """Return the names of the files in a zip archive, without their folder; empty: it is none."""
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as file:
            return [name.partition("/")[2] for name in file.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def _of_torch(path: Path) -> str:
    """Return what a zip archive is, and how to go on."""
    if is_torchscript(path):
        return f"a TorchScript archive, which is a program; give --model {TORCHSCRIPT} to run it."
    if is_torch(path):
        return f"a PyTorch file (torch.save), which does not say which network its weights are for. {_advice(path)}"
    return "a zip archive; give a run, a file of weights, or file.py:function."


def _advice(path: Path) -> str:
    return (
        "Give --model NAME (timm:resnet18, resnet18, ...); or build the network in a function of a Python file, "
        f"return nuat.load({path.name!r}, model=network), and name file.py:function."
    )


def refuse_checkpoint(path: Path) -> None:
    """Refuse the checkpoint of a run, whose best weights are meant.

    Raises:
        InputError: it is one.
    """
    if path.name == "checkpoint.pt" and (path.parent / "config.json").is_file():
        raise InputError(
            f"{path}: is the checkpoint of a run, to resume from; name the run, {path.parent}, for its best weights."
        )


def _functions(path: Path) -> list[str]:
    """Return the public functions that a Python file defines, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
