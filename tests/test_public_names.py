"""The names of the package ``nuat``: listed, documented, and imported on first use."""

import io
import pydoc
import subprocess
import sys

import pytest

import nuat


def test_the_public_names_are_listed() -> None:
    assert dir(nuat) == nuat.__all__
    for name in nuat.__all__:
        assert getattr(nuat, name).__doc__


def test_help_shows_the_functions_with_their_arguments() -> None:
    text = io.StringIO()
    pydoc.Helper(output=text).help(nuat)
    shown = text.getvalue()
    for line in ("load(path:", "evaluate(", "nuclear_norm(", "run(config:", 'nuat.load("quickstart")'):
        assert line in shown


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nuat' has no attribute 'lod'"):
        _ = nuat.lod
    with pytest.raises(AttributeError, match=r"module 'nuat\.config' has no attribute 'lod'"):
        _ = nuat.config.lod


def test_importing_nuat_imports_no_torch() -> None:
    heavy = {"torch", "numpy", "tyro", "rich"}
    code = f"import sys, nuat; dir(nuat), nuat.__version__; assert not {heavy} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_nuat_alone_reads_no_metadata() -> None:
    """Until it is imported, Ctrl-C shows a trace."""
    code = "import sys; had = {*sys.modules}; import nuat; assert 'importlib.metadata' not in {*sys.modules} - had"
    subprocess.run([sys.executable, "-c", code], check=True)
