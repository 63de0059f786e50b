"""Every public name of ``nuat.data`` has an example in its docstring, and the examples run."""

import doctest
import importlib
import pkgutil

import pytest

from nuat import data

MODULES = [data.__name__, *(f"{data.__name__}.{module.name}" for module in pkgutil.iter_modules(data.__path__))]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("name", data.__all__)
def test_public_names_have_an_example(name):
    public = getattr(data, name)
    assert isinstance(public, dict) or ">>>" in (public.__doc__ or "")
