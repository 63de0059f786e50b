"""The notebook runs, and its committed outputs are of its cells."""

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"
FEWER = {
    "[::5]": "[::25]",
    "n=200": "n=40",
    "steps=40": "steps=4",
    '("clean", "pgd-40", "gama-40")': '("clean", "pgd-4", "gama-4")',
    '("clean", "pgd-40", "gama-40", "worst-case")': '("clean", "pgd-4", "gama-4", "worst-case")',
    "radii = [0.0, 0.05, 0.1, 0.2,": "radii = [0.0, 0.2,",
    "from pathlib import Path": "from dataclasses import replace\nfrom pathlib import Path",
    'find("quickstart-standard")()': 'replace(find("quickstart-standard")(), epochs=1)',
}
"""Changes of the source that leave fewer images, epochs and steps; pictures and numbers are of the same kinds."""


def kinds(notebook: Any) -> list[list[str]]:
    """Return the kinds of output of each cell; numbers and pictures differ from one processor to another."""
    return [[output.output_type for output in cell.get("outputs", [])] for cell in notebook.cells]


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_committed() -> None:
    committed, run = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    code = [cell for cell in run.cells if cell.cell_type == "code"]
    for many, few in FEWER.items():
        assert any(many in cell.source for cell in code), many
        for cell in code:
            cell.source = cell.source.replace(many, few)
    nbclient.NotebookClient(run, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert kinds(run) == kinds(committed)
    assert any(kind == "display_data" for cell in kinds(committed) for kind in cell)
