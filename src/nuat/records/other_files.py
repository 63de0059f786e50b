"""Files that are no weights of nuat: what each is, and how its model is evaluated."""

import ast
import zipfile
from pathlib import Path

from nuat.errors import InputError

_BY_SUFFIX = {
    ".onnx": "an ONNX model",
    ".h5": "an HDF5 file, such as of Keras",
    ".keras": "a Keras model",
    ".tflite": "a TensorFlow Lite model",
    ".npz": "a NumPy archive",
    ".npy": "a NumPy array",
    ".pkl": "a pickle, which could run code",
}


def refuse_other_files(path: Path) -> None:
    """Refuse a file that is recognisably something else than safetensors, and say how to go on.

    Raises:
        InputError: there is no such file, it cannot be read, or is of another kind.
    """
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
    if zipfile.is_zipfile(path) and path.suffix not in _BY_SUFFIX:
        raise InputError(f"{path}: is {_of_torch(path)}")
    if path.suffix in _BY_SUFFIX:
        raise InputError(
            f"{path}: is {_BY_SUFFIX[path.suffix]}, which gives no gradients here; convert it to PyTorch, return the "
            "module from a function of a Python file, and name file.py:function."
        )
    if start[:1] == b"\x80" and start[8:9] != b"{" and path.suffix != ".safetensors":  # as pickles begin
        raise InputError(f"{path}: is a pickled PyTorch file of old format. {_advice(path)}")


def _of_torch(path: Path) -> str:
    """Return what a zip archive is, and how to go on."""
    try:
        with zipfile.ZipFile(path) as file:
            names = [name.partition("/")[2] for name in file.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        names = []
    if any(name.startswith("code/") for name in names):
        return (
            "a TorchScript archive; return torch.jit.load(FILE) from a function of a Python file, and name "
            "file.py:function."
        )
    if "data.pkl" in names:
        if path.name == "checkpoint.pt" and (path.parent / "config.json").is_file():
            return f"the checkpoint of a run, to resume from; name the run, {path.parent}, for its best weights."
        return f"a PyTorch file (torch.save), which does not say which network its weights are for. {_advice(path)}"
    return "a zip archive; give a run, a .safetensors file of nuat, or file.py:function."


def _advice(path: Path) -> str:
    return (
        "Build the network in a function of a Python file, return "
        f"nuat.load({path.name!r}, model=network), and name file.py:function."
    )


def _functions(path: Path) -> list[str]:
    """Return the public functions that a Python file defines, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
