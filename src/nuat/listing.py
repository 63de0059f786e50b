"""The recipes' names and what each trains, read from their source: to import a recipe is to import torch.

``nuat recipes``, and a recipe's name that does not exist, are thus answered in a fraction of a second.
"""

import ast
from importlib import resources

from nuat.errors import InputError, did_you_mean


def summaries() -> dict[str, str]:
    """Return the first line of each recipe's docstring, by its name on the command line, in the order of RECIPES."""
    found = {}
    for module in _table("__init__").values:
        assert isinstance(module, ast.Attribute)  # **mnist.RECIPES
        assert isinstance(module.value, ast.Name)
        table, lines = _table(module.value.id), _first_lines(module.value.id)
        for name, recipe in zip(table.keys, table.values, strict=True):
            assert isinstance(name, ast.Constant)
            assert isinstance(recipe, ast.Name)
            found[str(name.value)] = lines[recipe.id]
    return found


def check_recipe(name: str) -> None:
    """Refuse a name that no recipe has.

    Raises:
        InputError: there is no such recipe; the nearest name is given.
    """
    if name not in (known := summaries()):
        raise InputError(f"unknown recipe {name!r}.{did_you_mean(name, known)} 'nuat recipes' lists them all.")


def _table(module: str) -> ast.Dict:
    """Return the value of RECIPES in a module of ``nuat.recipes``."""
    for node in _parse(module).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "RECIPES":
            assert isinstance(node.value, ast.Dict)
            return node.value
    raise AssertionError(f"nuat.recipes.{module} has no RECIPES")


def _parse(module: str) -> ast.Module:
    """Return the syntax of a module of ``nuat.recipes``."""
    return ast.parse((resources.files("nuat") / "recipes" / f"{module}.py").read_text(encoding="utf-8"))


def _first_lines(module: str) -> dict[str, str]:
    """Return the first line of the docstring of every function of a module."""
    functions = [node for node in _parse(module).body if isinstance(node, ast.FunctionDef)]
    return {function.name: (ast.get_docstring(function) or "").partition("\n")[0] for function in functions}
