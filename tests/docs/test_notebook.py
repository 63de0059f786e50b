"""The notebook runs, and its committed outputs are of its cells."""

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


def kinds(notebook: Any) -> list[list[str]]:
    """Return the kinds of output of each cell; numbers and pictures differ from one processor to another."""
    return [[output.output_type for output in cell.get("outputs", [])] for cell in notebook.cells]


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_committed() -> None:
    committed, run = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    nbclient.NotebookClient(run, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert kinds(run) == kinds(committed)
    assert any(kind == "display_data" for cell in kinds(committed) for kind in cell)
