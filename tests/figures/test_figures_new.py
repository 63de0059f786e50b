"""The figure of docs/extend/figure.md, in this process: its numbers, its record and its drawing.

``tests/docs/test_extend.py`` follows the page in a copy of the package: one file, one row, and the commands.
"""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from figure_models import Linear, images, named

from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.catalogue import FIGURES, draw, read

PAGE = Path(__file__).parents[2] / "docs" / "extend" / "figure.md"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the page walks through, in the catalogue."""
    (text,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    module = ModuleType("nuat.figures.confidence")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(FIGURES, module.FIGURE.name, module.FIGURE)
    return module


def test_it_measures_what_it_says(added: ModuleType) -> None:
    model, chosen = Linear(0.1), images(7)
    record = added.confidence([named(model)], chosen, eps=0.1, temperature=2.0, batch_size=3)
    logits = model(chosen.images / 255) / 2
    expected = logits.softmax(dim=1).amax(dim=1).sort().values
    assert record.models[0].confidence == pytest.approx(expected.tolist(), rel=1e-5)
    assert (record.n, record.eps, record.temperature) == (7, 0.1, 2.0)
    with pytest.raises(InputError, match="temperature=0"):
        added.confidence([named(model)], chosen, eps=0.1, temperature=0.0)


@pytest.mark.slow
def test_its_record_is_read_and_drawn_again(added: ModuleType, tmp_path: Path) -> None:
    record = added.confidence([named(Linear(0.1))], images(7), eps=0.1)
    record.save(tmp_path / "r.json")
    again = read(tmp_path / "r.json")
    assert again == record
    assert style.to_bytes(draw([again]), "svg") == style.to_bytes(draw([record]), "svg")
