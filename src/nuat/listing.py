"""The recipes' names and what each trains, read from their source: to import a recipe is to import torch.

``nuat recipes``, and a recipe's name that does not exist, are thus answered in a fraction of a second.
"""

import ast
from importlib import resources

from nuat.errors import InputError, did_you_mean


def summaries() -> dict[str, str]:
    """Return the first line of each recipe's docstring, by its name on the command line, in the order of RECIPES."""
    entries = [
        (key, value)
        for node in _parse("__init__").body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "RECIPES"
        if isinstance(node.value, ast.Dict)
        for key, value in zip(node.value.keys, node.value.values, strict=True)
    ]
    lines: dict[str, dict[str, str]] = {}
    found = {}
    for key, value in entries:
        assert isinstance(key, ast.Constant)
        assert isinstance(value, ast.Attribute)
        assert isinstance(value.value, ast.Name)
        name, module = str(key.value), value.value.id
        if module not in lines:
            lines[module] = _first_lines(module)
        found[name] = lines[module][value.attr]
    return found


def check_recipe(name: str) -> None:
    """Refuse a name that no recipe has.

    Raises:
        InputError: there is no such recipe; the nearest name is given.
    """
    if name not in (known := summaries()):
        raise InputError(f"unknown recipe {name!r}.{did_you_mean(name, known)} 'nuat recipes' lists them all.")


def _parse(module: str) -> ast.Module:
    """Return the syntax of a module of ``nuat.recipes``."""
    return ast.parse((resources.files("nuat") / "recipes" / f"{module}.py").read_text(encoding="utf-8"))


def _first_lines(module: str) -> dict[str, str]:
    """Return the first line of the docstring of every function of a module."""
    functions = [node for node in _parse(module).body if isinstance(node, ast.FunctionDef)]
    return {function.name: (ast.get_docstring(function) or "").partition("\n")[0] for function in functions}
