"""Models from elsewhere: ``file.py:function``, where the function returns a ``torch.nn.Module``.

The file runs as a program would, with its folder importable while it loads. Code runs only if the user names a function
in this way; loading weights runs none.
"""

import importlib.util
import re
import sys
from pathlib import Path

import torch
from torch import nn

from nuat.errors import InputError, did_you_mean


def names_function(text: str) -> bool:
    """Return whether ``text`` has the form ``file.py:function``."""
    return re.fullmatch(r".+\.py:\w*", text) is not None


def load(text: str, device: torch.device) -> nn.Module:
    """Return the module that ``file.py:function`` makes, in evaluation mode, on ``device``.

    Raises:
        InputError: there is no such file or function, it fails, or returns something other than a module.
    """
    file, _, function = text.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    names = _run(path)
    make = names.get(function)
    if not callable(make):
        known = [name for name, value in names.items() if callable(value) and not name.startswith("_")]
        raise InputError(f"{path}: has no function {function!r}.{did_you_mean(function, known)}")
    try:
        model = make()
    except (Exception, SystemExit) as error:  # a file may call sys.exit, such as for a missing package
        raise InputError(f"{text} failed: {_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{text} returned a {type(model).__name__}; expected a torch.nn.Module that returns logits.")
    return model.to(device).eval()


def _run(path: Path) -> dict[str, object]:
    """Return the names that the file defines."""
    name = f"nuat_external_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[name] = module  # dataclasses and pickles of the file's classes look it up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} failed while it was imported: {_line(error)}") from error
    finally:
        sys.path.remove(folder)
    return vars(module)


def _line(error: BaseException) -> str:
    """Return an error's type and message in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
