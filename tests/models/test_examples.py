"""Every public name of ``nuat.models`` has an example in its docstring, and the examples run."""

import doctest
import importlib
import pkgutil

import pytest

from nuat import models

MODULES = [models.__name__, *(f"{models.__name__}.{module.name}" for module in pkgutil.iter_modules(models.__path__))]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("name", models.__all__)
def test_public_names_have_an_example(name):
    public = getattr(models, name)
    assert isinstance(public, tuple) or ">>>" in (public.__doc__ or "")
