"""A result prints as its table, on a terminal and in a notebook, and turns into a data frame."""

import re
import sys
from typing import Any

import pytest
import torch

from nuat.errors import InputError
from nuat.evaluation.results import AttackResult, Evaluation

EVIL = "[bold]<script>&\x1b[31m"


def result(name: str, flags: list[int], **settings: Any) -> AttackResult:
    return AttackResult(name, settings, torch.tensor(flags).bool(), 1.25, 1200, 600)


def evaluation(*results: AttackResult, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {
        "indices": torch.arange(4),
        "eps": 8 / 255,
        "seed": 0,
        "batch_size": 4,
        "hardware": "a CPU",
    }
    return Evaluation(results=results, **(values | changes))


FOUND = evaluation(
    result("clean", [1, 1, 1, 0]),
    AttackResult("pgd-20", {}, torch.tensor([1, 1, 0, 0]).bool(), None, None, None, shared_with="pgd-100"),
    AttackResult("mine", {}, torch.tensor([1, 0, 0, 0]).bool(), 0.5, None, None),
    result("autoattack", [1, 0, 0, 0], after=["pgd-20"]),
)


def test_print_shows_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print(FOUND)
    out = capsys.readouterr().out
    rows = {cells[0]: cells[1:] for line in out.splitlines() if (cells := re.split(r"\s*│\s*", line.strip("│ ")))[1:]}
    assert rows["clean"][0] == "75.00"
    assert rows["clean"][2:] == ["1.2", "1,200", "600"]
    assert rows["pgd-20"][2] == "in pgd-100"
    assert rows["mine"][0] == "25.00"
    assert rows["worst case"][0] == "25.00"
    assert "4 test images, Linf eps 8/255, seed 0, a CPU" in out
    assert "* on what the attacks above it left standing" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_a_fast_autoattack_is_called_an_upper_bound(capsys: pytest.CaptureFixture[str]) -> None:
    for name, settings in (("autoattack-fast", {"version": "fast"}), ("autoattack-quick", {})):
        print(evaluation(result(name, [1, 0, 0, 0], **settings)))
        assert "an upper bound of AutoAttack's accuracy, not AutoAttack's" in " ".join(capsys.readouterr().out.split())


def test_a_notebook_shows_the_same_numbers() -> None:
    shown = FOUND._repr_html_()
    cells = re.findall(r"<td>(.*?)</td>", shown)
    assert cells[:2] == ["clean", "75.00"]
    assert cells[-6:-4] == ["worst case", "25.00"]
    assert "<caption>4 test images, Linf eps 8/255" in shown
    assert "<p>* on what" in shown


def test_text_of_strangers_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    evil = evaluation(result(EVIL, [1, 1, 1, 1]), hardware=EVIL)
    assert "\x1b" not in str(evil)
    assert str(evil).count(r"[bold]<script>&\x1b[31m") == 2  # the title's and the attack's
    assert "<script>" not in evil._repr_html_()
    assert r"[bold]&lt;script&gt;&amp;\x1b[31m" in evil._repr_html_()


class Frame:
    """The part of pandas.DataFrame that is used."""

    def __init__(self, rows: list[tuple[Any, ...]], columns: list[str]) -> None:
        self.rows, self.columns = [list(row) for row in rows], columns

    def insert(self, place: int, column: str, value: Any) -> None:
        self.columns.insert(place, column)
        for row in self.rows:
            row.insert(place, value)


def test_a_data_frame_has_a_row_an_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", type("pandas", (), {"DataFrame": Frame}))
    frame = FOUND.to_pandas()
    assert frame.columns == ["attack", "accuracy", "low", "high", "correct", "n", "seconds", "forwards", "backwards"]
    assert [row[0] for row in frame.rows] == ["clean", "pgd-20", "mine", "autoattack", "worst-case"]
    assert frame.rows[0] == ["clean", 0.75, *FOUND.results[0].interval, 3, 4, 1.25, 1200, 600]
    assert frame.rows[4] == ["worst-case", 0.25, *FOUND.interval, 1, 4, None, None, None]


def test_without_pandas_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"^to_pandas needs pandas; install it with: pip install pandas$"):
        FOUND.to_pandas()
