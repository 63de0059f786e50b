"""Names and summaries of the recipes, read from their source text.

Importing a recipe imports torch, which takes seconds. Reading the text answers ``nuat recipes`` and a misspelt recipe
in a fraction of a second.
"""

import ast
import functools
from importlib import resources

from nuat import own_code
from nuat.errors import InputError, did_you_mean


def groups() -> dict[str, dict[str, str]]:
    """Return heading to recipes, each by its name with the first line of its docstring, in the order of RECIPES."""
    found: dict[str, dict[str, str]] = {}
    for module in _dictionary(_assigned("__init__")["RECIPES"]).values:
        assert isinstance(module, ast.Attribute)  # **mnist.RECIPES
        assert isinstance(module.value, ast.Name)
        assigned, lines = _assigned(module.value.id), _first_lines(module.value.id)
        title, table = assigned["TITLE"], _dictionary(assigned["RECIPES"])
        assert isinstance(title, ast.Constant)
        group = found[str(title.value)] = {}
        for name, recipe in zip(table.keys, table.values, strict=True):
            assert isinstance(name, ast.Constant)
            assert isinstance(recipe, ast.Name)
            group[str(name.value)] = lines[recipe.id]
    return found


def summaries() -> dict[str, str]:
    """Return the first line of each recipe's docstring by the recipe's name."""
    return {name: line for group in groups().values() for name, line in group.items()}


def check_recipe(name: str) -> None:
    """Refuse a name that no recipe has. A file of the user's own is there; it does not run.

    Raises:
        InputError: there is no such recipe; the message has the nearest name.
    """
    if own_code.is_named(name):
        own_code.check_there(name)
    elif name not in (known := summaries()):
        raise InputError(f"unknown recipe {name!r}.{did_you_mean(name, known)} 'nuat recipes' lists them.")


def _assigned(module: str) -> dict[str, ast.expr]:
    """Return the values that a module of ``nuat.recipes`` assigns at its top, by name."""
    found: dict[str, ast.expr] = {}
    for node in _parse(module).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found[target.id] = node.value
    return found


def _dictionary(value: ast.expr) -> ast.Dict:
    assert isinstance(value, ast.Dict)
    return value


@functools.cache
def _parse(module: str) -> ast.Module:
    """Return the syntax of a module of ``nuat.recipes``."""
    return ast.parse((resources.files("nuat") / "recipes" / f"{module}.py").read_text(encoding="utf-8"))


def _first_lines(module: str) -> dict[str, str]:
    """Return the first line of the docstring of every function of a module."""
    functions = [node for node in _parse(module).body if isinstance(node, ast.FunctionDef)]
    return {function.name: (ast.get_docstring(function) or "").partition("\n")[0] for function in functions}
